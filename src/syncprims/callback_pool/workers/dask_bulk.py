"""`DaskBulk`: sends calls to Dask many at a time, and fetches their outcomes many at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

# A graph costs Dask about a millisecond, whether it has one call or hundreds, and fetching results costs several. If
# results are fetched for many waiters at a time, each waiter copies all of them. Dask's executor makes a graph for each
# call and waits for each separately. So it takes twice the time of one `map`, and the factor grows with the number of
# calls. Here the calls that come while a graph is made become the next graph. Results that come while others are
# fetched are fetched together; if there are many calls, a result waits a little for others. A single call is sent at
# once, and its result is fetched at once.
#
# All of this runs on the client's loop, where its messages arrive. A submitter stores its call and then always wakes
# the loop. (If it skipped that when the loop is marked as awake, an interrupt could leave the mark behind.) A loop that
# ends cancels its coroutines, and these cancel their calls, so every call gets an outcome.
#
# Rejected: our own thread, which is one more hop each way; `as_completed`, which does more for each future than all of
# this.

_MOST = 500  # calls in a graph: the loop does nothing else while the graph is made
_MOST_BYTES = 1_000_000  # of calls in a graph; Dask warns of 10 MB
_CROWD = 32  # if fewer calls are on their way, each result is fetched at once
_TOGETHER = 0.05  # seconds that a result waits for others, at most
_LATE = 5.0  # seconds after which results are fetched one by one: one was lost, and its call runs again


class DaskCall(Future[Any]):
    """A call on its way. It can be cancelled before or after it is sent.

    Attributes:
        packed: The call.
        sent: Dask's future, once there is one; Dask forgets a call whose future is gone.
    """

    def __init__(self, packed: bytes) -> None:
        super().__init__()
        self.packed = packed
        self.sent: Any = None


class DaskBulk:
    """Hands calls to the client behind an executor of Dask's, and fetches their outcomes.

    **Thread safety**: `submit` may be called from any thread. The rest runs on the client's loop.
    """

    def __init__(self, executor: Any, run: Callable[..., bytes], *constant: object) -> None:
        """Use the client of an executor.

        Args:
            executor: The executor.
            run: The function that is called with each call.
            *constant: Its other arguments.
        """
        import asyncio  # late: a program that uses Dask has imported it, and others need not wait for it

        self._executor: Any = executor
        self._client: Any = executor._client
        self._options: dict[str, Any] = dict(executor._kwargs)
        self._run = run
        self._constant = constant
        self._calls: deque[DaskCall] = deque()
        self._taken_back: deque[Any] = deque()
        # On the loop only:
        self._on_their_way: set[DaskCall] = set()
        self._ready: list[DaskCall] = []
        self._enough = asyncio.Event()
        self._fetching = False
        self._tasks: set[asyncio.Task[None]] = set()  # a loop alone does not keep its tasks alive

    def submit(self, packed: bytes) -> Future[Any]:
        """Send a call soon. If the executor or its client takes no more calls, its own ``submit`` raises."""
        if self._executor._shutdown or self._client.status == "closed":
            inner: Future[Any] = self._executor.submit(self._run, packed, *self._constant)
            return inner
        call = DaskCall(packed)
        try:
            call.add_done_callback(self._notice)
            self._calls.append(call)
            self._client.loop.add_callback(self._send)
            if self._client.status == "closed":  # then its loop may have ended before the line above
                self._send()
        except BaseException:  # an interrupt
            call.cancel()
            raise
        return call

    def _notice(self, call: Future[Any]) -> None:
        assert isinstance(call, DaskCall)
        sent, call.sent = call.sent, None  # the traceback of an error may keep the call alive
        if call.cancelled() and sent is not None:
            self._taken_back.append(sent)
            self._client.loop.add_callback(self._take_back)

    def _take_back(self) -> None:
        futures = [self._taken_back.popleft() for _ in range(len(self._taken_back))]
        if futures and self._client.status == "running":
            self._client.loop.add_callback(self._client.cancel, futures)

    # -- sending ------------------------------------------------------------------------------------------------------

    def _send(self) -> None:
        calls: list[DaskCall] = []
        size = 0
        while self._calls and len(calls) < _MOST and size < _MOST_BYTES:
            call = self._calls.popleft()
            if not call.cancelled():
                calls.append(call)
                size += len(call.packed)
        if not calls:
            return
        if self._calls:
            self._client.loop.add_callback(self._send)
        if self._client.status in ("closing", "closed"):
            _cancel(calls)
            return
        more = ([each] * len(calls) for each in self._constant)
        try:
            sent = self._client.map(self._run, [call.packed for call in calls], *more, **self._options)
        except Exception as error:  # noqa: BLE001  the client's; it is the outcome
            _fail(calls, error)
            return
        for call, future in zip(calls, sent, strict=True):
            call.sent = future
            if call.cancelled():  # it was cancelled while the graph was made
                self._notice(call)
            else:
                self._on_their_way.add(call)
                self._begin(self._follow(call, future), [call])

    # -- fetching -----------------------------------------------------------------------------------------------------

    def _begin(self, work: Coroutine[Any, Any, None], calls: list[DaskCall]) -> asyncio.Task[None]:
        """Let a coroutine run. If it does not finish, and perhaps never begins, its calls end with it."""
        import asyncio

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            error = None if task.cancelled() else task.exception()
            if error is not None:
                _fail(calls, error)
            elif task.cancelled():
                _cancel(calls)

        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(ended)
        return task

    async def _follow(self, call: DaskCall, future: Any) -> None:
        await future._state.wait()  # as in Dask's own executor; the public way costs ten times as much
        self._ready.append(call)
        if self._is_enough():
            self._enough.set()
        if not self._fetching:
            self._fetching = True
            self._begin(self._fetch(), self._ready)

    def _is_enough(self) -> bool:
        """Whether to fetch the results that are ready, and not to wait for more."""
        return len(self._on_their_way) < max(_CROWD, 4 * len(self._ready)) or self._client.status != "running"

    async def _fetch(self) -> None:
        import asyncio

        while self._ready:
            self._enough.clear()
            if not self._is_enough():
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._enough.wait(), _TOGETHER)
            calls = self._ready.copy()
            self._ready.clear()
            self._on_their_way.difference_update(calls)
            together = self._begin(self._bring(calls), calls)
            await asyncio.wait({together}, timeout=_LATE)
            if not together.done() and len(calls) > 1:
                for call in calls:
                    self._begin(self._bring([call]), [call])
        self._fetching = False

    async def _bring(self, calls: list[DaskCall]) -> None:
        sent = {call: future for call in calls if (future := call.sent) is not None and future.status == "finished"}
        outcomes = await self._client.gather(sent, errors="skip", asynchronous=True) if sent else {}
        sent.clear()  # the traceback of an error below keeps this frame
        for call in calls:
            outcome, future = outcomes.get(call), None
            if outcome is None and (future := call.sent) is not None:
                await self._settle_without(call, future)
            elif _is_open(call):
                call.set_result(outcome)

    async def _settle_without(self, call: DaskCall, future: Any) -> None:
        """Settle a call that has no outcome, or none that could be fetched."""
        if future.status == "cancelled":
            call.cancel()
        elif future.status == "error":
            _fail([call], await future.exception())
        else:  # the result was lost, and the call runs again
            self._on_their_way.add(call)
            self._begin(self._follow(call, future), [call])


def _is_open(call: DaskCall) -> bool:
    """Whether the call has no outcome yet; from then on it can't be cancelled."""
    return not call.done() and call.set_running_or_notify_cancel()


def _fail(calls: Iterable[DaskCall], error: BaseException) -> None:
    for call in calls:
        if _is_open(call):
            call.set_exception(error)


def _cancel(calls: Iterable[DaskCall]) -> None:
    for call in calls:
        call.cancel()


def takes_bulk(executor: object) -> bool:
    """Whether it is an executor of Dask's that has a client."""
    of_dask = type(executor).__module__.partition(".")[0] == "distributed"
    return of_dask and all(hasattr(executor, each) for each in ("_client", "_kwargs", "_shutdown"))
