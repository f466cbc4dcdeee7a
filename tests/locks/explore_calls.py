"""Explore interleavings of the classes that build on `TimedLock`: ``explore_calls.py SCENARIO PREEMPTIONS SECONDS``.

These are `KeyedLock`, `Guarded`, `once` and `SingleFlight`. The C lock under `TimedLock` is the model of
`explore_locks`, which has to be imported first.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar

from frontrun._cooperative import patch_locks  # type: ignore[import-untyped]  # it has no types

from exploring import main
from locks.explore_locks import outcomes

# isort: split

from syncprims import Guarded, KeyedLock, LockTimeoutError, SingleFlight, TimedLock, once
from syncprims._locks import in_use, keyed, shared_call
from syncprims._locks import once as once_module

Worker = Callable[[Any], None]

# frontrun sees that two instructions touch the same attribute, but not the effect of a method in C. So before each such
# method, the shared object is touched.


class SeenDict(dict[Any, Any]):
    """A dictionary whose use frontrun sees."""

    touched: int = 0

    def get(self, key: Any, default: Any = None) -> Any:
        """Look for a key."""
        _ = self.touched
        return super().get(key, default)

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """Look for a key, and insert it if it is missing."""
        self.touched = 1
        return super().setdefault(key, default)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.touched = 1
        super().__setitem__(key, value)

    def clear(self) -> None:
        """Remove all items."""
        self.touched = 1
        super().clear()


class SeenDeque(deque[Any]):
    """A deque whose use frontrun sees."""

    touched: int = 0

    def append(self, item: Any) -> None:
        """Add an item at the right."""
        self.touched = 1
        super().append(item)

    def popleft(self) -> Any:
        """Remove the leftmost item."""
        self.touched = 1
        return super().popleft()

    def remove(self, item: Any) -> None:
        """Remove that item."""
        self.touched = 1
        super().remove(item)

    def __contains__(self, item: object) -> bool:
        _ = self.touched
        return super().__contains__(item)


def seen(kind: Any, field: str) -> None:
    """Give each object of this kind a dictionary that frontrun sees."""
    init = kind.__init__

    def initialize(self: Any, *args: Any) -> None:
        init(self, *args)
        setattr(self, field, SeenDict())

    kind.__init__ = initialize


seen(in_use.InUse, "_refs")
seen(shared_call.SharedCalls, "_open")
in_use.deque = keyed.deque = SeenDeque  # type: ignore[attr-defined]


class ByKey:
    """Two threads add to one sum under the lock of one key, which each looks up; no other lock keeps the sum right."""

    def __init__(self) -> None:
        """Make the state of one execution."""
        self.keyed = KeyedLock(name="keyed")
        self.total = 0

    def add(self) -> None:
        """The work of each thread."""
        with self.keyed["a"]:
            before = self.total
            self.total = before + 1

    workers: ClassVar[tuple[Worker, ...]] = (add, add)

    def holds(self) -> bool:
        """No addition is lost, and no lock is left."""
        return self.total == 2 and len(self.keyed) == 0 and not self.keyed._refs


class ByKeyBare(ByKey):
    """The same by `acquire` and `release`, each of a lock that is looked up again."""

    def add(self) -> None:
        """The work of each thread."""
        self.keyed["a"].acquire()
        before = self.total
        self.total = before + 1
        self.keyed["a"].release()

    workers = (add, add)


class ByKeyBothWays(ByKeyBare):
    """One thread uses `with`, the other `acquire` and `release`."""

    workers = (ByKey.add, ByKeyBare.add)


class StoresKeys(ByKey):
    """A mutation: the lock of a key is stored even if another thread has stored one."""

    @staticmethod
    def mutate() -> None:
        """Break the library."""

        def add(self: Any, key: Any) -> Any:
            made = self._make(key)
            mine: Any = in_use._KeyedRef(made, self._gone.append)
            mine.key = key
            self._refs[key] = mine
            return made

        in_use.InUse._add = add  # type: ignore[method-assign]


class NotesNothing(ByKeyBare):
    """A mutation: an acquired lock is not noted, so it goes away while it is held."""

    @staticmethod
    def mutate() -> None:
        """Break the library."""
        keyed.KeyedLock._note_acquired = lambda self, lock: None  # type: ignore[method-assign]


class Value:
    """Two threads replace one value by the next number, one of them with a limit; then each reads the value."""

    def __init__(self) -> None:
        """Make the state of one execution."""
        self.guarded = Guarded(0, name="value")
        self.got: list[int | str] = []

    def step(self) -> None:
        """Replace the value and read it, without a limit."""
        with self.guarded as before:
            self.guarded.value = before + 1
        with self.guarded as after:
            self.got.append(after)

    def step_at_once(self) -> None:
        """The same, unless the other thread has the value right then."""
        try:
            with self.guarded.hold(0) as before:
                self.guarded.value = before + 1
            with self.guarded.hold(0) as after:
                self.got.append(after)
        except LockTimeoutError:
            self.got.append("missed")

    workers: ClassVar[tuple[Worker, ...]] = (step, step_at_once)

    def holds(self) -> bool:
        """No change is lost: a thread that gets no lock changes nothing, and the lock is free."""
        with self.guarded as value:
            outcome = f"{value}: " + " ".join(sorted(map(str, self.got)))
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        return outcome in ("2: 1 2", "2: 2 2", "1: 1 missed", "2: 2 missed")


class Updated(Value):
    """Both use `update`."""

    def update(self) -> None:
        """The work of each thread."""
        self.got.append(self.guarded.update(lambda before: before + 1))

    workers: ClassVar[tuple[Worker, ...]] = (update, update)

    def holds(self) -> bool:
        """Each has its own number."""
        return sorted(map(int, self.got)) == [1, 2]


class Replaced(Updated):
    """Both set the value to the number after the one that `with` gave them."""

    def replace(self) -> None:
        """The work of each thread."""
        with self.guarded as before:
            self.guarded.value = before + 1
        self.got.append(before + 1)

    workers = (replace, replace)


class ReadsOutside(Replaced):
    """A mutation: `with` gives the value from before the lock was acquired."""

    @staticmethod
    def mutate() -> None:
        """Break the library."""

        def enter(self: Any) -> Any:
            early = self._value
            TimedLock.__enter__(self)
            return early

        Guarded.__enter__ = enter  # type: ignore[method-assign]


class UpdatesOutside(Updated):
    """A mutation: `update` calls the function before it has the lock."""

    @staticmethod
    def mutate() -> None:
        """Break the library."""

        def update(self: Any, fn: Callable[[Any], Any]) -> Any:
            made = fn(self._value)
            with self:
                self._value = made
            return made

        Guarded.update = update  # type: ignore[method-assign]


class Once:
    """Two threads call a function that has to run once."""

    def __init__(self) -> None:
        """Make the state of one execution."""
        self.runs = 0
        self.got: list[object] = []
        self.call = once(self.load)

    def load(self) -> object:
        """Run, and return a new object each time."""
        self.runs += 1
        return object()

    def work(self) -> None:
        """The work of each thread."""
        self.got.append(self.call())

    workers: ClassVar[tuple[Worker, ...]] = (work, work)

    def holds(self) -> bool:
        """The function ran once, and both have its result."""
        return self.runs == 1 and len(self.got) == 2 and self.got[0] is self.got[1]


class OnceFailing(Once):
    """The function fails at first: both get the error, or one does and the other's call tries again."""

    def load(self) -> object:
        """Fail the first time."""
        self.runs += 1
        if self.runs == 1:
            raise LookupError
        return "done"

    def work(self) -> None:
        """The work of each thread."""
        try:
            self.got.append(self.call())
        except LookupError:
            self.got.append("failed")

    workers = (work, work)

    def holds(self) -> bool:
        """The function ran as often as necessary."""
        outcome = str(sorted(map(str, self.got)))
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        return (self.runs, outcome) in ((1, "['failed', 'failed']"), (2, "['done', 'failed']"))


