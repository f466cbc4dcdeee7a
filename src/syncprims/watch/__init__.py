"""Watch: find out why a program hangs that does not use this library.

``python -m syncprims.watch PROGRAM.py`` runs a program, observes the locks of `threading`, and reports when its threads
can't go on: who waits for what, who holds it and where it was acquired. `install` does the same from inside.
"""

from __future__ import annotations

from ..diagnostics.table import Durations, LockUse
from .contention import WatchRecording
from .incident_facts import Incident
from .installing import Watching, install

__all__ = ["Durations", "Incident", "LockUse", "WatchRecording", "Watching", "install"]


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
