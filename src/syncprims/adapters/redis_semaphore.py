"""`RedisSemaphore`: a number of permits on a Redis server, for threads, processes and machines."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, SupportsIndex
from weakref import ref

from .._core.integers import integer, shown
from .._locks.lock_adapter import LockAdapter
from ..errors import LockTimeoutError
from .lease_holds import LeaseHold
from .leased_lock import LeasedLock, forget_leases
from .leases import PREAMBLE, Leased, check_lease
from .losses import LeaseHolder, holder_of_token
from .redis_server import Script, Server

if TYPE_CHECKING:
    from redis import Redis

# The key is a sorted set: for each taken permit a token, with the time at which its lease ends, by the server's clock.
# Every script first drops the tokens whose time is over.

_BEGIN = (
    PREAMBLE
    + """
local me, lease, member, how, permits = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
redis.call('ZREMRANGEBYSCORE', held, '-inf', now())
local function grant(token, milliseconds)
  redis.call('ZADD', held, string.format('%.0f', micros() + milliseconds * 1000), token)
  local lasts = milliseconds + 1000
  if redis.call('PTTL', held) < lasts then redis.call('PEXPIRE', held, string.format('%.0f', lasts)) end
end
local function holders(most)
  local found = redis.call('ZRANGE', held, 0, most, 'WITHSCORES')
  for i = 2, #found, 2 do found[i] = math.max(0, math.floor((found[i] - micros()) / 1000)) end
  return found
end
"""
)
_TAKE = Script(
    _BEGIN
    + """
local mine = redis.call('ZSCORE', held, me)
while not mine and redis.call('ZCARD', held) < permits do
  local first = redis.call('ZRANGE', queue, 0, 0)[1]
  if first and first ~= member then mine = hand_on(grant) == me else mine = true end
end
if mine then
  local drawn = number()
  grant(me, lease)
  leave_line(member)
  return me .. ' ' .. drawn
end
local answer = {'held', now(), place_of(member, how), 0}
for _, each in ipairs(holders(7)) do table.insert(answer, each) end
return answer
"""
)
_LET_GO = Script(
    _BEGIN
    + """
leave_line(member)
local had_it = redis.call('ZREM', held, me)
while redis.call('ZCARD', held) < permits and hand_on(grant) do end
return had_it
"""
)
_EXTEND = Script(
    _BEGIN
    + """
if not redis.call('ZSCORE', held, me) then return 0 end
grant(me, lease)
return 1
"""
)
_HOLDERS = Script(
    _BEGIN
    + """
