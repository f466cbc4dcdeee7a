"""The clock: the interpreter's own, out of reach of what a test puts in its place."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

# A test may replace `time.monotonic` by one that stands still (unittest.mock, freezegun): before this library is
# imported or after, as an attribute of `time` or, as freezegun does, wherever a module has the function itself as an
# attribute. A wait that looked at such a clock would never end. So the functions here come from a second instance of
# the module `time`: they are other objects, which no such replacement finds. (They are C functions all the same: a
# wrapper in Python would be a place for interrupts to come in.)

if TYPE_CHECKING:
    from time import monotonic, perf_counter_ns, sleep, strftime
else:
    _own = time.__spec__.loader.create_module(time.__spec__)
    time.__spec__.loader.exec_module(_own)
    monotonic, perf_counter_ns, sleep, strftime = _own.monotonic, _own.perf_counter_ns, _own.sleep, _own.strftime

__all__ = ["monotonic", "perf_counter_ns", "sleep", "strftime"]
