"""The one place that touches the user's objects: it describes them, and notes, chains and logs exceptions."""

from __future__ import annotations

import copy
import sys
from _thread import get_ident
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import FunctionType, MemberDescriptorType, TracebackType
from typing import Any, Final, TypeVar

from .gil import HAS_GIL

# A name, an argument or an exception may have a `__repr__`, `__str__`, `__setattr__`, `__bool__` or `__eq__` that
# raises, lies or takes long. Neither the message that is being made nor the thread may be lost by that.
#
# 1. If an object raises while it is described, the exception is dropped, and a plainer description is used. Even a
#    SystemExit from a `__str__` is dropped: it would end a thread of ours.
# 2. A real interrupt is not dropped. It comes from a signal handler, which runs only on the main thread. So a
#    KeyboardInterrupt there propagates, and an exception whose traceback shows a handler's frame.
# 3. The interpreter's own functions set the parts of an exception that belong to the interpreter (cause, context,
#    traceback, notes). They bypass a `__setattr__` that refuses.

T = TypeVar("T")

_MOST: Final = 200  # characters of one object

# The interpreter's own getters and setters of an exception's parts.
_ARGS: Final[Any] = BaseException.__dict__["args"]
_CAUSE: Final[Any] = BaseException.__dict__["__cause__"]
_CONTEXT: Final[Any] = BaseException.__dict__["__context__"]
_SUPPRESSES: Final[Any] = BaseException.__dict__["__suppress_context__"]
_TRACEBACK: Final[Any] = BaseException.__dict__["__traceback__"]
_QUALNAME: Final[Any] = type.__dict__["__qualname__"]
_MODULE: Final[Any] = type.__dict__["__module__"]

# Without the GIL, CPython 3.13 may crash if several threads raise the same exception at once, because each thread
# changes its traceback (gh-128421, mended in 3.14).
SEVERAL_MAY_RAISE: Final = sys.version_info >= (3, 14) or HAS_GIL


def guarded(default: T, call: Callable[..., T], *args: Any) -> T:
    """Return the result of the call, or the default if it raises; a real interrupt propagates."""
    try:
        return call(*args)
    except Exception:  # noqa: BLE001  a user's object may raise anything
        return default
    except BaseException as error:
        if is_interrupt(error):
            raise
        return default


def is_interrupt(error: BaseException) -> bool:
    """Return whether the exception is a real interrupt: one that a signal handler raised, on the main thread."""
    main = getattr(sys.modules.get("threading"), "main_thread", None)
    if main is None or main().ident != get_ident():
        return False
    return isinstance(error, KeyboardInterrupt) or _passed_a_handler(traceback_of(error))


def _passed_a_handler(traceback: TracebackType | None) -> bool:
    import signal

    handlers = [signal.getsignal(number) for number in signal.valid_signals()]
    codes = [getattr(handler, "__code__", None) or _code_of_call(handler) for handler in handlers if callable(handler)]
    while traceback is not None:
        if any(traceback.tb_frame.f_code is code for code in codes):
            return True
        traceback = traceback.tb_next
    return False


def _code_of_call(handler: object) -> object:
    return getattr(getattr(type(handler), "__call__", None), "__code__", None)  # noqa: B004  the function, not a test


# -- into words --------------------------------------------------------------------------------------------------------


def printable(text: str) -> str:
    """Return the text with everything escaped that a terminal or a log would not show on one line.

    Control characters, line ends, lone surrogates and marks that change the direction of writing are escaped as in a
    string literal.
    """
    plain = str.__str__(text)  # not the method of a subclass
    if plain.isprintable():
        return plain
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in plain)


def shortened(text: str, most: int = _MOST) -> str:
    """Return the text, or its beginning with an ellipsis if it is too long."""
    return text if len(text) <= most else text[: most - 1] + "…"


def words(thing: object, most: int = _MOST) -> str:
    """Return the ``repr`` of any object, shortened to one line; if that fails, name its type."""
    return shortened(printable(guarded(_bare(thing), _short_repr, thing, most)), most)


def _short_repr(thing: object, most: int) -> str:
    if type(thing) in (int, float, bool, type(None), FunctionType):
        return repr(thing)
    from reprlib import Repr  # which reads only as much of a large container as it shows

    short = Repr()
    short.maxstring = short.maxother = short.maxlong = most
    return short.repr(thing)


def _bare(thing: object) -> str:
    return f"<{type_name(thing)} object>"


def text_of(thing: object, most: int = _MOST) -> str:
    """Return the ``str`` of any object, shortened to one line; if that fails, name its type."""
    return shortened(printable(guarded(_bare(thing), _text, thing)), most)


def _text(thing: object) -> str:
    return str.__str__(str(thing))


def type_name(thing: object) -> str:
    """Return the name of the object's type, with its module unless that is ``builtins``."""
    kind = type(thing)
    name = printable(guarded("object", _own_name, kind))
    module = guarded("builtins", _own_module, kind)
    return name if module == "builtins" else f"{printable(module)}.{name}"


def _own_name(kind: type) -> str:
    return str.__str__(_QUALNAME.__get__(kind))


def _own_module(kind: type) -> str:
    return str.__str__(_MODULE.__get__(kind))


def name_of(function: object) -> str:
    """Return the name of a callable: its qualified name, or its ``repr``."""
    name = guarded(None, getattr, function, "__qualname__", None)
    return shortened(printable(name)) if isinstance(name, str) else words(function)


