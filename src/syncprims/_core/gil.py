"""Whether this interpreter has the GIL."""

from __future__ import annotations

import sys
from typing import Final

# Without the GIL, an extension module that can't do without it enables it when it is imported, and then it stays. This
# constant remains what was true at the import of this library. That is the careful choice: code for an interpreter
# without the GIL is right on one with it too, though slower, and its reports know less about other threads.

HAS_GIL: Final[bool] = getattr(sys, "_is_gil_enabled", lambda: True)()