class CutOffError(BaseException):
    """Stands for an interrupt."""


class OnceCutOff(Once):
    """An interrupt ends the first run: the other thread runs the function again, whether it waited or comes later."""

    def load(self) -> object:
        """Be interrupted the first time."""
        self.runs += 1
        if self.runs == 1:
            raise CutOffError
        return "done"

    def work(self) -> None:
        """The work of each thread."""
        try:
            self.got.append(self.call())
        except CutOffError:
            self.got.append("cut off")

    workers = (work, work)

    def holds(self) -> bool:
        """One was interrupted, and the other has a result."""
        return self.runs == 2 and sorted(map(str, self.got)) == ["cut off", "done"]


class Flight:
    """Two threads ask for the same key."""

    def __init__(self) -> None:
        """Make the state of one execution."""
        self.flight: SingleFlight[str, int] = SingleFlight(name="flight")
        self.running = self.runs = 0
        self.together = False
        self.got: list[tuple[int, int]] = []

    def fetch(self) -> int:
        """Note whether another call runs; return the number of this one."""
        self.running += 1
        self.together = self.together or self.running > 1
        self.runs += 1
        number = self.runs
        self.running -= 1
        return number

    def ask(self) -> None:
        """The work of each thread."""
        before = self.runs
        self.got.append((before, self.flight.do("a", self.fetch)))

    workers: ClassVar[tuple[Worker, ...]] = (ask, ask)

    def holds(self) -> bool:
        """No two calls overlapped, they may have shared one, and each result is of a call that had not ended before."""
        outcome = str(self.runs)
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        fresh = all(before <= number for before, number in self.got)
        return not self.together and len(self.got) == 2 and fresh and len(self.flight._calls) == 0


