"""CPython's own executor tests, against `CallbackPool`: ``python -m callback_pool.cpython_suite [--quick]``.

Interpreters from 3.13 on that ship their tests have them as ``test.test_concurrent_futures``.
"""

from __future__ import annotations

import concurrent.futures
import importlib
import multiprocessing
import re
import sys
import tempfile
import threading
import unittest
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from callback_pool.cpython_left_out import OF_EXECUTORS, OF_PROCESS_EXECUTORS
from polling import until_exists
from syncprims import CallbackPool

# Each suite, by module and class of CPython's.
SUITES = (
    ("executor", "ExecutorTest"),
    ("test_shutdown", "ExecutorShutdownTest"),
    ("test_shutdown", "ThreadPoolShutdownTest"),
    ("test_shutdown", "ProcessPoolShutdownTest"),
    ("test_wait", "WaitTests"),
    ("test_wait", "ThreadPoolWaitTests"),
    ("test_as_completed", "AsCompletedTests"),
    ("test_thread_pool", "ThreadPoolExecutorTest"),
    ("test_process_pool", "ProcessPoolExecutorTest"),
    ("test_deadlock", "ExecutorDeadlockTest"),
    ("test_init", "InitializerMixin"),
)
KINDS = ("thread", "process")


class LivingProcesses:
    """The worker processes that live now, by their ids, in place of the dict of a standard executor."""

    def values(self) -> list[BaseProcess]:
        """Return them, without those that other code has started."""
        return [each for each in multiprocessing.active_children() if type(each).__name__ == "WorkerOfServer"]

    def __len__(self) -> int:
        return len(self.values())


class Pool(CallbackPool):
    """A pool with two attributes in which CPython's tests look for workers, found by public means."""

    @property
    def _threads(self) -> list[threading.Thread]:
        return [each for each in threading.enumerate() if each.name.startswith(f"{self.name}-worker-")]

    @property
    def _processes(self) -> LivingProcesses:
        return LivingProcesses()


def thread_executor(max_workers: int | None = None, **options: Any) -> Pool:
    """Make the replacement of a ThreadPoolExecutor."""
    return Pool("thread", max_workers=max_workers, **options)


def process_executor(max_workers: int | None = None, **options: Any) -> Pool:
    """Make the replacement of a ProcessPoolExecutor."""
    return Pool("process", max_workers=max_workers, **options)


class Futures:
    """`concurrent.futures` for CPython's tests: with our pools under the names of its executors."""

    ThreadPoolExecutor = staticmethod(thread_executor)
    ProcessPoolExecutor = staticmethod(process_executor)

    def __getattr__(self, name: str) -> Any:
        return getattr(concurrent.futures, name)


OURS = {
    "ThreadPoolExecutor": "thread_executor",
    "ProcessPoolExecutor": "process_executor",
    "thread_type": "thread_executor",
    "process_type": "process_executor",
}


def with_ours(run: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that runs a program with another first line, by which an executor's name means our pool."""

    def run_ours(option: str, program: str) -> Any:
        def other(line: re.Match[str]) -> str:
            name = line[1]
            return f"import sys; sys.path[:] = {sys.path!r}; from {__spec__.name} import {OURS[name]} as {name}"

        program, count = re.subn(r"from concurrent\.futures import (\w+)", other, program)
        assert count == 1, program
        return run(option, program)

    return run_ours


class FileEvent:
    """The part of an event that CPython's suites use, for processes that share only files."""

    def __init__(self, path: Path) -> None:
        """It is set once such a file exists."""
        self._path = path

    def set(self) -> None:
        """Set it."""
        self._path.touch()

    def wait(self) -> None:
        """Wait until it is set."""
        until_exists(self._path)


def make_case(kind: str, module: str, name: str) -> type[unittest.TestCase]:
    """Return CPython's test class, set up with a pool of that kind."""
    home: Any = importlib.import_module(f"test.test_concurrent_futures.{module}")
    if module in ("test_shutdown", "test_thread_pool", "test_process_pool"):
        home.futures = Futures()
    if module == "test_shutdown" and home.assert_python_ok.__name__ != "run_ours":
        home.assert_python_ok = with_ours(home.assert_python_ok)
    tests = getattr(home, name)
    bases = tests.__mro__[1:]
    own = {key: value for key, value in vars(tests).items() if key.startswith(("test", "_test"))}
    for base in bases:
        if base.__name__ in ("ExecutorTest", "ExecutorShutdownTest"):
            own = {**{key: value for key, value in vars(base).items() if key.startswith("test")}, **own}

    def get_context(self: Any) -> Any:
        return multiprocessing.get_context("forkserver" if kind == "process" else None)

    def set_up(self: Any) -> None:
        initializing = {} if module != "test_init" else {"initializer": home.init, "initargs": ("initialized",)}
        self.executor = self.executor_type(max_workers=5, **initializing)

    def tear_down(self: Any) -> None:
        self.executor.shutdown(wait=True)
        del self.executor

    def create_event(self: Any) -> Any:
        """Make an event that tasks can set; since 3.13.5 the suites need it."""
        if kind == "thread":
            return threading.Event()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return FileEvent(Path(folder.name, "is-set"))

    def executor_type(max_workers: int | None = None, mp_context: Any = None, **options: Any) -> Pool:
        # In the pool's own way: a fork server, as the context has.
        return Pool(kind, max_workers=max_workers, **options)  # type: ignore[arg-type]  # a literal

    executor_type.__name__ = f"{kind}_type"
    left_out = OF_EXECUTORS | (OF_PROCESS_EXECUTORS if kind == "process" else {})
    kept = {key: value for key, value in own.items() if key not in left_out}
    kept |= {"setUp": set_up, "tearDown": tear_down, "create_event": create_event, "worker_count": 5}
    kept |= {"get_context": get_context, "TIMEOUT": 60.0}
    kept |= {key: value for key, value in vars(tests).items() if key in ("_check_crash", "_fail_on_deadlock")}
    kept["executor_type"] = staticmethod(executor_type)
    return type(f"{kind}_{name}", (unittest.TestCase,), kept)


def cases(*, quick: bool) -> Iterator[type[unittest.TestCase]]:
    """Yield every suite that makes sense for each kind; or the shortest one."""
    for kind in KINDS:
        for module, name in SUITES:
            other = "Process" if kind == "thread" else "Thread"
            where = "Process" if "Deadlock" in name else name
            if other not in where and not (quick and module != "executor"):
                yield make_case(kind, module, name)


def main() -> int:
    """Run them all; the last line counts."""
    quick = "--quick" in sys.argv
    try:
        support: Any = importlib.import_module("test.support")
        if quick:
            support.use_resources = []  # leaves out tests that sleep for seconds; read when the suites are imported
        importlib.import_module("test.test_concurrent_futures.executor")
    except ImportError as error:
        print(f"not shipped: {error}")
        return 0
    suite = unittest.TestSuite()
    for case in cases(quick=quick):
        suite.addTests(unittest.defaultTestLoader.loadTestsFromTestCase(case))
    verbosity = 2 if "--verbose" in sys.argv else 1
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=verbosity).run(suite)
    print(f"{result.testsRun} run, {len(result.failures) + len(result.errors)} failed, {len(result.skipped)} skipped")
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
