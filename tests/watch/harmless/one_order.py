"""Orders that can't deadlock: one order, both under a third lock, tries, and marked lines."""

from __future__ import annotations

import threading

first, second, third = threading.Lock(), threading.Lock(), threading.RLock()
for _ in range(3):
    with first, second:
        pass
with third, first, second:
    pass
with second:
    first.acquire(False)
    first.release()
    if first.acquire(timeout=1):
        first.release()

guarded, other = threading.Lock(), threading.Lock()
with third, guarded, other:
    pass
with third, other, guarded:
    pass

left, right = threading.Lock(), threading.Lock()
with left, right:
    pass
with right, left:  # syncprims: any order
    pass
with third, third:
    pass
print("done")