def error_words(error: BaseException, most: int = 1000) -> str:
    """Return an exception as the last line of its traceback shows it: its type, and its text if it has one."""
    kind = type(error)
    short = printable(guarded("exception", _own_name, kind))
    said = guarded(None, _text, error)
    if said is None:
        return f"{short} (its text can't be shown: its __str__ fails)"
    return shortened(f"{short}: {printable(said)}" if said else short, most)


def traceback_words(error: BaseException) -> str:
    """Return the whole traceback of an exception as text of several lines; only its last line if that fails."""
    return guarded(error_words(error), _format, error)


def _format(error: BaseException) -> str:
    from traceback import format_exception

    return "".join(format_exception(type(error), error, traceback_of(error)))


# -- exceptions --------------------------------------------------------------------------------------------------------


def traceback_of(error: BaseException) -> TracebackType | None:
    """Return the exception's traceback, even if a property of its class hides it."""
    traceback: TracebackType | None = _TRACEBACK.__get__(error)
    return traceback


def without_traceback(error: BaseException) -> BaseException:
    """Remove the exception's traceback, and return it."""
    return set_traceback(error, None)


def set_traceback(error: BaseException, traceback: TracebackType | None) -> BaseException:
    """Set the exception's traceback, even if a method of its class overrides that, and return the exception."""
    BaseException.with_traceback(error, traceback)
    return error


def chain(error: BaseException, cause: BaseException | None) -> BaseException:
    """Set the exception's cause, even if its class refuses to have attributes set, and return the exception."""
    _CAUSE.__set__(error, cause)
    return error


def context_of(error: BaseException) -> BaseException | None:
    """Return the exception's context, even if a property of its class hides it."""
    context: BaseException | None = _CONTEXT.__get__(error)
    return context


def set_context(error: BaseException, context: BaseException | None) -> BaseException:
    """Set the exception's context, even if a property of its class hides it, and return the exception."""
    _CONTEXT.__set__(error, context)
    return error


def own_copy(error: BaseException) -> BaseException:
    """Return a copy of the exception, with cause and notes; the exception itself if its class can't be copied.

    Its traceback and its context are left to the caller: another thread may be changing those of the exception.
    """
    made = guarded(error, _copy_of, error)
    if made is error or type(made) is not type(error):
        return error
    chain(made, _CAUSE.__get__(error))
    _SUPPRESSES.__set__(made, _SUPPRESSES.__get__(error))
    return made


def _copy_of(error: BaseException) -> BaseException:
    """Copy by the interpreter's own class, since the constructor may take other arguments than it stored."""
    classes = type(error).__mro__
    builtin: Any = next(each for each in classes if _MODULE.__get__(each) == "builtins")
    added = classes[: classes.index(builtin)]
    words_added = len(_members(added)) + (type(error).__weakrefoffset__ > 0)  # from 3.12 on it is before the object
    size = builtin.__basicsize__ + words_added * tuple.__itemsize__
    if type(error).__basicsize__ != size:  # it has fields in C that only its class knows
        return copy.copy(error)
    args = _ARGS.__get__(error)
    made: BaseException = builtin.__new__(type(error), *args)
    builtin.__init__(made, *args)
    for member in _members(classes):
        with suppress(AttributeError, TypeError):  # it has no value, or is read-only, as in ExceptionGroup
            if (value := member.__get__(error)) is not None:
                member.__set__(made, value)
    _dict_of(made).update(_dict_of(error))
    return made


def _members(classes: Iterable[type]) -> list[Any]:
    """The fields in C and the slots that the classes define."""
    entries = (member for each in classes for member in vars(each).values())
    return [member for member in entries if type(member) is MemberDescriptorType]


def notes_of(error: BaseException) -> tuple[str, ...]:
    """Return the exception's notes, as far as they are text."""
    notes = guarded(None, _notes, error)
    return tuple(str.__str__(each) for each in notes if isinstance(each, str)) if type(notes) is list else ()


def note(error: BaseException, text: str) -> bool:
    """Add a note to an exception, once; return whether it has the note now.

    This works even if the class refuses attributes. If ``__notes__`` is not a list, it is left unchanged.
    """
    return guarded(False, _note, error, text)


def _note(error: BaseException, text: str) -> bool:
    notes = _notes(error)
    if notes is None:
        # Not by add_note(), which would use the class's `__setattr__`, but in the dictionary that every exception has.
        _dict_of(error)["__notes__"] = [text]
        return True
    if type(notes) is not list:
        return False
    if not any(type(each) is str and each == text for each in notes):
        notes.append(text)
    return True


def _notes(error: BaseException) -> Any:
    return getattr(error, "__notes__", None)


def _dict_of(error: BaseException) -> dict[str, Any]:
    entries: dict[str, Any] = object.__getattribute__(error, "__dict__")
    return entries


# -- the log -----------------------------------------------------------------------------------------------------------


def log(level: int, message: str, error: BaseException | None = None) -> None:
    """Log a message to the logger ``syncprims``, with an exception's traceback; never raises.

    If a handler of the program fails, the message goes to ``sys.stderr``, if there is one.
    """

    def emit() -> bool:
        import logging  # here, because the import fails when the interpreter ends

        # All three parts, because logging tests the truth of a lone exception.
        info = None if error is None else (type(error), error, traceback_of(error))
        logging.getLogger("syncprims").log(level, "%s", message, exc_info=info)
        return True

    if not guarded(False, emit):
        told = message if error is None else f"{message}\n{traceback_words(error)}"
        guarded(None, _write, f"a handler of the logger 'syncprims' failed; the message was: {told}\n")


def _write(text: str) -> None:
    stream = sys.stderr
    if stream is not None:
        stream.write(text.encode("utf-8", "backslashreplace").decode("utf-8"))
        stream.flush()
