"""CPython's own tests of `multiprocessing.Pool`, over `CallbackPool`: ``python -m callback_pool.cpython_pool_suite``.

Interpreters that ship their tests have them as ``test._test_multiprocessing``.
"""

from __future__ import annotations

import importlib
import multiprocessing
import sys
import unittest
from collections.abc import Callable, Iterable
from typing import Any

from callback_pool.cpython_left_out import OF_POOLS, OF_THREAD_POOLS
from syncprims import CallbackPool, TransportError

SUITES = ("_TestPool", "_TestPoolWorkerErrors", "_TestPoolWorkerLifetime")
KINDS = {"processes": "process", "threads": "thread"}


# The ten lines that docs/howto/from-multiprocessing-pool.rst gives, with types; a test checks that they are the same.
class Pool(CallbackPool):  # noqa: D101  as on the page
    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: Any = None,
    ) -> None:
        super().__init__(
            "process",
            max_workers=processes,
            initializer=initializer,
            initargs=initargs,
            max_tasks_per_child=maxtasksperchild,
            mp_context=context,
        )

    def map(self, func: Callable[..., Any], iterable: Iterable[Any], chunksize: int | None = None) -> list[Any]:  # type: ignore[override]  # it returns a list, which is its purpose
        try:
            task = self.map_async(func, iterable, chunksize)
        except TransportError as error:
            raise error.__cause__  # type: ignore[misc]  # noqa: B904  the pickler raised it
        return task.get()


class ThreadPool(Pool):
    """The same for `multiprocessing.pool.ThreadPool`."""

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
    ) -> None:
        CallbackPool.__init__(self, "thread", max_workers=processes, initializer=initializer, initargs=initargs)


def make_cases() -> dict[str, type[unittest.TestCase]]:
    """Return each suite for each of its kinds, by name; none if the suites are not installed."""
    try:
        module: Any = importlib.import_module("test._test_multiprocessing")
    except ImportError:
        return {}
    found = {}
    for name in SUITES:
        tests = getattr(module, name)
        for kind, pool in (("processes", Pool), ("threads", ThreadPool)):
            if kind in tests.ALLOWED_TYPES:
                mixin: Any = {"processes": module.ProcessesMixin, "threads": module.ThreadsMixin}[kind]
                own = {"Pool": staticmethod(pool), "TYPE": kind, "__module__": __name__}
                found[f"{kind}{name}"] = type(f"{kind}{name}", (tests, mixin, unittest.TestCase), own)
    return found


CASES = make_cases()
globals().update(CASES)  # workers look here for the methods that are called


def is_left_out(test: unittest.TestCase) -> bool:
    """Whether the test differs on purpose."""
    _, case, name = unittest.TestCase.id(test).rsplit(".", 2)
    return name in OF_POOLS or (case.startswith("threads") and name in OF_THREAD_POOLS)


def with_ours(run: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that runs a program with a changed import of multiprocessing's pool."""
    line = f"import sys; sys.path[:] = {sys.path!r}; from {__spec__.name} import Pool"

    def run_ours(option: str, program: str) -> Any:
        assert program.count("from multiprocessing import Pool") == 1, program
        return run(option, program.replace("from multiprocessing import Pool", line))

    return run_ours


def main() -> int:
    """Run those that do not differ on purpose, or all with --all; the last line counts."""
    if not CASES:
        print("not shipped: test._test_multiprocessing")
        return 0
    multiprocessing.Pool = Pool  # type: ignore[assignment]  # some of the tests use it by its name
    helper: Any = importlib.import_module("test.support.script_helper")
    helper.assert_python_ok = with_ours(helper.assert_python_ok)
    suite = unittest.TestSuite()
    for case in CASES.values():
        tests: Any = unittest.defaultTestLoader.loadTestsFromTestCase(case)
        suite.addTests(test for test in tests if "--all" in sys.argv or not is_left_out(test))
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(suite)
    print(f"{result.testsRun} run, {len(result.failures) + len(result.errors)} failed, {len(result.skipped)} skipped")
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
