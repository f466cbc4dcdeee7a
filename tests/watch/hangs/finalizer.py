"""DEADLOCK: a finalizer takes the lock that its thread holds."""

from __future__ import annotations

import threading

registry_lock = threading.Lock()


class Entry:
    """An object that removes itself from a registry."""

    def __del__(self) -> None:
        with registry_lock:
            pass


entry = Entry()
with registry_lock:
    del entry
