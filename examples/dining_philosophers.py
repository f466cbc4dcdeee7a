"""The dining philosophers: five of them, five forks, and each needs the two beside the plate.

They dine twice. First all take their left fork, then want their right one. This is the deadlock of the textbooks; here
one of them gets an error and puts its fork down, and the others eat. Then they use `acquire_all`, which takes both
forks in one global order: there is no error, and all eat.

Run it: ``python dining_philosophers.py``.
"""

from __future__ import annotations

from threading import Barrier

from syncprims import AtomicCounter, DeadlockError, TimedLock, acquire_all
from syncprims.testing import Threads

NAMES = ("Aristotle", "Hypatia", "Kant", "Laozi", "Wittgenstein")
MEALS = 50


def stubborn() -> tuple[int, DeadlockError]:
    """All take the left fork before any takes the right one; return how many ate, and the error that one got."""
    forks = [TimedLock(name=f"fork {number}") for number in range(len(NAMES))]
    all_have_one = Barrier(len(NAMES))
    eaten = AtomicCounter(name="meals")
    told: list[DeadlockError] = []

    def dine(seat: int) -> None:
        left, right = forks[seat], forks[(seat + 1) % len(NAMES)]
        try:
            with left:
                all_have_one.wait(5.0)
                with right:
                    eaten.increment()
        except DeadlockError as error:
            told.append(error)

    with Threads() as threads:
        for seat in range(len(NAMES)):
            threads.start(dine, seat)
    (error,) = told  # exactly one: the others could go on when it released its fork
    return eaten.value, error


def orderly() -> int:
    """Each takes both forks at once; return the number of meals."""
    forks = [TimedLock(name=f"fork {number}") for number in range(len(NAMES))]
    eaten = AtomicCounter(name="meals")

    def dine(seat: int) -> None:
        both = acquire_all(forks[seat], forks[(seat + 1) % len(NAMES)], timeout=10.0)
        for _ in range(MEALS):
            with both:
                eaten.increment()

    with Threads() as threads:
        for seat in range(len(NAMES)):
            threads.start(dine, seat)
    return eaten.value


def main() -> None:
    """Serve both dinners."""
    eaten, error = stubborn()
    assert eaten == len(NAMES) - 1, eaten
    print(f"stubborn: {eaten} ate at once, and one got the error of a cycle of {len(error.cycle)}, in which")
    for wait in error.cycle:
        seat = int(wait.lock_name.removeprefix("fork "))
        print(f"  someone waits for fork {seat}, the left one of {NAMES[seat]}")
    meals = orderly()
    assert meals == MEALS * len(NAMES), meals
    print(f"orderly: {meals} meals, and no error")


if __name__ == "__main__":
    main()
