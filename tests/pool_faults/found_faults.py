"""Faults of pools that other people's programs and attacks have found: errors, arguments, sources and workers."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import queue
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, NoReturn

from callback_pool.pool_workers import add, die, identity, kill_self
from polling import ended, until, until_exists
from syncprims import AtomicCounter, CallbackErrors, PoolClosedError, Task, TaskTimeoutError, TimedLock, TransportError

from . import work
from .fault_places import ALL, OWN, OWN_PROCESSES, PACKED, open_pool
from .rows import ERROR, WORKS, row
from .witness import LIMIT, Witness, check_accounts, finish, raises, still_works

KEPT = "kept"


@dataclass(frozen=True)
class FrozenError(Exception):
    """Takes no note, no cause and no traceback by assignment."""

    code: int = 3


class NotesError(Exception):
    """Has notes that are not a list."""

    __notes__ = "abc"  # type: ignore[assignment]  # this is the fault


class NoNoteError(Exception):
    """Refuses notes."""

    def add_note(self, note: str) -> NoReturn:
        raise RuntimeError("no notes")


class SilentError(Exception):
    """Raises when it is put into words."""

    def __str__(self) -> NoReturn:
        raise RuntimeError("no words")

    __repr__ = __str__


class UnequalError(Exception):
    """Can't be compared or hashed."""

    def __eq__(self, other: object) -> NoReturn:
        raise RuntimeError("no comparison")

    __hash__ = None  # type: ignore[assignment]  # this is the fault


class FalsyError(Exception):
    """Is false, and empty."""

    def __bool__(self) -> bool:
        return False

    def __len__(self) -> int:
        return 0


class FixedError(Exception):
    """Refuses attributes."""

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise RuntimeError("no attributes")


class QuotaError(Exception):
    """Unpickling calls it with its own text, and so gives it another text."""

    def __init__(self, user: str) -> None:
        super().__init__(f"quota of {user} is used up")


KINDS: tuple[type[Exception], ...] = (
    FrozenError,
    NotesError,
    NoNoteError,
    SilentError,
    UnequalError,
    FalsyError,
    FixedError,
)


def raise_one(kind: int) -> NoReturn:
    raise KINDS[kind]


def raise_quota() -> NoReturn:
    raise QuotaError("alice")


def raised_by(task: Task[Any]) -> BaseException | None:
    try:
        task.result(0)
    except Exception as error:
        return error
    return None


# -- errors ------------------------------------------------------------------------------------------------------------


@row("callbacks raise errors that refuse words, notes or comparison")
def callbacks_raise_refusing_errors(place: str) -> str:
    """Each error is kept, none hides another, and later callbacks run."""
    pool = open_pool(place)
    witness = Witness(pool)

    def raiser(kind: type[Exception]) -> Callable[[object], NoReturn]:
        def raise_it(_: object) -> NoReturn:
            raise kind

        return raise_it

    for kind in (*KINDS, LookupError):
        pool.apply_async(add, (1,), callback=raiser(kind))
    witness.send(add, 2)
    with raises(CallbackErrors) as caught:
        pool.join(LIMIT)
    assert {type(error) for error in caught.value.exceptions} == {*KINDS, LookupError}
    assert witness.heard() == [2]
    still_works(witness)
    finish(pool)
    return KEPT


@row("tasks raise errors that refuse words, attributes or truth")
def tasks_raise_refusing_errors(place: str) -> str:
    """Each task settles with its error, or with one that names it."""
    pool = open_pool(place)
    witness = Witness(pool)
    for n in range(len(KINDS)):
        witness.send(raise_one, n)
    told = witness.heard()
    for kind, heard, task in zip(KINDS, told, witness.tasks, strict=True):
        if type(heard) is not kind:
            assert place in PACKED
            assert isinstance(heard, TransportError), heard
            assert kind.__name__ in str(heard)
        assert task.exception(0) is heard
        assert raised_by(task) is heard
    still_works(witness)
    finish(pool)
    return ERROR


