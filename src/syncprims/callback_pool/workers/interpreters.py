"""`InterpreterWorkers`: the pool's own threads, each with its own interpreter (from Python 3.14)."""

from __future__ import annotations

import pickle
from functools import partial
from typing import Any

from ..._core.foreign import error_words
from ..cpython.interpreters_at_exit_since_314 import move_in, move_out
from ..job import Job
from ..travel.envelope import pack, portable, run_packed, unpack
from ..travel.main_module import Source, import_main, main_source
from .backend import BackendOptions
from .threads import ThreadWorkers

# Not the standard executor: its threads are not daemons, so one endless task keeps the program from ending. And when
# all of them are stuck, it runs no more tasks.


class InterpreterWorkers(ThreadWorkers):
    """Daemon threads like those of `ThreadWorkers`, which run packed calls in their own interpreters.

    **Thread safety**: all methods may be called from any thread.
    """

    packs = True
    _leftover = ", whose interpreter waits for a thread that a task has left there"
    fate = "its interpreter can't be stopped, its result will be dropped, and another one takes its place"

    def __init__(self, options: BackendOptions) -> None:
        super().__init__(options)
        initializer = options.initializer
        self._start_call = None if initializer is None else pack(options.dumps, initializer, options.initargs, {})
        self._dumps_blob = portable(options.dumps)
        self._flush = options.flush
        self._main = main_source()

    def _employ(self) -> BaseException | None:
        move_in()
        interpreter = None
        try:
            try:
                interpreter = Interpreter(self._dumps_blob, self._flush, self._main)
                self._initialize(interpreter)
            except BaseException as error:  # noqa: BLE001  whatever it is, it must not end the worker silently
                return self._broken_by(error)
            self._serve(partial(self._run, interpreter))
            return None
        finally:
            if interpreter is not None:
                interpreter.close()
            move_out()

    def _initialize(self, interpreter: Interpreter) -> None:
        if self._start_call is not None:
            _, error = unpack(interpreter.run(self._start_call))
            if error is not None:
                raise error

    def _run(self, interpreter: Interpreter, job: Job[Any]) -> bool:
        """Run the job in the interpreter and set its outcome; return False if the job expired before that."""
        try:
            if not job.begin():
                return True
            if job.limited:
                self.watch(job)
            assert isinstance(job.carrier, bytes)
            result, error = unpack(interpreter.run(job.carrier))
        except BaseException as failure:  # noqa: BLE001  an interpreter that can't be entered; the worker must live
            result, error = None, failure
        try:
            return job.finish(result) if error is None else job.fail(error)
        finally:
            del error, job  # the error's traceback may hold this frame: avoid a cycle


class Interpreter:
    """An interpreter in which one thread runs packed calls; it finds the same modules, including `__main__`."""

    def __init__(self, dumps_blob: bytes | None, flush: bool, main: Source) -> None:
        import sys
        from concurrent import interpreters  # type: ignore[attr-defined,unused-ignore]  # from 3.14

        self._dumps_blob = dumps_blob
        self._flush = flush
        self._main = main
        self._has_main = False
        self._inner: Any = interpreters.create()
        self._inner.exec(f"__import__('sys').path[:] = {list(map(str, sys.path))!r}")

    def run(self, call: bytes) -> bytes:
        """Run a packed call and return its packed outcome; it blocks until the call is done."""
        if not self._has_main and b"__main__" in call:
            outcome = self._enter(pack(pickle.dumps, _take_main, (self._main,), {}))
            if unpack(outcome)[1] is not None:
                return outcome
            self._has_main = True
        return self._enter(call)

    def _enter(self, call: bytes) -> bytes:
        outcome: bytes = self._inner.call(run_packed, call, self._dumps_blob, None, 0, self._flush)
        return outcome

    def close(self) -> None:
        """End it; block while threads that were started in it run."""
        self._inner.close()


def _take_main(source: Source) -> None:
    """Import the main module in the other interpreter."""
    try:
        import_main(source)
    except BaseException as error:
        raise RuntimeError(
            f"the main module can't be imported in the interpreter ({error_words(error)}): "
            "does it start work without its __main__ guard?"
        ) from error
