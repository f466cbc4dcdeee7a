"""`Station`: one worker process after the other; each runs one call at a time for the thread that owns it."""

from __future__ import annotations

import pickle
import select
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from logging import WARNING
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any

from ..._core.deadline import Deadline
from ..._core.foreign import error_words, log
from ..._core.gates import open_all, pass_through, put_up
from ..._core.registry import InnerName
from ..._locks.timed_lock import TimedLock
from ..job import Job
from ..travel.arrival import INTERRUPTED, NO_MORE, Word
from ..travel.exceptions import PackedError, unpack_error
from ..travel.main_module import GUARD

if TYPE_CHECKING:
    from _thread import LockType

# One thread of the pool owns a station, and only that thread starts the process, talks to it and waits for its end. So
# a worker that dies fails only the task that it ran, and there is no executor that breaks as a whole.
#
# Other threads may kill the process: the timer, `Task.kill`, the end of the pool. `_job` is the job whose call the
# process runs. It changes under a mutex, and the process is killed for a job under the same mutex. So a process that
# has gone on to another task is never killed. The killing thread leaves a note for the owner about how the task must
# end, and waits until the owner has seen the end of the process. So an interrupt of the killing thread loses nothing.
#
# A process has ended when its sentinel is ready. The end of the pipe does not show it: a process that a task has
# started may keep the pipe open.

Doom = tuple[Job[Any] | None, Callable[[], object]]
_SLICE = 0.2  # seconds between two checks whether a process that is starting is still needed
DYING = 5.0  # seconds that a process which was killed has to end


class DiedError(Exception):
    """The process ended in the middle of a call, or before it came up."""


class NotArrivedError(DiedError):
    """The process ended before it had sent anything: multiprocessing's part of its start was not complete."""


class NoServerError(DiedError):
    """The server that starts the processes ended before it had started one."""


class NotBegunError(DiedError):
    """The process ended before it had read the call."""


