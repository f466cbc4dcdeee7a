"""multiprocessing's names: apply, map_async, starmap and imap work as there, and more lazily."""

from __future__ import annotations

import ast
import doctest
import inspect
import multiprocessing
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from itertools import count
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from callback_pool import cpython_pool_suite, pool_workers
from locks.actors import LIMIT, eventually, stuck_on, wait_for
from programs import environment
from syncprims import (
    CallbackErrors,
    CallbackPool,
    DeadlockError,
    LazyResults,
    PoolClosedError,
    PoolTimeoutError,
    TimedLock,
    TransportError,
)

Note = Callable[[str, object], None]
HOWTO = Path(__file__).parents[2] / "docs" / "howto" / "from-multiprocessing-pool.rst"
both = pytest.mark.parametrize("kind", ["thread", "process"])


@pytest.fixture
def pool() -> Iterator[CallbackPool]:
    """A pool of two threads."""
    with CallbackPool(max_workers=2, name="jobs") as made:
        yield made


# -- at once -----------------------------------------------------------------------------------------------------------


@both
def test_all_of_the_words(kind: Any) -> None:
    """Each returns the same as in multiprocessing."""
    heard: list[object] = []
    with CallbackPool(kind, max_workers=2) as pool:
        assert pool.apply(pool_workers.add, (2,), {"b": 3}) == 5
        task = pool.map_async(abs, [-1, -2, -3], 2, heard.append)
        assert task.get(LIMIT) == [1, 2, 3]
        assert heard == [[1, 2, 3]]  # before get() returned
        assert pool.map_async(abs, iter([]), chunksize=1).get(LIMIT) == []
        assert pool.starmap(pool_workers.add, [(1, 2), (3, 4)]) == [3, 7]
        assert pool.starmap_async(pool_workers.add, [(1, 2), (3,)]).get(LIMIT) == [3, 3]
        assert list(pool.imap(abs, [-1, -2, -3], chunksize=2)) == [1, 2, 3]
        assert sorted(pool.imap_unordered(abs, iter([-1, -2, -3]))) == [1, 2, 3]
        assert pool.map_async(abs, range(-100, 0)).get(LIMIT) == list(range(100, 0, -1))


def test_callbacks_come_before_get_and_wait_return(pool: CallbackPool) -> None:
    """As in multiprocessing; except if that is impossible, as in a callback of the same pool."""
    heard: list[object] = []
    for _ in range(50):
        task = pool.apply_async(abs, (-1,), callback=heard.append)
        task.get(LIMIT)
        assert len(heard) == 1
        task = pool.apply_async(int, ("seven",), error_callback=heard.append)
        task.wait(LIMIT)
        assert len(heard) == 2
        heard.clear()
    inner: list[object] = []

    def ask(_: object) -> None:
        inner.append(pool.apply_async(abs, (-2,), callback=heard.append).get(LIMIT))

    pool.apply_async(abs, (-1,), callback=ask).wait_settled(LIMIT)
    assert inner == [2]
    stock = TimedLock()

    def needs_lock(result: int) -> None:
        with stock:
            heard.append(result)

    with stock:  # the callback needs it, so the callback is not waited for without end
        assert pool.apply_async(abs, (-3,), callback=needs_lock).get() == 3


@both
def test_the_first_error_of_a_map_when_all_have_ended(kind: Any) -> None:
    """It is raised, given to error_callback, and counts as read for all others."""
    heard: list[BaseException] = []
    with CallbackPool(kind, max_workers=2) as pool:
        task = pool.map_async(int, ["1", "two", "3", "four"], 1, None, heard.append)
        with pytest.raises(ValueError, match="invalid literal"):
            task.get(LIMIT)
        assert len(heard) == 1
        assert heard[0] is task.exception()
        with pytest.raises(ValueError, match="two"):
            pool.starmap(int, [("1",), ("two",)])


def test_an_unread_error_of_a_map_is_the_pools() -> None:
    """It is raised once, and not once for each part."""
    pool = CallbackPool(max_workers=2)
    pool.map_async(int, ["one", "two"], 1)
    with pytest.raises(CallbackErrors) as caught:
        pool.close(LIMIT)
    assert len(caught.value.exceptions) == 1
    assert "map of int('one', 'two')" in str(caught.value)


def test_cancelling_a_map_cancels_its_parts(pool: CallbackPool) -> None:
    """Queued parts never begin."""
    go, begun = Event(), Event()
    ran: list[object] = []

    def hold(n: int) -> None:
        begun.set()
        wait_for(go)
        ran.append(n)

    task = pool.map_async(hold, range(10), 1)
    wait_for(begun)
    assert task.cancel()
    go.set()
    with pytest.raises(CancelledError):
        task.get(LIMIT)
    pool.join(LIMIT)
    assert len(ran) <= 2


