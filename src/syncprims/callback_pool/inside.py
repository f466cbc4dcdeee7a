"""Which pools the current thread works for: what they call may submit past limits, and must not wait for them."""

from __future__ import annotations

from threading import local


class Mark:
    """What stands for a pool in the threads that work for it, so that those keep no pool alive."""

    __slots__ = ()


class _Here(local):
    # A tuple, since an executor may run a task of one pool in the middle of another's.
    marks: tuple[Mark, ...] = ()


_here = _Here()


def enter(mark: Mark) -> tuple[Mark, ...]:
    """Note that this thread works for the pool; returns what to give to `leave`."""
    before = _here.marks
    _here.marks = (*before, mark)
    return before


def leave(before: tuple[Mark, ...]) -> None:
    """Take back an `enter`."""
    _here.marks = before


def is_inside(mark: Mark) -> bool:
    """Tell whether this thread works for the pool: in a task, or in a callback."""
    return mark in _here.marks
