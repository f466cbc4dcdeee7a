"""A mark of a process is false in each child that was forked from it, by Python or by C."""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
from collections.abc import Callable
from typing import Any, Final, Self

import pytest

from syncprims._core import this_process
from syncprims._core.this_process import Mark, PidMark, mark_of_this_process, page_mark

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has pages that a fork wipes")
BY_C: Final[Callable[[], int]] = getattr(ctypes.PyDLL(None), "fork", os.getpid) if os.name == "posix" else os.getpid

each_fork = pytest.mark.parametrize("fork", [os.fork, BY_C] if hasattr(os, "fork") else [], ids=["by Python", "by C"])


def says_in_child(ask: Callable[[], object], fork: Callable[[], int]) -> bool:
    """Ask in a forked child; it leaves at once, because Python may not know that it was forked."""
    child = fork()
    if child == 0:
        try:
            answer = 1 if ask() else 0
        except BaseException:
            answer = 2
        os._exit(answer)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 1)
    return code == 1


def made(kind: str) -> Mark:
    mark = {"page": page_mark, "number": PidMark}[kind]()
    assert mark is not None
    return mark


@forks
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
@each_fork
@pytest.mark.parametrize("kind", [pytest.param("page", marks=on_linux), "number"])
def test_a_mark_is_true_only_in_its_process(kind: str, fork: Callable[[], int]) -> None:
    """In a child it is false, and in the parent it stays true."""
    mark = made(kind)
    assert mark[0]
    assert not says_in_child(lambda: mark[0], fork)
    assert mark[0]


@forks
@on_linux
def test_a_page_without_the_advice_is_true_in_a_child_too() -> None:
    """The control: the child's copy of an ordinary page says what the parent's says."""
    page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    page[0] = 1
    assert says_in_child(lambda: page[0], BY_C)


@forks
@each_fork
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_child_makes_a_mark_of_its_own(fork: Callable[[], int]) -> None:
    """Its mark is true there, and false in a grandchild; all marks of one process are the same object."""
    mine = mark_of_this_process()
    assert mark_of_this_process() is mine

    def differs() -> bool:
        theirs = mark_of_this_process()
        return theirs is not mine and bool(theirs[0]) and not says_in_child(lambda: theirs[0], fork)

    assert says_in_child(differs, fork)
    assert mark_of_this_process() is mine


class Old(mmap.mmap):
    """A page of a kernel that does not know the advice."""

    def madvise(self, option: int, *span: Any) -> None:
        """Refuse it."""
        raise OSError(22, "Invalid argument")


class Deaf(mmap.mmap):
    """A page of an emulator that accepts any advice, and follows none."""

    def madvise(self, option: int, *span: Any) -> None:
        """Do nothing."""


class Full(mmap.mmap):
    """A page that can't be had."""

    def __new__(cls, *args: Any, **options: Any) -> Self:
        """Refuse it."""
        raise OSError(12, "Cannot allocate memory")


@on_linux
@pytest.mark.parametrize("kind", [Old, Deaf, Full])
def test_a_system_that_wipes_no_page_is_asked_for_its_number(
    monkeypatch: pytest.MonkeyPatch, kind: type[mmap.mmap]
) -> None:
    """Then the mark compares numbers of processes."""
    monkeypatch.setattr(mmap, "mmap", kind)
    monkeypatch.setattr(this_process, "_mark", None)
    assert page_mark() is None
    mark = mark_of_this_process()
    assert isinstance(mark, PidMark)
    assert mark[0]


def test_a_system_other_than_linux_is_asked_for_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its advice may have another meaning for the same number."""
    monkeypatch.setattr(sys, "platform", "darwin")
    assert page_mark() is None
