"""LIKELY DEADLOCK: a task waits for another one of its own pool, which has no other worker."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

pool = ThreadPoolExecutor(1, thread_name_prefix="jobs")


def inner() -> int:
    return 1


def outer() -> int:
    return pool.submit(inner).result()


pool.submit(outer).result()
