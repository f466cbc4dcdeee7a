"""Whatever users' objects do while a task is settled, only that task fails, and every thread of the pool survives."""

from __future__ import annotations

import ctypes
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any, NoReturn

import pytest

from callback_pool import pool_workers
from polling import until
from syncprims import CallbackErrors, TaskTimeoutError
from syncprims.callback_pool import CallbackPool, Task
from syncprims.callback_pool.dispatcher import Dispatcher
from syncprims.callback_pool.unseen_errors import KEPT
from syncprims.callback_pool.workers.threads import ThreadWorkers

LIMIT = 60.0
SHORT = 0.05


# -- errors that allow no touch ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FrozenError(Exception):
    """Refuses every attribute."""

    code: int = 3


@dataclass(frozen=True, slots=True)
class SlottedError(Exception):
    """Refuses every attribute, and has slots."""

    code: int = 3


class NotesNoneError(Exception):
    """Its notes are None."""

    __notes__ = None  # type: ignore[assignment]  # this is the point


class NotesTextError(Exception):
    """Its notes are a string."""

    __notes__ = "abc"  # type: ignore[assignment]  # this is the point


class NoNotesError(Exception):
    """Refuses a note."""

    def add_note(self, note: str, /) -> None:
        raise SystemExit("no notes")


class ImmutableError(Exception):
    """Refuses attributes by its own method."""

    def __setattr__(self, name: str, value: object) -> None:
        raise RuntimeError("immutable")


class NoTextError(Exception):
    """Raises when it is put into words."""

    def __str__(self) -> str:
        raise SystemExit("no text")

    __repr__ = __str__


class NoTruthError(Exception):
    """Raises when its truth is tested."""

    def __bool__(self) -> bool:
        raise SystemExit("neither true nor false")

    def __len__(self) -> int:
        raise SystemExit("no length")


class NothingError(Exception):
    """Is false, and empty."""

    def __bool__(self) -> bool:
        return False

    def __len__(self) -> int:
        return 0


class UnequalError(Exception):
    """Can neither be compared nor hashed."""

    def __eq__(self, other: object) -> bool:
        raise SystemExit("equals nothing")

    __hash__ = None  # type: ignore[assignment]  # this is the point


class DisguisedError(Exception):
    """Pretends to be of another class."""

    @property  # type: ignore[misc]  # this is the point
    def __class__(self) -> type:
        return int


class SpeechlessExit(BaseException):
    """Raises when it is put into words, and is not an Exception."""

    def __str__(self) -> str:
        raise SystemExit("no text")


HOSTILE: list[type[BaseException]] = [
    *(FrozenError, SlottedError, NotesNoneError, NotesTextError, NoNotesError, ImmutableError, NoTextError),
    *(NoTruthError, NothingError, UnequalError, DisguisedError, SpeechlessExit, StopIteration, GeneratorExit),
]
hostile = pytest.mark.parametrize("kind", HOSTILE, ids=lambda kind: kind.__name__)


def throw(kind: type[BaseException]) -> NoReturn:
    raise kind


def kinds_of(group: CallbackErrors) -> list[type]:
    """The types of a group's errors, without the wrapping of those that are not an Exception."""
    return [type(error if error.__cause__ is None else error.__cause__) for error in group.exceptions]


@hostile
def test_an_error_of_a_callback_that_allows_no_touch_is_one_among_others(kind: type[BaseException]) -> None:
    """The callbacks after it run, and the group has all errors in order."""
    told: list[int] = []
    pool = CallbackPool(max_workers=1)
    pool.apply_async(int, callback=lambda _: throw(LookupError))
    pool.apply_async(int, callback=lambda _: throw(kind))
    pool.apply_async(int, callback=told.append)
    with pytest.raises(CallbackErrors) as caught:
        pool.join(LIMIT)
    assert kinds_of(caught.value) == [LookupError, kind]
    assert told == [0]
    pool.close(LIMIT)


