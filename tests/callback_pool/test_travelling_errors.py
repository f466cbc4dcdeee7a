"""Pickling of exceptions, and the messages about objects that can't be pickled at all."""

from __future__ import annotations

import copyreg
import io
import multiprocessing
import os
import pickle
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import pytest

from syncprims import AtomicCounter, CallbackPool, TimedLock, TransportError
from syncprims.callback_pool.travel.envelope import pack, run_packed, unpack
from syncprims.callback_pool.travel.exceptions import PackedError, pack_error, unpack_error


@pytest.fixture(autouse=True)
def without_reducers_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo Dask's change, once it is imported, to every exception: it makes more of them picklable."""
    for kind in [kind for kind in copyreg.dispatch_table if issubclass(kind, BaseException)]:
        monkeypatch.delitem(copyreg.dispatch_table, kind)


def there_and_back(error: BaseException) -> BaseException:
    """Send an exception from the worker's side to this one, through the bytes of a whole outcome."""
    _, failure = unpack(pickle.dumps((False, *pack_error(pickle.dumps, error))))
    assert failure is not None
    return failure


def notes(error: BaseException) -> str:
    return "\n".join(getattr(error, "__notes__", ()))


# -- exceptions that pickling changes ----------------------------------------------------------------------------------


class QuotaError(Exception):
    """Makes its text from another argument than it passes on."""

    def __init__(self, user: str) -> None:
        super().__init__(f"quota of {user} is used up")
        self.user = user


class HttpError(Exception):
    """Takes more arguments than it passes on."""

    def __init__(self, status: int, url: str) -> None:
        super().__init__(f"{status} for {url}")


class SlottedError(Exception):
    """Keeps the value that pickling makes from the wrong argument."""

    __slots__ = ("code",)

    def __init__(self, text: str, code: int = 0) -> None:
        super().__init__(text)
        self.code = code


class BecomesTextError(Exception):
    """Becomes an object that is not an exception."""

    def __reduce__(self) -> tuple[object, ...]:
        return (str, ("text",))


class ForgetfulError(Exception):
    """Leaves out attributes that can't be pickled, on purpose."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), self.args, {"lock": None})


@pytest.mark.parametrize(
    ("error", "text", "why"),
    [
        (QuotaError("alice"), "quota of alice is used up", "would turn its text into 'quota of quota of alice"),
        (HttpError(404, "http://x"), "404 for http://x", "TypeError: .*missing 1 required positional argument: 'url'"),
        (
            subprocess.CalledProcessError(returncode=3, cmd=["x"]),
            str(subprocess.CalledProcessError(returncode=3, cmd=["x"])),
            "TypeError: .*missing 2 required positional arguments",
        ),
        (BecomesTextError("hm"), "BecomesTextError: hm", "turns it into a str"),
    ],
)
def test_changed_exception_is_another_error_that_says_what_it_was(error: BaseException, text: str, why: str) -> None:
    """The error has its text once, and a note says why the exception itself was not sent."""
    told = there_and_back(error)
    assert type(told) is TransportError
    assert str(told).count(text) == 1
    assert type(error).__name__ in str(told)
    with pytest.raises(TransportError, match=why):
        raise told
    assert text in str(told.__cause__)


def test_changed_attribute_is_noted() -> None:
    """An exception with the same text is sent itself; a note lists the changed attributes."""
    told = there_and_back(SlottedError("no", 7))
    assert (type(told), str(told)) == (SlottedError, "no")
    assert "its code was 7 there" in notes(told)
    forgetful = there_and_back(ForgetfulError("busy"))
    assert (type(forgetful), str(forgetful)) == (ForgetfulError, "busy")
    assert "its lock was <" in notes(forgetful)


def test_changed_exception_in_a_group_is_noted() -> None:
    """A group is sent itself; a note lists the changes in it."""
    told = there_and_back(ExceptionGroup("both", [ValueError("fine"), QuotaError("alice")]))
    assert type(told) is ExceptionGroup
    assert "QuotaError('quota of alice is used up')" in notes(told)
    same = there_and_back(ExceptionGroup("both", [ValueError("fine"), KeyError("k")]))
    assert notes(same) == ""


def test_unchanged_exceptions_travel_without_a_note() -> None:
    """Addresses, the order of a set and NaN don't count as changes."""
    with_note = ValueError("bad")
    with_note.add_note("row 3")
    errors: list[BaseException] = [
        ValueError(object()),
        KeyError({"a", "b", "c"}),
        ValueError(float("nan"), [1, (2, {"k": 3})]),
        FileNotFoundError(2, "No such file", "/x"),
        UnicodeEncodeError("ascii", "ÿ", 0, 1, "ordinal"),
        StopIteration(3),
        SystemExit("bye"),
    ]
    for error in errors:
        told = there_and_back(error)
        assert type(told) is type(error)
        assert notes(told) == ""
    assert notes(there_and_back(with_note)) == "row 3"


where = "worker"


class PlaceError(Exception):
    """Has another text on the other side."""

    def __str__(self) -> str:
        return f"raised in the {where}"


