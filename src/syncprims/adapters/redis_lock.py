"""`RedisLock`: a distributed lock on a Redis server, for threads, processes and machines, with a lease."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING
from weakref import ref

from .._locks.lock_adapter import LockAdapter
from .leased_lock import LeasedLock, forget_leases
from .leases import PREAMBLE, Leased, check_lease, yes
from .redis_server import Script, Server

if TYPE_CHECKING:
    from redis import Redis

# The key holds a token that is new for each hold, and expires with the lease. This is the protocol of redis-py's own
# lock, and the two exclude each other. They differ if the answer of the server is lost. Here the token is known before
# it is sent, and if the token already holds the lock, acquiring with it succeeds. So a thread that tries again gets the
# lock that an unanswered try may have acquired.
#
# Passing the lock on costs a switch between two processes, and if holds are short, that costs more than they do. So a
# thread that got the lock from the queue has a turn: until the turn is over it may take the lock again, before the
# others. When it first releases the lock in its turn, the first waiter gets a message, waits a moment for the thread to
# come back, and takes the lock if it has not. Then turns are only as long as a hold for some time. The key of the turn
# has three words: when the turn is over (or when the time without turns is), since when the lock has been free in it
# (0: not yet), and the thread whose turn it is (none: there are no turns now).
#
# Rejected: no turns, which halves the holds in a second if the holds are empty. Turns for any newcomer: threads that
# were busy elsewhere while the lock was free then pass the queue. A message at each release: each wakes a waiter
# without need.
#
# Rejected: redis-py's lock itself. It keeps one token per object, so a thread whose lease has run out releases the next
# holder's hold; its own first try refuses a retry of its `SET NX`; its waits end up to 0.1 s early.

_GRANT = (
    PREAMBLE
    + """
local turn = KEYS[4]
local me, lease, member, how = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local first = redis.call('ZRANGE', queue, 0, 0)[1]
local over, free_since, whose = 0, 0, ''
if first then
  over, free_since, whose = string.match(redis.call('GET', turn) or '', '^(%d+) (%d+) (.*)$')
  over, free_since, whose = tonumber(over or 0), tonumber(free_since or 0), whose or ''
end
local function thread_of(token)
  return token:match('^(.*)/') or token
end
local function my_turn()
  return whose == thread_of(me) and micros() < over
end
local function note_turn(till, since, thread)
  redis.call('SET', turn, string.format('%.0f %.0f %s', till, since, thread), 'PX', 1000)
end
local function begin_turn(token)
  if whose ~= '' or micros() >= over then
    note_turn(micros() + math.min(30000, 240000 / (1 + redis.call('ZCARD', queue))), 0, thread_of(token))
  end
end
local function grant(token, milliseconds)
  redis.call('SET', held, token, 'PX', milliseconds)
end
local function hand_over()
  local holder = hand_on(grant)
  if holder then begin_turn(holder) end
  return holder
end
local function invite()
  while first do
    local inbox, _, token = first:match('^(%S+) (%d+) (.*)$')
    if token and redis.call('PUBLISH', inbox, '0 ' .. now() .. ' ' .. token) > 0 then return end
    leave_line(first)
    first = redis.call('ZRANGE', queue, 0, 0)[1]
  end
end
"""
)
_TAKE = Script(
    _GRANT
    + """
local holder = redis.call('GET', held)
if not holder then
  if not first or first == member or (free_since > 0 and my_turn()) then
    holder = me
  else
    holder = hand_over() or me
  end
end
if holder == me then
  local drawn = number()
  grant(me, lease)
  leave_line(member)
  if first == member and free_since > 0 and micros() - free_since > 1500 then
    note_turn(micros() + 50000, 0, '')
  elseif first == member then
    begin_turn(me)
  end
  return me .. ' ' .. drawn
end
local again = 0
if free_since > 0 and micros() < over then again = math.ceil((over - micros()) / 1000) end
return {'held', now(), place_of(member, how), again, holder, redis.call('PTTL', held)}
"""
)
_LET_GO = Script(
    _GRANT
    + """
leave_line(member)
local holder = redis.call('GET', held)
if holder ~= me then
  if not holder then hand_over() end
  return 0
end
if first and my_turn() then
  redis.call('DEL', held)
  note_turn(over, micros(), whose)
  if free_since == 0 then invite() end
elseif not first or not hand_over() then
  redis.call('DEL', held)
