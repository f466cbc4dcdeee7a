"""`RedisLock`: a lock on a Redis server, for threads, processes and machines; nobody holds it longer than a lease."""

from __future__ import annotations

import os
from collections.abc import Collection
from functools import partial
from secrets import token_hex
from socket import gethostname
from threading import current_thread, local
from typing import TYPE_CHECKING, Any

from .._core.clock import monotonic
from .._core.deadline import Deadline, check_timeout
from .._core.foreign import shortened, text_of
from .._locks.lock_adapter import LockAdapter, forget_holders
from ..errors import SyncError
from .redis_server import Server, poll, refused, unanswered

if TYPE_CHECKING:
    from redis import Redis

# The key holds a token that is drawn anew for each hold, and expires with the lease; this is the protocol of redis-py's
# own lock, and the two exclude each other. Ours differs where the answer of the server is lost: the token is known
# before it is sent, and taking the lock with the token that has it already succeeds. So a thread that tries again gets
# what an unanswered try may have taken.
#
# Rejected: redis-py's lock itself. It keeps one token per object, so that a thread whose lease has run out releases the
# next holder's hold; a retry of its `SET NX` is refused by its own first try; its waits end up to 0.1 s early.

_TAKE = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return {holder, redis.call('PTTL', KEYS[1])} end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
_LET_GO = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""
_RENEW = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""


class LeaseExpiredError(SyncError, RuntimeError):
    """A lock on a server was not held any more when its holder was done: others may have held it meanwhile.

    Attributes:
        lock_name: The lock's name.
        lease: How long it could be held, in seconds.
        held: How long its holder thought that it held it, in seconds.
    """

    def __init__(self, message: str = "", *, lock_name: str = "", lease: float = 0.0, held: float = 0.0) -> None:
        super().__init__(message)
        self.lock_name = lock_name
        self.lease = lease
        self.held = held


class _Hold:
    """One hold of one thread, or its attempt to get one."""

    def __init__(self) -> None:
        token = "/".join((gethostname(), str(os.getpid()), str(current_thread().name), token_hex(8)))
        self.token = token.encode("ascii", "backslashreplace").decode()  # whatever the client's encoding
        self.since = self.lease_from = monotonic()


class _Mine(local):
    """What one thread has of a lock, and what it has last seen of it."""

    def __init__(self) -> None:
        self.holds: list[_Hold] = []
        # An attempt that the server may have granted without our hearing of it.
        self.doubtful: _Hold | None = None
        self.patient = False
        self.failure: Exception | None = None
        self.rival = ""


def _taken(answer: Any) -> str | None:
    """What _TAKE says: None if the lock was taken, or who has it and for how long."""
    if type(answer) is int and answer == 1:
        return None
    token, lease_left = answer if type(answer) is list and len(answer) == 2 else (None, None)
    if not isinstance(token, (bytes, str)) or type(lease_left) is not int:
        raise ValueError("it is neither 1 nor a token and a lease")
    return _describe(token, lease_left)


def _yes(answer: Any) -> bool:
    if type(answer) is not int or answer not in (0, 1):
        raise ValueError("it is neither 0 nor 1")
    return answer == 1


