"""Whether this interpreter has the GIL, and keeps it."""

from __future__ import annotations

import sys
from typing import Final

# A free-threaded build enables the GIL while a thread imports an extension module, and disables it again afterwards,
# unless the module needs it. So `sys._is_gil_enabled()` may be true for a moment, while another thread imports. This
# constant is true only if the GIL stays: the build has it, or the user has asked for it by `-X gil=1`. If a module has
# enabled it, before or after the import of this library, the library works as if there were no GIL. That is the careful
# choice: it is right with a GIL too, but slower, and reports know less about other threads.

HAS_GIL: Final[bool] = getattr(sys.flags, "gil", 1) == 1  # before 3.13 there is no such flag, and always a GIL
