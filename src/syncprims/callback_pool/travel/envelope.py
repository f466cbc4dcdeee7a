"""The envelope: a call and its outcome as bytes, so that an object that can't be pickled fails only its own task."""

from __future__ import annotations

import pickle
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ..._core.foreign import error_words, name_of, traceback_of, type_name, words
from ...errors import TransportError
from .exceptions import Dumps, PackedError, pack_error, unloadable, unpack_error
from .main_module import has_main
from .start_board import stamp

# Outcomes are sent as dumps((True, result)) or pickle.dumps((False, *PackedError)). The error has its own pickle, so
# that the traceback is not lost if this side can't load the error.

__all__ = ["Dumps", "flush_output", "pack", "portable", "run_packed", "unpack"]


def portable(dumps: Dumps) -> bytes | None:
    """Pickle the pickler for the workers' results; None means the standard one."""
    if dumps is pickle.dumps:
        return None
    try:
        return dumps(dumps)
    except Exception:  # noqa: BLE001  a pickler that can't be sent is used for the calls; results then use the standard one
        return None


# -- in the process that makes the call --------------------------------------------------------------------------------


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
            f"{error_words(error).rstrip('.')}{advice(error, 'Pass something that can')}"
        ) from error


def _culprit(dumps: Dumps, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    parts = [(f"the function {name_of(fn)}", fn)]
    parts += [(f"argument {i} (a {type_name(arg)})", arg) for i, arg in enumerate(args)]
    parts += [(f"argument {words(key)} (a {type_name(arg)})", arg) for key, arg in kwargs.items()]
    for what, part in parts:
        try:
            dumps(part)
        except Exception:  # noqa: BLE001  whatever it is, this is the part
            return what
    return "the call"


_OF_ONE_PROCESS = re.compile(r"'(_thread\.\w+|_queue\.SimpleQueue)'")


def advice(error: BaseException, otherwise: str) -> str:
    """Say, as the rest of a message, what to do about an object that can't be pickled.

    Args:
        error: The pickler's exception.
        otherwise: The advice if nothing better is known.
    """
    raised_in = _module_of(error)
    if raised_in.startswith("syncprims.") and raised_in != __name__:
        return ""  # it is one of our primitives, whose error says it
    if raised_in == "multiprocessing.context":
        return (
            ". What multiprocessing makes is handed over when a worker starts: make it with "
            'multiprocessing.get_context("spawn") and pass it in initargs= to an initializer that keeps it in a global '
            "variable; or pass the proxy that a multiprocessing.Manager() makes"
        )
    if raised_in == "multiprocessing.synchronize":  # its context forks, as the default one does up to 3.13
        return (
            '. Workers are not forked: make it with multiprocessing.get_context("spawn"), and pass it in initargs=; or '
            "pass the proxy that a multiprocessing.Manager() makes"
        )
    if _OF_ONE_PROCESS.search(error_words(error)):
        return (
            ". A lock, event or queue of threads works in one process only: make one with "
            'multiprocessing.get_context("spawn") and pass it in initargs=, or pass the proxy that a '
            "multiprocessing.Manager() makes"
        )
    if isinstance(error, (AttributeError, pickle.PicklingError)):  # a function or a class that can't be found
        return f". {otherwise}, or make the pool with dumps=cloudpickle.dumps"
    return f". {otherwise}"


def _module_of(error: BaseException) -> str:
    """Return the name of the module that raised the error."""
    traceback = traceback_of(error)
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return "" if traceback is None else str(traceback.tb_frame.f_globals.get("__name__", ""))


# -- in the worker -----------------------------------------------------------------------------------------------------


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
        outcome = pickle.dumps((False, *pack_error(dumps, error)))
    if flush:
        # Before the outcome is sent, so that the worker's lines come before those of the callback.
        with suppress(BaseException):  # the task may have replaced the stream
            flush_output()
    return outcome


def _unpack_call(call: bytes) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
    try:
        fn, args, kwargs = pickle.loads(call)
    except BaseException as error:
        if b"__main__" in call and not has_main():
            advice = (
                "The main program came by -c or standard input, or is a package, so the workers can't import it: put "
                "the function into a module, or make the pool with dumps=cloudpickle.dumps, which sends it along"
            )
        else:
            advice = (
                "The worker must be able to import what it needs; what it can't, dumps=cloudpickle.dumps sends along"
            )
        raise TransportError(f"the call can't be unpickled in the worker: {error_words(error)}. {advice}") from error
    return fn, args, kwargs


def _pack_result(dumps: Dumps, result: Any, fn: Any) -> bytes:
    try:
        return dumps((True, result))
    except BaseException as error:
        raise TransportError(
            f"{name_of(fn)}() returned a {type_name(result)}, which can't be pickled: {error_words(error)}"
            f"{advice(error, 'Return something that can')}"
        ) from error


def flush_output() -> None:
    """Write out what this process has printed so far."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # noqa: BLE001  a process without that stream, or with a closed one, has nothing to show
            pass


# -- back in the process that made the call ----------------------------------------------------------------------------


def unpack(outcome: bytes) -> tuple[Any, BaseException | None]:
    """Return the result and None, or None and the error."""
    try:
        succeeded, *rest = pickle.loads(outcome)
    except BaseException as error:  # noqa: BLE001  __setstate__ may raise anything
        return None, unloadable(error)
    if succeeded:
        return rest[0], None
    return None, unpack_error(PackedError(*rest))
