"""Every wait for a primitive is visible while it lasts, and only then: in snapshots, reports, warnings, recordings."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from threading import Event, Lock, get_ident

import pytest

from locks.actors import LIMIT, Actors, eventually, take_and_let_go, wait_for
from syncprims import (
    AtomicCounter,
    CallbackPool,
    Guarded,
    KeyedLock,
    LockAdapter,
    OrderedRunner,
    QueuedLock,
    SingleFlight,
    TimedLock,
    TimedRWLock,
    TimedSemaphore,
    once,
)
from syncprims._core.waits import Waiting
from syncprims.diagnostics import Waiter, record, report, snapshot, warn_slow
from syncprims.testing import interrupts

Entering = AbstractContextManager[object]


class Mill:
    """A pool of one thread that is busy until released, with a limit of tasks that is reached."""

    def __init__(self) -> None:
        """Begin to be busy."""
        self.begun, self.end = Event(), Event()
        self.pool = CallbackPool(max_workers=1, max_pending=1, name="mill")
        self.task = self.pool.submit(self.grind)
        wait_for(self.begun)

    def grind(self) -> None:
        """Take as long as the test likes."""
        self.begun.set()
        wait_for(self.end)


def waiter_of(name: str) -> Waiter | None:
    """The snapshot's entry of the thread with this name."""
    found = [waiter for state in snapshot() for waiter in state.waiters if waiter.name == name]
    assert len(found) <= 1, found
    return found[0] if found else None


def seen_while(wait: Callable[[], object], let_go: Callable[[], object]) -> tuple[str, str]:
    """Let a thread wait; return the target of its wait in the snapshot, and the report's line about the thread."""
    with Actors() as actors:
        actors.start(wait, "guest")
        eventually(lambda: waiter_of("guest"))
        waiter, text = waiter_of("guest"), report()
        let_go()
    assert waiter is not None
    assert waiter.waited >= 0
    assert waiter_of("guest") is None
    (line,) = [line for line in text.splitlines() if "'guest'" in line and "has waited" in line]
    return waiter.sought, line


@pytest.mark.parametrize(
    ("wait", "sought"),
    [
        (lambda mill: mill.pool.join(LIMIT), "the end of all tasks"),
        (lambda mill: mill.pool.close(LIMIT), "the end of all tasks"),
        (lambda mill: mill.pool.shutdown(), "the end of all tasks"),
        (lambda mill: mill.pool.submit(int), "room for a task"),
        (lambda mill: mill.pool.apply_async(int), "room for a task"),
        (lambda mill: mill.task.result(LIMIT), "the result of 'Mill.grind'"),
        (lambda mill: mill.task.exception(LIMIT), "the result of 'Mill.grind'"),
        (lambda mill: mill.task.get(LIMIT), "the result of 'Mill.grind'"),
        (lambda mill: mill.task.wait(LIMIT), "the result of 'Mill.grind'"),
        (lambda mill: mill.task.result(), "the result of 'Mill.grind'"),
        (lambda mill: mill.task.wait_settled(LIMIT), "the callback of 'Mill.grind'"),
    ],
)
def test_waits_for_a_pool_are_seen(wait: Callable[[Mill], object], sought: str) -> None:
    """A thread that waits for a pool or its tasks is listed with the pool, and with the thing that it waits for."""
    mill = Mill()
    try:
        seen, line = seen_while(partial(wait, mill), mill.end.set)
        assert seen == sought
        assert f"for {sought}, at test_every_wait.py:" in line
    finally:
        mill.end.set()
        mill.pool.close(LIMIT)


def ways(body: Callable[[], int]) -> dict[str, tuple[Callable[[], object], Callable[[], object]]]:
    """By name: the work of the thread that runs the body inside, and the work of another one that waits."""
    keyed, stock = KeyedLock(name="keyed"), Guarded(0, name="stock")
    flight: SingleFlight[str, int] = SingleFlight(name="flight")

    def under_its_key() -> None:
        with keyed["a"]:
            body()

    def share() -> int:
        return flight.do("a", body)

    load = once(body)
    return {
        "keyed['a']": (under_its_key, lambda: take_and_let_go(keyed["a"])),
        "stock": (lambda: stock.update(lambda _: body()), lambda: stock.update(int)),
        "Mill.grind": (load, load),
        "flight['a']": (share, share),
    }


