"""Leaving a ``with`` block through a C function, so that no interrupt can come before the leaving has begun."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import Any

# CPython delivers an interrupt on entry to a Python function. A Python `__exit__` can therefore be cut off before its
# first instruction, and what it should have let go of stays taken for ever. The cure: `__exit__` is an attribute whose
# value is a C function. `with` looks it up before it enters the block, where an interrupt does no harm yet.
#
# The C function has to take the three arguments of `__exit__` and to run our code with an open ``try`` around it from
# the very first instruction. A generator that is suspended inside its own ``try`` is such code, and
# `max(None, type, value, traceback, key=generator.send)` is a C function that resumes it: once to let go, and three
# times more, when it has nothing left to do. As it always yields the same, max() returns its first argument, None,
# and the block's own exception goes on.

Leave = Callable[..., Any]


class LeaveInC(property):
    """A property that holds an ``__exit__``; callable, as `contextlib.ExitStack` takes it from the class."""

    def __call__(self, manager: Any, *exc_info: Any) -> Any:
        """Leave `manager`, as if its ``__exit__`` had been looked up on it."""
        return self.__get__(manager)(*exc_info)


def leave_by(generator: Generator[int, Any, None]) -> Leave:
    """Return a C function that takes what ``__exit__`` takes and resumes the generator with each, from None on.

    The generator has to be written like this::

        def leaving():
            try:
                yield 0
            except GeneratorExit:  # the block was never entered, or left in another way
                raise
            except BaseException:  # an interrupt came just before
                let_go()
                raise
            let_go()
            while True:
                yield 0

    Where the block's exception matters, it is what the third `yield` returns.
    """
    next(generator)
    return partial(max, None, key=generator.send)