def test_a_map_that_is_aborted_is_cancelled() -> None:
    """Its callback is called, and get() does not hang."""
    heard: list[BaseException] = []
    go, begun = Event(), Event()
    pool = CallbackPool(max_workers=1)

    def hold(_: int) -> None:
        begun.set()
        wait_for(go)

    task = pool.map_async(hold, range(10), 1, None, heard.append)
    wait_for(begun)
    pool.abort()
    go.set()
    with pytest.raises(CancelledError):
        task.get(LIMIT)
    eventually(lambda: heard)
    assert isinstance(heard[0], CancelledError)


def test_a_map_fits_into_a_small_pool() -> None:
    """max_pending holds for its parts, and the map itself takes no room."""
    with CallbackPool(max_workers=1, max_pending=1) as pool:
        assert pool.map_async(abs, [-1, -2, -3], 1).get(LIMIT) == [1, 2, 3]
        assert list(pool.imap(abs, [-1, -2, -3])) == [1, 2, 3]


def test_what_can_not_be_submitted_is_raised_and_leaves_nothing() -> None:
    """There is no open task and none that runs later."""
    with CallbackPool("process", max_workers=1) as pool:
        with pytest.raises(TransportError):
            pool.map_async(abs, [1, Event()], 1)
        pool.join(LIMIT)
        assert pool.stats.pending == 0


def test_waits_for_maps_are_edges() -> None:
    """A thread that holds a lock of a part gets the error, even if other workers are idle; so does a task."""
    stock = TimedLock(name="stock")

    def use(n: int) -> int:
        with stock:
            return n

    with CallbackPool(max_workers=4, name="jobs") as pool:
        with stock:
            task = pool.map_async(use, [1, 2], 1)
            eventually(lambda: stuck_on(stock) == 2)
            with pytest.raises(DeadlockError, match="jobs-worker-"):
                task.get()
        assert task.get(LIMIT) == [1, 2]
    with (
        CallbackPool(max_workers=1, name="jobs") as pool,
        pytest.raises(DeadlockError, match="which is up to Thread 'jobs-worker-1'"),
    ):
        pool.apply(lambda: pool.starmap(abs, [(1,)]))


@pytest.mark.parametrize("word", ["map_async", "starmap_async", "starmap", "imap", "imap_unordered"])
def test_bad_arguments_are_refused_at_once(pool: CallbackPool, word: str) -> None:
    """A closed pool raises an error that fits both standard libraries' pools."""
    method: Any = getattr(pool, word)
    with pytest.raises(ValueError, match="chunksize"):
        method(abs, [(1,)], chunksize=0)
    with pytest.raises(TypeError, match="callable"):
        method(5, [(1,)])
    with pytest.raises(TypeError, match="iterable"):
        method(abs, 5)
    pool.close()
    with pytest.raises(ValueError, match="was closed") as caught:
        method(abs, [(1,)])
    assert type(caught.value) is PoolClosedError
    with pytest.raises(ValueError, match="was closed"), pool:
        pass


# -- lazily ------------------------------------------------------------------------------------------------------------


class Source:
    """Counts the items that are read from it."""

    def __init__(self, end: int | None = None, error: type[Exception] | None = None) -> None:
        """Give numbers up to the end, and then raise."""
        self.pulled = 0
        self._end = end
        self._error = error

    def __iter__(self) -> Iterator[int]:
        for number in count():
            if number == self._end:
                if self._error is not None:
                    raise self._error
                return
            self.pulled += 1
            yield number


@pytest.mark.parametrize(("max_pending", "most"), [(None, 3), (2, 2), (10, 3)])
@pytest.mark.parametrize("word", ["imap", "imap_unordered"])
def test_imap_is_never_far_ahead(word: str, max_pending: int | None, most: int) -> None:
    """No item is read before the first result is requested, and never more than max_workers + 1 at a time."""
    source = Source(50)
    with CallbackPool(max_workers=2, max_pending=max_pending) as pool:
        results: LazyResults[int] = getattr(pool, word)(abs, source)
        assert isinstance(results, LazyResults)
        pool.join(LIMIT)
        assert source.pulled == 0
        taken: list[int] = []
        for result in results:
            assert source.pulled <= len(taken) + most
            taken.append(result)
        assert sorted(taken) == list(range(50))


@pytest.mark.parametrize("word", ["imap", "imap_unordered"])
def test_a_result_does_not_wait_for_the_source(pool: CallbackPool, word: str) -> None:
    """A finished result is yielded before the next item is read."""
    given = Source()
    results = getattr(pool, word)(abs, given)
    assert next(results) == 0
    pool.join(LIMIT)  # all tasks in flight are done
    before = given.pulled
    for _ in range(before - 1):
        next(results)
        assert given.pulled == before
    next(results)
    assert given.pulled > before


