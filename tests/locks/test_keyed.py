"""`KeyedLock`: a lock for each key, the same for all users, and gone when no thread uses it."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import weakref
from collections.abc import Callable, Hashable
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest

from hostile import HostileObject
from locks.actors import LIMIT, Actors, condition_over, eventually, held_elsewhere, take_and_let_go, wait_for
from syncprims import DeadlockError, KeyedLock, LockTimeoutError, TimedLock, acquire_all
from syncprims.diagnostics import check_lock_order, record, report, snapshot
from syncprims.testing import MODES, Mode, check_lock, interrupts, patience

each_mode = pytest.mark.parametrize("mode", MODES)
MODES_OF_A_WAIT = ["warm", "cold", "storm", "cold storm", pytest.param("worker", marks=pytest.mark.slow)]
each_mode_but_slow = pytest.mark.parametrize("mode", MODES_OF_A_WAIT)
Make = Callable[..., KeyedLock]


# -- what it promises --------------------------------------------------------------------------------------------------


def gives_equal_keys_one_lock(make: Make) -> None:
    """This lasts as long as any code refers to the lock; other keys have other locks."""
    keyed = make()
    lock = keyed["alice"]
    assert isinstance(lock, TimedLock)
    assert keyed["".join(["al", "ice"])] is lock
    assert keyed["bob"] is not lock
    assert keyed[1] is keyed[1.0]
    assert keyed[(1, "a")] is keyed[(1, "a")]


def excludes_by_key_alone(make: Make) -> None:
    """There is one holder for each key, and no thread has to wait for another key's holder."""
    keyed = make()
    with held_elsewhere(keyed["alice"]):
        assert not keyed["alice"].acquire(timeout=0.001)
        bob = keyed["bob"]
        assert bob.acquire(False)
        bob.release()
    assert keyed["alice"].acquire(False)
    keyed["alice"].release()


def keeps_a_lock_that_is_only_held(make: Make) -> None:
    """A lock that `acquire` took stays the same until it is released, even without a variable that refers to it."""
    keyed = make()
    for _ in range(3):
        assert keyed["alice"].acquire()
        gc.collect()
        assert len(keyed) == 1
        assert keyed["alice"].held_by_me()
        for other in range(5):
            assert keyed[other].acquire(timeout=1)
            keyed[other].release()
        with pytest.raises(DeadlockError):
            keyed["alice"].acquire()
        keyed["alice"].release()
        assert not keyed["alice"].locked()
        assert len(keyed) == 0


def keeps_a_lock_that_is_held_by_with(make: Make) -> None:
    """This holds even if only the block refers to it."""
    keyed = make()
    for enter in (lambda: keyed["a"], lambda: keyed["a"].hold(1), lambda: acquire_all(keyed["a"], keyed["b"])):
        with enter():
            gc.collect()
            assert keyed["a"].held_by_me()
            assert len(keyed) in (1, 2)
        assert len(keyed) == 0
    with ExitStack() as stack:
        stack.enter_context(keyed["a"])
        gc.collect()
        assert keyed["a"].held_by_me()
    assert len(keyed) == 0


def keeps_a_lock_that_is_waited_for(make: Make) -> None:
    """A waiting thread gets the same lock as the others."""
    keyed = make()
    waited = 0

    def wait() -> None:
        with keyed["a"]:
            pass

    with Actors() as actors, keyed["a"]:
        actors.start(wait)
        actors.start(lambda: take_and_let_go(keyed["a"]))
        eventually(lambda: keyed["a"].waiting == 2)
        waited = len(keyed)
    assert waited == 1
    assert len(keyed) == 0


def leaves_nothing_behind(make: Make) -> None:
    """No lock or key is left, without the garbage collector."""
    keyed = make()
    lock = weakref.ref(keyed["alice"])
    assert lock() is None
    with keyed["alice"].hold(1) as held:
        lock = weakref.ref(held)
    del held
    assert lock() is None
    key = Key("alice")
    with keyed[key]:
        assert len(keyed) == 1
    known = weakref.ref(key)
    del key
    assert len(keyed) == 0
    assert known() is None
    for number in range(1000):
        with keyed[number]:
            pass
        if number % 2:
            keyed[-number].acquire()
            keyed[-number].release()
    assert len(keyed._refs) < 10
    assert len(keyed) == 0