@row("exception that pickling changes")
def changed_exception(place: str) -> str:
    """Its text is in the error once, and an error with another text is never presented as the original."""
    pool = open_pool(place)
    witness = Witness(pool)
    witness.send(raise_quota)
    (error,) = witness.heard()
    assert str(error).count("quota of") == 1, error
    assert isinstance(error, TransportError if place in PACKED else QuotaError)
    finish(pool)
    return ERROR


# -- arguments and sources ---------------------------------------------------------------------------------------------


@row("locks, queues, files and generators as arguments")
def awkward_arguments(place: str) -> str:
    """Submit refuses them and says what to pass instead; threads accept them."""
    awkward: list[Any] = [
        threading.Lock(),
        queue.SimpleQueue(),
        multiprocessing.get_context("spawn").Lock(),
        TimedLock(),
        AtomicCounter(),
        (n for n in range(3)),
        sys.stdin,
    ]
    pool = open_pool(place)
    witness = Witness(pool)
    for each in awkward:
        if place in PACKED:
            with raises(TransportError, match="can't be pickled"):
                pool.submit(identity, each)
        else:
            assert pool.submit(identity, each).result(LIMIT) is each
    still_works(witness)
    finish(pool)
    return "E by submit" if place in PACKED else WORKS


@row("an endless source for imap")
def endless_source(place: str) -> str:
    """Results come while it goes on, and it is never read further ahead than the workers need."""
    pulled: list[int] = []

    def source() -> Iterator[int]:
        for n in count():
            pulled.append(n)
            yield n

    pool = open_pool(place, workers=2)
    results = pool.imap(abs, source())
    most = (pool._max_workers if hasattr(pool, "_max_workers") else os.cpu_count() or 1) + 1
    for n in range(5):
        assert next(results) == n
        assert len(pulled) <= n + 1 + most
    del results
    finish(pool)
    return WORKS


# -- submitting on and on ----------------------------------------------------------------------------------------------


@row("shutdown while callbacks submit on and on")
def endless_callbacks(place: str) -> str:
    """It ends like every executor: submitted tasks have run, and later ones are refused."""
    many = threading.Event()
    ran: list[int] = []
    refused: list[bool] = []
    pool = open_pool(place)

    def again(n: int) -> None:
        ran.append(n)
        if n == 20:
            many.set()
        try:
            pool.apply_async(add, (n, 1), callback=again)
        except PoolClosedError:
            refused.append(True)

    pool.apply_async(add, (0, 1), callback=again)
    assert many.wait(LIMIT)
    pool.shutdown()
    assert refused == [True]
    assert ran == [*range(1, len(ran) + 1)]
    check_accounts(pool)
    return WORKS


@row("a coroutine that awaits a task is cancelled")
def coroutine_cancelled(place: str) -> str:
    """The coroutine ends at once, and the task is killed if possible; the others have their results."""
    folder = tempfile.mkdtemp()
    release, mark = os.path.join(folder, "release"), os.path.join(folder, "mark")
    pool = open_pool(place, workers=2)
    witness = Witness(pool)
    task = witness.send(work.say_who_and_wait, release, mark)
    until_exists(mark)
    until(task.running)

    async def main() -> None:
        waiting = asyncio.ensure_future(task)
        await asyncio.sleep(0)
        waiting.cancel()
        with raises(asyncio.CancelledError):
            await waiting
        assert await pool.submit(add, 2, 3) == 5
        assert list(await asyncio.gather(*(pool.submit(add, n) for n in range(4)))) == [*range(4)]

    asyncio.run(main())
    if place in OWN_PROCESSES:
        assert task.cancelled()
        assert ended(int(Path(mark).read_text()))
    else:
        assert not task.done()
    Path(release).touch()
    witness.heard()
    finish(pool)
    return "killed" if place in OWN_PROCESSES else "goes on"


# -- workers -----------------------------------------------------------------------------------------------------------


def leave_a_thread(path: str) -> int:
    """Leave a thread behind that is not a daemon, as a client of some service may."""
    threading.Thread(target=until_exists, args=(path, 2 * LIMIT)).start()
    return os.getpid()