@hostile
@pytest.mark.parametrize("where", ["thread", "process"])
def test_an_error_of_a_task_that_allows_no_touch_is_delivered(kind: type[BaseException], where: Any) -> None:
    """result() raises it, its error callback gets it, and otherwise it is in the group, beside another task's error."""
    told: list[BaseException] = []
    with CallbackPool(where, max_workers=1) as pool:
        task = pool.apply_async(throw, (kind,), error_callback=told.append)
        # An exception that can't be pickled comes as an error that describes it.
        with pytest.raises(BaseException) as caught:  # noqa: PT011  each kind
            task.result(LIMIT)
        assert type(caught.value) is kind or kind.__name__ in str(caught.value)
        task.wait_settled(LIMIT)
        assert len(told) == 1
        assert told[0] is caught.value
        pool.apply_async(throw, (kind,))
        pool.apply_async(throw, (LookupError,))
        with pytest.raises(CallbackErrors) as group:
            pool.join(LIMIT)
        assert len(group.value.exceptions) == 2
        assert kinds_of(group.value)[1:] == [LookupError] or where == "process"


@hostile
@pytest.mark.parametrize("on_error", ["log", lambda task, error: throw(type(error))], ids=["log", "raises"])
def test_a_function_for_errors_may_raise_what_it_likes(kind: type[BaseException], on_error: Any) -> None:
    """The dispatcher calls it for a callback's error, and close for a task's: both go on."""
    told: list[int] = []
    with CallbackPool(max_workers=1, on_callback_error=on_error) as pool:
        pool.apply_async(int, callback=lambda _: throw(kind))
        pool.apply_async(throw, (kind,))
        pool.map(throw, [kind])
        pool.apply_async(int, callback=told.append)
    assert told == [0]


