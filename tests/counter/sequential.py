"""The state of a counter that only one thread uses: the model to compare the real one with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from syncprims import CounterBoundsError, CounterTimeoutError

Operation: TypeAlias = tuple[str, tuple[Any, ...]]
Outcome: TypeAlias = tuple[str, object]


class Sequential:
    """A plain integer with the methods of a counter."""

    def __init__(self, value: int = 0, minimum: int | None = None, maximum: int | None = None) -> None:
        self.initial = self.value = value
        self.minimum = minimum
        self.maximum = maximum

    def _become(self, new: int) -> int:
        if (self.minimum is not None and new < self.minimum) or (self.maximum is not None and new > self.maximum):
            raise CounterBoundsError(value=self.value)
        old, self.value = self.value, new
        return old

    def increment(self, n: int = 1) -> int:
        return self._become(self.value + n) + n

    add = increment

    def decrement(self, n: int = 1) -> int:
        return self._become(self.value - n) - n

    def get_and_add(self, n: int = 1) -> int:
        return self._become(self.value + n)

    def set(self, new: int) -> None:
        self._become(new)

    def get_and_set(self, new: int) -> int:
        return self._become(new)

    def reset(self) -> int:
        return self._become(self.initial)

    def compare_and_set(self, expected: int, new: int) -> bool:
        present = self.value
        self._become(new)
        if present != expected:
            self.value = present
        return present == expected

    def update(self, fn: Callable[[int], int]) -> int:
        self._become(fn(self.value))
        return self.value

    def wait_until(self, value: int, timeout: float) -> int:
        return self.wait_for(lambda present: present >= value, timeout)

    def wait_for(self, predicate: Callable[[int], bool], timeout: float) -> int:
        if not predicate(self.value):
            raise CounterTimeoutError(value=self.value)
        return self.value


def outcome(counter: object, operation: Operation) -> Outcome:
    """Do it, and return the outcome in a form that can be compared."""
    name, arguments = operation
    try:
        return "returned", getattr(counter, name)(*arguments)
    except (CounterBoundsError, CounterTimeoutError) as error:
        return type(error).__name__, error.value