end
return 1
"""
)
_EXTEND = Script("""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
""")


class RedisLock(LeasedLock):
    """A distributed lock on a Redis server, for the threads, processes and machines that know its name.

    Use it to keep programs without shared memory from doing the same work at the same time. Think of a key that a guest
    has to return by noon: if it does not come back, the hotel makes a second key. So two holders at the same time are
    rare, but possible. If that would do harm, let the storage refuse the late one (see "Past one machine" in the
    documentation).

    Args:
        client: A ``redis.Redis`` of one server, or from Sentinel. Its address, password and time limits are used, over
            connections of the lock's own that never send a command twice.
        name: The key on the server, and the lock's name in messages. Nothing else may use this key.
        lease: The seconds after which the server frees the lock if its holder has not released it. Choose more than the
            work under the lock ever takes, unless the lease is renewed.
        timeout: How long ``with`` waits, in seconds. None, the default, waits forever; 0 does not wait.
        renew: Whether to renew the lease after each third of its time, as long as the lock is held and the thread that
            holds it lives; False by default. One thread of the process renews all leases.

    Raises:
        ValueError: The client's ``socket_timeout`` or ``socket_connect_timeout`` is None, so that it could wait forever
            for a server that has gone. Or the name is empty, or the client can't encode it; the lease is not positive,
            or the timeout is negative or NaN.
        TypeError: The client is of another kind, the name is not a string, or the lease or timeout is not a number.
        OverflowError: The lease or the timeout is larger than `threading.TIMEOUT_MAX`.

    Example:
        >>> from redis import Redis  # doctest: +SKIP
        >>> from syncprims.adapters import RedisLock
        >>> client = Redis("localhost", 6379, socket_timeout=1.0)  # doctest: +SKIP
        >>> nightly = RedisLock(client, "nightly report", lease=60.0, timeout=2.0)  # doctest: +SKIP
        >>> with nightly:  # doctest: +SKIP
        ...     nightly.held_by_me()
        True

    Some guarantees are weaker with a server, besides those in `LockAdapter`:

    - The lock may be lost while it is held: if its lease runs out, or the server is restarted or replaced. The end of
      the block then raises `LeaseExpiredError`, or adds it as a note to the block's own exception.
    - Messages name the holder, but there is a `Holder` only if it is a thread of this process.
    - An interrupt, or a lost answer, may leave it locked without a holder until the lease ends; if the same thread
      tries again, it gets the lock.
    - In a forked child it is not held.

    Waiters form a queue on the server, and a release passes the lock to the first of them. A dead waiter is skipped. A
    lock uses three more keys, whose names begin with ``{name}``. Acquiring a free lock takes one round trip, and so
    does a release.

    With ``renew=True`` the work may take any time, and the lease still ends soon after its holder has died. But a lease
    can still be lost, if the server or the network fails for longer than the lease, or if this process is stopped. Then
    `lost` is set while the work goes on, the hook `_on_lost` is called, and the end of the block raises
    `LeaseExpiredError`. If a late holder must not write, the storage has to check its `token`.

    If the server does not answer, a wait with a timeout goes on until its timeout, and the last failure is the cause of
    the `LockTimeoutError`. `acquire` raises the client's own error instead, because False would mean that another
    client holds the lock. A wait without a timeout raises the client's error at once. A wait may take longer than its
    timeout, by the client's ``socket_timeout`` and ``socket_connect_timeout``. These limit each exchange with the
    server as a whole, even if the answer comes byte by byte. (They don't limit the look-up of the server's address, or
    Sentinel's clients, which have their own limits.)

    **Fairness.** First come, first served, among all programs, with one exception. A thread that got the lock from the
    queue may acquire it again before the others for 30 ms, or less if many wait, so that not every short hold needs a
    switch of processes. If it does not come back at once, the first waiter gets the lock. Outside of such a turn, a try
    that does not wait (``acquire(False)``, ``hold(0)``) fails while others wait. Locks of redis-py itself, and waiters
    of earlier versions, are not in the queue.

    **Thread safety.** All methods may be called from any thread. Each thread holds and releases its own hold.

    **Differences from redis.lock.Lock.** The same key and protocol, so the two exclude each other. But here the lease
    is required and separate from the timeout, and a holder whose lease has run out can't release the lock of another.

    **Subclassing.** Like `LockAdapter`, with one more hook, `_on_lost`.
    """

    def __init__(
        self, client: Redis, name: str, *, lease: float, timeout: float | None = None, renew: bool = False
    ) -> None:
        seconds = check_lease(lease)
        server = Server(client, name, type(self).__name__, "token", "queue", "turn")
        inside = Leased(server, seconds, renew, (_TAKE, _LET_GO, _EXTEND), ref(self))
        super().__init__(inside, timeout, name=server.key)
        self._own_wait = "release it first: a lease can't be taken twice"

    def locked(self) -> bool:
        """Return whether any client holds the lock; one round trip."""
        return self._lease.server.ask("EXISTS", yes)

    @staticmethod
    def _after_fork(locks: Collection[LockAdapter]) -> None:
        forget_leases(locks)