def names_locks_by_keyed_lock_and_key(make: Make) -> None:
    """The name appears in the lock, in errors, in snapshots and reports."""
    keyed = make(timeout=0.01, name="accounts")
    with held_elsewhere(keyed["alice"], "teller"):
        with pytest.raises(LockTimeoutError, match=r"\"accounts\['alice'\]\", held by Thread 'teller'") as caught:
            keyed["alice"].__enter__()
        assert caught.value.lock_name == "accounts['alice']"
        assert caught.value.timeout == 0.01
        assert ("KeyedLock", "accounts['alice']") in [(state.kind, state.name) for state in snapshot()]
        assert "KeyedLock \"accounts['alice']\": held by Thread 'teller'" in report()


CLAIMS = [
    gives_equal_keys_one_lock,
    excludes_by_key_alone,
    keeps_a_lock_that_is_only_held,
    keeps_a_lock_that_is_held_by_with,
    keeps_a_lock_that_is_waited_for,
    leaves_nothing_behind,
    names_locks_by_keyed_lock_and_key,
]


@pytest.mark.usefixtures("small_heap")
@pytest.mark.parametrize("claim", CLAIMS)
def test_it_keeps_its_promises(claim: Callable[[Make], None]) -> None:
    """Every promise above holds."""
    claim(KeyedLock)


class Key:
    """A key of the user's, which is compared by value and whose methods can be made to fail."""

    failing: str | None = None

    def __init__(self, value: object) -> None:
        self.value = value

    def __hash__(self) -> int:
        if self.failing == "hash":
            raise LookupError("no hash")
        return hash(self.value)

    def __eq__(self, other: object) -> bool:
        if self.failing == "eq":
            raise LookupError("no comparison")
        return isinstance(other, Key) and self.value == other.value

    def __repr__(self) -> str:
        if self.failing == "repr":
            raise LookupError("no repr")
        return f"Key({self.value!r})"


# -- broken versions ---------------------------------------------------------------------------------------------------