@row("a task leaves a thread in its worker", OWN)
def thread_left(place: str) -> str:
    """The end of the pool waits for its grace, and no longer."""
    path = os.path.join(tempfile.mkdtemp(), "go")
    pool = open_pool(place, workers=1, grace=0.5)
    pid = pool.submit(leave_a_thread, path).result(LIMIT)
    finish(pool)
    if place in OWN_PROCESSES:
        assert ended(pid)
    else:
        assert not os.path.exists(path)
    Path(path).touch()
    return "killed" if place in OWN_PROCESSES else WORKS


def leave_at_once() -> NoReturn:
    sys.exit("not here")


@row("initializer exits", OWN)
def initializer_exits(place: str) -> str:
    """Each task has an error that names the exception, or says that the process has ended."""
    ways: list[Callable[[], Any]] = [leave_at_once]
    if place in OWN_PROCESSES:
        ways += [die, kill_self]
    for way in ways:
        pool = open_pool(place, initializer=way)
        witness = Witness(pool)
        for n in range(4):
            witness.send_unless_broken(add, n)
        told = witness.heard()
        assert told
        assert all(isinstance(heard, BrokenExecutor) for heard in told), told
        words = "not here" if way is leave_at_once else "during its initializer"
        assert words in str(told[0]), told
        pool.close(LIMIT)
        check_accounts(pool)
    return ERROR


def close_all_doors() -> None:
    """An initializer after which no file of the parent can be opened, as without its privileges, or in a jail."""

    def refuse(*args: object, **kwargs: object) -> NoReturn:
        raise PermissionError(13, "Permission denied")

    import builtins

    builtins.open = refuse
    os.open = refuse


# Not loky, whose own worker ends when it can't read its memory use any more, nor pebble, which has no such board.
@row("a worker gives up its privileges", (*OWN_PROCESSES, "ProcessPoolExecutor"))
def privileges_dropped(place: str) -> str:
    """Time limits are kept nevertheless, and a task that has killed its worker does not run again."""
    mark = os.path.join(tempfile.mkdtemp(), "ran")
    pool = open_pool(place, workers=1, initializer=close_all_doors)
    witness = Witness(pool)
    still_works(witness)
    witness.send(die_once, mark)
    (_, error) = witness.heard()
    assert isinstance(error, BrokenExecutor), error
    assert os.path.isdir(mark)
    pool.close(LIMIT)
    check_accounts(pool)
    pool = open_pool(place, workers=1, initializer=close_all_doors)
    witness = Witness(pool)
    pid = pool.submit(os.getpid).result(LIMIT)
    late = witness.send(pause, timeout=0.5)
    assert isinstance(late.exception(LIMIT), TaskTimeoutError)
    if place not in OWN_PROCESSES:
        os.kill(pid, signal.SIGKILL)  # the worker belongs to the executor that was passed in
    finish(pool)
    return ERROR


def die_once(path: str) -> NoReturn:
    os.mkdir(path)  # a second run could not do this
    die()


def pause() -> None:
    threading.Event().wait(2 * LIMIT)


# Not the standard process executor and loky, which accept calls although their own thread could not start, and hang.
@row("no more threads can be started", tuple(place for place in ALL if place not in ("ProcessPoolExecutor", "loky")))
def no_more_threads(place: str) -> str:
    """From the first, second or third one on: each task is reported or refused, and the pool ends."""
    names = [name for name in ("_start_new_thread", "_start_joinable_thread") if hasattr(threading, name)]
    real = {name: getattr(threading, name) for name in names}
    for few in range(4):
        left = few
        pool = open_pool(place)

        def start(name: str) -> Callable[..., Any]:
            def refuse_or_start(*args: Any, **kwargs: Any) -> Any:
                nonlocal left
                left -= 1
                if left < 0:
                    raise RuntimeError("can't start new thread")
                return real[name](*args, **kwargs)

            return refuse_or_start

        refused = 0
        witness = Witness(pool)
        for name in names:
            setattr(threading, name, start(name))
        try:
            for n in range(6):
                try:
                    witness.send(add, n, timeout=LIMIT if n % 2 else None)
                except RuntimeError:
                    witness.told.pop()
                    refused += 1
            assert len(witness.heard()) + refused == 6
        finally:
            for name in names:
                setattr(threading, name, real[name])
        pool.close(LIMIT)
        check_accounts(pool)
    return "told, or refused"
