"""DEADLOCK: a module waits, while it is imported, for a thread that imports it."""

from __future__ import annotations

import loading  # type: ignore[import-not-found]  # in the folder of this program

print(loading)