def test_text_is_compared_on_this_side_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The class may have another version here."""
    packed = pack_error(pickle.dumps, PlaceError())
    monkeypatch.setattr(sys.modules[__name__], "where", "parent")
    told = unpack_error(packed)
    assert type(told) is TransportError
    assert str(told).endswith("PlaceError: raised in the worker")
    assert "raised in the parent" in notes(told)


# -- exceptions that refuse --------------------------------------------------------------------------------------------


class RefusingError(Exception):
    """Refuses every attribute."""

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("frozen")


@dataclass(frozen=True, slots=True)
class FrozenError(Exception):
    """Refuses every attribute too."""

    user: str


class LoudError(Exception):
    """Raises SystemExit when it is touched."""

    def __str__(self) -> str:
        raise SystemExit("in __str__")

    def __reduce__(self) -> NoReturn:
        raise KeyboardInterrupt


class HidingError(Exception):
    """Hides all its parts."""

    def __getattribute__(self, name: str) -> NoReturn:
        raise RuntimeError(name)


def test_exception_that_refuses_attributes_has_its_cause_all_the_same() -> None:
    """The interpreter's own function sets the worker's traceback."""
    for error in (RefusingError("no"), FrozenError("alice")):
        told = there_and_back(error)
        assert type(told) is type(error)
        assert type(error).__name__ in str(told.__cause__)


@pytest.mark.parametrize("kind", [LoudError, HidingError])
def test_hostile_exception_is_described(kind: type[Exception]) -> None:
    """Whatever its methods raise, the outcome is an error of its task that names it."""
    told = there_and_back(kind())
    assert kind.__name__ in str(told) + repr(told)


def refuse(kind: type[Exception]) -> NoReturn:
    raise kind("no")


@pytest.mark.parametrize("kind", [RefusingError, FrozenError, LoudError, HidingError, QuotaError])
def test_task_that_raises_it_settles(kind: type[Exception]) -> None:
    """This is in a pool of processes, and the callback is called."""
    told: list[BaseException] = []
    with CallbackPool("process", max_workers=1) as pool:
        task = pool.apply_async(refuse, (kind,), error_callback=told.append)
        task.wait_settled(50)
    assert [task.exception(0)] == told


# -- what ends a program, raised on the way ----------------------------------------------------------------------------


def leave() -> NoReturn:
    raise SystemExit("on the way")


class EndsOnArrival:
    """Raises SystemExit when it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return (leave, ())


class EndsOnLeaving:
    """Raises SystemExit when it is pickled."""

    def __reduce__(self) -> NoReturn:
        leave()


def outcome(fn: Callable[..., object], *args: object) -> tuple[Any, BaseException | None]:
    return unpack(run_packed(pack(pickle.dumps, fn, args, {}), None, None, 0, True))


def test_system_exit_while_something_is_pickled_is_not_the_tasks_own() -> None:
    """The task itself did not raise it."""
    _, error = outcome(id, EndsOnArrival())
    assert type(error) is TransportError
    assert "can't be unpickled in the worker: SystemExit: on the way" in str(error)
    _, error = outcome(EndsOnLeaving)
    assert type(error) is TransportError
    assert "which can't be pickled: SystemExit: on the way" in str(error)
    _, error = outcome(EndsOnArrival)
    assert type(error) is TransportError
    assert "the result can't be unpickled here: SystemExit: on the way" in str(error)


class EndingStream(io.StringIO):
    """Raises SystemExit when it is flushed."""

    def flush(self) -> None:
        raise SystemExit("in flush")


def test_stream_that_exits_when_flushed_does_not_replace_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """This holds for any object that a task has put in place of its worker's stdout."""
    packed = pack(pickle.dumps, max, (2, 7), {})
    monkeypatch.setattr(sys, "stdout", EndingStream())
    result = run_packed(packed, None, None, 0, True)
    monkeypatch.undo()
    assert unpack(result) == (7, None)


# -- advice ------------------------------------------------------------------------------------------------------------


def test_what_multiprocessing_hands_over_at_a_workers_start_is_said_to_be_initargs() -> None:
    """They are not something for cloudpickle."""
    context = multiprocessing.get_context("spawn")
    things: list[Any] = [context.Queue(), context.Lock(), context.Event(), context.Value("i", 0), context.SimpleQueue()]
    for thing in (*things, [things[0]]):
        with pytest.raises(TransportError, match=r"get_context\(\"spawn\"\).*initargs.*Manager") as caught:
            pack(pickle.dumps, id, (thing,), {})
        assert "cloudpickle" not in str(caught.value)


def test_what_works_in_one_process_only_is_said_to_do_so() -> None:
    """This is for locks, events and queues of threads, and objects that contain one."""
    things: list[Any] = [threading.Lock(), threading.RLock(), threading.Event(), queue.Queue(), queue.SimpleQueue()]
    for thing in things:
        with pytest.raises(TransportError, match=r"works in one process only.*initargs.*Manager") as caught:
            pack(pickle.dumps, id, (thing,), {})
        assert "cloudpickle" not in str(caught.value)


def test_primitives_of_ours_give_their_own_advice() -> None:
    """The advice appears once, without any that does not help."""
    with CallbackPool(max_workers=1) as pool:
        for thing, words in ((TimedLock(), "LockAdapter"), (AtomicCounter(), "send its value"), (pool, "over there")):
            with pytest.raises(TransportError, match=words) as caught:
                pack(pickle.dumps, id, (thing,), {})
            assert "cloudpickle" not in str(caught.value)


def test_cloudpickle_is_advised_where_it_helps() -> None:
    """It is advised for functions and classes that can't be found by name, not for files or generators."""
    with pytest.raises(TransportError, match=r"dumps=cloudpickle\.dumps"):
        pack(pickle.dumps, lambda: 1, (), {})
    with open(os.devnull) as file:
        for thing in (file, (each for each in "ab")):
            with pytest.raises(TransportError, match=r"Pass something that can$"):
                pack(pickle.dumps, id, (thing,), {})


def test_packed_error_travels_as_plain_values() -> None:
    """So a worker with another version of this library can read it."""
    assert tuple(pack_error(pickle.dumps, KeyError("k")))[1:3] == ("KeyError", "'k'")
    assert isinstance(unpack_error(PackedError(None, "Odd", "of theirs", "the stack", [])), TransportError)
