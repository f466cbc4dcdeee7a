"""The puzzle "print in order": three threads that start in any order print first, second, third.

With `threading` you would chain two semaphores; here the order is in one place.

Run it: ``python print_in_order.py``.
"""

from __future__ import annotations

from itertools import permutations

from syncprims import OrderedRunner
from syncprims.testing import Threads

WORDS = ("first", "second", "third")


def main() -> None:
    """Start the threads in each of the six possible orders."""
    for order in permutations(WORDS):
        runner = OrderedRunner(*WORDS, timeout=5.0)
        said: list[str] = []

        def say(word: str, runner: OrderedRunner = runner, said: list[str] = said) -> None:
            with runner.step(word):
                said.append(word)

        with Threads() as threads:
            for word in order:
                threads.start(say, word)
        assert said == list(WORDS), said
        print(f"started {', '.join(order)}; said {', '.join(said)}")


if __name__ == "__main__":
    main()