class Station:
    """The processes of one thread.

    **Thread safety**: `kill`, `condemn`, `described` and `pid` may be called from any thread. The owning thread does
    everything else.

    Args:
        name: The pool's.
        start: Starts a process, and returns it with this side's end of its pipe.
        most_calls: After how many calls a process is replaced; None means never.
        grace: How many seconds a process has to end; None means no limit.
    """

    def __init__(
        self,
        name: str,
        start: Callable[[], tuple[BaseProcess, Connection]],
        most_calls: int | None,
        grace: float | None,
    ) -> None:
        self._name = name
        self._start = start
        self._most_calls = most_calls
        self._grace = grace
        self._mutex = TimedLock(name=InnerName(f"{name} station"))
        # Guarded by _mutex:
        self._job: Job[Any] | None = None
        self._doom: Doom | None = None
        self._doomed: Job[Any] | None = None  # the job that the process was killed for, until the job has its outcome
        self._process: BaseProcess | None = None
        self._condemned = False
        # Written by the thread that owns it:
        self._pipe: Connection | None = None
        self._look: Callable[[float | None], set[int]] = lambda _: set()
        self._calls = 0
        self._read = True  # whether the process may have read the last call
        self._words: list[Word] = []
        self._gone_gates: deque[LockType] = deque()
        self.pid: int | None = None
        self.end_is_known: bool = True  # of the last process that has ended
        self.interrupted: bool = False
        # Written by the thread that stops the pool: the time by which a process that is starting must be over.
        self.leaving: Deadline | None = None

    # -- its process starts ------------------------------------------------------------------------------------------

    def come_up(self) -> None:
        """Make sure that a process is ready for a call.

        Raises:
            DiedError: It ended before it was ready, for no known reason.
            NotStartedError: It could not start; the error has the cause.
        """
        if self._process is not None:
            if not self._look(0) and not self._used_up():  # no message has come, not even the end
                return
            self.see_out()
        self._words = []
        process, ours = self._start()
        self._pipe, self._look = ours, _looker(ours.fileno(), process.sentinel)
        with self._mutex:
            self._process = process
            condemned = self._condemned
        self.pid, self._calls = process.pid, 0
        if condemned:
            _kill(process)
        self._await_ready()

    def is_down(self) -> bool:
        """Whether it has no process for another call."""
        return self._process is None or self._used_up()

    def _used_up(self) -> bool:
        return self._most_calls is not None and self._calls >= self._most_calls

    def _await_ready(self) -> None:
        process = self._process
        assert process is not None
        while True:
            message = self._receive(Deadline(_SLICE))
            if message is None:
                if not wait([process.sentinel], 0):
                    if self.leaving is not None and self.leaving.remaining() == 0:
                        self._kill_late()
                    continue
                ended = self._bury()
                if not self._has_said("started"):
                    raise NotArrivedError(f"it {ended} during its start")
                raise DiedError(f"it {ended} during its initializer")
            word = Word(*pickle.loads(message))
            self._words.append(word)
            if word.event == "ready":
                return
            if word.event == "failed":
                what, packed = word.facts
                self._bury_in_time()
                raise NotStartedError(what, unpack_error(PackedError(*packed)))

    def _has_said(self, event: str) -> bool:
        return any(word.event == event for word in self._words)

    # -- it runs calls -----------------------------------------------------------------------------------------------

    def run(self, job: Job[Any], call: bytes) -> bytes | None:
        """Run the job's call and return its outcome; None if the process was killed for the job, which has ended then.

        Raises:
            NotBegunError: The process had died before it read the call, as far as the system knows.
            DiedError: The process died.
        """
        pipe = self._pipe
        assert pipe is not None
        with self._mutex:
            self._job = job
        self._calls += 1
        self._read = True
        outcome = None
        try:
            pipe.send_bytes(call)
            del call
            outcome = self._receive(None)
            if outcome == INTERRUPTED:
                self.interrupted = True
                outcome = self._receive(None)
        except OSError:
            self._read = False
        with self._mutex:
            self._job = None
            doom, self._doom = self._doom, None
            self._doomed = None if doom is None else job
        if doom is None and outcome is not None:
            return outcome
        ended = self._bury()
        if doom is None:
            raise DiedError(f"it {ended}") if self._read else NotBegunError(f"it {ended}")
        try:
            doom[1]()
        finally:
            self._doomed = None
            open_all(self._gone_gates)
        return None

    def _receive(self, deadline: Deadline | None) -> bytes | None:
        """Return the next message; None if the process has ended, or the time is up."""
        pipe, process = self._pipe, self._process
        assert pipe is not None
        assert process is not None
        fd, sentinel = pipe.fileno(), process.sentinel
        while True:
            found = self._look(None if deadline is None else deadline.remaining())
            if fd in found:
                try:
                    return pipe.recv_bytes()
                except (EOFError, OSError) as error:
                    if isinstance(error, ConnectionResetError):  # the system's way to report unread data
                        self._read = False
                    self._look = _looker(None, sentinel)
                    if sentinel in found:
                        return None
            elif sentinel in found or not found:
                return None

    # -- it ends -----------------------------------------------------------------------------------------------------

    def see_out(self) -> None:
        """Let the process end; after its grace kill it, and log what kept it from ending."""
        if self._process is None:
            return
        with suppress(OSError):
            assert self._pipe is not None
            self._pipe.send_bytes(NO_MORE)
        self._bury_in_time()

    def _bury_in_time(self) -> None:
        deadline = Deadline(self._grace)
        while (message := self._receive(deadline)) is not None:
            with suppress(Exception):  # an outcome that came too late
                self._words.append(Word(*pickle.loads(message)))
        process = self._process
        assert process is not None
        if not wait([process.sentinel], 0):
            self._kill_late()
        self._bury()

    def _kill_late(self) -> None:
        log(WARNING, f"{self._name!r} kills {self.described()}: not over after its grace, {self._grace} s")
        if self._process is not None:
            _kill(self._process)

    def _bury(self) -> str:
        """Wait for the end of a process that ends, and forget it; return how it ended."""
        process, pipe = self._process, self._pipe
        assert process is not None
        assert pipe is not None
        if not wait([process.sentinel], DYING):
            _kill(process)  # it has closed its pipe, but has not ended
            wait([process.sentinel], DYING)
        with self._mutex:
            self._process = None
        pipe.close()
        self._pipe, self.pid = None, None
        process.join(DYING)
        code = process.exitcode  # no `close`, which before 3.12 would disturb a start in another thread
        self.end_is_known = False
        if code is None or code == 255:  # the server that started it died as well
            return "was killed, crashed or exited"
        self.end_is_known = True
        return f"was killed by signal {-code}" if code < 0 else f"exited with status {code}"

    def described(self) -> str:
        """Name the process, and say what keeps it from ending."""
        words = list(self._words)
        which = f"worker process {self.pid}" if self.pid is not None else "the start of a worker process"
        for word in words:
            if word.event == "left":
                return f"{which}, in which a task has left {', '.join(word.facts)}"
        events = {word.event for word in words}
        return (
            f"{which}, whose initializer has not returned" if "started" in events and "ready" not in events else which
        )

    # -- from other threads ------------------------------------------------------------------------------------------

    def kill(self, job: Job[Any], outcome: Callable[[], object]) -> bool:
        """Kill the process if it runs that job's call, and let the job end with this outcome; block until it is dead.

        Returns:
            False if it does not run that call, or can't be killed; or if another thread has killed it for that job.
        """
        gate = put_up(self._gone_gates)
        with self._mutex:
            runs = self._job is job and self._process is not None
            if runs:
                self._doom = (job, outcome)
                assert self._process is not None
                _kill(self._process)
            elif self._doomed is not job:
                return False
        return pass_through(gate, Deadline(DYING)) and runs

    def forget(self, children: set[BaseProcess]) -> None:
        """In a forked child: the process belongs to the parent, and this child must neither wait for it nor end it."""
        if self._process is not None:
            children.discard(self._process)

    def condemn(self, outcome: Callable[[Job[Any]], object]) -> None:
        """Kill the process, whatever it is doing, and any process that the thread may be about to start."""
        with self._mutex:
            self._condemned = True
            job = self._job
            if job is not None:
                self._doom = (job, lambda: outcome(job))
            if self._process is not None:
                _kill(self._process)