class FlightTwice(Flight):
    """One of them asks again: that is a later call, even if the other has not fetched its outcome yet."""

    def again(self) -> None:
        """The work of one thread."""
        self.ask()
        over = self.runs
        number = self.flight.do("a", self.fetch)
        self.got.append((over, number))
        self.stale = number <= over and self.running == 0 and number == self.got[0][1]

    workers = (again, Flight.ask)

    def holds(self) -> bool:
        """The second call of the one thread has another result than its first."""
        return not self.together and len(self.got) == 3 and not self.stale


class OpensTwo(Flight):
    """A mutation: a call is stored even if another thread has stored one."""

    @staticmethod
    def mutate() -> None:
        """Break the library."""

        def share(self: Any, fn: Callable[[], Any]) -> Any:
            call = self._open.get(None)
            if call is None:
                call = shared_call._SharedCall(self._kind, self._limit, self._say_name)
                self._open[None] = call
            with call:
                if call.is_open:
                    call.run(fn, self._open)
            return call.outcome()

        shared_call.SharedCalls.share = share  # type: ignore[method-assign]


class ClosesEarly(Flight):
    """A mutation: a call is removed before it has its outcome."""

    @staticmethod
    def mutate() -> None:
        """Break the library."""

        def run(self: Any, fn: Callable[[], Any], known: dict[None, Any]) -> None:
            known.clear()
            self._result = (fn(),)
            self.is_open = False

        shared_call._SharedCall.run = run  # type: ignore[method-assign]


class ClosesLate(FlightTwice):
    """A mutation: a call is removed only by the next thread that finds it over."""

    @staticmethod
    def mutate() -> None:
        """Break the library."""

        def run(self: Any, fn: Callable[[], Any], known: dict[None, Any]) -> None:
            self._result = (fn(),)
            self.is_open = False

        shared_call._SharedCall.run = run  # type: ignore[method-assign]


class NoLock(Once):
    """A mutation: a call runs without its lock."""

    @staticmethod
    def mutate() -> None:
        """Break the library."""

        def share(self: Any, fn: Callable[[], Any]) -> Any:
            return fn()

        shared_call.SharedCalls.share = share  # type: ignore[method-assign]


class Unchecked(Once):
    """A mutation: a thread that has the lock does not check again whether the function has run."""

    @staticmethod
    def mutate() -> None:
        """Break the library."""

        def run(self: Any) -> Any:
            self.kept = (self._fn(),)
            return self.kept[0]

        once_module._Once.run = run  # type: ignore[method-assign]


class KeepsTheCutOff(OnceCutOff):
    """A mutation: an interrupt is shared like an error."""

    @staticmethod
    def mutate() -> None:
        """Break the library."""

        def run(self: Any, fn: Callable[[], Any], known: dict[None, Any]) -> None:
            try:
                self._result = (fn(),)
            except BaseException as error:
                self._traceback = self._context = None
                self._error = error
            self.is_open = False
            known.clear()

        shared_call._SharedCall.run = run  # type: ignore[method-assign]


if __name__ == "__main__":
    patch_locks()
    main(globals(), outcomes, *sys.argv[1:])
