"""Random programs of two threads and a few keys at a `KeyedLock`, against a model of which locks exist."""

from __future__ import annotations

import gc
from typing import Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from locks.actors import Worker, eventually
from syncprims import KeyedLock, LockTimeoutError, TimedLock
from syncprims._core.gil import HAS_GIL

WORKERS: Final = 2
KEYS: Final = ["a", (1, "b"), 7]

workers = st.integers(0, WORKERS - 1)
keys = st.integers(0, len(KEYS) - 1)


class Programs(RuleBasedStateMachine):
    """The model: the holder of each key's lock and how it was acquired, the waiters, and the references."""

    def __init__(self) -> None:
        """Begin with no lock and idle workers."""
        super().__init__()
        self.keyed = KeyedLock()
        self.workers = [Worker(f"worker {number}") for number in range(WORKERS)]
        self.holder: dict[int, int] = {}
        self.awaited: dict[int, int] = {}  # by worker
        self.kept: dict[int, TimedLock] = {}
        self.serials: dict[int, int] = {}

    def in_use(self) -> set[int]:
        """The keys whose locks exist in the model."""
        return {*self.holder, *self.awaited.values(), *self.kept}

    @rule(key=keys)
    def keep(self, key: int) -> None:
        """Refer to the lock of a key."""
        self.kept[key] = self.keyed[KEYS[key]]

    @rule(key=keys)
    def drop(self, key: int) -> None:
        """Drop the reference to it."""
        self.kept.pop(key, None)

    @rule(worker=workers, key=keys)
    def take(self, worker: int, key: int) -> None:
        """Acquire the lock of a key without keeping a reference, or wait for it."""
        if worker in self.awaited or self.holder.get(key) == worker:
            return
        if self.would_deadlock(worker, key):
            return
        if key in self.holder:
            self.awaited[worker] = key
            self.workers[worker].begin(lambda: self.keyed[KEYS[key]].acquire())
            eventually(lambda: self.keyed[KEYS[key]].waiting == 1)
        else:
            assert self.workers[worker].do(lambda: self.keyed[KEYS[key]].acquire()) is True
            self.holder[key] = worker

    def would_deadlock(self, worker: int, key: int) -> bool:
        """Whether the holder waits for a lock that the worker holds."""
        holder = self.holder.get(key)
        return holder is not None and self.holder.get(self.awaited.get(holder, -1)) == worker

    @rule(worker=workers, key=keys)
    def give(self, worker: int, key: int) -> None:
        """Release it; a waiting thread has it then."""
        if worker in self.awaited or self.holder.get(key) != worker:
            return
        assert self.workers[worker].do(lambda: self.keyed[KEYS[key]].release()) is None
        del self.holder[key]
        for waiter in [each for each, awaited in self.awaited.items() if awaited == key]:
            assert self.workers[waiter].outcome() is True
            del self.awaited[waiter]
            self.holder[key] = waiter

    @rule(worker=workers, key=keys)
    def try_it(self, worker: int, key: int) -> None:
        """A `with` that does not wait."""
        if worker in self.awaited or self.holder.get(key) == worker:
            return

        def enter() -> bool:
            try:
                with self.keyed[KEYS[key]].hold(0):
                    return True
            except LockTimeoutError:
                return False

        assert self.workers[worker].do(enter) is (key not in self.holder)

    @invariant()
    def there_are_the_locks_that_the_model_says(self) -> None:
        """There are as many as are in use, each with its holder, and no dead key among them."""
        if not HAS_GIL:
            self.let_go_of_what_is_unused()
        assert len(self.keyed) == len(self.in_use())
        assert len(self.keyed._refs) == len(self.in_use())
        for number, key in enumerate(KEYS):
            holder = self.keyed[key].holder if number in self.in_use() else None
            name = None if holder is None else holder.name
            assert name == (f"worker {self.holder[number]}" if number in self.holder else None)

    def let_go_of_what_is_unused(self) -> None:
        """Without the GIL, a lock whose last reference another thread dropped goes away when its maker runs next.

        The idle workers can run. For a lock that a waiting worker made, only the garbage collector does not wait.
        """
        counted = len(self.keyed)  # this drops the notes of free locks
        assert counted >= len(self.in_use())
        for number, worker in enumerate(self.workers):
            if number not in self.awaited:
                assert worker.do(lambda: None) is None
        if self.awaited and len(self.keyed) > len(self.in_use()):
            gc.collect()

    @invariant()
    def a_lock_is_the_same_as_long_as_it_is_in_use(self) -> None:
        """The serial number of its creation shows that."""
        for number, key in enumerate(KEYS):
            if number in self.in_use():
                serial = self.keyed[key]._serial
                assert self.serials.setdefault(number, serial) == serial
            else:
                self.serials.pop(number, None)

    def teardown(self) -> None:
        """Release everything; then nothing is left."""
        while self.holder:
            for key, worker in list(self.holder.items()):
                self.give(worker, key)
        self.kept.clear()
        for each in self.workers:
            each.stop()
        gc.collect()
        assert len(self.keyed) == 0


TestKeyedLock = Programs.TestCase
# Without a database, which would be a folder that the tests leave behind.
TestKeyedLock.settings = settings(max_examples=12, stateful_step_count=20, deadline=None, database=None)
