"""Arrival: the start of a new worker process before its first call, its work, and its reports."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from ..._core.clock import monotonic
from ..._core.foreign import error_words, printable, shortened
from ...errors import TransportError
from . import surroundings
from .envelope import advice, flush_output, run_packed
from .exceptions import Dumps, pack_error, swallow
from .main_module import Source, import_main
from .surroundings import Surroundings

# The order matters. Ctrl-C at a terminal reaches the workers too, so it is handled first. The main module comes before
# the initializer, which may be defined there. All this happens while multiprocessing unpickles the new process. During
# that time its `_inheriting` flag is set. The flag reveals a main module without its guard, and only while it is set
# can descriptors, and multiprocessing's own locks and queues, be sent.
#
# The messages on the pipe: the worker gets calls as bytes, and an empty message (`NO_MORE`) for its end. It sends a
# pickled `Word` for each report, and the outcome of each call, with `INTERRUPTED` before the outcome if the worker has
# just got Ctrl-C.

StartCall = tuple[Callable[..., object] | None, tuple[Any, ...]]
_MOST_NAMES = 5
NO_MORE = b""
INTERRUPTED = b""
WORD_OF_THE_POOL = 1.5  # seconds that the pool has, after Ctrl-C, to cancel the queued tasks, on a busy machine too


class Word(NamedTuple):
    """A report of a worker.

    Attributes:
        event: ``"started"``; ``"ready"`` after its initializer; ``"failed"``; or ``"left"`` at its end.
        facts: For ``"failed"``, the part that failed (``"main"``, ``"unpickling"`` or ``"initializer"``) and the packed
            error. For ``"left"``, the threads and processes that tasks have left there, for which the worker waits.
    """

    event: str
    facts: tuple[Any, ...]


# -- its luggage -------------------------------------------------------------------------------------------------------


class Luggage:
    """The data that a new worker process gets. Unpickling it is the arrival; in a forked process `arrive` is called.

    Args:
        pipe: Calls come by it, and outcomes go by it.
        around: The surroundings to enter after the start; None for a process that starts in them.
        main: Where the main module comes from; None if the process has it already.
        start_call: The initializer, if any, and its arguments.
        dumps: The pool's pickler, for a start call that multiprocessing's own can't pickle.
        dumps_blob: The same, for results; None for the standard one.
        flush: Whether to flush the output after each call.
    """

    def __init__(
        self,
        pipe: Connection,
        around: Surroundings | None,
        main: Source | None,
        start_call: StartCall,
        dumps: Dumps,
        dumps_blob: bytes | None,
        flush: bool,
    ) -> None:
        self._pipe = pipe
        self._around = around
        self._main = main
        self._start_call = start_call
        self._dumps = dumps
        self._dumps_blob = dumps_blob
        self._flush = flush

    def arrive(self) -> Arrived:
        """Arrive in a forked process."""
        _begin(self._pipe)
        return Arrived(self._pipe, self._start_call, self._dumps_blob, self._flush)

    def __reduce__(self) -> tuple[Callable[..., Arrived], tuple[object, ...]]:
        around = self._around
        return _arrive, (
            self._pipe,
            None if around is None else (around.environ, around.folder),
            self._main,
            self._packed(),
            self._dumps_blob,
            self._flush,
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


class Arrived(NamedTuple):
    """The data of a worker process: see `Luggage`."""

    pipe: Connection
    start_call: StartCall
    dumps_blob: bytes | None
    flush: bool


def _arrive(
    pipe: Connection,
    around: tuple[dict[str, str], str | None] | None,
    main: Source | None,
    packed: bytes,
    dumps_blob: bytes | None,
    flush: bool,
) -> Arrived:
    _begin(pipe)
    if around is not None:
        surroundings.enter(*around)
    if main is not None:
        _or_say(pipe, "main", import_main, main)
    start_call: StartCall = _or_say(pipe, "unpickling", pickle.loads, packed)
    return Arrived(pipe, start_call, dumps_blob, flush)


def _begin(pipe: Connection) -> None:
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # if the program ignores it, so do its workers
        signal.signal(signal.SIGINT, _note_interrupt)
        if os.name == "posix":
            signal.siginterrupt(signal.SIGINT, False)
    _say_at_start(pipe, "started")


_interrupted_at: float | None = None


def _note_interrupt(_number: int, _frame: object) -> None:
    # The signal must not be ignored: programs that a task starts would ignore it too. If Ctrl-C has ended such a
    # program, the next task must not begin before the pool has had the time to cancel it.
    global _interrupted_at
    _interrupted_at = monotonic()


def _just_interrupted() -> bool:
    global _interrupted_at
    at, _interrupted_at = _interrupted_at, None
    return at is not None and monotonic() - at < WORD_OF_THE_POOL


def _say(pipe: Connection, event: str, *facts: Any) -> None:
    pipe.send_bytes(pickle.dumps(tuple(Word(event, facts))))


def _say_at_start(pipe: Connection, event: str, *facts: Any) -> None:
    try:
        _say(pipe, event, *facts)
    except OSError:  # the pool has gone, and its terminal is another program's: end without a message
        os._exit(1)


def _or_say(pipe: Connection, what: str, call: Callable[..., Any], *args: Any) -> Any:
    try:
        return call(*args)
    except BaseException as error:
        _say_at_start(pipe, "failed", what, tuple(pack_error(pickle.dumps, error)))
        raise


# -- its work ----------------------------------------------------------------------------------------------------------


def work(luggage: Arrived | Luggage) -> None:
    """Serve until the pool no longer needs the worker; then report the threads and processes that keep it alive."""
    pipe, start_call, dumps_blob, flush = luggage.arrive() if isinstance(luggage, Luggage) else luggage
    file = os.fstat(pipe.fileno()) if os.name == "posix" else None
    try:
        _prepare(pipe, start_call)
        while call := pipe.recv_bytes():
            outcome = run_packed(call, dumps_blob, None, 0, flush)
            del call
            if file is not None and not os.path.samestat(os.fstat(pipe.fileno()), file):
                return  # a task has closed the pipe, and another file may have its number now
            if _just_interrupted():
                pipe.send_bytes(INTERRUPTED)
            pipe.send_bytes(outcome)
            del outcome
        left = _left_behind()
        if left:
            _say(pipe, "left", *left)
    except (EOFError, OSError):  # the pool has gone, or a task has closed the pipe
        pass


def _prepare(pipe: Connection, start_call: StartCall) -> None:
    """Watch the parent, to end when it does, and run the initializer; if that fails, end the process."""
    from threading import Thread

    Thread(target=_end_with_parent, name="syncprims-parent-watch", daemon=True).start()
    initializer, initargs = start_call
    if initializer is not None:
        try:
            _or_say(pipe, "initializer", initializer, *initargs)
        except BaseException:  # noqa: BLE001  the pool has been told; a thread that was left must not delay the end
            swallow(None, flush_output)
            os._exit(1)
    _say(pipe, "ready")


def _end_with_parent() -> None:
    from multiprocessing import parent_process
    from multiprocessing.connection import wait

    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _left_behind() -> list[str]:
    import threading
    from multiprocessing import active_children

    threads = [each for each in threading.enumerate() if each is not threading.main_thread() and not each.daemon]
    found = [f"thread {shortened(printable(str(thread.name)))!r}" for thread in threads]
    found += [f"process {child.pid}" for child in active_children() if not child.daemon]
    rest = len(found) - _MOST_NAMES
    return found if rest <= 0 else [*found[:_MOST_NAMES], f"{rest} more"]
