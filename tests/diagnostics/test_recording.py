"""Recordings: every wait, hold, turn, task and callback appears, with the right place and times."""

from __future__ import annotations

import gc
import itertools
import operator
import os
import pickle
import random
import threading
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Event

import pytest

from locks.actors import LIMIT, Actors, eventually, held_elsewhere, wait_for
from syncprims import (
    AtomicCounter,
    CallbackErrors,
    CallbackPool,
    CounterTimeoutError,
    DeadlockError,
    LockAdapter,
    LockTimeoutError,
    OrderedRunner,
    PoolTimeoutError,
    StepTimeoutError,
    TimedLock,
    TimedRLock,
)
from syncprims._core.waits import all_waits, subject
from syncprims.diagnostics import Recording, Span, record
from syncprims.diagnostics.spans import hand_offs, held_meanwhile, in_lanes
from syncprims.diagnostics.table import Durations, say_seconds


def kinds(recording: Recording, name: str) -> list[tuple[str, str]]:
    """The kinds and outcomes of the spans of one thing."""
    return [(span.kind, span.outcome) for span in recording.spans if span.name == name]


def queue_for(lock: TimedLock | LockAdapter) -> None:
    """A place that can be recognized by its name."""
    with lock.hold(LIMIT):
        pass


@pytest.mark.parametrize(
    "lock",
    [TimedLock(name="accounts"), TimedRLock(name="accounts"), LockAdapter(threading.Lock(), name="accounts")],
    ids=["TimedLock", "TimedRLock", "LockAdapter"],
)
def test_a_wait_and_the_holds_around_it_are_recorded(lock: TimedLock | LockAdapter) -> None:
    """One thread holds, another waits and then holds: three spans, with fitting threads, places and times."""
    with record() as recording, Actors() as actors, held_elsewhere(lock, "billing") as let_go:
        actors.start(lambda: queue_for(lock), "audit")
        eventually(lambda: lock.waiting)
        let_go()
    first, wait, second = recording.spans
    assert [(span.kind, span.name, span.thread) for span in (first, wait, second)] == [
        ("hold", "accounts", "billing"),
        ("wait", "accounts", "audit"),
        ("hold", "accounts", "audit"),
    ]
    assert "test_recording.py" in wait.site
    assert wait.site == second.site
    assert wait.site.endswith("in queue_for")
    assert first.site.endswith("in charge")
    assert first.start <= wait.start <= first.end <= second.end
    assert wait.end <= second.start <= second.end
    assert hand_offs(recording.spans) == [(0, 2)]
    assert first.key == wait.key == second.key


@pytest.mark.parametrize("make", [TimedLock, TimedRLock, AtomicCounter])
def test_a_recording_keeps_nothing_that_was_waited_for(make: type[TimedLock | TimedRLock | AtomicCounter]) -> None:
    """It is in no reference cycle with the record of the wait, so it goes away without a collection."""

    def enter(lock: TimedLock) -> None:
        with lock:
            pass

    def use() -> weakref.ref[object]:
        thing = make()
        with Actors() as actors:
            if isinstance(thing, AtomicCounter):
                actors.start(partial(thing.wait_until, 1, LIMIT))
                eventually(lambda: any(subject(wait)[0] is thing for wait in all_waits()))
                thing.increment()
            else:
                with thing:
                    actors.start(partial(enter, thing))
                    eventually(lambda: thing.waiting)
        return weakref.ref(thing)

    gc.disable()
    try:
        with record():
            gone = use()
            eventually(lambda: gone() is None)
    finally:
        gc.enable()


@pytest.mark.parametrize("make", [TimedLock, lambda name: LockAdapter(threading.Lock(), name=name)])
def test_a_wait_in_vain_is_recorded_as_such(make: Callable[..., TimedLock | LockAdapter]) -> None:
    """A wait that gave up is marked, and no hold follows it."""
    lock = make(name="taken")
    with held_elsewhere(lock), record() as recording, pytest.raises(LockTimeoutError), lock.hold(0.01):
        pass
    assert kinds(recording, "taken") == [("wait", "gave up")]
    (span,) = recording.spans
    assert span.seconds > 0
    assert hand_offs(recording.spans) == []
    assert "1  " in recording.table().splitlines()[1]


