"""Refusing functions that don't run when they are called, such as coroutine functions and generator functions."""

from __future__ import annotations

from functools import partial
from types import AsyncGeneratorType, BuiltinFunctionType, CoroutineType, FunctionType, GeneratorType, MethodType
from typing import Final

from .foreign import guarded, name_of, type_name, words

# Flags of code objects; `inspect` has names for them, and is slow to import.
_KINDS: Final = {
    0x20: "a generator function",
    0x80: "a coroutine function",
    0x200: "an async generator function",
}
_LAZY: Final = sum(_KINDS)


def check_runs(fn: object, what: str, *, generators: bool = False) -> None:
    """Raise a TypeError unless `fn` can be called and does its work when it is called.

    Args:
        fn: The callable.
        what: Its name in messages.
        generators: Allow generator functions, sync or async, if the generator itself is wanted.
    """
    kind = type(fn)
    if kind is BuiltinFunctionType or (kind is FunctionType and not fn.__code__.co_flags & _LAZY):  # type: ignore[attr-defined]  # every function has this
        return  # the usual case
    if not callable(fn):
        raise TypeError(f"{what} must be callable, not {words(fn)}")
    lazy = _kind(guarded(0, _flags, fn))
    if lazy is not None and not (generators and "generator" in lazy):
        raise TypeError(
            f"{what} can't be {name_of(fn)}: it is {lazy}, and a call runs none of its code; give a plain function"
            + (", which may call asyncio.run()" if "coroutine" in lazy else "")
        )


def _kind(flags: int) -> str | None:
    return next((kind for flag, kind in _KINDS.items() if flags & flag), None)


def _flags(fn: object) -> int:
    """The flags of the code that runs when `fn` is called, under a partial, a method or an object's ``__call__``."""
    while isinstance(fn, (partial, MethodType)):
        fn = fn.func if isinstance(fn, partial) else fn.__func__
    code = getattr(fn, "__code__", None)
    if code is None and not isinstance(fn, type):
        code = getattr(type(fn).__call__, "__code__", None)
    flags = getattr(code, "co_flags", 0)
    return flags if type(flags) is int else 0


def refuse_lazy(answer: object, what: str) -> None:
    """Raise a TypeError if the result of a function is an awaitable or a generator, which has not run yet.

    Args:
        answer: The result.
        what: The function's name in messages.
    """
    if not isinstance(answer, (GeneratorType, AsyncGeneratorType)) and not hasattr(type(answer), "__await__"):
        return
    if isinstance(answer, (CoroutineType, GeneratorType)):
        guarded(None, answer.close)  # otherwise it would warn that it was never awaited
    raise TypeError(
        f"{what} returned a {type_name(answer)}, which has not run; give a plain function"
        + (", which may call asyncio.run()" if hasattr(type(answer), "__await__") else "")
    )