class NotStartedError(Exception):
    """A process has reported the cause that kept it from starting.

    Attributes:
        what: ``"main"``, ``"unpickling"`` or ``"initializer"``.
        error: The exception that was raised there.
    """

    def __init__(self, what: str, error: BaseException) -> None:
        super().__init__(what)
        self.what = what
        self.error = error


def not_started(pool_name: str, error: NotStartedError) -> tuple[str, BaseException]:
    """Describe why a process could not start, and return the error that was the cause."""
    cause = error.error
    said = error_words(cause)
    if error.what == "initializer":
        return f"the initializer of {pool_name!r} raised {said}; no worker could start", cause
    if error.what == "unpickling":
        return f"the initializer of {pool_name!r} can't be unpickled in its worker processes: {said}", cause
    guard = "" if GUARD in said else f". Does it start work without its guard, {GUARD}?"
    return f"the main module can't be imported in the worker processes of {pool_name!r}: {said}{guard}", cause


def _kill(process: BaseProcess) -> None:
    with suppress(OSError, ValueError, AttributeError):  # it ended by itself
        process.kill()


def _looker(fd: int | None, sentinel: int) -> Callable[[float | None], set[int]]:
    """Return a function that waits for any of two descriptors, within a time limit, and returns the ready ones."""
    watched = [sentinel] if fd is None else [fd, sentinel]
    if not hasattr(select, "poll"):
        return lambda timeout: set(wait(watched, timeout))  # type: ignore[arg-type]  # they are handles on Windows
    poll = select.poll()
    for each in watched:
        poll.register(each, select.POLLIN)

    def look(timeout: float | None) -> set[int]:
        found = poll.poll(None if timeout is None else max(0, timeout * 1000))
        return {ready for ready, _ in found}

    return look
