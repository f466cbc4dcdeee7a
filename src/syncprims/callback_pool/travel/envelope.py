"""The envelope: a call and its outcome as bytes, so that whatever can't be pickled is an error of its own task only."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from typing import Any

from ...errors import TransportError
from .start_board import stamp

# Outcomes travel as dumps((True, result)) or dumps((False, dumps(error) or None, its description, the traceback)).
# The error has a pickle of its own: one that this side can't load must not take the traceback with it.

Dumps = Callable[[Any], bytes]


class RemoteTraceback(Exception):  # noqa: N818  it is shown as a cause, and is no error in itself
    """The traceback of an error in a worker, as text: the cause of the error here."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""' if self.args else ""


def portable(dumps: Dumps) -> bytes | None:
    """Pickle the pickler for the workers' results; None stands for the standard one."""
    if dumps is pickle.dumps:
        return None
    try:
        return dumps(dumps)
    except Exception:  # noqa: BLE001  a pickler that can't travel serves the calls; results then take the standard one
        return None


def pack(dumps: Dumps, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    """Pickle a call.

    Raises:
        TransportError: The function or an argument can't be pickled; the message says which.
    """
    try:
        return dumps((fn, args, kwargs))
    except Exception as error:
        raise TransportError(
            f"{_culprit(dumps, fn, args, kwargs)} can't be pickled, so it can't go to a worker: "
            f"{type(error).__name__}: {error}. Pass something that can, or dumps=cloudpickle.dumps"
        ) from error


def run_packed(call: bytes, dumps_blob: bytes | None, board: str | None, slot: int, flush: bool) -> bytes:
    """Run a packed call in the worker and return its packed outcome; raises nothing."""
    stamp(board, slot)
    dumps: Dumps = pickle.dumps
    try:
        if dumps_blob is not None:
            dumps = pickle.loads(dumps_blob)
        fn, args, kwargs = _unpack_call(call)
        outcome = _pack_result(dumps, fn(*args, **kwargs), fn)
    except BaseException as error:  # noqa: BLE001  a task may raise anything, SystemExit too, and only it shall fail
        outcome = _pack_error(dumps, error)
    if flush:
        flush_output()  # before the outcome leaves, so that the worker's lines come before those of the callback
    return outcome


def _unpack_call(call: bytes) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
    try:
        fn, args, kwargs = pickle.loads(call)
    except Exception as error:
        raise TransportError(
            f"the call can't be unpickled in the worker: {type(error).__name__}: {error}. The worker must be able to "
            f"import what it needs; what it can't, dumps=cloudpickle.dumps sends along"
        ) from error
    return fn, args, kwargs


def unpack(outcome: bytes) -> tuple[Any, BaseException | None]:
    """Return the result and None, or None and the error."""
    try:
        succeeded, *rest = pickle.loads(outcome)
    except BaseException as error:  # noqa: BLE001  __setstate__ may raise anything
        return None, _unloadable(error)
    if succeeded:
        return rest[0], None
    pickled, description, text = rest
    failure = _load_error(pickled, description)
    # The worker's text has the whole chain already.
    failure.__cause__ = RemoteTraceback(text)
    return None, failure


def _unloadable(error: BaseException) -> TransportError:
    text, description = _describe(error)
    broken = TransportError(
        f"the result can't be unpickled here: {description}. Return something that this process can import and rebuild"
    )
    # As text, like the worker's: frames hold those that called them, here the executor's with its pipes and semaphores.
    broken.__cause__ = error.with_traceback(None)
    error.__cause__ = RemoteTraceback(text)
    error.__context__ = None
    return broken


def _load_error(pickled: bytes | None, description: str) -> BaseException:
    if pickled is None:
        return TransportError(f"the worker's error does not survive pickling, this is what it was: {description}")
    try:
        error = pickle.loads(pickled)
        if isinstance(error, BaseException):
            return error
    except BaseException:  # noqa: BLE001  __setstate__ may raise anything
        pass
    return TransportError(f"the worker's error can't be unpickled here, this is what it was: {description}")


def _pack_result(dumps: Dumps, result: Any, fn: Any) -> bytes:
    try:
        return dumps((True, result))
    except Exception as error:
        name = getattr(fn, "__qualname__", repr(fn))
        raise TransportError(
            f"{name}() returned a {_type_name(result)}, which can't be pickled: {type(error).__name__}: {error}. "
            f"Return something that can, or make the pool with dumps=cloudpickle.dumps"
        ) from error


def _pack_error(dumps: Dumps, error: BaseException) -> bytes:
    text, description = _describe(error)
    pickled: bytes | None
    try:
        pickled = dumps(error)
        # Many an exception pickles and does not come back: its __init__ takes other arguments than its `args` hold.
        if not isinstance(pickle.loads(pickled), BaseException):
            pickled = None
    except BaseException:  # noqa: BLE001  __reduce__ and __setstate__ may raise anything
        pickled = None
    return pickle.dumps((False, pickled, description, text))


def _describe(error: BaseException) -> tuple[str, str]:
    from traceback import format_exception

    try:
        return "".join(format_exception(error)), f"{_type_name(error)}: {error}"
    except BaseException:  # noqa: BLE001  a __str__ may raise
        return _type_name(error), _type_name(error)


def _culprit(dumps: Dumps, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    parts = [(f"the function {getattr(fn, '__qualname__', repr(fn))}", fn)]
    parts += [(f"argument {i} (a {_type_name(arg)})", arg) for i, arg in enumerate(args)]
    parts += [(f"argument {key!r} (a {_type_name(arg)})", arg) for key, arg in kwargs.items()]
    for what, part in parts:
        try:
            dumps(part)
        except Exception:  # noqa: BLE001  whatever it is, this is the part
            return what
    return "the call"


def _type_name(thing: object) -> str:
    kind = type(thing)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def flush_output() -> None:
    """Write out what this process has printed so far."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # noqa: BLE001  a process without that stream, or with a closed one, has nothing to show
            pass
