"""A pool that retries: a subclass of `CallbackPool` whose tasks survive temporary errors.

A small object wraps each submitted function, and calls it again if it fails with a temporary error. The object can be
pickled, so it can be sent to worker processes like any function. For the pool all tries are one task: its callbacks run
once, when the last try is over, and a ``timeout`` is for all tries together.

Run it: ``python retrying_pool.py``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, ParamSpec, TypeVar

from syncprims import AtomicCounter, CallbackPool, Task
from syncprims.testing import check_pool

P = ParamSpec("P")
T = TypeVar("T")


class Retrying(Generic[P, T]):
    """A function that is called again if it raises one of certain errors.

    Args:
        fn: The function.
        tries: How often to call it at most.
        errors: The errors after which to try again. Any other error is raised at once, and so is the last try's error.
        pause: How long to wait before the second try, in seconds; twice as long before each further one.
    """

    def __init__(self, fn: Callable[P, T], tries: int, errors: tuple[type[Exception], ...], pause: float) -> None:
        self.fn = fn
        self.tries = tries
        self.errors = errors
        self.pause = pause
        self.__qualname__ = getattr(fn, "__qualname__", repr(fn))  # the task's name in the pool's messages

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call the function until it returns, or has been tried often enough."""
        for number in range(self.tries - 1):
            try:
                return self.fn(*args, **kwargs)
            except self.errors:
                time.sleep(self.pause * 2**number)
        return self.fn(*args, **kwargs)


class RetryingPool(CallbackPool):
    """A `CallbackPool` that tries tasks again.

    Args:
        executor: As for `CallbackPool`.
        tries: How often to call a function at most.
        errors: The errors after which to try again.
        pause: How long to wait before the second try, in seconds; twice as long before each further one.
        **kwargs: Other arguments of `CallbackPool`.
    """

    def __init__(
        self,
        executor: Any = "thread",
        *,
        tries: int = 3,
        errors: tuple[type[Exception], ...] = (OSError,),
        pause: float = 0.01,
        **kwargs: Any,
    ) -> None:
        self._tries = tries
        self._errors = errors
        self._pause = pause
        super().__init__(executor, **kwargs)

    def _retrying(self, fn: Any) -> Any:
        # The pool refuses an object that can't be called.
        return Retrying(fn, self._tries, self._errors, self._pause) if callable(fn) else fn

    # The pool's methods don't call each other, so each is overridden.

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Task[T]:
        """Start ``fn(*args, **kwargs)``, and again if it fails."""
        return super().submit(self._retrying(fn), *args, **kwargs)

    def apply_async(self, func: Callable[..., T], *args: Any, **kwargs: Any) -> Task[T]:
        """Start ``func``, and again if it fails; its callback is called once."""
        return super().apply_async(self._retrying(func), *args, **kwargs)

    def map(self, fn: Callable[..., T], *iterables: Iterable[Any], **kwargs: Any) -> Iterator[T]:
        """Return an iterator over ``fn`` of each item; each is tried again if it fails."""
        return super().map(self._retrying(fn), *iterables, **kwargs)

    def map_unordered(self, fn: Callable[..., T], *iterables: Iterable[Any], **kwargs: Any) -> Iterator[T]:
        """Return an iterator like `map`, in the order in which results come."""
        return super().map_unordered(self._retrying(fn), *iterables, **kwargs)


class FlakyServer:
    """A server for this example, which fails the first two times that a page is requested."""

    def __init__(self) -> None:
        self._asked: Mapping[str, AtomicCounter] = {page: AtomicCounter() for page in ("home", "news", "map")}

    def get(self, page: str) -> str:
        """Return a page."""
        if page not in self._asked:
            raise LookupError(f"there is no page {page!r}")
        if self._asked[page].increment() <= 2:
            raise ConnectionError(f"lost the connection while asking for {page!r}")
        return f"<h1>{page}</h1> (try {self._asked[page]})"


def main() -> None:
    """Ask a flaky server for its pages, and run the conformance kit."""
    server = FlakyServer()
    lines: list[str] = []

    def miss(error: BaseException) -> None:
        lines.append(f"no page: {error}")

    with RetryingPool(max_workers=3) as pool:
        for page in ("home", "news", "map"):
            pool.apply_async(server.get, (page,), callback=lines.append)
        pool.apply_async(server.get, ("shop",), callback=lines.append, error_callback=miss)
    print(*sorted(lines), sep="\n")
    print(check_pool(RetryingPool))


if __name__ == "__main__":
    main()