return holders(-1)
"""
)


class RedisSemaphore(LeasedLock):
    """A number of permits on a Redis server, for the threads, processes and machines that know its name.

    Use it to limit how often several programs together do something at the same time: calls to an API with a quota,
    licences, heavy queries. Think of the cloakroom of a whole building: each hook has the name of its holder, and if
    the holder does not renew the lease in time, the hook goes to the next in the queue.

    Args:
        client: A ``redis.Redis`` of one server, or from Sentinel. Its address, password and time limits are used, over
            connections of the semaphore's own that never send a command twice.
        name: The key on the server, and the semaphore's name in messages. Nothing else may use this key.
        permits: How many there are; 1 or more. Every program has to give the same number, because the server does not
            store it.
        lease: The seconds after which the server takes a permit back if its holder has not released it. Choose more
            than the work with the permit ever takes, unless the lease is renewed.
        timeout: How long ``with`` waits, in seconds. None, the default, waits forever; 0 does not wait.
        renew: Whether to renew each lease after each third of its time, as long as the permit is held and the thread
            that took it lives; False by default.

    Raises:
        ValueError: The client's ``socket_timeout`` or ``socket_connect_timeout`` is None, so that it could wait forever
            for a server that has gone. Or the name is empty, or the client can't encode it; ``permits`` is less than 1,
            the lease is not positive, or the timeout is negative or NaN.
        TypeError: The client is of another kind, the name is not a string, ``permits`` is not an integer, or the lease
            or timeout is not a number.
        OverflowError: The lease or the timeout is larger than `threading.TIMEOUT_MAX`.

    Example:
        >>> from redis import Redis  # doctest: +SKIP
        >>> from syncprims.adapters import RedisSemaphore
        >>> client = Redis("localhost", 6379, socket_timeout=1.0)  # doctest: +SKIP
        >>> calls = RedisSemaphore(client, "calls to the API", 5, lease=30.0, timeout=2.0, renew=True)  # doctest: +SKIP
        >>> with calls:  # doctest: +SKIP
        ...     calls.value
        4

    Some guarantees are weaker, as with a `RedisLock`: a permit may be lost while it is held, and an interrupt or a lost
    answer may leave one taken until its lease ends. If the server does not answer, it behaves like `RedisLock`.

    **Fairness.** First come, first served. A dead waiter is skipped. A try that does not wait (``acquire(False)``,
    ``hold(0)``) fails while others wait.

    **Thread safety.** All methods may be called from any thread.

    **Differences from TimedSemaphore.** Permits have leases. A thread may take several. No wait counts as a deadlock,
    because holders are on other machines; it ends by timeout or lease. `value` and `holders` ask the server.

    **Subclassing.** Like `RedisLock`.
    """

    def __init__(
        self,
        client: Redis,
        name: str,
        permits: SupportsIndex,
        *,
        lease: float,
        timeout: float | None = None,
        renew: bool = False,
    ) -> None:
        number = _at_least_one(permits, "permits")
        seconds = check_lease(lease)
        server = Server(client, name, type(self).__name__, "token", "queue")
        inside = Leased(server, seconds, renew, (_TAKE, _LET_GO, _EXTEND), ref(self), number)
        super().__init__(inside, timeout, name=server.key)
        self._permits = number
        # The permits that acquire() took, which any thread may give back.
        self._by_hand: deque[LeaseHold] = deque()

    # -- what it is ---------------------------------------------------------------------------------------------------

    @property
    def permits(self) -> int:
        """The number of permits, free and taken."""
        return self._permits

    @property
    def value(self) -> int:
        """How many permits are free right now; one round trip."""
        return max(0, self._permits - len(self.holders))

    @property
    def holders(self) -> tuple[LeaseHolder, ...]:
        """The present holders in all programs; the one whose lease ends first comes first. One round trip.

        A holder of several permits is there several times.
        """
        lease = self._lease
        return lease.server.run(_holders, _HOLDERS, "", "0", "", "", str(self._permits))

    def locked(self) -> bool:
        """Return whether no permit is free; one round trip."""
        return not self.value

    # -- taking and giving back ---------------------------------------------------------------------------------------

    def acquire(self, blocking: bool = True, timeout: float | None = -1) -> bool:
        """Take a permit like `threading.Semaphore.acquire`; `release` gives it back, in any thread.

        Args:
            blocking: False tries once and does not wait.
            timeout: How long to wait, in seconds. -1, the default, and None wait forever.

        Returns:
            Whether a permit was taken.

        Raises:
            TypeError: ``blocking`` is neither a `bool` nor 0 or 1.
            ValueError: A timeout was given with ``blocking=False``, or it is NaN or a negative number other than -1.
            OverflowError: The timeout is larger than `threading.TIMEOUT_MAX`.
            redis.RedisError: The server did not answer, or refused.
        """
        if not super().acquire(blocking, timeout):
            return False
        self._mine().pop()
        self._by_hand.append(self._lease.detach())
        return True

    def release(self, n: SupportsIndex = 1) -> None:
        """Give back permits that `acquire` has taken through this object, in this thread or another.

        Args:
            n: How many; 1 by default.

        Raises:
            ValueError: `acquire` has taken fewer through this object, or ``n`` is less than 1. No permit is given back.
            TypeError: ``n`` is not an integer.
            LeaseExpiredError: One of them was lost. The others are given back.
            redis.RedisError: The server did not answer, or refused. The leases will end.
        """
        number = _at_least_one(n, "n")
        giving = [self._by_hand.pop() for _ in range(number) if self._by_hand]
        if len(giving) < number:
            self._by_hand.extend(reversed(giving))
            raise ValueError(
                f"cannot release {shown(number)} of {self.name!r}: acquire() has taken {len(giving)} through this "
                f"object that are not released; a permit that `with` has taken is given back by leaving the block"
            )
        failures: list[Exception] = []
        for hold in giving:
            try:
                self._lease.let_go(hold)
            except Exception as failure:  # noqa: BLE001  raised below, when the rest has been given back
                failures.append(failure)
        if failures:
            raise failures[0]

    def _late(self, limit: float | None, waited: float, why: str | None = None) -> LockTimeoutError:
        return super()._late(limit, waited, why or f"whose permits are all taken: {self._somebody()}")

    @staticmethod
    def _after_fork(locks: Collection[LockAdapter]) -> None:
        forget_leases(locks)
        for lock in locks:
            assert isinstance(lock, RedisSemaphore)
            lock._by_hand = deque()


def _at_least_one(number: SupportsIndex, what: str) -> int:
    value = integer(number, what)
    if value < 1:
        raise ValueError(f"{what} must be at least 1, not {shown(value)}")
    return value


def _holders(answer: Any) -> tuple[LeaseHolder, ...]:
    parts = answer if type(answer) is list and len(answer) % 2 == 0 else [None]
    if not all(type(each) is int for each in parts[1::2]) or len(parts) % 2:
        raise ValueError("it is not a list of tokens and times")
    return tuple(map(holder_of_token, parts[::2], parts[1::2]))
