"""The named idioms that lose nothing to an interrupt, and the rule of CPython that they rest on."""

from __future__ import annotations

from _io import _IOBase
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from functools import partial
from itertools import starmap
from typing import Any, Final, Protocol, TypeVar

# The rule
# --------
# An interrupt is a signal whose handler raises, or an exception that another thread has set in this one. CPython notes
# it, and delivers it at the thread's next check:
# 1. on entry to a Python function, and when a generator goes on after a `yield`;
# 2. after the call of a C function;
# 3. at a loop's jump back.
#
# There are no other checks. There is none at an operator, an attribute, an index, a store, a `del`, a `raise` or an
# unpacking, even if these run C code; and none between the `return` of a Python function and the caller's next call. So
# a `with` whose `__enter__` is Python begins its body without a gap, and a C function that calls other C functions is
# one piece.
#
# Versions. 3.11 to 3.15 share the rule. Specialised code has no check after some calls (`len`, `isinstance`, …), so
# code that never ran has more checks. 3.13 and 3.14 may compile a loop that ends a `with` body so that its jump back
# lies outside the `with` (gh-130279). 3.14 has a check between the return of an `__enter__` in C and the body
# (gh-148874): there a bare `with threading.Lock()` leaks.
#
# What follows from it
# --------------------
# A `try` protects from its first call on: no interrupt comes between a store and a `try` right behind it. In an
# `except` or a `finally`, only the first call is certain to happen, and only if it is a call of C. So several such
# calls nest, each in the `finally` of the one before. If that can't be written, these help:
#
# - `attempt`: the outcome of a call of C, stored before anything can come in between.
# - `exhaust`: any number of calls of C as one.
# - `finish`: the same, even if some of them raise.
# - `LeaveInC` and `leave_by`: an `__exit__` in C that runs Python code behind an open `try`.
# - `leave_at_once`: an `__exit__` in C that is one call of C.
# - `leaving`: such code for things that are released by calls of C.
#
# If a call of one of these costs too much, the idiom is written out in place, and a comment names it. `tests/core` has
# a test for each idiom, and one that undoes each use in turn and asserts that a sweep then finds a leak.
#
# Memory and stack
# ----------------
# Both may run out during a release, which must still succeed. So before anything is acquired, the objects that its
# release needs are made, and the stack that it needs is used once. The release itself allocates nothing that CPython
# does not have on its free lists.
#
# One case can't be prevented. On 3.14, leaving a `with` by an exception takes a few more bytes of C's stack than
# entering it, and CPython refuses to call an `__exit__`, even one in C, if they are missing. So a body that ends in a
# RecursionError of C's stack may leave a lock acquired whose `__exit__` is C's own, a `threading.Lock` as well as a
# `TimedLock` (at about one depth in 1,000).

T = TypeVar("T")

Leave = Callable[..., Any]

# As in a generator (PEP 479): an iterator takes this exception to mean that it has no more items.
STOPPED: Final = "the function raised StopIteration; raise another exception, or give next() a default"


def attempt(take: Callable[..., T], *args: Any) -> T:
    """Return ``take(*args)`` in such a way that the caller has stored it before an interrupt comes.

    Nothing shorter is safe: in ``taken = take()`` an interrupt may come after the call, which has acquired something,
    and before the store. Here an iterator in C makes the call, and CPython does not check from there to the caller's
    store.
    """
    for outcome in starmap(take, (args,)):
        return outcome
    raise RuntimeError(STOPPED)


exhaust: Callable[[Iterable[object]], None] = deque[object](maxlen=0).extend
"""Exhaust an iterator, in one call of C.

Nothing shorter is safe: a loop jumps back, and an interrupt may come after each call in it. (`list` would keep the
items, and allocate; `any` and `all` would stop at some items.)
"""


class LeaveInC(property):
    """A property that holds an ``__exit__`` in C; callable, because `contextlib.ExitStack` takes it from the class.

    Nothing shorter is safe: an ``__exit__`` in Python can be interrupted on entry, before its first instruction, and
    then never releases anything. ``with`` looks up the property before it enters the block, when an interrupt does no
    harm.
    """

    def __call__(self, manager: Any, *exc_info: Any) -> Any:
        """Leave `manager`, as if its ``__exit__`` had been looked up on it."""
        return self.__get__(manager)(*exc_info)


ONE_DEEP: object = 0
"""Comparing it with `OTHER_DEEP` uses the stack: eight calls of C, each in the one before, at the cost of one.

An ``__exit__`` that runs out of stack fails at any call, and if it fails on entry to its generator, there is no
handler. So `with` has to fail before it enters: this is done when it looks up the ``__exit__``.
"""
OTHER_DEEP: object = 1
for _ in range(8):
    ONE_DEEP, OTHER_DEEP = (ONE_DEEP,), (OTHER_DEEP,)

