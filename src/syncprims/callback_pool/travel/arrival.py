"""Arrival: what a new worker process does before its first call, and what it reports at its end."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Callable
from typing import Any

from ..._core.foreign import error_words, printable, shortened
from ...errors import TransportError
from . import reports, start_board, surroundings
from .envelope import advice, flush_output
from .exceptions import Dumps, pack_error, swallow
from .main_module import Source, import_main
from .reports import Reports, report
from .start_board import StartBoard
from .surroundings import Surroundings

# The order matters. Ctrl-C at a terminal reaches the workers too, so it is taken care of first. The shared files are
# opened before any code of the program runs that may leave for where they are not, or drop the privileges for it. The
# main module comes before the initializer, which may be defined there. All this happens while multiprocessing unpickles
# the new process: then its `_inheriting` flag is up, by which a main module without its guard is found out; and only
# then can descriptors, and multiprocessing's own locks and queues, travel.

StartCall = tuple[Callable[..., object] | None, tuple[Any, ...]]
_MOST_NAMES = 5
_WORD_OF_THE_POOL = 0.5  # seconds


class Luggage:
    """What a new worker process gets. It is unpickled there as the initializer and its arguments, not as this object.

    Args:
        board: Where it writes when a call begins; None if there is none.
        reports: Where it reports; None if there are none.
        around: To be entered after the start; None for a process that starts there.
        main: Where the main module comes from.
        start_call: The initializer, if any, and its arguments.
        dumps: The pool's pickler, for a start call that multiprocessing's own can't pickle.
    """

    def __init__(
        self,
        board: StartBoard | None,
        reports: Reports | None,
        around: Surroundings | None,
        main: Source,
        start_call: StartCall,
        dumps: Dumps,
    ) -> None:
        self._board = board
        self._reports = reports
        self._around = around
        self._main = main
        self._start_call = start_call
        self._dumps = dumps

    def __reduce__(self) -> tuple[Callable[..., StartCall], tuple[object, ...]]:
        board, reports, around = self._board, self._reports, self._around
        return _arrive, (
            _duplicate(None if board is None or board.address is not None else board.fd),
            _duplicate(None if reports is None else reports.fd),
            None if around is None else (around.environ, around.folder),
            self._main,
            self._packed(),
        )

    def _packed(self) -> bytes:
        from multiprocessing.reduction import ForkingPickler

        try:
            return bytes(ForkingPickler.dumps(self._start_call))
        except Exception as error:
            if self._dumps is not pickle.dumps:
                return self._dumps(self._start_call)
            raise TransportError(
                "the initializer or its initargs can't be pickled, so they can't go to a worker: "
                f"{error_words(error).rstrip('.')}{advice(error, 'Pass something that can')}"
            ) from error


def _duplicate(fd: int | None) -> Any:
    if fd is None:
        return None
    from multiprocessing.reduction import DupFd

    return DupFd(fd)


def _arrive(
    board: Any, report_file: Any, around: tuple[dict[str, str], str | None] | None, main: Source, packed: bytes
) -> StartCall:
    signal.signal(signal.SIGINT, _leave_it_to_the_pool)
    if os.name == "posix":
        signal.siginterrupt(signal.SIGINT, False)
    if board is not None:
        fd = board.detach()
        start_board.hang_up(fd)
        os.close(fd)
    reports.take_over(None if report_file is None else report_file.detach())
    report("started")
    if around is not None:
        surroundings.enter(*around)
    _or_report("main", import_main, main)
    start_call: StartCall = _or_report("unpickling", pickle.loads, packed)
    return start_call


def _leave_it_to_the_pool(_number: int, _frame: object) -> None:
    # Not a signal that is ignored: programs that a task starts would ignore it too. One that Ctrl-C has ended must not
    # be followed by the next before the pool has had the time to call that off.
    start_board.hold_off(_WORD_OF_THE_POOL)


def _or_report(what: str, call: Callable[..., Any], *args: Any) -> Any:
    try:
        return call(*args)
    except BaseException as error:
        report("failed", what, tuple(pack_error(pickle.dumps, error)))
        raise


def prepare_worker(start_call: StartCall) -> None:
    """Watch the parent, whose death is the worker's, and run the initializer; if that fails, end the process."""
    from threading import Thread

    Thread(target=_end_with_parent, name="syncprims-parent-watch", daemon=True).start()
    initializer, initargs = start_call
    if initializer is not None:
        try:
            _or_report("initializer", initializer, *initargs)
        except BaseException:  # noqa: BLE001  the pool has been told; a thread that was left must not delay the end
            swallow(None, flush_output)
            os._exit(1)
    report("ready")


def _end_with_parent() -> None:
    from multiprocessing import parent_process
    from multiprocessing.connection import wait

    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def work(serve: Callable[..., object], *args: object) -> None:
    """Serve until the pool needs the worker no more; then report what will keep the process from ending."""
    serve(*args)
    left = _left_behind()
    if left:
        report("left", *left)


def _left_behind() -> list[str]:
    import threading
    from multiprocessing import active_children

    threads = [each for each in threading.enumerate() if each is not threading.main_thread() and not each.daemon]
    found = [f"thread {shortened(printable(str(thread.name)))!r}" for thread in threads]
    found += [f"process {child.pid}" for child in active_children() if not child.daemon]
    rest = len(found) - _MOST_NAMES
    return found if rest <= 0 else [*found[:_MOST_NAMES], f"{rest} more"]
