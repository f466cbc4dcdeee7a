"""FizzBuzz in four threads: a subclass of `OrderedRunner` whose order is computed.

Each thread says only one thing: "fizz", "buzz", "fizzbuzz", or the number. The next turn depends on the number, so
there is no fixed list of steps: `_next` computes it. It is called once for each turn, in the thread whose turn has just
ended, so the rule needs no lock, and neither do the threads.

Run it: ``python fizzbuzz_runner.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from syncprims import OrderedRunner, Turn
from syncprims.testing import check_runner


class ComputedRunner(OrderedRunner):
    """An `OrderedRunner` that asks a rule which step comes next.

    Args:
        *steps: The names of all steps.
        rule: Takes the index of a turn, from 0, and returns the name of its step, or None to finish. Without one, the
            steps are taken in the order in which they are given.
        **kwargs: Other arguments of `OrderedRunner`.
    """

    def __init__(self, *steps: str, rule: Callable[[int], str | None] | None = None, **kwargs: Any) -> None:
        super().__init__(*steps, **kwargs)
        self._rule = rule

    def _next(self, done: Turn | None) -> str | None:
        if self._rule is None:
            return super()._next(done)
        return self._rule(0 if done is None else done.index + 1)


def fizzbuzz(last: int, index: int) -> str | None:
    """Return the step that says a number; the first turn says 1."""
    number = index + 1
    if number > last:
        return None
    return ("fizz" if number % 3 == 0 else "") + ("buzz" if number % 5 == 0 else "") or "number"


def main() -> None:
    """Count to twenty in four threads, and run the conformance kit."""
    runner = ComputedRunner("fizz", "buzz", "fizzbuzz", "number", rule=partial(fizzbuzz, 20), timeout=30.0)

    def word(turn: Turn) -> str:
        return turn.step

    def number(turn: Turn) -> str:
        return str(turn.index + 1)

    said = runner.run({"fizz": word, "buzz": word, "fizzbuzz": word, "number": number})
    print(" ".join(said))
    print(check_runner(ComputedRunner))


if __name__ == "__main__":
    main()