class Grows(KeyedLock):
    """A dictionary of locks, as people write it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.locks: dict[Hashable, TimedLock] = {}

    def __getitem__(self, key: Hashable) -> TimedLock:
        return self.locks.setdefault(key, TimedLock(self.timeout, name=f"{self.name}[{key!r}]"))

    def __len__(self) -> int:
        return len(self.locks)


class Forgets(KeyedLock):
    """A weak dictionary of plain locks: a lock acquired without a reference is lost."""

    def _make(self, key: Hashable) -> TimedLock:
        return TimedLock(self.timeout, name=f"{self.name}[{key!r}]")


class Fresh(KeyedLock):
    """A new lock for each call."""

    def __getitem__(self, key: Hashable) -> TimedLock:
        return self._make(key)


class OneForAll(KeyedLock):
    """The same lock for all keys."""

    def __getitem__(self, key: Hashable) -> TimedLock:
        return super().__getitem__(None)


class ByIdentity(KeyedLock):
    """A lock for each object."""

    def __getitem__(self, key: Hashable) -> TimedLock:
        return super().__getitem__(id(key))


class NeverLooks(KeyedLock):
    """Keeps acquired locks forever."""

    def _look_at_acquired(self, most: int) -> None:
        pass


class DropsWhatIsHeld(KeyedLock):
    """Looks at acquired locks, and keeps none of them."""

    def _look_at_acquired(self, most: int) -> None:
        self._acquired.clear()


class NeverForgets(KeyedLock):
    """Never drops a key."""

    def _forget_gone(self) -> None:
        pass


class Nameless(KeyedLock):
    """Gives the locks names of their own."""

    def _make(self, key: Hashable) -> TimedLock:
        return TimedLock(self.timeout)


class CountsKeys(KeyedLock):
    """Counts the items of the dictionary, dead or alive."""

    def __len__(self) -> int:
        return len(self._refs)


class Striped(KeyedLock):
    """A fixed number of locks, over which the keys are distributed."""

    def __getitem__(self, key: Hashable) -> TimedLock:
        return super().__getitem__(hash(key) % 1)


class ForTheThread(KeyedLock):
    """A lock for each key and thread."""

    def __getitem__(self, key: Hashable) -> TimedLock:
        return super().__getitem__((key, threading.get_ident()))


BROKEN = [
    (Fresh, gives_equal_keys_one_lock),
    (OneForAll, gives_equal_keys_one_lock),
    (ByIdentity, gives_equal_keys_one_lock),
    (Fresh, excludes_by_key_alone),
    (OneForAll, excludes_by_key_alone),
    (Striped, excludes_by_key_alone),
    (Forgets, keeps_a_lock_that_is_only_held),
    (DropsWhatIsHeld, keeps_a_lock_that_is_only_held),
    (Fresh, keeps_a_lock_that_is_only_held),
    (NeverLooks, keeps_a_lock_that_is_only_held),
    (Fresh, keeps_a_lock_that_is_held_by_with),
    (Grows, keeps_a_lock_that_is_held_by_with),
    (CountsKeys, keeps_a_lock_that_is_held_by_with),
    (Grows, keeps_a_lock_that_is_waited_for),
    (CountsKeys, keeps_a_lock_that_is_waited_for),
    (ForTheThread, keeps_a_lock_that_is_waited_for),
    (OneForAll, names_locks_by_keyed_lock_and_key),
    (Grows, leaves_nothing_behind),
    (NeverLooks, leaves_nothing_behind),
    (NeverForgets, leaves_nothing_behind),
    (Nameless, names_locks_by_keyed_lock_and_key),
    (Grows, names_locks_by_keyed_lock_and_key),
]


@pytest.mark.parametrize(("kind", "claim"), BROKEN)
def test_broken_versions_are_caught(kind: Make, claim: Callable[[Make], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """The test of each claim detects the fault that breaks it."""
    monkeypatch.setattr("locks.actors.LIMIT", 0.2)  # some never reach the event that is awaited
    with pytest.raises((AssertionError, pytest.fail.Exception, DeadlockError, RuntimeError)):
        claim(kind)


# -- keys --------------------------------------------------------------------------------------------------------------


def test_a_key_that_can_not_be_hashed_is_refused() -> None:
    """This happens at once, as with a dictionary; nothing is changed."""
    keyed = KeyedLock()
    with pytest.raises(TypeError, match="unhashable"):
        keyed[[]]  # type: ignore[index]
    with pytest.raises(TypeError, match="unhashable"):
        keyed[("a", {})]
    with pytest.raises(BaseException, match="__hash__"):
        keyed[HostileObject()]
    assert len(keyed) == 0


def test_what_a_key_raises_comes_out_where_it_is_asked_for() -> None:
    """This may be its hash or its comparison; the locks of other keys are not affected."""
    keyed = KeyedLock()
    kept, asking = Key("a"), Key("a")
    held = keyed[kept]
    for fails, failing in ((asking, "hash"), (kept, "eq")):
        fails.failing = failing
        with pytest.raises(LookupError, match="no "):
            keyed[asking]
        fails.failing = None
    assert keyed[asking] is held
    assert len(keyed) == 1


def test_a_key_whose_methods_fail_later_disturbs_nobody() -> None:
    """It stays until it is asked for again, which makes a new lock; it is not counted."""
    keyed = KeyedLock()
    key = Key("a")
    with keyed[key]:
        key.failing = "hash"
    with keyed["b"]:
        assert len(keyed) == 1
    assert len(keyed) == 0
    key.failing = None
    with keyed[Key("a")]:
        assert keyed[key].held_by_me()
        assert len(keyed) == 1
    with keyed["b"]:
        assert len(keyed) == 1


@pytest.mark.parametrize("error", [LookupError, KeyError, IndexError, SystemExit])
def test_what_a_dead_key_raises_is_given_up_at_last(
    error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asking for another key raises at most one such error, and only one that might be an interrupt."""
    keyed = KeyedLock()
    key = Key("a")
    with keyed[key]:
        pass

    def fail(self: object) -> int:
        raise error

    monkeypatch.setattr(Key, "__hash__", fail)
    errors = [type(each) for each in (raised_by(lambda: keyed["b"]) for _ in range(3)) if each is not None]
    assert errors == ([] if issubclass(error, Exception) else [error])
    assert len(keyed) == 0


def raised_by(call: Callable[[], object]) -> BaseException | None:
    """The exception that it raises, or None."""
    try:
        call()
    except BaseException as error:
        return error.with_traceback(None)
    return None


def test_a_key_that_can_not_be_shown_has_a_name_all_the_same() -> None:
    """Its type is shown instead; a long key is shortened."""
    keyed = KeyedLock(name="files")
    key = Key("a")
    key.failing = "repr"
    assert keyed[key].name.startswith("files[<Key instance")
    assert len(keyed["x" * 1000].name) < 300
    assert keyed["a\nb"].name == "files['a\\nb']"