def test_re_entrant_holds_are_one_span() -> None:
    """A lock that is acquired again is held from the first time to the last release."""
    lock = TimedRLock(name="again")
    with record() as recording, lock:
        with lock:
            lock.acquire()
            lock.release()
        assert recording.spans[0].outcome == "not over"
        assert len(recording.spans) == 1
    assert kinds(recording, "again") == [("hold", "")]


def test_a_condition_that_waits_does_not_hold_its_lock() -> None:
    """The hold of a condition's lock is interrupted while the condition is waited for."""
    with record() as recording:
        condition = threading.Condition(TimedLock(name="mailbox"))  # type: ignore[arg-type]  # any lock works
        with condition:
            condition.wait(0.01)
    holds = [span for span in recording.spans if span.kind == "hold"]
    assert len(holds) == 2
    assert holds[1].start - holds[0].end >= 0.01
    assert all("test_recording.py" in span.site for span in recording.spans)


def test_what_is_under_way_is_there_too() -> None:
    """A hold and a wait that are not over are in the recording, up to now or to its end."""
    lock = TimedLock(name="long")
    with Actors() as actors:
        with record() as recording:
            lock.acquire()
            actors.start(lambda: queue_for(lock))
            eventually(lambda: lock.waiting)
        spans = recording.spans
        lock.release()
    assert [(span.kind, span.outcome) for span in spans] == [("hold", "not over"), ("wait", "not over")]
    assert spans[0].end == spans[1].end
    assert recording.spans[0].end == spans[0].end


def test_turns_of_a_runner_are_handed_on() -> None:
    """Each turn is a span of its step, waits are named after the step, and every turn leads to the next."""
    with record() as recording:
        OrderedRunner("ping", "pong", rounds=3, name="game").run(
            {"ping": operator.attrgetter("index"), "pong": operator.attrgetter("index")}, timeout=LIMIT
        )
    spans = recording.spans
    turns = [span for span in spans if span.kind == "turn"]
    assert [span.name for span in turns] == ["game[ping]", "game[pong]"] * 3
    assert [span.index for span in turns] == list(range(6))
    assert all(one.end <= other.start for one, other in itertools.pairwise(turns))
    arrows = hand_offs(spans)
    assert [(spans[giver].index, spans[taker].index) for giver, taker in arrows] == [(at, at + 1) for at in range(5)]
    assert {span.name for span in spans if span.kind == "wait"} <= {
        "game",
        "game[ping]",
        "game[pong]",
        "game: the end of its threads",
    }


def test_two_sequences_of_one_runner_are_not_mixed_up() -> None:
    """After a reset the turns begin again, and no arrow leads from the old sequence to the new one."""
    runner = OrderedRunner("only", name="twice")
    with record() as recording:
        for _ in range(2):
            with runner.step("only"):
                pass
            runner.reset()
    assert [span.index for span in recording.spans if span.kind == "turn"] == [0, 0]
    assert hand_offs(recording.spans) == []


def test_a_step_that_raises_is_recorded() -> None:
    """A turn that breaks the sequence is a span that says so."""
    runner = OrderedRunner("only", name="breaks")
    with record() as recording, pytest.raises(ZeroDivisionError), runner.step("only"):
        raise ZeroDivisionError
    assert kinds(recording, "breaks[only]") == [("turn", "failed: ZeroDivisionError")]


# -- how things ended --------------------------------------------------------------------------------------------------


def refuse(*args: object) -> object:
    """Fail as tasks, callbacks and bodies may."""
    raise LookupError("no")


