"""Explore interleavings at what is built on `TimedLock`: ``explore_calls.py SCENARIO PREEMPTIONS SECONDS``.

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

# frontrun sees that two instructions touch the same attribute, and not what a method written in C does. So what the
# threads share is touched before each such method, which comes right after it.


class SeenDict(dict[Any, Any]):
    """A dictionary whose use frontrun sees."""

    touched: int = 0

    def get(self, key: Any, default: Any = None) -> Any:
        """Look for a key."""
        _ = self.touched
        return super().get(key, default)

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """Look for a key, and put it in if it is not there."""
        self.touched = 1
        return super().setdefault(key, default)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.touched = 1
        super().__setitem__(key, value)

    def clear(self) -> None:
        """Take everything out."""
        self.touched = 1
        super().clear()


class SeenDeque(deque[Any]):
    """A deque whose use frontrun sees."""

    touched: int = 0

    def append(self, item: Any) -> None:
        """Add one at the right."""
        self.touched = 1
        super().append(item)

    def popleft(self) -> Any:
        """Take the leftmost one."""
        self.touched = 1
        return super().popleft()

    def remove(self, item: Any) -> None:
        """Take that one out."""
        self.touched = 1
        super().remove(item)

    def __contains__(self, item: object) -> bool:
        _ = self.touched
        return super().__contains__(item)


def seen(kind: Any, field: str) -> None:
    """Have a dictionary of each object of this kind be seen."""
    init = kind.__init__

    def initialize(self: Any, *args: Any) -> None:
        init(self, *args)
        setattr(self, field, SeenDict())

    kind.__init__ = initialize


seen(in_use.InUse, "_refs")
seen(shared_call.SharedCalls, "_open")
in_use.deque = keyed.deque = SeenDeque  # type: ignore[attr-defined]


class ByKey:
    """Two threads add to one sum under the lock of one key, which both ask for; nothing else keeps the sum right."""

    def __init__(self) -> None:
        """Make the state of one execution."""
        self.keyed = KeyedLock(name="keyed")
        self.total = 0

    def add(self) -> None:
        """What each thread does."""
        with self.keyed["a"]:
            before = self.total
            self.total = before + 1

    workers: ClassVar[tuple[Worker, ...]] = (add, add)

    def holds(self) -> bool:
        """Nothing is lost, and nothing is left."""
        return self.total == 2 and len(self.keyed) == 0 and not self.keyed._refs


class ByKeyBare(ByKey):
    """The same by `acquire` and `release`, each of a lock that is asked for again."""

    def add(self) -> None:
        """What each thread does."""
        self.keyed["a"].acquire()
        before = self.total
        self.total = before + 1
        self.keyed["a"].release()

    workers = (add, add)


class ByKeyBothWays(ByKeyBare):
    """One thread in the one way, the other in the other."""

    workers = (ByKey.add, ByKeyBare.add)


class StoresKeys(ByKey):
    """A mutation: the lock of a key is stored, whatever another thread has stored."""

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
    """A mutation: what is acquired is not noted, so the lock goes while it is held."""

    @staticmethod
    def mutate() -> None:
        """Break the library."""
        keyed.KeyedLock._note_acquired = lambda self, lock: None  # type: ignore[method-assign]


class Value:
    """Two threads replace one value by the next number, one of them within a limit; then each reads it."""

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
        """Nothing is lost: who misses the value misses it as a whole, and the value is free."""
        with self.guarded as value:
            outcome = f"{value}: " + " ".join(sorted(map(str, self.got)))
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        return outcome in ("2: 1 2", "2: 2 2", "1: 1 missed", "2: 2 missed")


class Updated(Value):
    """Both use `update`."""

    def update(self) -> None:
        """What each thread does."""
        self.got.append(self.guarded.update(lambda before: before + 1))

    workers: ClassVar[tuple[Worker, ...]] = (update, update)

    def holds(self) -> bool:
        """Each has its own number."""
        return sorted(map(int, self.got)) == [1, 2]


class Replaced(Updated):
    """Both set it to what follows what `with` gave them."""

    def replace(self) -> None:
        """What each thread does."""
        with self.guarded as before:
            self.guarded.value = before + 1
        self.got.append(before + 1)

    workers = (replace, replace)


class ReadsOutside(Replaced):
    """A mutation: `with` gives the value from before it had the lock."""

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
    """Two threads call a function that is to run once."""

    def __init__(self) -> None:
        """Make the state of one execution."""
        self.runs = 0
        self.got: list[object] = []
        self.call = once(self.load)

    def load(self) -> object:
        """Run, and give something that is new each time."""
        self.runs += 1
        return object()

    def work(self) -> None:
        """What each thread does."""
        self.got.append(self.call())

    workers: ClassVar[tuple[Worker, ...]] = (work, work)

    def holds(self) -> bool:
        """It ran once, and both have its result."""
        return self.runs == 1 and len(self.got) == 2 and self.got[0] is self.got[1]


class OnceFailing(Once):
    """It fails at first: both get the error, or one does and the other's call tries again."""

    def load(self) -> object:
        """Fail the first time."""
        self.runs += 1
        if self.runs == 1:
            raise LookupError
        return "done"

    def work(self) -> None:
        """What each thread does."""
        try:
            self.got.append(self.call())
        except LookupError:
            self.got.append("failed")

    workers = (work, work)

    def holds(self) -> bool:
        """It ran as often as it had to."""
        outcome = str(sorted(map(str, self.got)))
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        return (self.runs, outcome) in ((1, "['failed', 'failed']"), (2, "['done', 'failed']"))


