"""Watch: find out why a program hangs, even if it does not use this library.

``python -m syncprims.watch PROGRAM.py`` runs a program and observes the locks of `threading`. When threads can't go on,
it reports what each of them waits for, which thread holds it, and where that thread acquired it. `install` does the
same from inside a program.
"""

from __future__ import annotations

from ..diagnostics.table import Durations, LockUse
from .contention import WatchRecording
from .incident_facts import Incident
from .installing import Watching, install

__all__ = ["Durations", "Incident", "LockUse", "WatchRecording", "Watching", "install"]


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