def test_a_deadlock_that_was_refused_is_recorded() -> None:
    """Two threads acquire two locks in opposite orders: the refused wait says so, and names the lock's holder."""
    one, other = TimedLock(name="one"), TimedLock(name="other")
    both = threading.Barrier(2)

    def cross(first: TimedLock, second: TimedLock) -> None:
        with first:
            both.wait(LIMIT)
            with second:
                pass

    with record() as recording, Actors() as actors:
        jobs = [actors.start(lambda: cross(one, other), "there"), actors.start(lambda: cross(other, one), "back")]
        errors = [job.error() for job in jobs]
    assert sum(isinstance(error, DeadlockError) for error in errors) == 1
    (refused,) = [span for span in recording.spans if span.outcome]
    loser = "there" if errors[0] else "back"
    assert (refused.kind, refused.outcome, refused.thread) == ("wait", "deadlock refused", loser)
    assert refused.holder == ("back" if errors[0] else "there")
    assert "1 deadlock refused" in recording.table()


@pytest.mark.parametrize("again", [operator.methodcaller("acquire"), lambda lock: lock.__enter__()])
def test_a_deadlock_of_one_thread_is_recorded(again: Callable[[TimedLock], object]) -> None:
    """A lock that its own holder wants again is a refused deadlock of zero length."""
    lock = TimedLock(name="mine")
    with record() as recording, lock, pytest.raises(DeadlockError):
        again(lock)
    hold, refused = recording.spans
    assert (hold.kind, hold.outcome) == ("hold", "")
    assert (refused.kind, refused.outcome, refused.seconds) == ("wait", "deadlock refused", 0.0)
    assert refused.holder == refused.thread == "MainThread"
    assert "test_recording.py" in refused.site


def test_a_step_inside_a_step_is_recorded_as_refused() -> None:
    """So is a step that a thread wants while it is in one of the same runner."""
    runner = OrderedRunner("first", "second", name="game")
    with record() as recording, pytest.raises(DeadlockError), runner.step("first"), runner.step("second"):
        pass
    assert ("wait", "deadlock refused") in kinds(recording, "game[second]")


def test_a_deadlock_of_the_task_is_not_one_of_the_thread_that_waits_for_it() -> None:
    """If a task was refused, its thread's wait says so; the wait for its result ended normally."""
    lock = TimedLock(name="mine")

    def twice() -> None:
        with lock, lock:
            pass

    with record() as recording, CallbackPool(max_workers=1, name="mill") as pool:
        task = pool.submit(twice)
        assert isinstance(task.exception(LIMIT), DeadlockError)
        with pytest.raises(DeadlockError):
            task.result(LIMIT)
    refused = [span for span in recording.spans if span.outcome == "deadlock refused"]
    assert [span.name for span in refused] == ["mine"]
    assert [span.outcome for span in recording.spans if span.kind == "task"] == [
        "failed: syncprims.errors.DeadlockError"
    ]


def test_waits_that_gave_up_are_recorded_as_such() -> None:
    """This covers a step, a counter and a result whose time was up."""
    runner, counter = OrderedRunner("first", "second", name="game"), AtomicCounter(name="arrivals")
    gate = Event()
    with record() as recording:
        with pytest.raises(StepTimeoutError), runner.step("second", timeout=0.01):
            pass
        with pytest.raises(CounterTimeoutError):
            counter.wait_until(1, timeout=0.01)
        with CallbackPool(max_workers=1, name="mill") as pool:
            task = pool.submit(wait_for, gate)
            with pytest.raises(PoolTimeoutError):
                task.result(0.01)
            with pytest.raises(PoolTimeoutError):
                next(pool.map_unordered(wait_for, [gate], timeout=0.01))
            gate.set()
    waits = [(span.name, span.outcome) for span in recording.spans if span.kind == "wait"][:4]
    assert waits[:2] == [("game[second]", "gave up"), ("arrivals", "gave up")]
    assert waits[2][0].startswith("mill: the result of")
    assert waits[2][1] == "gave up"
    assert waits[3][0].startswith("mill: the next result of")
    assert waits[3][1] == "gave up"