# The same for a release that runs other people's Python code, which needs frames of the interpreter.
_ONE_DEEPER: object = ONE_DEEP
_OTHER_DEEPER: object = OTHER_DEEP
for _ in range(24):
    _ONE_DEEPER, _OTHER_DEEPER = (_ONE_DEEPER,), (_OTHER_DEEPER,)


def leave_by(generator: Generator[int, Any, None], *, in_python: bool = False) -> Leave:
    """Return a C function with the arguments of ``__exit__`` that resumes the generator with each, from None on.

    The generator is suspended in its own ``try``, so that an interrupt on the way finds a handler. It has to be
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

    If the block's exception matters, the third ``yield`` returns it. The generator always yields the same, so `max`
    returns its first argument, None, and the block's own exception propagates.

    Nothing shorter is safe: few functions in C take three arguments and call something, and this is the one that calls
    it with each of them. It needs memory: if there is none, ``with`` drops it before it has begun, and the generator
    gets a GeneratorExit. From what has been entered since, the generator knows that it was needed.

    Its call and the generator use the stack, so the same amount is used here, before anything is acquired. If the
    returned function is used again, the stack must be too: see `ONE_DEEP`.

    Args:
        generator: The generator that leaves.
        in_python: Whether it calls other people's Python code, so that it needs more of the stack.
    """
    _ = ONE_DEEP == OTHER_DEEP
    if in_python:
        _ = _ONE_DEEPER == _OTHER_DEEPER
    next(generator)
    return partial(max, None, key=generator.send)


class _Leaving(_IOBase):
    """The C type whose ``__exit__`` calls ``close`` without arguments."""

    __slots__ = ("close",)  # each instance has its own `close`, which is found sooner in a slot

    closed = True  # the finalizer of the base checks this, and would otherwise close
    close: Callable[[], object]  # type: ignore[assignment]  # the base has a method of this name


def leave_at_once(let_go: Callable[[], object]) -> Leave:
    """Return a C function with the arguments of ``__exit__`` that calls a function without arguments.

    It may be used again, and by several threads, if that function may be. Files leave their ``with`` by it.

    Nothing shorter is safe, because an ``__exit__`` in Python can be interrupted on entry; and this costs a third of
    `leave_by`.

    Args:
        let_go: A function of C. Its result has to be false, because a true value drops the exception of the block.
    """
    leaving = _Leaving()
    leaving.close = let_go
    return leaving.__exit__


class Entered(deque[Any]):
    """The entries that one thread has not left: for each a token or None, the latest at the end.

    Attributes:
        expected: The token of the ``__exit__`` that was looked up last, until an entry takes the token.
    """

    __slots__ = ("expected",)

    expected: object

    def __init__(self) -> None:
        super().__init__()
        self.expected = None


class Entrance(Protocol):
    """The methods of an entered object that `leaving` needs."""

    def _letting_go(self) -> Iterator[object]:
        """Make the iterator that releases this thread's last block, for `exhaust`; raise if it is in no block."""

    def _note(self, error: BaseException, failure: BaseException) -> None:
        """Note a failed release on an exception that is being raised."""


def leaving(
    entrance: Entrance, entered: Collection[object], token: object, letting_go: Iterator[object]
) -> Generator[int, Any, None]:
    """Make the generator that releases by calls of C, for `leave_by`; it may be used again and again.

    Args:
        entrance: The object that is left.
        entered: A token for each block that the thread is in.
        token: The token of the block to which this belongs, if this leaves it.
        letting_go: The iterator that releases that block, for `exhaust`.
    """
    again = False
    while True:
        try:
            if not again:
                yield 0
            if token not in entered:  # its `__exit__` was looked up after the entry, or has left a block already
                letting_go = entrance._letting_go()
            yield 0
            error: BaseException | None = yield 0
        except GeneratorExit:
            if token in entered:  # `with` had no memory for the call, and dropped this generator
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
                        exhaust(letting_go)  # release the rest first
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
        # Between two uses the generator keeps no exception of the user's alive. It waits outside the `try`, where
        # dropping it costs less, because `with` uses it only once.
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
    """Release the rest after `exhaust` has raised; note the failures on the exception that is being raised.

    If there is none, the first failure is raised, with the others as its notes. A failure that is not an `Exception`,
    such as an interrupt, is raised in any case. If memory or the stack is so short that nothing can be called, it gives
    up after some tries.

    It is written in Python, so an interrupt may come on entry to it. Therefore the handler calls `exhaust` once more
    before it calls this: if one thing could not be released, the rest is released whatever comes.
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
            del first, graver, failure, failures, error  # the traceback would keep them, and so itself, alive
