"""Objects of a watched program go away as without the watch: nothing keeps them, and there is no new cycle."""

from __future__ import annotations

import asyncio
import gc
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from functools import partial
from types import ModuleType
from typing import Any
from weakref import ref

import pytest

from polling import until
from syncprims._core.gil import HAS_GIL
from syncprims._core.waits import innermost_of
from syncprims.errors import DeadlockError
from syncprims.watch import Watching, incidents, install
from syncprims.watch.blocked import Blocked, Question
from syncprims.watch.observed import ObservedLock, ObservedRLock

LIMIT = 30.0
KINDS: dict[str, dict[str, Any] | None] = {
    "without": None,
    "observed": {},
    "order": {"order": True},
    "recorded": {"record": True},
    "metrics": {"metrics": True},
}


class Thing:
    """An object of the program whose end can be observed."""


@contextmanager
def watch(**options: Any) -> Iterator[Watching]:
    """Turn the watch on, and look only if a test does."""
    watching = install(after=60.0, asleep=0.001, **options)
    watching.watcher.stop()
    watching.watcher.on_incident.append(lambda _incident, _text: True)  # no report is written
    try:
        yield watching
    finally:
        watching.uninstall()


@pytest.fixture(params=KINDS)
def look(request: pytest.FixtureRequest) -> Iterator[Callable[[], object]]:
    """Turn the watch on in one of these ways or not at all, and return a function that looks once."""
    options = KINDS[request.param]
    if options is None:
        yield int
    else:
        if request.param == "metrics":
            pytest.importorskip("prometheus_client")
        with watch(**options) as watching:
            yield watching.look


@pytest.fixture(autouse=True)
def no_collections() -> Iterator[None]:
    """Let only counts of references free objects."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def are_gone(found: tuple[ref[Any], ...]) -> bool:
    """Whether all have ended; without the GIL an owner may be late to count the references of other threads."""
    if HAS_GIL:
        return [each for each in found if each() is not None] == []
    until(lambda: all(each() is None for each in found), LIMIT)
    return True


def start(work: Callable[[], object]) -> threading.Thread:
    """Run it in a thread that has begun to wait when this returns."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    if type(threading.Lock()).__mro__[1:2] != (object,):  # observed
        until(lambda: innermost_of(thread.ident) is not None or not thread.is_alive(), LIMIT)
    return thread


def taken_in_turn(make: Callable[[], Any], take: Callable[[Any], object], look: Callable[[], object]) -> Any:
    """Let two threads wait for the locks of a third one."""
    lock = make()
    with lock:
        threads = [start(partial(take, lock)) for _ in range(2)]
        look()
    for thread in threads:
        thread.join(LIMIT)
    look()
    return ref(lock), *map(ref, threads)


def enter(lock: Any) -> None:
    with lock:
        pass


def acquire(lock: Any) -> None:
    assert lock.acquire(timeout=LIMIT)
    lock.release()


@pytest.mark.parametrize("make", [lambda: threading.Lock(), lambda: threading.RLock()], ids=["Lock", "RLock"])
@pytest.mark.parametrize("take", [enter, acquire])
def test_locks(look: Callable[[], object], make: Callable[[], Any], take: Callable[[Any], object]) -> None:
    """These are locks that threads have waited for, and the threads."""
    assert are_gone(taken_in_turn(make, take, look))


def test_conditions_and_what_is_made_of_them(look: Callable[[], object]) -> None:
    """Each is waited for until it comes."""

    def use() -> Any:
        condition, event, semaphore = threading.Condition(), threading.Event(), threading.Semaphore(0)
        barrier, jobs = threading.Barrier(2), queue.Queue[Thing]()

        def notified() -> None:
            with condition:
                condition.wait(LIMIT)

        thing = Thing()
        threads = [start(work) for work in (notified, event.wait, semaphore.acquire, barrier.wait, jobs.get)]
        look()
        with condition:
            condition.notify_all()
        event.set()
        semaphore.release()
        barrier.wait(LIMIT)
        jobs.put(thing)
        for thread in threads:
            thread.join(LIMIT)
        look()
        return *map(ref, (condition, event, semaphore, barrier, jobs, thing)), *map(ref, threads)

    assert are_gone(use())


