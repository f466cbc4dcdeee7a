"""The idioms by which nothing is lost to an interrupt, each under a name, and the rule of CPython that they live by."""

from __future__ import annotations

from _io import _IOBase
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from functools import partial
from itertools import starmap
from typing import Any, Protocol, TypeVar

# The rule
# --------
# An interrupt is a signal whose handler raises, or an exception that another thread has set in this one. CPython notes
# it, and delivers it where the thread next looks:
#
# 1. on entry to a Python function, and where a generator goes on after a `yield`;
# 2. after the call of a C function;
# 3. at a loop's jump back.
#
# It looks nowhere else: not at an operator, an attribute, an index, a store, a `del`, a `raise` or an unpacking, even
# if these run C code; and not between the `return` of a Python function and what its caller does next, up to the
# caller's next call. So a `with` whose `__enter__` is Python begins its body without a gap, and a C function that calls
# other C functions is one piece.
#
# Versions. 3.11 to 3.15 share the rule. Specialised code doesn't look after some calls (`len`, `isinstance`, …), so
# code that never ran has more places. 3.13 and 3.14 may compile a loop that ends a `with` body so that its jump back
# lies outside of the `with` (gh-130279). 3.14 looks between the return of an `__enter__` in C and the body (gh-148874):
# there a bare `with threading.Lock()` leaks.
#
# What follows from it
# --------------------
# A `try` protects from the first call in it on: nothing is delivered between a store and the `try` behind it. The first
# call in an `except` or a `finally` happens for certain if it is a call of C, whatever comes next, and only the first
# one: so several of them nest, each in the `finally` of the one before. Where that can't be written, these help:
#
# - `attempt`: the outcome of a call of C, stored before anything can come in between.
# - `exhaust`: any number of calls of C as one.
# - `finish`: the same, whatever some of them raise.
# - `LeaveInC` and `leave_by`: an `__exit__` in C that runs Python code behind an open `try`.
# - `leave_at_once`: an `__exit__` in C that is one call of C.
# - `leaving`: such code for what is let go of by calls of C.
#
# Where a call costs too much, a copy is written in place, and its comment names the idiom. `tests/core` has a test for
# each, and one that undoes each use in turn and holds that a sweep then finds a leak.
#
# Memory and stack
# ----------------
# Both may run out while something is let go of, and that must not keep it. So what letting go needs is made, and the
# stack that it needs is used once, before anything is taken; and letting go itself allocates nothing that CPython does
# not have on its free lists.
#
# One thing is beyond reach. On 3.14 leaving a `with` by an exception takes some more bytes of C's stack than entering
# it, and CPython refuses the call of an `__exit__`, also of one in C, if they are not there. So a body that ends in a
# RecursionError of C's stack may leave a lock taken whose `__exit__` is C's own, a `threading.Lock` as well as a
# `TimedLock` (about one depth in 1,000).

T = TypeVar("T")

Leave = Callable[..., Any]


def attempt(take: Callable[..., T], *args: Any) -> T:
    """Return ``take(*args)``, so that the caller has stored it before an interrupt comes.

    Nothing shorter is safe: after ``taken = take()`` an interrupt may come between the call, which has taken something,
    and the store. Here the call is made by an iterator in C, and on the way from there to the caller's store CPython
    looks nowhere.
    """
    (outcome,) = starmap(take, (args,))
    return outcome


exhaust: Callable[[Iterable[object]], None] = deque[object](maxlen=0).extend
"""Run through an iterator, in one call of C.

Nothing shorter is safe: a loop jumps back, and each call in it is a place of its own. (`list` would keep what comes,
and allocate; `any` and `all` would stop at some.)
"""


class LeaveInC(property):
    """A property that holds an ``__exit__`` in C; callable, as `contextlib.ExitStack` takes it from the class.

    Nothing shorter is safe: an ``__exit__`` in Python can be cut off on entry, before its first instruction, and what
    it should have let go of stays taken. ``with`` looks it up before it enters the block, where an interrupt does no
    harm.
    """

    def __call__(self, manager: Any, *exc_info: Any) -> Any:
        """Leave `manager`, as if its ``__exit__`` had been looked up on it."""
        return self.__get__(manager)(*exc_info)


ONE_DEEP: object = 0
"""Comparing it with `OTHER_DEEP` uses the stack: eight calls of C, each in the one before, at the cost of one.

A leaving that does not find enough of the stack is cut off at any call, and what is cut off on entry to its generator
has no handler. So `with` has to fail before it enters: this is written where it looks up what leaves.
"""
OTHER_DEEP: object = 1
for _ in range(8):
    ONE_DEEP, OTHER_DEEP = (ONE_DEEP,), (OTHER_DEEP,)

# The same for what is let go of by Python code of others, which takes frames of the interpreter.
_ONE_DEEPER: object = ONE_DEEP
_OTHER_DEEPER: object = OTHER_DEEP
for _ in range(24):
    _ONE_DEEPER, _OTHER_DEEPER = (_ONE_DEEPER,), (_OTHER_DEEPER,)