@pytest.mark.parametrize("name", ["keyed['a']", "stock", "Mill.grind", "flight['a']"])
def test_waits_for_what_threads_share_are_seen(name: str) -> None:
    """A thread that waits for the lock of a key, a guarded value or a shared call is listed with it by its name."""
    begun, end = Event(), Event()

    def grind() -> int:
        begun.set()
        wait_for(end)
        return 1

    grind.__qualname__ = "Mill.grind"

    def let_go() -> None:
        names.extend(state.name for state in snapshot() if state.waiters)
        end.set()

    names: list[str] = []
    run, wait = ways(grind)[name]
    with Actors() as actors:
        actors.start(run)
        wait_for(begun)
        seen, line = seen_while(wait, let_go)
    assert name in names
    assert seen == ""
    assert "has waited" in line
    assert "for it, at " in line


@pytest.mark.parametrize(
    ("name", "sought"), [("map", "the result of 'map of turn'"), ("map_unordered", "the next result of 'map of turn'")]
)
def test_waits_for_the_results_of_a_map_are_seen(name: str, sought: str) -> None:
    """The wait for the next result of a map is visible, and the task has the name of the function."""
    end = Event()

    def turn(number: int) -> int:
        wait_for(end)
        return number

    turn.__qualname__ = "turn"
    with CallbackPool(max_workers=1, name="mill") as pool:
        try:
            seen, _ = seen_while(lambda: list(getattr(pool, name)(turn, [1, 2])), end.set)
        finally:
            end.set()
    assert seen == sought


