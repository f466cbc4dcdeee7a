"""The observed locks look like those of `threading` to all code."""

from __future__ import annotations

import _thread
import copy
import gc
import os
import pickle
import threading
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import cloudpickle
import pytest

from hostile import HostileObject
from syncprims._core.waits import all_waits
from syncprims.testing import interrupts
from syncprims.watch import Watching, install
from syncprims.watch.observed import ObservedLock, ObservedRLock, factory_of
from watch.watching import run

BARE: Any = _thread.allocate_lock
LIMIT = 30.0


@pytest.fixture(params=[False, True], ids=["observed", "recorded"])
def watching(request: pytest.FixtureRequest) -> Iterator[Watching]:
    watching = install(after=20.0, asleep=None, record=request.param)
    yield watching
    watching.uninstall()


@pytest.fixture
def make(watching: Watching) -> Callable[[], Any]:
    return lambda: threading.Lock()  # the present one


def outcome(call: Callable[..., object], *args: object, **kwargs: object) -> object:
    """The result of a call, or the type and the text of its exception."""
    try:
        return call(*args, **kwargs)
    except Exception as error:
        return type(error), str(error)


def test_it_is_in_place_while_the_watch_is_on() -> None:
    """`threading` makes observed locks from `install` to `uninstall`, and its own before and after."""
    before = threading.Lock, threading.RLock(), threading.Condition.wait, threading.Thread.join
    watching = install(after=20.0, asleep=None)
    try:
        assert install() is watching
        kinds: list[Any] = [type(threading.Lock()), type(threading.RLock())]
        assert kinds == [ObservedLock, ObservedRLock]
    finally:
        watching.uninstall()
    assert threading.Lock is before[0]
    assert type(threading.RLock()) is type(before[1])
    assert (threading.Condition.wait, threading.Thread.join) == before[2:]


WOULD_WAIT: list[tuple[Any, ...]] = [(), (True,), (True, -1), (1, -1)]
ARGUMENTS: list[tuple[Any, ...]] = [
    *WOULD_WAIT,
    *[(False,), (True, 0), (True, 0.01), (False, -1), (False, 1), (True, -2), (1, 0.01), (0,), (None,)],
    *[(True, float("nan")), (True, 1e100), ("x", 0.01), (True, "x"), (True, None)],
]


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=repr)
def test_acquire_takes_what_a_bare_lock_takes(make: Callable[[], Any], arguments: tuple[Any, ...]) -> None:
    """Every argument gives the same answer or the same error, for a free lock and for an acquired one."""
    for taken in (False, True):
        if taken and arguments in WOULD_WAIT:
            continue
        answers = []
        for lock in (BARE(), make()):
            if taken:
                lock.acquire()
            answers.append((outcome(lock.acquire, *arguments), lock.locked()))
        assert answers[0] == answers[1]


def test_releasing_a_free_lock_fails_as_before(make: Callable[[], Any]) -> None:
    """The error is that of a bare lock."""
    assert outcome(make().release) == outcome(BARE().release)


def test_any_thread_may_release_it(make: Callable[[], Any]) -> None:
    """A lock may be released by another thread, in a `with` as well."""
    lock = make()
    lock.acquire()
    thread = threading.Thread(target=lock.release)
    thread.start()
    thread.join(LIMIT)
    assert not lock.locked()

    def holding() -> Iterator[None]:
        with lock:
            yield

    generator = holding()
    next(generator)
    thread = threading.Thread(target=lambda: list(generator))
    thread.start()
    thread.join(LIMIT)
    assert not lock.locked()


def test_a_block_keeps_its_lock_alive(make: Callable[[], Any]) -> None:
    """A lock that lives only in a weak dictionary is the same one as long as a block of it lasts."""
    locks: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
    with locks.setdefault("key", make()):
        gc.collect()
        assert locks["key"].locked()
    gc.collect()
    assert "key" not in locks


def test_it_has_the_types_of_a_bare_lock(make: Callable[[], Any]) -> None:
    """Type checks, and its ``repr``, are those of a bare lock."""
    lock, bare = make(), BARE()
    assert isinstance(lock, _thread.LockType)
    assert repr(lock).replace(hex(id(lock)), "") == repr(bare).replace(hex(id(bare)), "")
    assert type(lock).__name__ == type(bare).__name__
    assert isinstance(threading.RLock(), type(_thread.RLock()))
    assert outcome(pickle.dumps, lock) == outcome(pickle.dumps, bare)
    assert outcome(copy.copy, lock) == outcome(copy.copy, bare)
    again, bare_again = threading.RLock(), _thread.RLock()
    assert repr(again).replace(hex(id(again)), "") == repr(bare_again).replace(hex(id(bare_again)), "")
    assert outcome(pickle.dumps, again) == outcome(pickle.dumps, bare_again)


def test_older_locks_are_of_its_type(watching: Watching) -> None:
    """For a lock in C, from before the watch or from C code, `isinstance` gives the same answer as ever."""
    kinds: list[Any] = [type(threading.RLock())]
    if hasattr(_thread, "lock"):  # before 3.13, `threading.Lock` is a function
        kinds.append(threading.Lock)
    for kind, older in zip(kinds, (_thread.RLock(), BARE()), strict=False):
        assert isinstance(older, kind)
        assert issubclass(type(older), kind)
        assert not isinstance(object(), kind)
        assert not issubclass(int, kind)


