"""The puzzle "print alternately": two threads print foo and bar in turn, three times; then zero, odd and even.

The last step releases the first again for the next round. A step may also be in the order more than once: in the second
puzzle one thread prints all the zeros, another the odd numbers and a third the even numbers, which gives 0102030405.

Run it: ``python alternate.py``.
"""

from __future__ import annotations

from syncprims import OrderedRunner
from syncprims.testing import Threads


def foobar(times: int) -> str:
    """Two threads, each in its own loop, as in the puzzle."""
    runner = OrderedRunner("foo", "bar", rounds=times, timeout=5.0)
    said: list[str] = []

    def say(word: str) -> None:
        for _ in range(times):
            with runner.step(word):
                said.append(word)

    with Threads() as threads:
        threads.start(say, "foo")
        threads.start(say, "bar")
    return "".join(said)


def zero_odd_even(last: int) -> str:
    """Three threads; `serve` calls its function at each turn, and returns when there are no more."""
    runner = OrderedRunner("zero", "odd", "zero", "even", rounds=None, timeout=5.0)
    said: list[str] = []

    def number(step: str, first: int) -> None:
        numbers = iter(range(first, last + 1, 2))

        def say(_turn: object) -> None:
            number = next(numbers)
            said.append(str(number))
            if number == last:
                runner.stop()

        runner.serve(step, say)

    with Threads() as threads:
        threads.start(runner.serve, "zero", lambda _turn: said.append("0"))
        threads.start(number, "odd", 1)
        threads.start(number, "even", 2)
    return "".join(said)


def main() -> None:
    """Show both."""
    assert foobar(3) == "foobar" * 3
    print(foobar(3))
    assert zero_odd_even(5) == "0102030405"
    print(zero_odd_even(5))


if __name__ == "__main__":
    main()