def test_an_error_that_is_handled_around_a_wait_is_not_its_own() -> None:
    """A wait in an `except` block has its own outcome."""
    lock = TimedLock(name="slow")
    with Actors() as actors, record() as recording, held_elsewhere(lock) as let_go:

        def wait_while_handling() -> None:
            try:
                raise TimeoutError
            except TimeoutError:
                queue_for(lock)

        job = actors.start(wait_while_handling)
        eventually(lambda: lock.waiting)
        let_go()
        job.result()
    assert ("wait", "") in kinds(recording, "slow")


def test_an_interrupted_wait_is_recorded_as_such() -> None:
    """An end of a wait from outside is distinguished from a timeout."""
    counter = AtomicCounter(name="arrivals")

    def interrupt(value: int) -> bool:
        raise KeyboardInterrupt

    with record() as recording, Actors() as actors:
        job = actors.start(lambda: counter.wait_for(lambda value: value > 0 and interrupt(value), LIMIT))
        eventually(lambda: kinds(recording, "arrivals"))
        counter.increment()
        assert isinstance(job.error(), KeyboardInterrupt)
    assert kinds(recording, "arrivals") == [("wait", "interrupted")]


def test_tasks_and_callbacks_that_failed_are_recorded_as_such() -> None:
    """Each has its exception, or that its time was up; the table counts them."""
    end = Event()
    with record() as recording:
        pool = CallbackPool(max_workers=1, name="mill")
        pool.apply_async(refuse, error_callback=str)
        pool.apply_async(int, callback=refuse)
        pool.apply_async(wait_for, (end,), error_callback=str, timeout=0.01).wait_settled(LIMIT)
        end.set()
        with pytest.raises(CallbackErrors):
            pool.close(LIMIT)
    tasks = [span.outcome for span in recording.spans if span.kind == "task"]
    callbacks = [span.outcome for span in recording.spans if span.kind == "callback"]
    assert tasks == ["failed: LookupError", "", "failed: syncprims.errors.TaskTimeoutError"]
    assert callbacks == ["", "failed: LookupError", ""]
    (line,) = [line for line in recording.table().splitlines() if "callback of int" in line]
    assert line.endswith("  1 failed: LookupError")


def test_a_task_that_failed_before_it_ran_is_recorded() -> None:
    """If a worker dies, its task fails, even if the task's beginning is unknown."""
    with record() as recording, CallbackPool("process", max_workers=1, name="far") as pool:
        task = pool.submit(os._exit, 3)
        assert task.exception(LIMIT) is not None
    (span,) = [span for span in recording.spans if span.kind == "task"]
    assert span.outcome.startswith("failed: ")


class OddError(Exception):
    """An exception whose class has a name that fits in no table."""


OddError.__qualname__ = OddError.__name__ = "Odd\x1b[31m\n"


def test_the_type_of_an_error_can_be_printed() -> None:
    """An error's type is foreign text like any other."""

    def fail() -> None:
        raise OddError

    runner = OrderedRunner("only", name="breaks")
    with record() as recording, pytest.raises(OddError), runner.step("only"):
        fail()
    assert recording.spans[-1].outcome == rf"failed: {__name__}.Odd\x1b[31m\n"


# -- pools -------------------------------------------------------------------------------------------------------------