def test_the_wait_for_workers_that_end_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A close that waits only for its workers is visible too."""
    pool = CallbackPool(max_workers=1, name="mill")
    end = Event()
    monkeypatch.setattr(pool._backend, "finish", lambda deadline: wait_for(end))
    assert seen_while(pool.close, end.set)[0] == "the end of its workers"


def test_the_wait_for_bodies_that_end_is_seen() -> None:
    """A run whose sequence is over, and which waits for a body, is visible with its runner."""
    begun, end = Event(), Event()
    runner = OrderedRunner("load", name="etl")

    def load(turn: object) -> None:
        begun.set()
        wait_for(end)

    def run() -> None:
        with pytest.raises(Exception, match="aborted"):
            runner.run({"load": load}, timeout=LIMIT)

    with Actors() as actors:
        actors.start(run, "guest")
        wait_for(begun)
        runner.abort()
        eventually(lambda: (waiter := waiter_of("guest")) and waiter.sought)
        waiter = waiter_of("guest")
        end.set()
    assert waiter is not None
    assert waiter.sought == "the end of its threads"


def test_the_wait_for_a_body_in_an_executor_is_seen() -> None:
    """A run whose executor does the work is visible while it waits."""
    end = Event()
    runner = OrderedRunner("load", name="etl")
    with ThreadPoolExecutor(1) as executor:
        run = partial(runner.run, {"load": lambda turn: wait_for(end)}, timeout=LIMIT, executor=executor)
        try:
            sought, _ = seen_while(run, end.set)
        finally:
            end.set()
    assert sought.startswith("the end of 'load' in <concurrent.futures")


def held(lock: TimedLock | LockAdapter) -> tuple[Callable[[], object], Callable[[], object]]:
    lock.acquire()
    return partial(take_and_let_go, lock, True, LIMIT), lock.release


class Single(QueuedLock):
    """Lets in one thread at a time."""

    def _fits(self, kind: int, kinds: tuple[int, ...], /) -> bool:
        return not kinds


def entered(holding: Entering, entering: Entering) -> tuple[Callable[[], object], Callable[[], object]]:
    """One has entered, and another one wants to."""

    def wait() -> None:
        with entering:
            pass

    holding.__enter__()
    return wait, lambda: holding.__exit__(None, None, None)


def permit() -> tuple[Callable[[], object], Callable[[], object]]:
    permits = TimedSemaphore(1)
    return entered(permits, permits)


def lent_permit() -> tuple[Callable[[], object], Callable[[], object]]:
    permits = TimedSemaphore(1)
    permits.acquire()
    return partial(permits.acquire, True, LIMIT), permits.release


def reading() -> tuple[Callable[[], object], Callable[[], object]]:
    lock = TimedRWLock()
    return entered(lock.write(), lock.read(LIMIT))


def writing() -> tuple[Callable[[], object], Callable[[], object]]:
    lock = TimedRWLock()
    return entered(lock.read(), lock.write(LIMIT))


def kind_of_hold() -> tuple[Callable[[], object], Callable[[], object]]:
    lock = Single()
    return entered(lock, lock.of(3, LIMIT))


def next_turn() -> tuple[Callable[[], object], Callable[[], object]]:
    runner = OrderedRunner("load", "store", name="etl")

    def store() -> None:
        with runner.step("store", timeout=LIMIT):
            pass

    def load() -> None:
        with runner.step("load"):
            pass

    return store, load


def last_turn() -> tuple[Callable[[], object], Callable[[], object]]:
    runner = OrderedRunner("load", name="etl")
    return partial(runner.wait, timeout=LIMIT), partial(runner.run, {"load": lambda turn: None})


def arrival() -> tuple[Callable[[], object], Callable[[], object]]:
    counter = AtomicCounter(name="arrivals")
    return partial(counter.wait_until, 1, LIMIT), counter.increment


def evenness() -> tuple[Callable[[], object], Callable[[], object]]:
    counter = AtomicCounter(1)
    return partial(counter.wait_for, lambda value: value % 2 == 0, LIMIT), counter.increment


@pytest.mark.parametrize(
    "make",
    [
        lambda: held(TimedLock()),
        lambda: held(LockAdapter(Lock())),
        permit,
        lent_permit,
        reading,
        writing,
        kind_of_hold,
        next_turn,
        last_turn,
        arrival,
        evenness,
    ],
    ids=[
        "lock",
        "adapter",
        "permit",
        "lent permit",
        "reading",
        "writing",
        "kind",
        "turn",
        "end of a runner",
        "counter",
        "predicate",
    ],
)
def test_waits_for_the_other_primitives_are_seen(
    make: Callable[[], tuple[Callable[[], object], Callable[[], object]]],
) -> None:
    """Waits for locks, turns, the end of a runner and the value of a counter are visible as such."""
    wait, let_go = make()
    sought, line = seen_while(wait, let_go)
    assert sought == ""
    assert " s for it, " in line


def test_what_does_not_wait_is_not_written_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """Finished results, pools that are idle or have room, and checks without a wait leave no record."""
    published: list[Waiting] = []
    publish = Waiting.publish

    def note(waiting: Waiting) -> None:
        if waiting.ident == me:
            published.append(waiting)
        publish(waiting)

    me = get_ident()
    mill = Mill()
    monkeypatch.setattr(Waiting, "publish", note)
    for look in (partial(mill.task.result, 0), partial(mill.task.wait_settled, 0), partial(mill.pool.join, 0)):
        with pytest.raises(TimeoutError):
            look()
    mill.task.wait(0)
    assert published == []
    mill.end.set()
    mill.pool.join(LIMIT)
    published.clear()
    mill.task.result(LIMIT)
    mill.task.wait_settled(LIMIT)
    mill.pool.join(LIMIT)
    mill.pool.submit(int)
    assert published == []
    monkeypatch.undo()
    mill.pool.close(LIMIT)


def test_a_recording_has_the_waits_for_a_pool() -> None:
    """They are spans with the place in the program, named by the pool and the target of the wait."""
    mill = Mill()
    with record() as recording:

        def guest() -> None:
            mill.task.result(LIMIT)

        with Actors() as actors:
            actors.start(guest, "guest")
            eventually(lambda: waiter_of("guest"))
            mill.end.set()
    mill.pool.close(LIMIT)
    (span,) = [span for span in recording.spans if span.thread == "guest"]
    assert (span.kind, span.name, span.outcome) == ("wait", "mill: the result of 'Mill.grind'", "")
    assert span.site.startswith("test_every_wait.py:")
    assert span.site.endswith(" in guest")


def test_a_slow_wait_for_a_pool_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """The warning names the pool and the target, and no holder, because there is none."""
    mill = Mill()
    with Actors() as actors, warn_slow(after=0.01):
        actors.start(lambda: mill.pool.join(LIMIT), "guest")
        eventually(lambda: caplog.messages)
        mill.end.set()
    mill.pool.close(LIMIT)
    first = caplog.messages[0].splitlines()[0]
    assert first.startswith("Thread 'guest' (ident ")
    assert first.endswith(" s for 'mill', the end of all tasks, and still waits")


def test_an_interrupted_wait_for_a_pool_leaves_nothing() -> None:
    """Wherever an interrupt comes in a wait for a result, the wait is removed from the graph."""

    def waits_on(mill: Mill) -> bool:
        return any(state.name == "mill" and state.waiters for state in snapshot())

    def broken(mill: Mill) -> str | None:
        left = waits_on(mill)
        mill.end.set()
        mill.pool.close(LIMIT)
        return "a wait is left" if left else None

    interrupts(
        Mill,
        lambda mill: mill.task.result(LIMIT),
        broken,
        when_blocked=waits_on,
        unblock=lambda mill: mill.end.set(),
    ).check()