@hostile
def test_leaving_by_an_error_that_takes_no_note_loses_nothing(
    kind: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    """The block's own error is raised, whatever it is; errors that can't be noted on it are logged."""
    settled = threading.Event()
    error: BaseException | None = None
    with caplog.at_level(logging.ERROR, "syncprims"):
        try:
            with CallbackPool(max_workers=1, on_progress=lambda *_: settled.set()) as pool:
                pool.apply_async(throw, (LookupError,))
                assert settled.wait(LIMIT)
                throw(kind)
        except BaseException as caught:
            error = caught
    assert type(error) is kind
    notes = BaseException.__getattribute__(error, "__dict__").get("__notes__", [])
    assert "LookupError" in str(notes) or "LookupError" in caplog.text


@hostile
def test_a_hook_may_raise_what_it_likes(kind: type[BaseException]) -> None:
    """Both hooks are called for each task, and their exceptions are in the group."""

    class Hooked(CallbackPool):
        def _on_settled(self, task: Task[Any]) -> None:
            throw(kind)

    pool = Hooked(max_workers=1, on_progress=lambda *_: throw(kind))
    for _ in range(2):
        pool.submit(len, "")
    with pytest.raises(CallbackErrors) as caught:
        pool.close(LIMIT)
    assert kinds_of(caught.value) == [kind] * 4


@pytest.mark.parametrize("where", ["thread", "process"])
def test_an_error_that_is_false_is_an_error(where: Any) -> None:
    """result() raises it; it does not return None."""
    with CallbackPool(where, max_workers=1) as pool:
        task = pool.submit(throw, NothingError)
        for _ in range(2):
            with pytest.raises(NothingError):
                task.result(LIMIT)
        assert isinstance(task.exception(), NothingError)
        with pytest.raises(NothingError):
            list(pool.map(throw, [NothingError]))


# -- log handlers ------------------------------------------------------------------------------------------------------


class BrokenHandler(logging.Handler):
    """Fails at each record."""

    def __init__(self, kind: type[BaseException]) -> None:
        super().__init__()
        self.kind = kind

    def emit(self, record: logging.LogRecord) -> None:
        raise self.kind("the disk is full")


@pytest.fixture(params=[OSError, SystemExit], ids=["error", "exit"])
def _broken_log(request: pytest.FixtureRequest) -> Iterator[None]:
    logger, handler = logging.getLogger("syncprims"), BrokenHandler(request.param)
    logger.addHandler(handler)
    yield
    logger.removeHandler(handler)


@pytest.mark.usefixtures("_broken_log")
@pytest.mark.parametrize("on_error", ["raise", "log"])
def test_more_errors_than_are_kept_and_a_log_that_fails(on_error: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """The dispatcher logs the errors beyond the limit; a handler that raises stops neither it nor the message."""
    told: list[int] = []
    pool = CallbackPool(max_workers=1, on_callback_error=on_error)
    for number in range(KEPT + 2):
        pool.apply_async(int, (number,), callback=lambda number: throw(LookupError) if number else None)
    pool.apply_async(int, callback=told.append)
    if on_error == "raise":
        with pytest.raises(CallbackErrors) as caught:
            pool.close(LIMIT)
        assert len(caught.value.exceptions) == KEPT
    else:
        pool.close(LIMIT)
    assert told == [0]
    assert "LookupError" in capsys.readouterr().err


# -- functions of add_done_callback ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [LookupError, SystemExit, *HOSTILE], ids=lambda kind: kind.__name__)
def test_what_a_done_callback_raises_ends_no_worker(
    kind: type[BaseException], caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """The other functions are called, the outcome stays, the worker runs the next task, and the error is logged."""
    go, called = threading.Event(), threading.Event()
    with caplog.at_level(logging.ERROR, "syncprims"), CallbackPool(max_workers=1) as pool:
        task = pool.submit(go.wait, LIMIT)
        task.add_done_callback(lambda _: throw(kind))
        task.add_done_callback(lambda _: called.set())
        go.set()
        assert task.result(LIMIT) is True
        assert pool.submit(threading.active_count).result(LIMIT)
        assert called.wait(LIMIT)
    assert "add_done_callback" in caplog.text + capsys.readouterr().err  # if `logging` itself fails on it


def test_what_a_done_callback_raises_keeps_no_timeout_from_firing() -> None:
    """The timer calls such functions when a task expires, and goes on."""
    go = threading.Event()
    with CallbackPool(max_workers=2, on_callback_error="log") as pool:
        for _ in range(2):
            task = pool.apply_async(go.wait, (LIMIT,), timeout=SHORT)
            task.add_done_callback(lambda _: throw(SystemExit))
            assert isinstance(task.exception(LIMIT), TaskTimeoutError)
        go.set()


# -- executors that were handed in -------------------------------------------------------------------------------------


class OddFuture(Future[Any]):
    """Answers one question in an odd way, once the pool has it."""

    odd: str = ""
    answer: Callable[[], Any]

    def _ask(self, name: str, *args: Any) -> Any:
        return self.answer() if self.odd == name else getattr(Future, name)(self, *args)

    def exception(self, timeout: float | None = None) -> Any:
        return self._ask("exception", timeout)

    def result(self, timeout: float | None = None) -> Any:
        return self._ask("result", timeout)

    def cancelled(self) -> Any:
        return self._ask("cancelled")

    def running(self) -> Any:
        return self._ask("running")

    def cancel(self) -> Any:
        return self._ask("cancel")


class OddExecutor(Executor):
    """Runs each call at once in its own thread, or when the test says so; its first future is odd."""

    def __init__(self, odd: str, answer: Callable[[], Any]) -> None:
        self.odd = odd
        self.answer = answer
        self.futures: list[OddFuture] = []
        self.go = threading.Event()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future = OddFuture()
        if not self.futures:
            future.odd, future.answer = self.odd, self.answer
        self.futures.append(future)

        def run() -> None:
            assert self.go.wait(LIMIT)
            if not future.done() and Future.set_running_or_notify_cancel(future):
                future.set_result(fn(*args, **kwargs))

        threading.Thread(target=run, daemon=True).start()
        return future


def refuse() -> NoReturn:
    raise SystemExit("this future answers nothing")


class NeitherTrueNorFalse:
    """Has no truth and no words."""

    def __bool__(self) -> bool:
        raise SystemExit("neither")

    def __repr__(self) -> str:
        raise SystemExit("no words")


@pytest.mark.parametrize("packs", [True, False])
@pytest.mark.parametrize("odd", ["exception", "result", "cancelled", "running", "cancel"])
@pytest.mark.parametrize("answer", [refuse, lambda: "nonsense", NeitherTrueNorFalse], ids=["raises", "text", "object"])
def test_future_that_answers_oddly_costs_no_other_task(packs: bool, odd: str, answer: Callable[[], Any]) -> None:
    """Its task is settled, its callback is called once, and later tasks and timeouts work."""
    executor = OddExecutor(odd, answer)
    told: list[object] = []
    tell: Any = told.append
    pool = CallbackPool(executor, envelope=packs)
    task = pool.apply_async(pool_workers.identity, (1,), callback=tell, error_callback=tell, timeout=LIMIT)
    late = pool.apply_async(pool_workers.identity, (2,), error_callback=tell, timeout=SHORT)
    assert isinstance(pool.stats.running, int)
    if packs:  # with a thread executor the time begins with the call
        assert late.running() in (True, False)
    executor.go.set()
    task.wait_settled(LIMIT)
    late.wait_settled(LIMIT)
    after = pool.submit(pool_workers.identity, 3)
    assert after.result(LIMIT) == 3
    pool.close(LIMIT)
    assert len(told) == 1 + any(isinstance(outcome, TaskTimeoutError) for outcome in told)


def test_timer_goes_on_when_a_future_refuses_to_say_whether_it_runs() -> None:
    """Only that task fails: the other task on the same timer expires in time."""
    executor = OddExecutor("running", refuse)
    with CallbackPool(executor, envelope=True, on_callback_error="log") as pool:
        pool.apply_async(pool_workers.identity, (1,), timeout=SHORT)
        late = pool.apply_async(pool_workers.identity, (2,), timeout=SHORT)
        Future.set_running_or_notify_cancel(executor.futures[1])
        assert isinstance(late.exception(LIMIT), TaskTimeoutError)
        executor.futures[1].set_result(None)
        executor.go.set()


def test_backend_that_fails_while_a_task_expires_fails_that_task() -> None:
    """An exception while one task is settled fails that task, and the timer survives."""

    class Failing(ThreadWorkers):
        def abandon(self, job: Any) -> None:
            raise LookupError("no such worker")

    go = threading.Event()
    with CallbackPool(max_workers=2) as pool:
        pool._backend.__class__ = Failing
        for _ in range(2):
            assert isinstance(pool.apply_async(go.wait, (LIMIT,), timeout=SHORT).exception(LIMIT), LookupError)
        go.set()


@pytest.mark.parametrize("what", [None, 3, object()])
def test_submit_that_returns_no_future_is_a_type_error(what: object) -> None:
    """The submitter gets the error at once, and no task stays open."""

    class Wrong(Executor):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
            return what

    with CallbackPool(Wrong(), envelope=False) as pool, pytest.raises(TypeError, match="no Future"):
        pool.submit(len, "abc")
    assert pool.stats.pending == 0


def test_future_that_is_done_without_having_run_its_call_fails_the_task() -> None:
    """An executor that reports "done" without a run leaves no task open."""

    class Lazy(Executor):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            future: Future[Any] = Future()
            future.set_result("done, I swear")
            return future

    for packs in (True, False):
        with CallbackPool(Lazy(), envelope=packs) as pool:
            error = pool.submit(len, "abc").exception(LIMIT)
            assert isinstance(error, (RuntimeError, TypeError)), error


def test_future_that_calls_back_twice_settles_its_task_once() -> None:
    """The second call finds the task done."""

    class Twice(Future[Any]):
        def add_done_callback(self, fn: Callable[..., object]) -> None:
            super().add_done_callback(fn)
            super().add_done_callback(fn)

    class Eager(Executor):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            future = Twice()
            threading.Thread(target=lambda: future.set_result(fn(*args, **kwargs)), daemon=True).start()
            return future

    told: list[int] = []
    for packs in (True, False):
        with CallbackPool(Eager(), envelope=packs) as pool:
            pool.apply_async(pool_workers.identity, (1,), callback=told.append, timeout=LIMIT)
    assert told == [1, 1]


# -- our own threads ---------------------------------------------------------------------------------------------------


def test_dispatcher_outlives_an_error_of_the_settling_itself(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After a fault in the settling, the task is settled, the fault logged, and the next callback runs."""
    call_back = Dispatcher._call_back
    told: list[int] = []

    def faulty(self: Dispatcher, job: Any, *outcome: Any) -> None:
        if job.label == "int":
            raise ZeroDivisionError("a fault of ours")
        call_back(self, job, *outcome)

    monkeypatch.setattr(Dispatcher, "_call_back", faulty)
    with caplog.at_level(logging.ERROR, "syncprims"), CallbackPool(max_workers=1) as pool:
        pool.apply_async(int, callback=bool).wait_settled(LIMIT)
        pool.apply_async(len, ("abc",), callback=told.append)
    assert told == [3]
    assert "a fault of ours" in caplog.text


class Struck(BaseException):
    """Raised in a thread from outside."""


def strike(thread: threading.Thread) -> None:
    """Raise in the thread as soon as it runs Python code, as some programs do to stop their threads."""
    assert thread.ident is not None
    assert ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(Struck)) == 1


def thread_of(pool: CallbackPool, role: str) -> threading.Thread:
    (found,) = [thread for thread in threading.enumerate() if thread.name.startswith(f"{pool.name}-{role}")]
    return found


@pytest.mark.untraceable
def test_idle_worker_that_is_struck_from_outside_loses_no_task(caplog: pytest.LogCaptureFixture) -> None:
    """At most its next task fails; later ones run, with as many workers as before."""
    with caplog.at_level(logging.ERROR, "syncprims"), CallbackPool(max_workers=1) as pool:
        for _ in range(3):
            assert pool.submit(len, "abc").result(LIMIT) == 3
            strike(thread_of(pool, "worker"))
            assert isinstance(pool.submit(len, "abc").exception(LIMIT), (Struck, type(None)))
            assert pool.submit(len, "abc").result(LIMIT) == 3


@pytest.mark.untraceable
def test_dispatcher_that_is_struck_from_outside_loses_no_callback(caplog: pytest.LogCaptureFixture) -> None:
    """It settles the task whose notice it had received, and goes on."""
    told: list[int] = []
    with caplog.at_level(logging.ERROR, "syncprims"), CallbackPool(max_workers=1) as pool:
        for number in range(1, 4):
            pool.apply_async(abs, (number,), callback=told.append).wait_settled(LIMIT)
            pool.join(LIMIT)
            strike(thread_of(pool, "dispatcher"))
            pool.apply_async(abs, (-number,), callback=told.append).wait_settled(LIMIT)
    assert told == [1, 1, 2, 2, 3, 3]
    assert "goes on" in caplog.text


def test_stopped_workers_are_not_replaced_while_a_task_runs() -> None:
    """When a pool has to end, its idle worker ends, and no other one comes and goes in its place."""
    begun, go = threading.Barrier(3), threading.Event()

    def work(end: threading.Event | None) -> None:
        begun.wait(LIMIT)
        if end is not None:
            assert end.wait(LIMIT)

    pool = CallbackPool(max_workers=2)
    quick, slow = pool.submit(work, None), pool.submit(work, go)
    begun.wait(LIMIT)
    quick.wait_settled(LIMIT)
    assert pool.abort() == [slow]
    until(lambda: len([each for each in threading.enumerate() if each.name.startswith(f"{pool.name}-worker")]) == 1)
    go.set()
    pool.close(LIMIT)
    assert pool._backend._hired == 2  # type: ignore[attr-defined]  # of thread workers
