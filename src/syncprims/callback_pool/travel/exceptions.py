"""Sending exceptions: unchanged if pickling does not change them, otherwise as an error that describes them."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from types import MemberDescriptorType
from typing import Any, NamedTuple, TypeVar

from ..._core.foreign import chain, guarded, note, type_name, without_traceback, words
from ...errors import TransportError

# Unpickling calls an exception's class with its `args`. Many classes make their text from other arguments, so the copy
# can't be made, or has another text: "quota of quota of alice is used up is used up". So the worker loads the pickled
# exception, and compares. The exception itself is sent only if the copy has the same type and the same text; if an
# attribute differs, a note says so. The other side compares the text again, because its version of the class may
# differ.
#
# The comparison uses only the interpreter's own types. The only method of the user's that it calls is the exception's
# `__str__`, under guard.

Dumps = Callable[[Any], bytes]
T = TypeVar("T")

_DEPTH = 4  # of containers and of groups of exceptions
_MOST = 100  # items of one container
_PLAIN = (bool, int, str, bytes, complex, type(None))
_ADDRESS = re.compile(r"0x[0-9a-fA-F]+")
_HEAP_TYPE = 1 << 9  # in `type.__flags__`: a class that a program defines, not one of the interpreter's


class PackedError(NamedTuple):
    """A packed exception: `pickled` is None if pickling would change the exception."""

    pickled: bytes | None
    kind: str
    text: str
    traceback: str
    notes: list[str]


# -- in the worker -----------------------------------------------------------------------------------------------------


def pack_error(dumps: Dumps, error: BaseException) -> PackedError:
    """Pickle an exception with its description; raise nothing."""
    kind = swallow("exception", type_name, error)
    text = swallow("", _text, error)
    nothing: tuple[bytes | None, list[str]] = (None, [])
    pickled, notes = swallow(nothing, _pickle, dumps, error)
    return PackedError(pickled, kind, text, swallow(kind, _traceback, error), notes)


def swallow(default: T, call: Callable[..., T], *args: Any) -> T:
    """Return the result of the call, or the default if it raises anything: a worker has no interrupts."""
    try:
        return call(*args)
    except BaseException:  # noqa: BLE001  an exception's own methods may raise anything, SystemExit too
        return default


def _text(error: BaseException) -> str:
    return str.__str__(str(error))


def _traceback(error: BaseException) -> str:
    from traceback import format_exception

    return "".join(format_exception(error))


def _pickle(dumps: Dumps, error: BaseException) -> tuple[bytes | None, list[str]]:
    try:
        pickled = dumps(error)
        copy = pickle.loads(pickled)
    except BaseException as problem:  # noqa: BLE001  its __reduce__ and its class may raise anything
        return None, [f"why it can't travel as it is: {_words_for(problem)}"]
    return _compared(pickled, error, copy)


def _words_for(error: BaseException) -> str:
    text = swallow("", _text, error)
    return f"{type_name(error)}: {text}" if text else type_name(error)


def _compared(pickled: bytes, error: BaseException, copy: object) -> tuple[bytes | None, list[str]]:
    if type(copy) is not type(error) or not isinstance(copy, BaseException):
        return None, [f"why it can't travel as it is: pickling turns it into a {type_name(copy)}"]
    said, says = swallow(None, _text, error), swallow(None, _text, copy)
    if not _same_words(said, says):
        return None, [
            f"why it can't travel as it is: pickling would turn its text into {words(says)}, since its class is called "
            f"with its args, {words(error.args)}. A __reduce__ of its own can give the right ones"
        ]
    return pickled, _changes(error, copy)


def _same_words(one: str | None, other: str | None) -> bool:
    if one is None or other is None:
        return one is other
    # The addresses of objects differ between the two, and so does the order of a set.
    one, other = _ADDRESS.sub("0x", one), _ADDRESS.sub("0x", other)
    return one == other or sorted(one) == sorted(other)


def _changes(error: BaseException, copy: BaseException) -> list[str]:
    """Say which attributes of an exception are missing or different in its copy."""
    before, after = _contents(error), _contents(copy)
    return [
        f"pickling has changed this exception on its way from the worker: its {name} was "
        f"{words(before[name][0]) if name in before else 'not set'} there"
        for name in {**before, **after}
        if (name in before) != (name in after) or not _alike(before[name][0], after[name][0], _DEPTH)
    ]


def _contents(error: BaseException) -> dict[str, tuple[Any]]:
    """Return the attributes that a program has stored in an exception, by name, each in a tuple."""
    found: dict[str, tuple[Any]] = {"args": (BaseException.__dict__["args"].__get__(error),)}
    entries: dict[str, Any] = object.__getattribute__(error, "__dict__")
    found.update((name, (value,)) for name, value in entries.items() if type(name) is str)
    for kind in type.mro(type(error)):
        if type.__dict__["__flags__"].__get__(kind) & _HEAP_TYPE:
            for name, slot in type.__dict__["__dict__"].__get__(kind).items():
                if type(slot) is MemberDescriptorType:
                    try:
                        found[name] = (slot.__get__(error),)
                    except AttributeError:  # not set
                        pass
    return found


def _alike(one: object, other: object, depth: int) -> bool:
    """Compare without calling a method of a user's class: of its objects, only the types are compared."""
    kind = type(one)
    if kind is not type(other):
        return False
    if kind in _PLAIN:
        return bool(one == other)
    if kind is float:
        return repr(one) == repr(other)  # so that NaN is equal to itself
    if depth == 0:
        return True
    if isinstance(one, (tuple, list)) and kind in (tuple, list):
        assert isinstance(other, (tuple, list))
        return len(one) == len(other) and all(
            _alike(mine, its, depth - 1) for mine, its in zip(one[:_MOST], other[:_MOST], strict=True)
        )
    if isinstance(one, dict) and kind is dict:
        assert isinstance(other, dict)
        return _alike(list(one.items()), list(other.items()), depth)
    if issubclass(kind, BaseException):  # for example in a group
        assert isinstance(one, BaseException)
        assert isinstance(other, BaseException)
        return _same_words(swallow(None, _text, one), swallow(None, _text, other)) and not _changes(one, other)
    return True


