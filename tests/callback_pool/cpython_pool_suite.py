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

from syncprims import CallbackPool

SUITES = ("_TestPool", "_TestPoolWorkerErrors", "_TestPoolWorkerLifetime")
KINDS = {"processes": "process", "threads": "thread"}
# What is different on purpose, each with the reason.
DIFFERENT = {
    "test_make_pool": "counts the workers in the private _pool; here they start when they are needed",
    "test_map_unplicklable": "expects what the pickler raised; here that is the cause of a TransportError",
    "test_terminate": "waits five minutes for threads, which can't be ended; later versions leave it out",
    "test_resource_warning": "sets the private _state of a pool that was closed, to be warned that it was not",
    "test_unpickleable_result": "expects MaybeEncodingError; here it is a TransportError, which says what went wrong",
    "test_pool_worker_lifetime": "looks at the private _pool and calls the private _repopulate_pool",
    "test_pool_maxtasksperchild_invalid": "0.5 and '12' are TypeErrors here, as for every count",
    "test_worker_finalization_via_atexit_handler_of_multiprocessing": "makes a multiprocessing.Pool by -c",
}


# The shim that docs/howto/from-multiprocessing-pool.rst gives, for programs that are to run unchanged.
class Pool(CallbackPool):
    """`CallbackPool` with the arguments of `multiprocessing.Pool`, and a `map` that returns a list."""

    def __init__(
        self,
        processes: Any = None,
        initializer: Any = None,
        initargs: Any = (),
        maxtasksperchild: Any = None,
        context: Any = None,
    ) -> None:
        super().__init__(
            self.kind,
            max_workers=processes,
            initializer=initializer,
            initargs=initargs,
            max_tasks_per_child=maxtasksperchild,
            mp_context=context,
        )

    def map(self, func: Callable[..., Any], iterable: Iterable[Any], chunksize: int | None = None) -> list[Any]:  # type: ignore[override]
        return self.map_async(func, iterable, chunksize).get()

    kind: Any = "process"


class ThreadPool(Pool):
    """Likewise, for `multiprocessing.pool.ThreadPool`."""

    kind = "thread"


def make_cases() -> dict[str, type[unittest.TestCase]]:
    """Return each suite for each kind that it is for, by name; nothing where they are not shipped."""
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
globals().update(CASES)  # workers look for the methods that are called there


def main() -> int:
    """Run those that are not different on purpose, or all with --all; the last line counts."""
    if not CASES:
        print("not shipped: test._test_multiprocessing")
        return 0
    multiprocessing.Pool = Pool  # type: ignore[assignment]  # some of the tests ask for it by its name
    suite = unittest.TestSuite()
    for case in CASES.values():
        for test in unittest.defaultTestLoader.loadTestsFromTestCase(case):
            if "--all" in sys.argv or unittest.TestCase.id(test).rpartition(".")[2] not in DIFFERENT:  # type: ignore[arg-type]  # each is a case
                suite.addTest(test)
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(suite)
    print(f"{result.testsRun} run, {len(result.failures) + len(result.errors)} failed, {len(result.skipped)} skipped")
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