def test_what_makes_it_can_be_pickled_and_copied(watching: Watching) -> None:
    """It behaves like the class or function that it replaces: another process gets its own, watched or not."""
    code = "import pickle, sys; print([type(make()) for make in pickle.loads(bytes.fromhex(sys.argv[1]))])"
    found: list[Any] = [threading.Lock, type(threading.RLock())]
    for dump in (pickle.dumps, cloudpickle.dumps):
        assert run("-c", code, dump(found).hex()).stdout == f"[{type(BARE())}, {type(_thread.RLock())}]\n"
        again = pickle.loads(dump(found))
        assert isinstance(again[0](), type(BARE()))
        assert isinstance(again[1](), found[1])
    assert copy.copy(found) == copy.deepcopy(found) == found


def test_it_can_be_made_in_a_class(watching: Watching) -> None:
    """The replacement of `threading.Lock` does not bind like a Python function."""

    class Connection:
        lock_class = threading.Lock

    assert Connection().lock_class().acquire(False)


def test_it_is_renewed_in_a_forked_child(make: Callable[[], Any]) -> None:
    """`_at_fork_reinit` makes it free."""
    locks: list[Any] = [make(), threading.RLock()]
    for lock in locks:
        lock.acquire()
        lock._at_fork_reinit()
        assert lock.acquire(False)
        lock.release()


def wait_a_moment() -> None:
    """Let the watch's thread begin, as when a thread waits."""
    lock = threading.Lock()
    lock.acquire()
    assert not lock.acquire(timeout=0.01)


@pytest.mark.untraceable
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # from the threads that run the tests
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_fork_finds_no_thread_of_the_watch(watching: Watching) -> None:
    """The thread ends before a fork, and runs again with the next wait, in the parent and the child."""
    wait_a_moment()
    assert watching.watcher.is_running()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            wait_a_moment()
            code = 0 if watching.watcher.is_running() and len(threading.enumerate()) == 1 else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    wait_a_moment()
    assert watching.watcher.is_running()


def test_a_thread_with_a_hostile_name_ends_as_before(watching: Watching) -> None:
    """Its name is stored for reports, and its exceptions do not reach the program."""

    class Unnamed(threading.Thread):
        @property
        def name(self) -> Any:
            return HostileObject()

        @name.setter
        def name(self, value: str) -> None:
            pass

    ran: list[int] = []
    thread = Unnamed(target=lambda: ran.append(1))
    thread.start()
    thread.join(20.0)
    assert not thread.is_alive()
    assert ran == [1]


def test_its_thread_is_not_the_programs(watching: Watching) -> None:
    """`threading` does not know that thread."""
    wait_a_moment()
    assert watching.watcher.is_running()
    assert not [thread for thread in threading.enumerate() if thread.ident == watching.watcher.ident]


def _enter(lock: Any) -> None:
    with lock:
        pass


def _acquire(lock: Any) -> None:
    lock.acquire()
    _c_release_of(lock)()


def _c_release_of(lock: Any) -> Callable[[], object]:
    """A release in C, because that of the observed lock is Python, and the acquisition is the subject of the test."""
    return lock.__call__ if isinstance(lock, ObservedLock) else lock.release


def _taken(lock: Any) -> str | None:
    # For a reentrant lock, another thread has to try.
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(lock.acquire(False)))
    thread.start()
    thread.join(LIMIT)
    return None if answers == [True] else "left taken"


@pytest.mark.untraceable
@pytest.mark.parametrize("mode", ["warm", "cold storm", "worker"])
@pytest.mark.parametrize("kind", [factory_of(ObservedLock), ObservedRLock])
def test_an_interrupt_leaves_no_lock_taken(kind: Any, mode: Any) -> None:
    """A `with` that is interrupted at any point leaves the lock free."""
    interrupts(kind, _enter, _taken, mode=mode).check()


@pytest.mark.untraceable
@pytest.mark.parametrize("kind", [factory_of(ObservedLock), ObservedRLock])
def test_an_interrupt_of_a_wait_leaves_no_lock_taken(kind: Any) -> None:
    """The same for a lock that has to be waited for."""

    def make() -> Any:
        lock = kind()
        held, let_go = threading.Event(), threading.Event()

        def hold() -> None:
            with lock:
                held.set()
                let_go.wait(LIMIT)

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait(LIMIT)
        return lock, let_go, thread

    def unblock(subject: Any) -> None:
        subject[1].set()
        subject[2].join(LIMIT)

    interrupts(
        make,
        lambda subject: _enter(subject[0]),
        lambda subject: _taken(subject[0]),
        when_blocked=lambda subject: any(wait.node.name for wait in all_waits()),
        unblock=unblock,
    ).check()


@pytest.mark.untraceable
def test_no_lock_is_left_taken_at_the_limit_of_recursion(make: Callable[[], Any]) -> None:
    """This holds for a `with` and a pair of calls, at any depth up to the limit."""
    lock, condition = make(), threading.Condition(make())

    def go_down(depth: int) -> None:
        with lock:
            pass
        with condition:
            pass
        lock.acquire()
        lock.release()
        go_down(depth + 1)

    for beginning in range(8):
        down: Callable[[], object] = partial(go_down, 0)
        for _ in range(beginning):
            down = partial(_call, down)
        with pytest.raises(RecursionError):
            down()
        assert not lock.locked()
        assert condition.acquire(False)
        condition.release()


def _call(function: Callable[[], object]) -> object:
    return function()


def test_mutual_exclusion(make: Callable[[], Any]) -> None:
    """Threads that increment under it lose nothing, whichever way they acquire it."""
    lock, again, count = make(), threading.RLock(), [0, 0]
    start = threading.Barrier(4)

    def work() -> None:
        start.wait(LIMIT)
        for turn in range(500):
            if turn % 2:
                with lock:
                    count[0] += 1
            else:
                lock.acquire()
                count[0] += 1
                lock.release()
            with again, again:
                count[1] += 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert count == [2000, 2000]
    assert not lock.locked()