def test_tasks_and_callbacks_of_a_pool_are_recorded() -> None:
    """Each task is a span of its worker, with its time in the queue, and leads to its callback on the dispatcher."""
    begun, end = Event(), Event()

    def crunch() -> int:
        begun.set()
        wait_for(end)
        return 7

    results: list[int] = []
    with record() as recording:
        with CallbackPool(max_workers=1, name="mill") as pool:
            pool.apply_async(crunch, callback=results.append)
            wait_for(begun)
            pool.apply_async(int, callback=results.append)
            pool.apply_async(int, ("x",), error_callback=lambda error: results.append(-1))
            Event().wait(0.01)
            end.set()
        spans = [span for span in recording.spans if span.kind in ("task", "callback")]
    assert results == [7, 0, -1]
    tasks = [span for span in spans if span.kind == "task"]
    callbacks = [span for span in spans if span.kind == "callback"]
    assert all("worker" in span.thread for span in tasks)
    assert all("dispatcher" in span.thread for span in callbacks)
    assert "crunch" in tasks[0].name
    assert [span.name for span in callbacks][1:] == ["mill: callback of int", "mill: error_callback of int"]
    assert all(span.site.endswith("in test_tasks_and_callbacks_of_a_pool_are_recorded") for span in spans)
    assert tasks[0].seconds >= 0.01
    assert tasks[1].waited >= 0.01
    arrows = hand_offs(spans)
    assert len(arrows) == 3
    assert all(spans[giver].key == spans[taker].key for giver, taker in arrows)
    assert all(spans[giver].end <= spans[taker].start for giver, taker in arrows)


def test_tasks_of_other_processes_have_rows_of_their_own() -> None:
    """A task in another process appears, without a thread, with the right length."""
    with record() as recording, CallbackPool("process", max_workers=1, name="far") as pool:
        assert pool.apply_async(pow, (2, 10), timeout=LIMIT).result(LIMIT) == 1024
    tasks = [span for span in recording.spans if span.kind == "task"]
    assert [(span.thread, span.ident) for span in tasks] == [("workers of far", None)]
    assert 0 <= tasks[0].seconds < LIMIT


def test_tasks_submitted_before_the_recording_do_no_harm() -> None:
    """A task whose beginning was not seen is left out, and its callback is recorded without it."""
    begun, end = Event(), Event()
    results: list[object] = []

    def crunch() -> None:
        begun.set()
        wait_for(end)

    with CallbackPool(max_workers=1, name="early") as pool:
        task = pool.apply_async(crunch, callback=results.append)
        wait_for(begun)
        with record() as recording:
            end.set()
            task.wait_settled(LIMIT)
            eventually(lambda: any(span.kind == "callback" for span in recording.spans))
    assert [span.kind for span in recording.spans if span.kind != "wait"] == ["callback"]


def test_waits_for_a_counter_are_recorded() -> None:
    """A thread that waits for a value has a wait."""
    counter = AtomicCounter(name="arrivals")
    with record() as recording, Actors() as actors:
        actors.start(lambda: counter.wait_until(1, timeout=LIMIT), "gate")
        eventually(lambda: kinds(recording, "arrivals"))
        counter.increment()
    assert ("wait", "") in kinds(recording, "arrivals")


def test_the_oldest_are_dropped_and_counted() -> None:
    """A full recording keeps the latest spans, counts all dropped ones of all threads, and says so."""
    locks = [TimedLock(name=f"lock-{number}") for number in range(4)]

    def use(lock: TimedLock) -> None:
        for _ in range(100):
            with lock:
                pass

    with record(capacity=50) as recording:
        with Actors() as actors:
            for lock in locks:
                actors.start(lambda lock=lock: use(lock))  # type: ignore[misc]  # bound now
        with TimedLock(name="latest"):
            pass
    assert len(recording.spans) == 50
    assert recording.dropped == 351
    assert recording.spans[-1].name == "latest"
    assert "351 older ones were dropped" in recording.table()


def test_a_recording_is_read_while_threads_record() -> None:
    """Any number of times, also without the GIL; no reading disturbs the recording."""
    done = Event()

    def use(lock: TimedLock) -> None:
        while not done.is_set():
            with lock:
                pass

    with record(capacity=100) as recording, Actors() as actors:
        for number in range(2):
            actors.start(lambda number=number: use(TimedLock(name=f"lock-{number}")))  # type: ignore[misc]  # bound now
        try:
            eventually(lambda: recording.dropped > 0)
            for _ in range(20):
                assert len([span for span in recording.spans if span.kind == "hold"]) >= 50
                assert recording.dropped > 0
        finally:
            done.set()


