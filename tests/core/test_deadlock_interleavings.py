"""Every interleaving of threads that publish, search and give way: exactly one thread of a deadlock is refused.

The waits are up to one thread, to all of some threads, or to any of some threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, ClassVar, Final

import pytest

from core.graphs import forget
from core.step_orders import EVERYTHING, Explorer, step, until_something_changes
from syncprims import DeadlockError
from syncprims._core import deadlocks as _deadlocks
from syncprims._core import stacks as _stacks
from syncprims._core import waits as _waits
from syncprims._core.wait_graph import within
from syncprims._core.waits import UpTo, Waiting

Note = Callable[[str, object], None]
NAMES: Final = "abcd"


# -- what is shared, made visible --------------------------------------------------------------------------------------


class SeenRecords(dict[int, Waiting]):
    """The published records, with steps."""

    def get(self, ident: int, default: Any = None) -> Any:
        step(("record", ident))
        return super().get(ident, default)

    def pop(self, ident: int, default: Any = None) -> Any:
        step(("record", ident), changes=True)
        return super().pop(ident, default)

    def __setitem__(self, ident: int, waiting: Waiting) -> None:
        step(("record", ident), changes=True)
        super().__setitem__(ident, waiting)

    def values(self) -> Any:
        step(EVERYTHING)
        return super().values()


class SeenWaiting(Waiting):
    """A record whose reads and writes of the serial are steps."""

    __slots__ = ()

    @property
    def serial(self) -> Any:  # in place of a field
        step(("serial", self.ident))
        return _serial.__get__(self)

    @serial.setter
    def serial(self, serial: float) -> None:
        if self in dict.values(_waits._innermost):  # before that no other thread can read it
            step(("serial", self.ident), changes=True)
        _serial.__set__(self, serial)


_serial: Any = vars(Waiting)["serial"]


class SeenSerials:
    """The source of serials, with steps."""

    def __init__(self) -> None:
        """Begin at 0."""
        self.next = 0

    def __next__(self) -> int:
        step("serials", changes=True)
        self.next += 1
        return self.next - 1


@pytest.fixture(autouse=True)
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make the shared objects visible to the explorer."""
    monkeypatch.setattr(_waits, "_innermost", SeenRecords())
    monkeypatch.setattr(_deadlocks, "_serials", SeenSerials())
    monkeypatch.setattr(_deadlocks, "sleep", lambda seconds: until_something_changes())
    monkeypatch.setattr(_stacks, "frames_of_threads", dict)
    yield
    forget(_waits._innermost)


# -- threads that wait -------------------------------------------------------------------------------------------------


class Acts(_waits.Group):
    """The threads that have to act, each until it has acted."""

    def __init__(self, scenario: Waits, one_is_enough: bool, acts: list[str]) -> None:
        """Make it from the acts."""
        self.scenario = scenario
        self.one_is_enough = one_is_enough
        self.acts = acts

    def members(self) -> list[UpTo]:
        """The present members."""
        return [self.scenario.up_to(act) for act in self.acts]


class Thing:
    """The target of a wait: an act of one thread, or of several."""

    name = "thing"

    def __init__(self, scenario: Waits, up_to: str | Acts) -> None:
        """Make it from one act, or from several."""
        self.scenario = scenario
        self.acts = up_to

    def _up_to(self, waiter: int) -> UpTo:
        return self.acts if isinstance(self.acts, Acts) else self.scenario.up_to(self.acts)

    def _is_mine(self) -> bool:
        return True

    def _state(self) -> None:
        """Return None, so that no snapshot shows it."""