def test_errors_have_their_turn_and_the_iterator_goes_on(pool: CallbackPool) -> None:
    """One error that was read stands for the others, and close() raises none of them."""
    results = pool.imap(int, ["0", "one", "2", "three", "4"])
    got: list[object] = []
    while True:
        try:
            got.append(next(results))
        except ValueError as error:
            got.append(type(error))
        except StopIteration:
            break
    assert got == [0, ValueError, 2, ValueError, 4]
    with pytest.raises(ValueError, match="one"):
        list(pool.imap(int, ["0", "one", "two", "three"]))


def test_errors_that_were_given_up_are_the_pools() -> None:
    """Errors of results that were not requested are raised when the pool closes."""
    pulled, begun, go = Event(), Event(), Event()

    def source() -> Iterator[str]:
        yield "0"
        pulled.set()
        yield "one"

    def convert(text: str) -> int:
        wait_for(pulled)
        if text != "0":
            begun.set()
            wait_for(go)
        return int(text)

    pool = CallbackPool(max_workers=1)
    results = pool.imap(convert, source())
    assert next(results) == 0
    wait_for(begun)
    del results
    go.set()
    with pytest.raises(CallbackErrors, match="one"):
        pool.close(LIMIT)


@pytest.mark.parametrize("word", ["imap", "imap_unordered"])
def test_an_error_of_the_source_comes_after_its_results(pool: CallbackPool, word: str) -> None:
    """It is raised only once; then the iterator is exhausted."""
    results = getattr(pool, word)(abs, Source(4, LookupError))
    assert sorted(next(results) for _ in range(4)) == [0, 1, 2, 3]
    with pytest.raises(LookupError):
        next(results)
    with pytest.raises(StopIteration):
        next(results)


@pytest.mark.parametrize("word", ["imap", "imap_unordered"])
def test_next_with_a_limit(pool: CallbackPool, word: str) -> None:
    """Its error is that of both pools, nothing is lost by it, and you can ask again."""
    go = Event()
    results = getattr(pool, word)(lambda n: (go.wait(LIMIT), n)[1], [7])
    with pytest.raises(multiprocessing.TimeoutError) as caught:
        results.next(timeout=0.01)
    assert isinstance(caught.value, PoolTimeoutError)
    assert caught.value.pending == 1
    go.set()
    assert results.next(LIMIT) == 7
    with pytest.raises(StopIteration):
        results.next(LIMIT)


def test_results_that_are_dropped_cancel_what_has_not_begun() -> None:
    """An iterator that is left by break costs no more than the running tasks."""
    go, ran = Event(), []
    with CallbackPool(max_workers=1) as pool:

        def hold(n: int) -> int:
            ran.append(n)
            if n:
                wait_for(go)
            return n

        results = pool.imap(hold, count())
        assert next(results) == 0
        eventually(lambda: 1 in ran or pool.stats.pending == 0)
        del results
        go.set()
        pool.join(LIMIT)
    assert len(ran) <= 2


# -- CPython's own tests -----------------------------------------------------------------------------------------------


@pytest.mark.timeout(300)
def test_cpythons_tests_of_pools_pass(record_property: Note) -> None:
    """Those of multiprocessing.Pool, over processes and threads, except what is different on purpose."""
    done = subprocess.run(
        [sys.executable, "-m", "callback_pool.cpython_pool_suite"],
        capture_output=True,
        text=True,
        env=environment(tests=True),
        timeout=280,
        check=False,
    )
    if done.stdout.startswith("not shipped"):
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stdout
    run, _, skipped = (int(each.split()[0]) for each in done.stdout.splitlines()[-1].split(", "))
    assert run >= 48
    record_property("CPython's tests of pools passed", run - skipped)
    passed = re.findall(r"^test_\w+ \(\S*processes_TestPool\S*\) \.\.\. ok$", done.stdout, re.MULTILINE)
    assert len(passed) >= 23  # of 25, or of 28 from 3.13.1 on


@pytest.mark.skipif(not HOWTO.exists(), reason="the pages are not there: only the tests were copied")
def test_the_ten_lines_of_the_howto_are_those_that_cpythons_tests_ran_with() -> None:
    """They are the same except for types, and there are ten."""
    examples = doctest.DocTestParser().get_examples(HOWTO.read_text(encoding="utf-8"))
    (shown,) = (example.source for example in examples if example.source.startswith("class Pool(CallbackPool):"))
    assert len([line for line in shown.splitlines() if line.strip()]) == 10
    assert without_types(shown) == without_types(inspect.getsource(cpython_pool_suite.Pool))


def without_types(source: str) -> str:
    """Return the program in CPython's own form, without the types of arguments and results."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.FunctionDef):
            node.returns = None
    return ast.unparse(tree)
