"""Whether this is still the same process: code in C may fork it without notice to Python."""

from __future__ import annotations

import sys
from os import getpid
from typing import Final, Literal, Protocol

# A C program that embeds Python, such as uWSGI, may fork without notice to Python, so no hook runs in the child. A pool
# must know at each submission, and asking the system for the number of the process takes as long as all else that its
# open tasks do then. Linux fills a page of memory with zeros in a forked child if it was asked to (since 4.14, see
# MADV_WIPEONFORK in madvise(2)), and to read such a page costs a tenth. BoringSSL notices forks in the same way.

_WIPE_ON_FORK: Final = 18
_NO_SUCH_ADVICE: Final = -1


class Mark(Protocol):
    """A mark of the process that made it."""

    def __getitem__(self, index: Literal[0], /) -> int:
        """Return a true value in the process that made the mark, and a false one in each other process."""


class PidMark:
    """A mark that compares the numbers of the processes."""

    __slots__ = ("_pid",)

    def __init__(self) -> None:
        self._pid = getpid()

    def __getitem__(self, index: Literal[0], /) -> int:
        """Whether this is the process that made the mark."""
        return getpid() == self._pid


_mark: Mark | None = None


def mark_of_this_process() -> Mark:
    """Return a mark that is true in this process, and false in a child that was forked from it, even by C."""
    global _mark
    if _mark is None or not _mark[0]:
        _mark = page_mark() or PidMark()
    return _mark


def page_mark() -> Mark | None:
    """Return a page of memory that begins with 1, and in forked children with 0; None if the system has none."""
    if sys.platform != "linux":
        return None
    from mmap import MAP_ANONYMOUS, MAP_PRIVATE, PAGESIZE, mmap  # here, because most programs make no pool

    try:
        page = mmap(-1, PAGESIZE, flags=MAP_PRIVATE | MAP_ANONYMOUS)
        page.madvise(_WIPE_ON_FORK)
    except OSError:
        return None
    try:
        page.madvise(_NO_SUCH_ADVICE)
    except OSError:
        page[0] = 1
        return page
    return None  # the system ignores advice, as emulators may