class Waits:
    """Threads that follow a program each.

    ``b1?`` waits for that act of b, ``any:b1,c1?`` and ``all:b1,c1?`` for one of several acts or for all of them, and
    ``a1!`` acts. A thread that is refused goes on with its program.
    """

    programs: ClassVar[tuple[str, ...]] = ()
    # How many threads are refused, and which ones may be.
    refused_of: ClassVar[tuple[int, str]] = (1, NAMES)
    # The threads that have begun to wait before the others begin, and have already searched.
    settled: ClassVar[str] = ""

    def __init__(self) -> None:
        """Make the state of one run."""
        forget(_waits._innermost)
        self.done: set[str] = set()
        self.refused: list[str] = []
        self.ended: list[str] = []
        self.waiting = {name: self.publish(name, self.programs[NAMES.index(name)].split()[0]) for name in self.settled}
        self.actors = [partial(self.follow, name, text) for name, text in zip(NAMES, self.programs, strict=False)]

    def up_to(self, act: str) -> int | None:
        """The ident that stands for the thread that has to act, unless it has."""
        step(("done", act))
        return None if act in self.done else -1 - NAMES.index(act[0])

    def follow(self, name: str, program: str) -> None:
        """The function of one thread."""
        for order in program.split():
            if order.endswith("!"):
                step(("done", order[:-1]), changes=True)
                self.done.add(order[:-1])
            else:
                self.wait(name, order, self.waiting.pop(name, None))
        self.ended.append(name)

    def publish(self, name: str, order: str) -> Waiting:
        """Let a thread wait already, and have searched."""
        waiting = self.record(name, order)
        waiting.publish()
        waiting.serial = _waits.SETTLED
        return waiting

    def record(self, name: str, order: str) -> Waiting:
        """Make the record of a wait."""
        acts, _, kind = reversed(order[:-1].rpartition(":"))
        waiting = SeenWaiting(Thing(self, Acts(self, kind == "any", acts.split(",")) if kind else acts))
        waiting.ident = -1 - NAMES.index(name)
        return waiting

    def wait(self, name: str, order: str, settled: Waiting | None) -> None:
        """Wait like a primitive, or go on waiting."""
        acts, _, kind = reversed(order[:-1].rpartition(":"))
        several = acts.split(",")
        waiting = settled or self.record(name, order)
        try:
            if settled is None:
                waiting.publish()
                _deadlocks.refuse_deadlock(waiting)
            enough = 1 if kind == "any" else len(several)
            step(("done", acts), ready=lambda: len(self.done.intersection(several)) >= enough)
        except DeadlockError:
            self.refused.append(name)
        finally:
            waiting.withdraw()

    def problem(self) -> str | None:
        """Report if the number of refused threads is wrong."""
        number, who = self.refused_of
        ok = len(self.refused) == number and set(self.refused) <= set(who) and len(self.ended) == len(self.actors)
        return None if ok else f"refused: {self.refused}, came to their end: {self.ended}"


class Two(Waits):
    """Two threads wait for each other."""

    programs = ("b1? a1!", "a1? b1!")


class OnlyWorker(Waits):
    """A worker waits for any worker, and there is no other."""

    programs = ("any:a1? a1!",)


class TwoWorkers(Waits):
    """Two workers each wait for any of the two."""

    programs = ("any:a1,b1? a1!", "any:a1,b1? b1!")


class AnyOfTwoOthers(Waits):
    """One thread waits for any of two threads that wait for it."""

    programs = ("any:b1,c1? a1!", "a1? b1!", "a1? c1!")


class AllOfTwo(Waits):
    """One thread waits for two threads, one of which waits for it; the other acts at once."""

    programs = ("all:b1,c1? a1!", "a1? b1!", "c1!")
    refused_of = (1, "ab")


class LeadingIn(Waits):
    """Two threads wait for each other, and a third for one of them: it is not a cause, and is never refused."""

    programs = ("b1? a1!", "a1? b1!", "a1? c1!")
    refused_of = (1, "ab")


class OneIsFree(Waits):
    """One thread waits for any of two, of which one waits for it; the other acts at once: no deadlock."""

    programs = ("any:b1,c1? a1!", "a1? b1!", "c1!")
    refused_of = (0, "")


class Handed(Waits):
    """Each of three threads waits for the next, but never all at once: no deadlock, though it may look like one."""

    programs = ("b1? a1!", "c1? b1!", "c1! a1? c2!")
    refused_of = (0, "")


class AnyHanded(Waits):
    """The same with a wait for any of two, of which a different one can act later: no deadlock."""

    programs = ("any:c2,b1? a1!", "c1? b1!", "c1! a1? c2!")
    refused_of = (0, "")


class LeadingInFirst(LeadingIn):
    """The third thread has begun to wait first."""

    settled = "c"


class LeadingInLater(LeadingIn):
    """One of the two has begun first, so the other one closes the cycle while the third searches."""

    settled = "b"


class LeadingInToTheFirst(LeadingIn):
    """The same, with the third waiting for the one that began first."""

    settled = "a"


class AnyOfTheFirst(AnyOfTwoOthers):
    """One of the two others has begun first."""

    settled = "b"


class AnyOfTwoComing(AnyOfTwoOthers):
    """The thread that waits for any of the others has begun first."""

    settled = "a"


QUICK: Final = [
    Two,
    OnlyWorker,
    TwoWorkers,
    OneIsFree,
    Handed,
    AnyHanded,
    LeadingInLater,
    AnyOfTheFirst,
]
LONGER: Final = [AllOfTwo, LeadingInFirst, LeadingInToTheFirst, AnyOfTwoComing]
# All three threads at once have too many orders to try them all. Above, one of the three already waits, and the other
# two do everything that they can do: each thread's search comes in the middle of the other's.
LARGE: Final = [LeadingIn, AnyOfTwoOthers]

# The threads take thousands of turns. On a busy machine each turn begins late.
pytestmark = [pytest.mark.untraceable, pytest.mark.timeout(900)]
slow = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.mark.parametrize("scenario", [*QUICK, *(pytest.param(kind, marks=slow) for kind in LONGER)])
def test_every_interleaving_is_right(scenario: type[Waits], record_property: Note) -> None:
    """In every order of their steps exactly as many are refused as the scenario says, and all others go on."""
    explorer = Explorer(scenario, 1_000_000).explore()
    assert explorer.problem is None
    assert explorer.complete
    record_property("interleavings of the deadlocks", explorer.runs)


