"""Objects of the user's that raise, lie or refuse at any touch: the one place that touches them survives."""

from __future__ import annotations

import dataclasses
import errno
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncprims._core import foreign
from syncprims.testing import Threads


class Exits:
    """Raises an exception that ends a thread, whenever it is put into words."""

    def __repr__(self) -> str:
        raise SystemExit("from __repr__")

    __str__ = __repr__


@dataclasses.dataclass(frozen=True)
class FrozenError(Exception):
    """Refuses that any attribute is set."""

    text: str


class RefusesError(Exception):
    """Raises for its own text and ``repr``."""

    def __setattr__(self, name: str, value: object) -> None:
        raise SystemExit(f"no {name}")

    def __getattribute__(self, name: str) -> object:
        if name.startswith("__") and name != "__class__":
            raise RuntimeError(f"no {name}")
        return super().__getattribute__(name)

    def __str__(self) -> str:
        raise SystemExit("no words")

    __repr__ = __str__


class OddNotesError(Exception):
    """Has notes that are not a list."""

    __notes__ = "not a list"  # type: ignore[assignment]


class FalsyError(Exception):
    """Is false, and equal to every object."""

    def __bool__(self) -> bool:
        return False

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


class Meta(type):
    """A metaclass that lies about names."""

    def __getattribute__(cls, name: str) -> object:
        if name in ("__qualname__", "__name__", "__module__"):
            raise RuntimeError("no name")
        return super().__getattribute__(name)


def nameless() -> BaseException:
    """An exception whose class has no name; made here, because pytest asks all objects of a module for their names."""

    class NamelessError(Exception, metaclass=Meta):
        pass

    return NamelessError()


class LyingText(str):
    """A string whose methods lie."""

    def __str__(self) -> str:
        raise ValueError("no text")

    def isprintable(self) -> bool:
        return True

    def __format__(self, spec: str) -> str:
        raise ValueError("no format")


HOSTILE: list[Callable[[], BaseException]] = [
    lambda: FrozenError("text"),
    RefusesError,
    OddNotesError,
    FalsyError,
    nameless,
    lambda: ValueError(Exits()),
    lambda: ExceptionGroup("a group", [FalsyError(), FrozenError("inner")]),
    lambda: KeyError("\x1b[31m\n\ud800\u202e"),
]
each_hostile = pytest.mark.parametrize("make", HOSTILE)


@each_hostile
def test_every_exception_comes_into_words_of_one_line(make: Callable[[], BaseException]) -> None:
    """The words contain the name of its type, whatever its text is."""
    said = foreign.error_words(make())
    assert said.isprintable()
    assert type.__dict__["__name__"].__get__(type(make())) in said
    assert foreign.words(make()).isprintable()
    assert foreign.text_of(make()).isprintable()
    assert foreign.traceback_words(make())


@each_hostile
def test_every_exception_can_be_chained(make: Callable[[], BaseException]) -> None:
    """A class that refuses attributes gets a cause and a context nevertheless."""
    error, cause, context = make(), ValueError("the cause"), ValueError("the context")
    foreign.set_context(foreign.chain(error, cause), context)
    assert BaseException.__dict__["__cause__"].__get__(error) is cause
    assert BaseException.__dict__["__context__"].__get__(error) is context


@each_hostile
def test_every_exception_can_be_copied(make: Callable[[], BaseException]) -> None:
    """None of its own code runs: such a class refuses attributes and comparison, and does not give its name."""
    error, cause = make(), ValueError("the cause")
    made = foreign.own_copy(foreign.chain(error, cause))
    assert made is not error
    assert type(made) is type(error)
    args = BaseException.__dict__["args"].__get__
    assert list(map(id, args(made))) == list(map(id, args(error)))
    assert BaseException.__dict__["__cause__"].__get__(made) is cause


class SlottedError(Exception):
    """Takes other arguments than it passes on, stores one in a slot, and leaves a slot empty."""

    __slots__ = ("code", "empty")

    def __init__(self, code: int, *, key: str) -> None:
        super().__init__(f"no {key}")
        self.code = code
        self.key = key


class FileError(OSError):
    """Makes the arguments of OSError itself."""

    def __init__(self, name: str) -> None:
        super().__init__(errno.ENOENT, "no such file", name)


class OpaqueError(Exception):
    """Has a field that Python can't see, like a class in C, and its own way to be copied."""

    __slots__ = ("field",)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), ("copied",)


type.__delattr__(OpaqueError, "field")


class RefusesCopiesError(OpaqueError):
    """Refuses to be copied."""

    def __reduce__(self) -> tuple[object, ...]:
        raise RuntimeError("no copies")


@pytest.mark.parametrize(
    ("error", "fields"),
    [
        (SlottedError(3, key="x"), ["code", "key"]),
        (FileError("a"), ["errno", "strerror", "filename", "filename2"]),
        (FileNotFoundError(2, "s", "f", None, "g"), ["errno", "strerror", "filename", "filename2"]),
        (BlockingIOError(11, "busy", 7), ["errno", "characters_written"]),
        (UnicodeDecodeError("utf-8", b"a", 0, 1, "odd"), ["encoding", "object", "start", "end", "reason"]),
        (ImportError("a", name="b", path="c"), ["msg", "name", "path"]),
        (AttributeError("a", name="b", obj=3), ["name", "obj"]),
        (StopIteration(3), ["value"]),
        (SystemExit(3), ["code"]),
        (SyntaxError("a", ("f", 1, 2, "text")), ["msg", "filename", "lineno", "offset", "text"]),
        (ExceptionGroup("a", [ValueError("b")]), ["message", "exceptions"]),
        (json.JSONDecodeError("a", "doc", 1), ["msg", "doc", "pos"]),
    ],
)
def test_a_copy_has_all_fields(error: BaseException, fields: list[str]) -> None:
    """It has the fields in C, in slots and in the dictionary, and the notes, whatever its constructor takes."""
    error.add_note("a note")
    before = str(error), repr(error), error.args
    made = foreign.own_copy(error)
    assert made is not error
    assert (str(made), repr(made), made.args) == before
    for name in [*fields, "__notes__"]:
        assert getattr(made, name) == getattr(error, name)
    assert not made.__suppress_context__
    assert made.__traceback__ is None