class _Lease:
    """The lock on the server, as `LockAdapter` wants it; each thread holds and releases its own."""

    def __init__(self, server: Server, seconds: float) -> None:
        self.key = server.key
        self.seconds = seconds
        self._server = server
        self.mine = _Mine()

    def acquire(self, *, timeout: float | None = None) -> bool:
        mine = self.mine
        if mine.failure is not None and timeout == 0:  # the first try has used up the time of the wait
            raise mine.failure
        mine.doubtful = hold = mine.doubtful or _Hold()
        try:
            if not poll(partial(self._look, hold), bool, Deadline(timeout)):
                return False
            mine.holds.append(hold)
            mine.doubtful = None
            return True
        except unanswered() as failure:
            mine.failure = failure
            if mine.patient:
                mine.patient = False
                return False
            raise
        except refused():
            raise
        except BaseException:  # an interrupt, at whatever point
            self._undo(hold)
            raise

    def _look(self, hold: _Hold) -> bool:
        hold.since = hold.lease_from = monotonic()
        rival = self._server.run(_taken, _TAKE, hold.token, self._milliseconds())
        if rival is not None:
            self.mine.rival = rival
        return rival is None

    def _undo(self, hold: _Hold) -> None:
        if hold in self.mine.holds:
            self.mine.holds.remove(hold)
        try:
            self._server.run(_yes, _LET_GO, hold.token)
        except Exception:  # noqa: BLE001  the lease will free it
            pass

    def _milliseconds(self) -> int:
        return max(1, round(self.seconds * 1000))

    def release(self) -> None:
        if not self.mine.holds:
            raise RuntimeError(f"cannot release {self.key!r}: the process that this one was forked from holds it")
        hold = self.mine.holds.pop()
        try:
            had_it = self._server.run(_yes, _LET_GO, hold.token)
        except refused():
            raise
        except BaseException:  # an interrupt
            self._undo(hold)
            raise
        if not had_it:
            raise self._expired(hold)

    def renew(self) -> None:
        hold, now = self.mine.holds[-1], monotonic()
        if not self._server.run(_yes, _RENEW, hold.token, self._milliseconds()):
            raise self._expired(hold)
        hold.lease_from = now

    def _expired(self, hold: _Hold) -> LeaseExpiredError:
        now = monotonic()
        ran_out = now - hold.lease_from >= self.seconds
        why = f"its lease of {self.seconds:g} s ran out" if ran_out else "the server lost it, or somebody removed it"
        return LeaseExpiredError(
            f"{self.key!r} was lost in the {now - hold.since:.1f} s since it was taken: {why}, and others may have "
            f"held it meanwhile; check what was done under it, and hold it for less or give it a longer lease",
            lock_name=self.key,
            lease=self.seconds,
            held=now - hold.since,
        )

    def locked(self) -> bool:
        return self._server.ask("EXISTS", _yes)

    def __repr__(self) -> str:
        return f"a lease of {self.seconds:g} s in Redis"


