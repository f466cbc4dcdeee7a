"""The clock: the interpreter's own functions, which tests can't replace."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

# A test may replace `time.monotonic` by a clock that does not move, before or after this library is imported.
# unittest.mock replaces the attribute of `time`; freezegun replaces it in every module that has the function. A wait
# with such a clock would never end. So the functions here come from a second instance of the module `time`: they are
# other objects, and no such replacement finds them. (They are still C functions. In a wrapper in Python, interrupts
# could be delivered.)

if TYPE_CHECKING:
    from time import monotonic, perf_counter_ns, sleep, strftime
else:
    _own = time.__spec__.loader.create_module(time.__spec__)
    time.__spec__.loader.exec_module(_own)
    monotonic, perf_counter_ns, sleep, strftime = _own.monotonic, _own.perf_counter_ns, _own.sleep, _own.strftime

__all__ = ["monotonic", "perf_counter_ns", "sleep", "strftime"]