def leave_by(generator: Generator[int, Any, None], *, in_python: bool = False) -> Leave:
    """Return a C function that takes what ``__exit__`` takes and resumes the generator with each, from None on.

    The generator is suspended in a ``try`` of its own, so that an interrupt on the way finds a handler. It has to be
    written like this::

        def leaving():
            try:
                yield 0
            except GeneratorExit:  # dropped: the block was never entered, or left in another way
                raise
            except BaseException:  # an interrupt came just before
                let_go()
                raise
            let_go()
            while True:
                yield 0

    If the block's exception matters, it is what the third ``yield`` returns. As the generator always yields the same,
    `max` returns its first argument, None, and the block's own exception goes on.

    Nothing shorter is safe, as few functions in C take three arguments and call something, and this is the one that
    calls it with each of them. It needs memory: if there is none, ``with`` drops it without its having begun, and the
    generator gets a GeneratorExit, of which it can tell by what has been entered since that it was needed.

    Its call and the generator use the stack, so as much of it is used here, before anything is taken. If what this
    returns is used again, so must be the stack: see `ONE_DEEP`.

    Args:
        generator: What leaves.
        in_python: Whether it calls Python code of others, so that it needs more of the stack than it seems.
    """
    _ = ONE_DEEP == OTHER_DEEP
    if in_python:
        _ = _ONE_DEEPER == _OTHER_DEEPER
    next(generator)
    return partial(max, None, key=generator.send)


class _Leaving(_IOBase):
    """The C type whose ``__exit__`` calls a ``close`` without arguments."""

    closed = True  # what the finalizer of the base asks, before it would close
    close: Callable[[], object]  # type: ignore[assignment]  # each instance has its own


def leave_at_once(let_go: Callable[[], object]) -> Leave:
    """Return a C function that takes what ``__exit__`` takes and calls a function without arguments.

    It may be used again, and by several threads, if that function may be. Files leave their ``with`` by it.

    Nothing shorter is safe, as an ``__exit__`` in Python can be cut off on entry; and this costs a third of `leave_by`.

    Args:
        let_go: A function of C. What it returns has to be false, as a true value drops the exception of the block.
    """
    leaving = _Leaving()
    leaving.close = let_go
    return leaving.__exit__


class Entered(deque[Any]):
    """What one thread has entered and not left: a token for each entry, or None, the last at the right.

    Attributes:
        expected: The token of the ``__exit__`` that was looked up last, if no entry has had it yet.
    """

    __slots__ = ("expected",)

    expected: object

    def __init__(self) -> None:
        super().__init__()
        self.expected = None


class Entrance(Protocol):
    """What `leaving` asks of what is entered."""

    def _letting_go(self) -> Iterator[object]:
        """Make the iterator that lets go of this thread's last block, for `exhaust`; raise if it is in none."""

    def _note(self, error: BaseException, failure: BaseException) -> None:
        """Note a failure of letting go on an exception that is on its way."""


def leaving(
    entrance: Entrance, entered: Collection[object], token: object, letting_go: Iterator[object]
) -> Generator[int, Any, None]:
    """Make the generator that lets go by calls of C, for `leave_by`; it may be used again and again.

    Args:
        entrance: What is left.
        entered: A token for each block that the thread is in.
        token: That of the block to which this belongs, if it is left by this.
        letting_go: What lets go of that block, for `exhaust`.
    """
    again = False
    while True:
        try:
            if not again:
                yield 0
            if token not in entered:  # this was looked up after entering, or has left a block already
                letting_go = entrance._letting_go()
            yield 0
            error: BaseException | None = yield 0
        except GeneratorExit:
            if token in entered:  # memory was too short even for the call of this, so it has been dropped
                exhaust(letting_go)
            raise
        except BaseException as interrupt:
            if entered:
                if token not in entered:
                    letting_go = entrance._letting_go()
                try:
                    exhaust(letting_go)
                except BaseException as failure:  # noqa: BLE001  raised, or noted
                    try:
                        exhaust(letting_go)  # first of all the rest
                    except BaseException as another:  # noqa: BLE001  raised, or noted
                        finish(letting_go, [failure, another], interrupt, entrance)
                    else:
                        finish(letting_go, [failure], interrupt, entrance)
            raise
        try:
            exhaust(letting_go)
        except BaseException as failure:  # noqa: BLE001  raised, or noted
            try:
                exhaust(letting_go)
            except BaseException as another:  # noqa: BLE001  raised, or noted
                finish(letting_go, [failure, another], error, entrance)
            else:
                finish(letting_go, [failure], error, entrance)
        # Between two times it keeps no exception of the user's alive, and waits outside of the `try`, where it costs
        # less to drop: `with` uses it once.
        del error
        again = True
        yield 0
        yield 0


def finish(
    letting_go: Iterator[object],
    failures: list[BaseException],
    error: BaseException | None,
    entrance: Entrance,
) -> None:
    """Let go of what is left after `exhaust` has raised; note what was raised on the exception that is on its way.

    If there is none, the first failure is raised, with the others as its notes. What is no `Exception`, as an
    interrupt, is raised in any case. If memory or the stack is so short that nothing can be called, it gives up after
    some tries.

    It is written in Python, so an interrupt may come on entry to it. Therefore an `exhaust` in the handler itself comes
    before it: where one thing could not be let go of, the rest is let go of whatever comes.
    """
    tries = 10
    while tries:
        try:
            exhaust(letting_go)
            break
        except BaseException as another:  # noqa: BLE001  raised below, or noted
            failures.append(another)
            tries -= isinstance(another, (MemoryError, RecursionError))
    graver = [each for each in failures if not isinstance(each, Exception)]
    first = graver[0] if graver else failures[0] if error is None else error
    for failure in failures:
        if failure is not first:
            entrance._note(first, failure)
    if first is not error:
        try:
            raise first
        finally:
            del first, graver, failure, failures, error  # else its traceback would keep them, and so itself, alive