def test_a_class_with_fields_of_which_only_it_knows_is_asked_for_the_copy() -> None:
    """If that class refuses, the exception itself is used."""
    assert foreign.own_copy(OpaqueError("original")).args == ("copied",)
    error = RefusesCopiesError("original")
    assert foreign.own_copy(error) is error


@pytest.mark.parametrize("make", [make for make in HOSTILE if make not in (RefusesError, OddNotesError)])
def test_a_note_is_added_once(make: Callable[[], BaseException]) -> None:
    """This holds for exceptions that refuse attributes, and for those that have notes."""
    error = make()
    assert foreign.note(error, "first")
    assert foreign.note(error, "second")
    assert foreign.note(error, "first")
    assert foreign.notes_of(error) == ("first", "second")


@pytest.mark.parametrize("make", [RefusesError, OddNotesError])
def test_a_note_that_can_not_be_added_is_let_be(make: Callable[[], BaseException]) -> None:
    """The value that the user keeps there stays."""
    assert not foreign.note(make(), "a note")
    assert foreign.notes_of(make()) == ()


def test_a_note_does_not_reach_the_class() -> None:
    """A class may have notes for all its exceptions: that list does not change, and its notes are kept."""
    first = FrozenError("first")
    foreign.note(first, "only here")
    assert foreign.notes_of(FrozenError("second")) == ()


@given(st.text(alphabet=st.characters(codec=None)))
def test_printable_is_one_line_and_reversible(text: str) -> None:
    """This holds for any text; the printable characters stay as they are."""
    shown = foreign.printable(text)
    assert shown.isprintable()
    if text.isprintable():
        assert shown == text


def test_a_string_that_lies_is_read_past_its_methods() -> None:
    """A name may be of a subclass of str."""
    assert foreign.printable(LyingText("a\nb")) == "a\\nb"
    assert type(foreign.printable(LyingText("ab"))) is str
    assert "a\\nb" in foreign.words({"key": "a\nb"})


def test_long_objects_are_cut_short() -> None:
    """This does not depend on their size, and only the beginning is read."""

    class Looked:
        seen = 0

        def __repr__(self) -> str:
            Looked.seen += 1
            return "x"

    assert len(foreign.words("x" * 10**6)) <= 200
    assert len(foreign.words([Looked() for _ in range(10_000)])) <= 200
    assert Looked.seen < 100
    assert len(foreign.words("x" * 500, most=20)) <= 20
    assert foreign.name_of(len) == "len"
    assert foreign.name_of(Exits()).startswith("<")


def test_an_interrupt_is_not_swallowed_in_the_main_thread() -> None:
    """It may be Ctrl-C, or an exception of a handler of the program, while an object is put into words."""

    class StopError(BaseException):
        pass

    def handler(number: int, frame: object) -> None:
        raise StopError

    class Signals:
        def __repr__(self) -> str:
            os.kill(os.getpid(), signal.SIGUSR1)
            return "said"

    class Interrupts:
        def __repr__(self) -> str:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with pytest.raises(StopError):
            foreign.words(Signals())
        with pytest.raises(KeyboardInterrupt):
            foreign.words(Interrupts())
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_thread_outlives_whatever_an_object_raises() -> None:
    """In another thread no signal handler runs, so every exception there comes from the object."""

    class Interrupts:
        def __repr__(self) -> str:
            raise KeyboardInterrupt

    said: list[str] = []
    with Threads() as threads:
        threads.start(lambda: said.append(foreign.words(Interrupts())))
    assert len(said) == 1
    assert "Interrupts object" in said[0]


@pytest.fixture
def failing_handler() -> Iterator[None]:
    """A log handler that raises at each record."""

    class Failing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise SystemExit("the handler failed")

    logger, handler = logging.getLogger("syncprims"), Failing()
    logger.addHandler(handler)
    yield
    logger.removeHandler(handler)


@pytest.mark.usefixtures("failing_handler")
def test_a_log_handler_that_fails_loses_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message appears on stderr instead, with the traceback."""
    stream = StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    foreign.log(logging.ERROR, "something failed", FrozenError("the error"))
    assert "something failed" in stream.getvalue()
    assert "FrozenError: the error" in stream.getvalue()
    monkeypatch.setattr(sys, "stderr", None)
    foreign.log(logging.ERROR, "something failed", FrozenError("the error"))


@each_hostile
def test_every_exception_can_be_logged(make: Callable[[], BaseException], caplog: pytest.LogCaptureFixture) -> None:
    """The record has the exception itself, even if it is false."""
    error = make()
    foreign.log(logging.ERROR, "something failed", error)
    (record,) = caplog.records
    assert record.getMessage() == "something failed"
    assert record.exc_info is not None
    assert record.exc_info[1] is error


def test_the_threads_module_is_not_needed() -> None:
    """A program that never imported threading has only its main thread, and nothing fails there."""
    assert threading.main_thread() is threading.current_thread()
    assert foreign.guarded(7, int, "no number") == 7