class CutOffError(BaseException):
    """Stands for an interrupt."""


class OnceCutOff(Once):
    """The first run is cut off: the other thread runs it again, whether it waited or comes later."""

    def load(self) -> object:
        """Be cut off the first time."""
        self.runs += 1
        if self.runs == 1:
            raise CutOffError
        return "done"

    def work(self) -> None:
        """What each thread does."""
        try:
            self.got.append(self.call())
        except CutOffError:
            self.got.append("cut off")

    workers = (work, work)

    def holds(self) -> bool:
        """One was cut off, and the other has a result."""
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
        """Note whether another call runs; give the number of this one."""
        self.running += 1
        self.together = self.together or self.running > 1
        self.runs += 1
        number = self.runs
        self.running -= 1
        return number

    def ask(self) -> None:
        """What each thread does."""
        before = self.runs
        self.got.append((before, self.flight.do("a", self.fetch)))

    workers: ClassVar[tuple[Worker, ...]] = (ask, ask)

    def holds(self) -> bool:
        """No two calls met, both may have shared one, and each has one that was not over when it asked."""
        outcome = str(self.runs)
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        fresh = all(before <= number for before, number in self.got)
        return not self.together and len(self.got) == 2 and fresh and len(self.flight._calls) == 0


class FlightTwice(Flight):
    """One of them asks again: that is a later call, even while the other has yet to fetch its outcome."""

    def again(self) -> None:
        """What one thread does."""
        self.ask()
        over = self.runs
        number = self.flight.do("a", self.fetch)
        self.got.append((over, number))
        self.stale = number <= over and self.running == 0 and number == self.got[0][1]

    workers = (again, Flight.ask)

    def holds(self) -> bool:
        """The second call of the one thread is not the one that it had before."""
        return not self.together and len(self.got) == 3 and not self.stale


class OpensTwo(Flight):
    """A mutation: a call is stored, whatever another thread has stored."""

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
    """A mutation: a call is taken out before it has its outcome."""

    @staticmethod
    def mutate() -> None:
        """Break the library."""

        def run(self: Any, fn: Callable[[], Any], known: dict[None, Any]) -> None:
            known.clear()
            self._result = (fn(),)
            self.is_open = False

        shared_call._SharedCall.run = run  # type: ignore[method-assign]


class ClosesLate(FlightTwice):
    """A mutation: a call is taken out by the next one that finds it over."""

    @staticmethod
    def mutate() -> None:
        """Break the library."""

        def run(self: Any, fn: Callable[[], Any], known: dict[None, Any]) -> None:
            self._result = (fn(),)
            self.is_open = False

        shared_call._SharedCall.run = run  # type: ignore[method-assign]


class NoLock(Once):
    """A mutation: a call is run without its lock."""

    @staticmethod
    def mutate() -> None:
        """Break the library."""

        def share(self: Any, fn: Callable[[], Any]) -> Any:
            return fn()

        shared_call.SharedCalls.share = share  # type: ignore[method-assign]


class Unchecked(Once):
    """A mutation: once it is its turn, a thread does not look again whether the function has run."""

    @staticmethod
    def mutate() -> None:
        """Break the library."""

        def run(self: Any) -> Any:
            self.kept = (self._fn(),)
            return self.kept[0]

        once_module._Once.run = run  # type: ignore[method-assign]


class KeepsTheCutOff(OnceCutOff):
    """A mutation: what cuts a call off is shared as an error is."""

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