@pytest.mark.parametrize("scenario", [pytest.param(kind, marks=slow) for kind in LARGE])
def test_very_many_interleavings_are_right(scenario: type[Waits], record_property: Note) -> None:
    """Three threads wait for each other, and search repeatedly: there are too many orders to try them all."""
    explorer = Explorer(scenario, 300_000).explore()
    assert explorer.problem is None
    record_property("interleavings of the deadlocks", explorer.runs)


# -- controls ----------------------------------------------------------------------------------------------------------


def believe(first: _deadlocks._Reading, only: object) -> _deadlocks._Confirmed:
    """Take the first reading as the truth."""
    waits = {ident: found[0][0] for ident, found in first.waits.items() if found}
    return waits, {vertex: within(first.arrows[vertex], first.stuck) for vertex in first.stuck}


def not_confirmed(patch: pytest.MonkeyPatch) -> None:
    """Every arrow is read once, without an earlier or later reading."""
    patch.setattr(_deadlocks, "_leads_on", lambda up_to: True)
    patch.setattr(_deadlocks, "_confirm", believe)


def everyone_gives_way(patch: pytest.MonkeyPatch) -> None:
    """Every thread that sees a deadlock is refused."""
    patch.setattr(_deadlocks.Knot, "last", lambda knot: (knot.mine, knot.mine.serial))


def all_are_taken_for_any(patch: pytest.MonkeyPatch) -> None:
    """A wait for all of some threads counts as free with the first free one."""
    patch.setattr(Acts, "one_is_enough", property(lambda group: True, lambda group, value: None), raising=False)


def any_are_taken_for_all(patch: pytest.MonkeyPatch) -> None:
    """A wait for any of some threads counts as stuck with the first stuck one."""
    patch.setattr(Acts, "one_is_enough", property(lambda group: False, lambda group, value: None), raising=False)


def searched_first(patch: pytest.MonkeyPatch) -> None:
    """The record is published after the search."""
    publish, refuse = Waiting.publish, _deadlocks.refuse_deadlock
    patch.setattr(Waiting, "publish", refuse)
    patch.setattr(_deadlocks, "refuse_deadlock", publish)


def undrawn_counts_as_last(patch: pytest.MonkeyPatch) -> None:
    """A thread without a serial counts as the last, and the decision is left to it."""
    patch.setattr(_deadlocks, "NOT_DRAWN", -5.0)


def drawn_first(patch: pytest.MonkeyPatch) -> None:
    """The serial is drawn before the record is published."""
    publish = Waiting.publish

    def draw_and_publish(waiting: Waiting) -> None:
        waiting.serial = next(_deadlocks._serials)
        publish(waiting)

    def refuse(waiting: Waiting) -> None:
        _deadlocks._search(waiting)
        waiting.serial = _waits.SETTLED

    patch.setattr(Waiting, "publish", draw_and_publish)
    patch.setattr(_deadlocks, "refuse_deadlock", refuse)


def outsiders_count(patch: pytest.MonkeyPatch) -> None:
    """A thread that only waits for stuck threads may be the one that gives way."""
    make = _deadlocks.Knot.__init__

    def make_all_the_core(knot: _deadlocks.Knot, *args: Any) -> None:
        make(knot, *args)
        knot.core = {each: each for each in knot.arrows}

    patch.setattr(_deadlocks.Knot, "__init__", make_all_the_core)


def serial_read_twice(patch: pytest.MonkeyPatch) -> None:
    """The serial of the last thread is read again after it was found to be the last."""
    last = _deadlocks.Knot.last

    def read_again(knot: _deadlocks.Knot) -> tuple[Waiting, float]:
        wait, _ = last(knot)
        return wait, wait.serial

    patch.setattr(_deadlocks.Knot, "last", read_again)


@pytest.mark.parametrize(
    ("scenario", "control"),
    [
        (Two, everyone_gives_way),
        (Two, searched_first),
        (Two, undrawn_counts_as_last),
        (Two, drawn_first),
        (TwoWorkers, serial_read_twice),
        (Handed, not_confirmed),
        (AnyHanded, not_confirmed),
        (OneIsFree, any_are_taken_for_all),
        (AllOfTwo, all_are_taken_for_any),
        (LeadingInLater, outsiders_count),
        (AnyOfTheFirst, any_are_taken_for_all),
    ],
)
def test_a_broken_search_is_found_out(
    scenario: type[Waits], control: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If one part is missing or comes in the wrong order, some interleaving goes wrong."""
    control(monkeypatch)
    assert Explorer(scenario, 100_000).explore().problem is not None