class RedisLock(LockAdapter):
    """A lock on a Redis server, for the threads, processes and machines that know its name.

    Use it to keep work from being done twice at a time by programs that share no memory. It is as a key with a tag: who
    does not bring it back in time is assumed dead, and a second key is cut. So it makes collisions rare and no more:
    where two holders at once would do harm, let what they change refuse the one who is late (see "Past one machine" in
    the documentation).

    Args:
        client: A ``redis.Redis`` of one server, or from Sentinel. Its address, password and time limits are used, over
            connections of the lock's own that never send a command twice.
        name: The key on the server, and what messages call the lock. Not a name that something else uses.
        lease: After how many seconds the server frees the lock by itself, if its holder has not: more than the work
            under it ever takes. It has nothing to do with how long others wait.
        timeout: How long ``with`` waits, in seconds; None, the default, waits for ever and 0 not at all.

    Raises:
        ValueError: The client's ``socket_timeout`` or ``socket_connect_timeout`` is None: a server that has gone would
            be waited for forever. Or the name is empty, or can't be said in the client's encoding; the lease is not
            positive, or the timeout negative or NaN.
        TypeError: The client is another kind, the name not a string, or the lease or timeout not a number.
        OverflowError: The lease or the timeout is larger than `threading.TIMEOUT_MAX`.

    Example:
        >>> from redis import Redis  # doctest: +SKIP
        >>> from syncprims.adapters import RedisLock
        >>> client = Redis("localhost", 6379, socket_timeout=1.0)  # doctest: +SKIP
        >>> nightly = RedisLock(client, "nightly report", lease=60.0, timeout=2.0)  # doctest: +SKIP
        >>> with nightly:  # doctest: +SKIP
        ...     nightly.held_by_me()
        True

    What a server weakens, beside what `LockAdapter` says:

    - The lock may be lost while it is held: when its lease runs out, and when the server is restarted or replaced.
      Leaving the block then raises `LeaseExpiredError`, or adds it as a note to the exception that leaves the block.
    - Who holds it is told by name, but as a `Holder` only where it is a thread of this process.
    - An interrupt, or an answer that is lost, may leave it taken by nobody until the lease ends; if the same thread
      tries again, it gets it.
    - In a forked child it is not held.

    A waiter looks at the server again after a pause that grows from 1 ms to 50 ms. An acquisition without waiting and
    a release are one round trip each.

    Where the server does not answer, a wait with a limit goes on to its end, and the last failure is the cause of the
    `LockTimeoutError`; `acquire` raises the client's own error instead, as False would say that somebody holds the
    lock. A wait without limit raises the client's error at once. A wait may be longer than its limit by the client's
    ``socket_timeout`` and ``socket_connect_timeout``, which limit each exchange with the server as a whole, however
    slowly its answer comes. (The look-up of the server's address is the system's, and that of Sentinel has the limits
    of its own clients.)

    **Fairness.** None: whoever looks first when it is free gets it.

    **Thread safety.** All methods may be called from any thread. Each thread holds and releases its own hold.

    **Differences from redis.lock.Lock.** The same key and protocol, so the two exclude each other. But the lease can't
    be left out, is never mistaken for the wait, and belongs to the hold: one that has run out can't release another's.

    **Subclassing.** As `LockAdapter`.
    """

    def __init__(self, client: Redis, name: str, *, lease: float, timeout: float | None = None) -> None:
        seconds = _check_lease(lease)
        server = Server(client, name, type(self).__name__)
        inside = _Lease(server, seconds)
        super().__init__(inside, timeout, name=server.key)
        self._lease = inside
        self._shared_name = server.key
        self._own_wait = "release it first: a lease can't be taken twice"

    @property
    def lease(self) -> float:
        """After how many seconds the server frees the lock by itself."""
        return self._lease.seconds

    def renew(self) -> None:
        """Begin the lease anew, now; takes one round trip.

        For work in steps of which each, but not all, is shorter than the lease, and to make sure of the lock before
        what can't be undone.

        Raises:
            RuntimeError: The calling thread does not hold the lock.
            LeaseExpiredError: The lock is lost; others may have it. Leaving the block will say so too.
            redis.RedisError: The server did not answer; whether the lease was renewed is not known.
        """
        if not self.held_by_me():
            raise RuntimeError(f"cannot renew the lease of {self.name!r}: this thread does not hold it")
        self._lease.renew()

    def _take(self, limit: float | None, *, raises: bool) -> bool:
        mine, started = self._lease.mine, monotonic()
        # The first try, which does not wait, then leaves a failure to the wait that follows.
        mine.patient = bool(limit)
        try:
            return super()._take(limit, raises=raises)
        except Exception as failure:
            if limit is None or not raises or failure is not mine.failure or monotonic() - started < limit:
                raise
            waited = monotonic() - started
            raise self._late(limit, waited, f"and its Redis server did not answer: {text_of(failure)}") from failure
        finally:
            mine.failure = None

    def _somebody(self) -> str:
        return self._lease.mine.rival

    @staticmethod
    def _after_fork(locks: Collection[LockAdapter]) -> None:
        forget_holders(locks)
        for lock in locks:
            assert isinstance(lock, RedisLock)
            lock._lease.mine = _Mine()


def _check_lease(lease: float) -> float:
    seconds = check_timeout(lease)
    if seconds is None:
        raise TypeError("lease must be a number of seconds, or a holder that dies would keep the lock forever")
    if seconds == 0:
        raise ValueError("lease must be more than 0 seconds")
    return seconds


def _describe(token: bytes | str, lease_left: int) -> str:
    text = shortened(token.decode(errors="replace") if isinstance(token, bytes) else token)
    host, slash, rest = text.partition("/")
    pid, _, rest = rest.partition("/")
    thread = rest.rpartition("/")[0]
    known = slash and pid.isdecimal()
    name = f"Thread {thread!r}" if thread else "a thread without a name"
    who = f"{name} of process {pid} on {host!r}" if known else "a client that is not known"
    ends = f"its lease ends in {lease_left / 1000:.1f} s" if lease_left >= 0 else "it has no lease, so it never ends"
    return f"{who}; {ends}"