@pytest.mark.untraceable  # until 3.12 a tracer may keep the variables of functions
@pytest.mark.parametrize("fails", [False, True])
def test_calls_of_a_pool(look: Callable[[], object], fails: bool) -> None:
    """These are the futures, the arguments, results and exceptions of the calls, and the pool."""

    def work(begin: threading.Event, thing: Thing) -> Thing:
        assert begin.wait(LIMIT)
        if fails:
            raise ValueError(thing)
        return Thing()

    def use() -> Any:
        begin, thing = threading.Event(), Thing()
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(work, begin, thing)
            other = pool.submit(Thing)
            ask = [start(partial(result_of, [future])), start(future.exception)]
            look()
            begin.set()
            wait([future, other], LIMIT)
            for thread in ask:
                thread.join(LIMIT)
        look()
        return *map(ref, (begin, thing, future, other, pool)), *map(ref, ask)

    assert are_gone(use())


def result_of(futures: list[Future[Any]]) -> None:
    """Wait for a result in a function that keeps neither the future nor its error."""
    try:
        futures.pop().result(LIMIT)
    except ValueError:
        pass


def test_what_asyncio_makes(look: Callable[[], object]) -> None:
    """These are loops, tasks, locks, and the results for which threads and tasks wait across loops."""

    def fail(thing: Thing) -> None:
        raise ValueError(thing)

    async def use_lock(lock: asyncio.Lock) -> None:
        async with lock:
            await asyncio.sleep(0)
            await asyncio.to_thread(look)

    async def use() -> Any:
        loop, lock, thing = asyncio.get_running_loop(), asyncio.Lock(), Thing()
        tasks = [asyncio.create_task(use_lock(lock)) for _ in range(3)]
        await asyncio.gather(*tasks[:2])
        await asyncio.wait(tasks)
        found: list[ref[Any]] = [ref(await asyncio.to_thread(Thing))]
        await asyncio.gather(asyncio.to_thread(fail, thing), return_exceptions=True)
        async with asyncio.TaskGroup() as group:
            tasks += [group.create_task(use_lock(lock)), group.create_task(asyncio.sleep(0))]
        found += map(ref, (loop, lock, thing, *tasks))
        await loop.shutdown_default_executor()
        return tuple(found)

    assert are_gone(asyncio.run(use()))


def test_what_is_handed_to_a_loop(look: Callable[[], object]) -> None:
    """These are the future, its coroutine and the loop."""

    def use() -> Any:
        loop, begin = asyncio.new_event_loop(), threading.Event()
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()

        async def work() -> Thing:
            await asyncio.to_thread(begin.wait, LIMIT)
            return Thing()

        coroutine = work()
        future = asyncio.run_coroutine_threadsafe(coroutine, loop)
        ask = start(partial(result_of, [future]))
        look()
        begin.set()
        ask.join(LIMIT)
        asyncio.run_coroutine_threadsafe(loop.shutdown_default_executor(), loop).result(LIMIT)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(LIMIT)
        loop.close()
        look()
        return tuple(map(ref, (loop, coroutine, future, ask, thread, begin)))

    assert are_gone(use())


def stuck(first: Any, second: Any) -> tuple[list[threading.Thread], list[BaseException]]:
    """Let two threads acquire these in both orders; return once both wait."""
    both, errors = threading.Barrier(2), list[BaseException]()

    def work(one: list[Any], other: list[Any]) -> None:
        try:
            with one[0]:
                both.wait(LIMIT)
                with other.pop():
                    pass
        except (RuntimeError, DeadlockError) as error:
            errors.append(error.with_traceback(None))
        one.clear()

    threads = [
        threading.Thread(target=work, args=([one], [other])) for one, other in ((first, second), (second, first))
    ]
    for thread in threads:
        thread.start()
    until(lambda: all(_waits_for_lock(thread.ident) or not thread.is_alive() for thread in threads), LIMIT)
    return threads, errors


def _waits_for_lock(ident: int | None) -> bool:
    wait = innermost_of(ident)
    return isinstance(wait, Blocked) and isinstance(wait.target, (ObservedLock, ObservedRLock))