def test_keys_methods_run_without_any_lock() -> None:
    """They may use the keyed lock themselves."""
    keyed = KeyedLock()

    class Curious(Key):
        def __hash__(self) -> int:
            with keyed["inner"]:
                return super().__hash__()

    with keyed[Curious("a")]:
        assert keyed[Curious("a")].held_by_me()
    assert len(keyed) == 0


def test_it_is_no_collection() -> None:
    """Python would try 0, 1, 2, … without end; and an empty one is true, for ``keyed or KeyedLock()``."""
    keyed = KeyedLock()
    with pytest.raises(TypeError):
        iter(keyed)
    with pytest.raises(TypeError):
        "a" in keyed  # type: ignore[misc]  # noqa: B015  it raises
    assert keyed
    assert len(keyed) == 0


def test_bad_arguments_are_refused() -> None:
    """The errors are those of a lock; and it can't be copied or pickled."""
    with pytest.raises(ValueError, match="timeout"):
        KeyedLock(-1)
    with pytest.raises(TypeError, match="name"):
        KeyedLock(name=5)  # type: ignore[arg-type]
    keyed = KeyedLock(2.5, name="accounts")
    assert (keyed.timeout, keyed.name) == (2.5, "accounts")
    assert keyed["a"].timeout == 2.5
    assert KeyedLock().name.startswith("KeyedLock-")
    assert "'accounts'" in repr(keyed)
    for copied in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot pickle or copy"):
            copied(keyed)


# -- threads -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("restless")
def test_threads_exclude_each_other_by_key() -> None:
    """However they acquire it, sums under a key's lock are right, and no lock is left."""
    keyed = KeyedLock(LIMIT)
    sums = dict.fromkeys(range(3), 0)

    def work(start: int) -> None:
        for number in range(start, start + 300):
            key = number % 3
            match number % 4:
                case 0:
                    with keyed[key]:
                        sums[key] = sums[key] + 1
                case 1:
                    with keyed[key].hold(LIMIT):
                        sums[key] = sums[key] + 1
                case 2:
                    keyed[key].acquire()
                    sums[key] = sums[key] + 1
                    keyed[key].release()
                case _:
                    with acquire_all(keyed[key], keyed["all"]):
                        sums[key] = sums[key] + 1

    with Actors() as actors:
        for start in range(4):
            actors.start(partial(work, start))
    assert sum(sums.values()) == 1200
    assert len(keyed) == 0


@pytest.mark.usefixtures("restless")
def test_threads_that_ask_at_once_get_one_lock() -> None:
    """This holds even while the last reference to the former lock goes away."""
    keyed = KeyedLock()
    together = threading.Barrier(4)

    def ask() -> list[TimedLock]:
        found = []
        for _ in range(40):
            together.wait(LIMIT)
            found.append(keyed["a"])
            together.wait(LIMIT)
            found[-1] = weakref.ref(found[-1])  # type: ignore[call-overload]
        return found

    with Actors() as actors:
        jobs = [actors.start(ask) for _ in range(4)]
        rounds = list(zip(*(job.result() for job in jobs), strict=True))
    assert all(len(set(map(id, each))) == 1 for each in rounds)
    assert len(keyed) == 0


@pytest.mark.inverts
def test_two_keys_in_both_orders_are_a_deadlock() -> None:
    """One thread gets the error, which names the keys; `acquire_all` has no deadlock."""
    keyed = KeyedLock(name="accounts")
    come = {"alice": threading.Event(), "bob": threading.Event()}
    errors: list[DeadlockError] = []

    def cross(first: str, second: str) -> None:
        with keyed[first]:
            come[first].set()
            wait_for(come[second])
            try:
                with keyed[second]:
                    pass
            except DeadlockError as error:
                errors.append(error)

    def transfer(first: str, second: str) -> None:
        for _ in range(100):
            with acquire_all(keyed[first], keyed[second]):
                pass

    with Actors() as actors:
        actors.start(lambda: cross("alice", "bob"))
        actors.start(lambda: cross("bob", "alice"))
    (error,) = errors
    assert {wait.lock_name for wait in error.cycle} == {"accounts['alice']", "accounts['bob']"}
    with Actors() as actors:
        actors.start(lambda: transfer("alice", "bob"))
        actors.start(lambda: transfer("bob", "alice"))
    del error, errors[:]
    gc.collect()  # an error's traceback has frames that refer to the error
    assert len(keyed) == 0