# -- in the pool's process ---------------------------------------------------------------------------------------------


def unpack_error(packed: PackedError) -> BaseException:
    """Return the exception, or a `TransportError` that describes it; its cause is the worker's traceback."""
    error = _load(packed)
    for each in packed.notes:
        note(error, each)
    # The worker's text already has the whole chain.
    return chain(error, _remote(packed.traceback))


def _remote(traceback: str) -> BaseException:
    """Return the traceback of an error in a worker as the cause of the error here, which shows it as text."""
    from multiprocessing import pool  # programs know this class; imported only if it is needed

    remote: BaseException = pool.RemoteTraceback(f'\n"""\n{traceback}"""')  # type: ignore[attr-defined]  # typeshed lacks it
    return remote


def _load(packed: PackedError) -> BaseException:
    described = f"{packed.kind}: {packed.text}"
    if packed.pickled is None:
        return TransportError(f"the worker's error does not survive pickling, this is what it was: {described}")
    lost = TransportError(f"the worker's error can't be unpickled here, this is what it was: {described}")
    try:
        error = pickle.loads(packed.pickled)
    except BaseException as problem:  # noqa: BLE001  its class may raise anything
        note(lost, f"why it can't: {_words_for(problem)}")
        return lost
    if not isinstance(error, BaseException):
        note(lost, f"why it can't: what is unpickled is a {type_name(error)}")
        return lost
    says = guarded("", _text, error)
    if not _same_words(packed.text, says):
        note(lost, f"why it can't: its text would be {words(says)} here")
        return lost
    return error


def unloadable(error: BaseException) -> TransportError:
    """Return the error of a result that can't be unpickled here, with what went wrong as text."""
    broken = TransportError(
        f"the result can't be unpickled here: {_words_for(error)}. Return something that this process can import and "
        "rebuild"
    )
    # As text, like the worker's: frames keep their callers' alive, here those of the executor with its pipes and
    # semaphores.
    text = guarded("", _traceback, error)
    chain(without_traceback(error), _remote(text)).__context__ = None
    return chain(broken, error)  # type: ignore[return-value]  # the same