def test_a_recording_is_used_once() -> None:
    """Before its with it is empty, and it can't be entered twice."""
    recording = record()
    with pytest.raises(RuntimeError, match="nothing is recorded yet"):
        recording.table()
    with recording:
        pass
    with pytest.raises(RuntimeError, match="another one"), recording:
        pass
    assert recording.spans == []


@pytest.mark.parametrize(
    ("capacity", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError)]
)
def test_a_capacity_that_makes_no_sense_is_refused(capacity: int, error: type[Exception]) -> None:
    """It must be a positive integer."""
    with pytest.raises(error, match="capacity"):
        record(capacity=capacity)


def test_it_is_saved_by_the_name(tmp_path: Path) -> None:
    """Two kinds of file can be written; another name is refused before a file is written."""
    with record() as recording:
        pass
    with pytest.raises(ValueError, match=r"\.json or \.html"):
        recording.save(tmp_path / "trace.txt")
    recording.save(tmp_path / "trace.json")
    recording.save(str(tmp_path / "trace.html"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["trace.html", "trace.json"]


# -- the table ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def crowded() -> Recording:
    """A recording with a lock that was waited for, and one that was not."""
    busy, free = TimedLock(name="busy"), TimedLock(name="free")
    with record() as recording:
        with Actors() as actors, held_elsewhere(busy) as let_go:
            actors.start(lambda: queue_for(busy))
            eventually(lambda: busy.waiting)
            let_go()
        for _ in range(3):
            with free:
                pass
    return recording


def test_the_table_is_sorted_by_total_wait(crowded: Recording) -> None:
    """The longest total wait comes first; each line has the lock, the place, the count and both statistics.

    The holder of either lock waits for a moment at most, and either moment may be the longer one.
    """
    head, *lines = crowded.table().splitlines()
    assert head.split("  ")[0] == "lock"
    assert [line.split()[0] for line in lines] in (["busy", "busy", "free"], ["busy", "free", "busy"])
    assert "in queue_for" in lines[0]
    [free] = [line for line in lines if line.startswith("free")]
    assert free.split()[4] == "3"
    assert len({len(line.rstrip()) for line in lines}) <= 2


def test_durations_are_summed_up_right() -> None:
    """Mean, 99th percentile and maximum are those of the numbers, and zero without numbers."""
    durations = Durations.of([float(number) for number in range(1, 201)])
    assert (durations.total, durations.mean, durations.p99, durations.longest) == (20100.0, 100.5, 198.0, 200.0)
    assert Durations.of([3.0]).p99 == 3.0
    assert Durations.of([]).total == 0.0
    assert pickle.loads(pickle.dumps(durations)) == durations


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0"), (2.5e-7, "0.25 µs"), (1.2345e-5, "12.3 µs"), (0.5, "500 ms"), (2.0, "2.00 s"), (123.4, "123 s")],
)
def test_seconds_are_said_in_few_characters(seconds: float, text: str) -> None:
    """The unit fits the size."""
    assert say_seconds(seconds) == text


def test_only_what_is_handed_on_gets_an_arrow() -> None:
    """A lock goes to the waiter that got it, and a turn to the next thread; there are no other arrows."""

    def span(kind: str, ident: int, start: float, end: float, outcome: str = "", index: int = 0) -> Span:
        return Span(kind, "x", str(ident), ident, "", start, end, outcome=outcome, key=(kind == "turn",), index=index)

    held = span("hold", 1, 0, 5)
    assert hand_offs([held, span("wait", 2, 1, 5), span("hold", 2, 5, 6)]) == [(0, 2)]
    assert hand_offs([held, span("wait", 2, 1, 4, "gave up"), span("hold", 2, 7, 8)]) == []
    assert hand_offs([held, span("hold", 2, 7, 8)]) == []
    assert hand_offs([held, span("wait", 1, 6, 7), span("hold", 1, 7, 8)]) == []
    turns = [span("turn", 1, 0, 1, index=3), span("turn", 2, 1, 2, index=4), span("turn", 1, 3, 4, index=9)]
    assert hand_offs(turns) == [(0, 1)]


def test_who_was_in_the_way_of_a_wait_is_found() -> None:
    """For each wait, these are the holds of the same lock that overlap it, whatever the order of their ends."""
    choose = random.Random(5)
    for exclusive in (True, False):
        spans, clock = [], 0.0
        for _ in range(300):
            start = clock if exclusive else choose.random() * 30
            kind, key = choose.choice(["wait", "hold", "turn", "task"]), (choose.randrange(3),)
            clock = start + choose.random() * choose.choice([0.0, 0.1, 3.0])
            spans.append(Span(kind, "x", "t", 1, "", start, clock, key=key))
        spans.sort(key=lambda span: span.start)
        holds, behind = held_meanwhile(spans)
        for place, wait in enumerate(spans):
            overlapping = {
                other
                for other, hold in enumerate(spans)
                if wait.kind == "wait" and hold.kind in ("hold", "turn") and hold.key == wait.key
                and hold.start < wait.end and wait.start < hold.end
            }  # fmt: skip
            number, first, after = behind.get(place, (0, 0, 0))
            found = holds[number][first:after]
            assert overlapping <= set(found)
            assert all(spans[hold].start < wait.end or wait.start == wait.end for hold in found)


def test_numbers_of_any_length_are_sorted() -> None:
    """Threads are sorted by their numbers, even if one has more digits than int() accepts."""
    names = ["worker-10", "worker-9", f"worker-{'1' * 5000}", "worker-\N{ARABIC-INDIC DIGIT THREE}", "7", ""]
    lanes = in_lanes([Span("hold", "x", name, place, "", 0, 1) for place, name in enumerate(names)])
    ordered = [name for _, name in lanes]
    assert ordered.index("worker-9") < ordered.index("worker-10") < ordered.index(names[2])


def test_lanes_are_nested_or_apart() -> None:
    """Spans of one thread that overlap get separate lanes; those that are nested or apart share one."""

    def span(start: float, end: float, thread: str = "one") -> Span:
        return Span("hold", "x", thread, 1, "", start, end)

    spans = [
        span(0, 10),
        span(1, 4),
        span(2, 6),
        span(4, 9),
        span(11, 12),
        span(0, 1, "worker-10"),
        span(0, 1, "worker-9"),
    ]
    lanes = in_lanes(spans)
    assert lanes[1, "one"] == [[0, 1, 3, 4], [2]]
    assert list(lanes) == [(1, "one"), (1, "worker-9"), (1, "worker-10")]


def test_inner_locks_are_left_out() -> None:
    """Inner locks of pools and runners are in no recording, nor are waits for them; users' locks are."""
    mine = TimedLock(name="mine")
    runner = OrderedRunner("load", name="etl")
    with record() as recording, CallbackPool(max_workers=1, max_pending=1, name="mill") as pool:
        entrance = pool._open_tasks._entrance
        with Actors() as actors, held_elsewhere(entrance, "grinder") as let_go:
            actors.start(lambda: pool.submit(len, "abc"), "miller")
            eventually(lambda: entrance.waiting)
            let_go()
        assert list(pool.map(len, ["a", "bb"])) == [1, 2]
        runner.reset()
        with mine:
            pass
    assert kinds(recording, "mine") == [("hold", "")]
    # A wait for a pool is not for a lock, and is reported.
    others = [span for span in recording.spans if span.name != "mine"]
    assert all(span.name.startswith("mill: ") for span in others)
    assert {"task", "wait"} <= {span.kind for span in others}