def test_a_condition_works_over_the_lock_of_a_key() -> None:
    """It releases the lock and acquires it again."""
    keyed = KeyedLock()
    condition = condition_over(keyed["a"])

    def notify() -> None:
        with keyed["a"]:
            condition.notify()

    with Actors() as actors, condition:
        actors.start(notify)
        assert condition.wait(LIMIT)
        assert keyed["a"].held_by_me()


def test_observers_see_the_locks() -> None:
    """Recordings see them, and so does the check of lock orders as long as the locks are in use."""
    keyed = KeyedLock(name="accounts")
    one, other = keyed["one"], keyed["other"]
    with record() as recording, check_lock_order("warn") as check:
        with one, keyed["other"]:
            pass
        other.acquire()
        with pytest.warns(RuntimeWarning, match="inverted"), one:
            pass
        other.release()
    assert len(check.inversions) == 1
    assert {span.name for span in recording.spans} >= {"accounts['one']", "accounts['other']"}


# -- interrupts, fork, the kit -----------------------------------------------------------------------------------------


class Subject:
    """Keys, and the notes of the bodies."""

    def __init__(self, make: Make = KeyedLock) -> None:
        self.keyed = make()
        self.key = Key("a")
        self.unlocked_bodies = 0

    def body(self, *keys: Hashable) -> None:
        for key in keys:
            self.unlocked_bodies += not self.keyed[key].held_by_me()

    def broken(self) -> str | None:
        # No key in Python is asked for again, because that would drop a key that was left.
        if self.keyed["a"].locked() or self.keyed["b"].locked():
            return "still locked"
        if len(self.keyed):
            return f"still in use: {self.keyed!r}"
        if self.keyed._refs or self.keyed._gone or self.keyed._acquired:
            return f"left behind: {self.keyed._refs} {self.keyed._gone} {self.keyed._acquired}"
        return "the body ran without its lock" if self.unlocked_bodies else None


def by_with(subject: Subject) -> None:
    with subject.keyed["a"]:
        subject.body("a")


def by_hold(subject: Subject) -> None:
    with subject.keyed["a"].hold(patience()):
        subject.body("a")


def by_acquire(subject: Subject) -> None:
    lock = subject.keyed["a"]
    lock.acquire()
    try:
        subject.body("a")
    finally:
        lock.release()


def by_acquire_all(subject: Subject) -> None:
    with acquire_all(subject.keyed["a"], subject.keyed["b"]):
        subject.body("a", "b")


def by_keys_in_python(subject: Subject) -> None:
    with subject.keyed[subject.key]:
        subject.body(subject.key)
    with subject.keyed[Key("b")]:
        pass


@pytest.mark.untraceable
@each_mode_but_slow
@pytest.mark.parametrize("scenario", [by_with, by_hold, by_acquire, by_acquire_all, by_keys_in_python])
def test_an_interrupt_leaks_nothing(scenario: Callable[[Subject], None], mode: Mode) -> None:
    """No lock is acquired, and neither a lock nor a key is left."""
    interrupts(Subject, scenario, Subject.broken, mode=mode).check()


class Bare(Subject):
    """The lock of a key is acquired without a reference to it."""

    taken = False

    def broken(self) -> str | None:
        return None if self.keyed["a"].locked() == self.taken else "it is lost, or kept though it was refused"


def bare(subject: Bare) -> None:
    subject.keyed["a"].acquire()
    subject.taken = True  # no interrupt comes in between
    subject.keyed["b"].acquire()
    subject.keyed["c"].acquire()


@pytest.mark.untraceable
@each_mode
def test_an_interrupt_loses_no_lock_that_is_only_held(mode: Mode) -> None:
    """This holds even while the acquired locks are examined."""
    interrupts(Bare, bare, Bare.broken, mode=mode).check()


class TakenSubject(Subject):
    """A thread holds the lock of a key until it is asked to release it."""

    def __init__(self) -> None:
        super().__init__()
        self._taken, self._go = threading.Event(), threading.Event()
        self._holder = threading.Thread(target=self._hold, daemon=True)
        self._holder.start()
        assert self._taken.wait(patience())

    def _hold(self) -> None:
        with self.keyed["a"]:
            self._taken.set()
            self._go.wait(patience())

    def somebody_waits(self) -> bool:
        return self.keyed["a"].waiting == 1

    def let_go(self) -> None:
        self._go.set()
        self._holder.join(patience())


