"""CPython's own executor tests, against `CallbackPool`: ``python -m callback_pool.cpython_suite [--quick]``.

Interpreters from 3.13 on that ship their tests have them as ``test.test_concurrent_futures``.
"""

from __future__ import annotations

import importlib
import multiprocessing
import sys
import tempfile
import threading
import unittest
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from polling import until_exists
from syncprims import CallbackPool

# Each suite, by module and class of CPython's.
SUITES = (
    ("executor", "ExecutorTest"),
    ("test_shutdown", "ExecutorShutdownTest"),
    ("test_shutdown", "ThreadPoolShutdownTest"),
    ("test_wait", "WaitTests"),
    ("test_wait", "ThreadPoolWaitTests"),
    ("test_as_completed", "AsCompletedTests"),
    ("test_thread_pool", "ThreadPoolExecutorTest"),
    ("test_process_pool", "ProcessPoolExecutorTest"),
    ("test_deadlock", "ExecutorDeadlockTest"),
    ("test_init", "InitializerMixin"),
)
# What the suites ask for that `CallbackPool` does otherwise, each with the reason.
EXCLUDED = {
    "test_interpreter_shutdown": "tries the executor by its name in concurrent.futures; the exit has tests of its own",
    "test_submit_after_interpreter_shutdown": "likewise, and the pool's error is worded otherwise",
    "test_hang_gh83386": "likewise, by its name in concurrent.futures",
    "test_cancel_futures_wait_false": "likewise, by its name in concurrent.futures",
    "test_thread_names_assigned": "threads are named for the pool: there is no thread_name_prefix",
    "test_thread_names_default": "threads are named for the pool, '<name>-worker-<n>'",
    "test_threads_terminate": "looks into the private _threads, which the pool keeps elsewhere",
    "test_context_manager_shutdown": "likewise looks into _threads or _processes",
    "test_del_shutdown": "likewise looks into _threads or _processes",
    "test_shutdown_no_wait": "likewise looks into _threads or _processes",
    "test_default_workers": "looks into the private _max_workers",
    "test_saturation": "looks into the private _max_workers and _threads",
    "test_idle_thread_reuse": "looks into the private _threads",
    "test_hang_global_shutdown_lock": "leaves `with` while a task submits itself again, which close() waits for",
    "test_killed_child": "looks into the private _processes; killed workers have tests of their own",
    "test_idle_process_reuse_one": "looks into the private _processes",
    "test_idle_process_reuse_multiple": "looks into the private _processes",
    "test_max_workers_too_large": "is about Windows, and the message is worded otherwise",
    "test_traceback": "the cause that carries the remote traceback is of a class of the pool's own",
    "test_max_tasks_per_child": "looks into the private _processes; renewed workers have tests of their own",
    "test_max_tasks_per_child_defaults_to_spawn_context": "here every start method goes with max_tasks_per_child",
    "test_python_finalization_error": "replaces a private function of the standard executor's start",
    "test_error_at_task_pickle": "what can't be pickled is raised by submit, and is the cause of a TransportError",
    "test_exit_at_task_unpickle": "what a call raises while it is unpickled is its own error, and breaks nothing",
    "test_error_at_task_unpickle": "likewise, its own error, which breaks nothing",
    "test_error_during_result_pickle_on_worker": "is the cause of a TransportError",
    "test_exit_during_result_pickle_on_worker": "likewise the cause of a TransportError",
    "test_error_during_result_unpickle_in_result_handler": "is an error of its task alone, and breaks nothing",
    "test_exit_during_result_unpickle_in_result_handler": "likewise an error of its task alone",
    "test_shutdown_deadlock_pickle": "looks into the private _executor_manager_thread",
    "test_gh105829_should_not_deadlock_if_wakeup_pipe_full": "replaces private parts of the standard executor",
}
EXCLUDED_FOR_PROCESSES = {
    "test_cancel_futures": "wants some task to have begun; here all that wait for a worker to come up are cancelled",
}
KINDS = ("thread", "process")


class FileEvent:
    """What of an event CPython's suites use, for processes that share nothing but the files."""

    def __init__(self, path: Path) -> None:
        """Be set once there is such a file."""
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
    tests = getattr(home, name)
    bases = tests.__mro__[1:] if issubclass(tests, unittest.TestCase) else ()
    own = {key: value for key, value in vars(tests).items() if key.startswith("test")}
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
        """Make an event that tasks can set; since 3.13.5 the suites ask for it."""
        if kind == "thread":
            return threading.Event()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return FileEvent(Path(folder.name, "is-set"))

    def executor_type(max_workers: int | None = None, **options: Any) -> CallbackPool:
        return CallbackPool(kind, max_workers=max_workers, **options)  # type: ignore[arg-type]  # a literal

    excluded = EXCLUDED | (EXCLUDED_FOR_PROCESSES if kind == "process" else {})
    kept = {key: value for key, value in own.items() if key not in excluded}
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
            support.use_resources = []  # leaves out what sleeps for seconds; read when the suites are imported
        importlib.import_module("test.test_concurrent_futures.executor")
    except ImportError as error:
        print(f"not shipped: {error}")
        return 0
    suite = unittest.TestSuite()
    for case in cases(quick=quick):
        suite.addTests(unittest.defaultTestLoader.loadTestsFromTestCase(case))
    result = unittest.TextTestRunner(stream=sys.stdout).run(suite)
    print(f"{result.testsRun} run, {len(result.failures) + len(result.errors)} failed, {len(result.skipped)} skipped")
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