@pytest.mark.inverts
def test_locks_that_threads_were_asked_about() -> None:
    """Neither a thread that goes on waiting nor the search keeps them."""
    with watch() as watching:
        end = threading.Event()
        idle = start(end.wait)

        def use() -> Any:
            first = threading.Lock()
            second = threading.Lock()
            threads, errors = stuck(first, second)
            watching.look()
            idles = innermost_of(idle.ident)
            assert isinstance(idles, Blocked)
            idles.asked = innermost_of(threads[0].ident).asked  # type: ignore[union-attr]  # as if it had been asked too
            assert idles.asked is not None
            second.release()
            for thread in threads:
                thread.join(LIMIT)
            del errors[:]
            return *map(ref, (first, second)), *map(ref, threads)

        assert are_gone(use())
        end.set()
        idle.join(LIMIT)


@pytest.mark.inverts
def test_locks_of_a_broken_deadlock() -> None:
    """The refused wait is in no reference cycle with its target."""
    with watch(breaks=True) as watching:

        def use() -> Any:
            first = threading.Lock()
            second = threading.Lock()
            threads, errors = stuck(first, second)

            def is_broken() -> bool:
                watching.look()
                return not any(thread.is_alive() for thread in threads)

            until(is_broken, LIMIT)
            assert [type(error) for error in errors] == [DeadlockError]
            return *map(ref, (first, second)), *map(ref, threads)

        assert are_gone(use())


def has_answered(wait: Blocked) -> bool:
    return wait.answered is wait.asked


@pytest.mark.untraceable  # see above
def test_variables_of_a_function_that_was_asked() -> None:
    """A variable that it deletes goes away at once, and the dictionary of `locals()` keeps its own."""
    with watch() as watching:
        gate, block = threading.Lock(), threading.Lock()
        found: list[object] = []

        def work(*, keeps: bool) -> None:
            thing = Thing()
            gone = ref(thing)
            variables = locals() if keeps else None
            with block:
                with gate:
                    pass
                del thing
                found.append(gone() if variables is None else variables["thing"])

        for keeps in (False, True):
            with gate:
                thread = start(partial(work, keeps=keeps))
                wait = innermost_of(thread.ident)
                assert isinstance(wait, Blocked)
                wait.asked = Question([block])
                until(partial(has_answered, wait), LIMIT)
                assert id(block) in wait.inside.places
            thread.join(LIMIT)
            watching.look()
        assert found[0] is None
        assert type(found[1]) is Thing


def test_no_frame_is_held_without_a_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame that is held would keep its variables alive, and another thread would free them."""
    with watch() as watching:
        waits, end = threading.Event(), threading.Lock()

        def no_frames(look: object) -> Any:
            raise AssertionError

        with end:
            threads = [start(waits.wait), start(partial(enter, end))]
            monkeypatch.setattr(incidents, "with_frames", no_frames)
            for _ in range(3):
                assert watching.look() == []
        waits.set()
        for thread in threads:
            thread.join(LIMIT)


def test_modules_that_had_made_locks() -> None:
    """A module that has imported `Lock` gets its own back, and may be gone by then."""
    left, gone = ModuleType("left"), ModuleType("gone")
    before = threading.Lock
    for module in (left, gone):
        vars(module)["Lock"] = before
        sys.modules[module.__name__] = module
    try:
        with watch():
            assert vars(left)["Lock"] is threading.Lock is not before
            del sys.modules["gone"], module
            found = (ref(gone),)
            del gone
            assert not HAS_GIL or are_gone(found)  # without the GIL references to modules are not counted
        assert vars(left)["Lock"] is before
    finally:
        sys.modules.pop("left", None)
        sys.modules.pop("gone", None)


def test_a_loop_in_which_the_watch_was_begun() -> None:
    """It goes away when it has ended, although it ran before the watch."""

    async def begin() -> Any:
        stack.enter_context(watch())
        return (ref(asyncio.get_running_loop()),)

    with ExitStack() as stack:
        assert are_gone(asyncio.run(begin()))