@pytest.mark.untraceable
@pytest.mark.parametrize(
    "mode", ["warm", "cold", "storm", "cold storm", pytest.param("worker", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("scenario", [by_with, by_acquire])
def test_an_interrupted_wait_leaks_nothing(scenario: Callable[[Subject], None], mode: Mode) -> None:
    """The interrupt comes before, in or after the wait."""
    interrupts(
        TakenSubject,
        scenario,
        TakenSubject.broken,
        mode=mode,
        when_blocked=TakenSubject.somebody_waits,
        unblock=TakenSubject.let_go,
    ).check()


class CountsUses(KeyedLock):
    """Counts the users of each key, and drops keys without users, as people write it."""

    def __init__(self) -> None:
        super().__init__()
        self.uses: dict[Hashable, list[Any]] = {}

    def __getitem__(self, key: Hashable) -> Any:
        return Use(self, key)


class Use:
    """One use of a key."""

    def __init__(self, of: CountsUses, key: Hashable) -> None:
        self.of, self.key = of, key

    def __enter__(self) -> None:
        entry = self.of.uses.setdefault(self.key, [TimedLock(), 0])
        entry[1] += 1
        entry[0].acquire()

    def __exit__(self, *exc_info: object) -> None:
        entry = self.of.uses[self.key]
        entry[0].release()
        entry[1] -= 1
        if not entry[1]:
            del self.of.uses[self.key]


class PythonCallback(KeyedLock):
    """Removes a key in Python when its lock goes away, like `weakref.WeakValueDictionary`."""

    def _add(self, key: Hashable) -> TimedLock:
        lock = self._make(key)
        self._refs[key] = weakref.ref(lock, lambda _: self.forget(key))  # type: ignore[assignment]
        return lock

    def forget(self, key: Hashable) -> None:
        self._refs.pop(key, None)


class ForgetsInALoop(KeyedLock):
    """Removes one dead key after the other by plain calls."""

    def _forget_gone(self) -> None:
        while self._gone:
            dead = self._gone.popleft()
            self._refs.pop(dead.key, None)


def only_by_with(subject: Subject) -> None:
    with subject.keyed["a"]:
        len("work")


def two_after_each_other(subject: Subject) -> None:
    with subject.keyed["a"]:
        len("work")
    with subject.keyed["b"]:
        len("work")


def uses_left(subject: Subject) -> str | None:
    assert isinstance(subject.keyed, CountsUses)
    return f"{subject.keyed.uses}" if subject.keyed.uses else None


def keys_left(subject: Subject) -> str | None:
    subject.keyed._forget_gone()
    return "keys are left" if subject.keyed._refs else None


@pytest.mark.untraceable
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # this is its fault
def test_the_sweeps_find_leaks_in_broken_versions() -> None:
    """These are the controls."""
    assert interrupts(lambda: Subject(CountsUses), only_by_with, uses_left).leaks
    assert interrupts(lambda: Subject(PythonCallback), only_by_with, keys_left).leaks
    assert interrupts(lambda: Subject(ForgetsInALoop), two_after_each_other, keys_left).leaks


def test_the_lock_of_a_key_keeps_the_contract_of_a_lock() -> None:
    """It passes `check_lock`."""
    report = check_lock(lambda: KeyedLock(name="keyed")["a"])
    assert (report.broken, report.not_kept) == ((), ())


@pytest.mark.untraceable
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_finds_free_what_others_held() -> None:
    """The locks that the forking thread held are still held; the keys go on working."""
    fork = pytest.importorskip("locks.test_lock_fork")
    keyed = KeyedLock(LIMIT)

    def check() -> None:
        assert keyed["mine"].held_by_me()
        assert keyed["bare"].held_by_me()
        assert not keyed["theirs"].locked()
        fork.in_thread(partial(take_and_let_go, keyed["theirs"]))
        keyed["bare"].release()
        assert not keyed["bare"].locked()

    with held_elsewhere(keyed["theirs"]), keyed["mine"]:
        keyed["bare"].acquire()
        fork.in_child(check)
        keyed["bare"].release()
