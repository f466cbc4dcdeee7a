"""Leases on a Redis server: how a thread gets one in its turn, keeps it, and releases it."""

from __future__ import annotations

from collections.abc import Callable
from threading import get_ident, local
from typing import TYPE_CHECKING, Any

from .._core.clock import monotonic, sleep
from .._core.deadline import Deadline, check_timeout
from ..facts import Frozen
from . import renewing
from .lease_holds import LeaseHold
from .losses import LeaseHolder, Surface, holder_of_token, text_of_part
from .redis_connection import refused, unanswered
from .redis_server import Pauses, Script, ScriptCall, Server

if TYPE_CHECKING:
    from .redis_inbox import Inbox

# The waiters are on the server, in a sorted set: a member is the inbox, the lease and the token of a waiter, and its
# score is the time of its arrival. A release passes the lock to the first waiter that listens. The server publishes to
# that waiter's inbox, and if a client received the message, the waiter becomes the holder in the same step. So a dead
# waiter is skipped at once, no newcomer gets in between, and passing the lock takes one message to the server and one
# from it.
#
# Waiters also check without a message: for a lease that ends (at that moment, one waiter after the other), for a
# release by a client of another kind (in short pauses), and for a silent server (once a second).
#
# A lock also has turns, see `redis_lock`: then its first waiter gets a message that the lock is free, and asks for it.
#
# Rejected: publishing to all waiters that the lock is free, so that all of them try to acquire it.

PREAMBLE = """
local held, fence, queue = KEYS[1], KEYS[2], KEYS[3]
local at
local function micros()
  if not at then
    local time = redis.call('TIME')
    at = time[1] * 1000000 + time[2]
  end
  return at
end
local function now()
  return string.format('%.0f', micros())
end
local function number()
  local following = (tonumber(redis.call('GET', fence) or 0) or 0) + 1
  local text = string.format('%.0f', math.max(micros(), following))
  redis.call('SET', fence, text, 'EX', 604800)
  return text
end
local function hand_on(grant)
  while true do
    local first = redis.call('ZPOPMIN', queue)[1]
    if not first then return false end
    local inbox, lease, token = first:match('^(%S+) (%d+) (.*)$')
    if token and redis.call('PUBLISH', inbox, number() .. ' ' .. now() .. ' ' .. token) > 0 then
      grant(token, lease)
      return token
    end
  end
end
local function line_up(member)
  redis.call('ZADD', queue, 'NX', now(), member)
  redis.call('PEXPIRE', queue, 60000)
  return redis.call('ZRANK', queue, member)
end
local function leave_line(member)
  if member ~= '' then redis.call('ZREM', queue, member) end
end
local function place_of(member, how)
  if how == 'wait' then return line_up(member) end
  if how == 'last' then leave_line(member) end
  return 0
end
"""
"""The beginning of the scripts.

micros, now
    The server's time in microseconds, as a number and as a text. It is the same all through a script.
number
    Returns a number that is greater than all before it. It is the server's time in microseconds, or one more than the
    last number: so it grows even if the server has forgotten that, and nothing has to be kept for a name that is not
    used any more. It comes before the grant: what a script has done before an error stays done.
hand_on
    Hands on to the first waiter that listens, and returns its token; false if there is none.
line_up
    Makes a member wait in the queue, and returns its place there, from 0.
leave_line
    Takes a member out of the queue; an empty one is none.
place_of
    Does for a member that gets nothing what its try asks for, and returns its place in the queue, or 0: it may `wait`,
    or this is its `last` try.
"""

RECHECK = 1.0  # seconds after which a waiter checks, at most
_APART = 0.01  # seconds between the checks of two waiters after the end of a lease
_GRACE = 0.002  # seconds that a waiter whose turn it is leaves to the thread that has released the lock


class Mine(local):
    """The state of one thread: its attempts to get the lock, and how it waits."""

    def __init__(self) -> None:
        # A try whose answer was lost: the server may have granted it.
        self.doubtful: LeaseHold | None = None
        self.patient: bool = False
        self.failure: Exception | None = None
        # Whether a wait will follow a try; and the thread's place in the queue, if it has one already.
        self.waits: bool = False
        self.lined_up: tuple[Inbox, _Refusal] | None = None
        self.rivals: tuple[LeaseHolder, ...] = ()
        self.life: _Life = _Life()


class _Life:
    """An object that goes away when its thread has ended."""


class _Refusal(Frozen):
    """The server's answer that a lease is not to be had now.

    Attributes:
        at: The server's time in microseconds.
        place: The waiter's place in the queue.
        again: For how many milliseconds a thread that has released the lock may take it again before the first waiter.
        rivals: The holders; the one whose lease ends first comes first.
    """

    __slots__ = ("at", "place", "again", "rivals")  # noqa: RUF023  the order of the arguments

    at: int
    place: int
    again: int
    rivals: tuple[LeaseHolder, ...]

    def __init__(self, at: int, place: int, again: int, rivals: tuple[LeaseHolder, ...]) -> None:
        self._set(at, place, again, rivals)

    def pause(self, pauses: Pauses, deadline: Deadline) -> float:
        """Return how long to wait for a message before the next check."""
        if not all(rival.pid for rival in self.rivals):  # a client that passes the lock to no waiter
            return pauses.next(deadline)
        ends = [rival.lease_left for rival in self.rivals if rival.lease_left is not None]
        until = min(RECHECK, *(left + 0.001 + self.place * _APART for left in ends[:1]))
        if self.again:
            until = min(until, self.again / 1000 + self.place * _APART)
        return _within(until, deadline)


class Leased:
    """The lock that is leased from the server, for `LockAdapter`; each thread holds and releases its own lease.

    Attributes:
        server: The server and the key.
        seconds: The length of a lease.
        milliseconds: The same for the server.
        holds: The holds of each thread, by its ident.
        latest: The last hold of any thread.
        mine: The state of the calling thread.
        surface: Returns the user's object, as long as that is alive.
    """

    def __init__(
        self,
        server: Server,
        seconds: float,
        renew: bool,
        scripts: tuple[Script, Script, Script],
        surface: Callable[[], Surface | None],
        *arguments: int,
    ) -> None:
        self.server = server
        self.seconds = seconds
        self.milliseconds: int = max(1, round(seconds * 1000))
        self._milliseconds = str(self.milliseconds)
        self.holds: dict[int, list[LeaseHold]] = {}
        self.latest: LeaseHold | None = None
        self.mine: Mine = Mine()
        self.surface = surface
        self.renews: bool = renew
        self._take, self._let_go, self._extend = scripts
        self._arguments = tuple(map(str, arguments))

    # -- taking -------------------------------------------------------------------------------------------------------

    def acquire(self, *, timeout: float | None = None) -> bool:
        """Get a lease, in turn; return whether the thread got one."""
        mine = self.mine
        if mine.failure is not None and timeout == 0:  # the first try has used up the time of the wait
            raise mine.failure
        mine.doubtful = hold = mine.doubtful or LeaseHold(self, mine.life)
        taken = False
        try:
            if self.renews:
                renewing.renewer.add(hold)  # before the lease: this fails if no thread can be started
            taken = self._try(hold) if timeout == 0 else self._wait(hold, Deadline(timeout))
            if taken:
                self._own().append(hold)
                self.latest = hold
                mine.doubtful = None
                hold.inbox = ""
                if self.renews:
                    hold.due = hold.lease_from + self.seconds / 3
                    renewing.renewer.look(hold)
            return taken
        except unanswered() as failure:
            mine.failure = failure
            if mine.patient and timeout == 0:  # the wait that follows may succeed
                return False
            raise
        except refused():
            raise
        except BaseException:  # an interrupt, at any point
            taken = False
            self._undo(hold)
            raise
        finally:
            if not taken and self.renews:
                renewing.renewer.drop(hold)

    def _own(self) -> list[LeaseHold]:
        me = get_ident()
        own = self.holds.get(me)
        return self.holds.setdefault(me, []) if own is None else own

    def _try(self, hold: LeaseHold) -> bool:
        """Try once. If a wait will follow, and an inbox is connected already, join the queue at once."""
        mine = self.mine
        inbox = self.server.idle_inbox() if mine.waits and not self.holds.get(get_ident()) else None
        if inbox is None:
            return self._ask(hold, "try", "")
        try:
            answer = self._look(hold, "wait", inbox.address)
        except BaseException:
            inbox.close()
            raise
        if isinstance(answer, int):
            self.server.give_back(inbox)
            hold.number = answer
            return True
        mine.rivals = answer.rivals
        mine.lined_up = inbox, answer
        return False

    def leave_queue(self) -> None:
        """Undo a try that a wait was to follow."""
        mine = self.mine
        if mine.lined_up is not None and mine.doubtful is not None:
            mine.lined_up[0].close()
            mine.lined_up = None
            self._undo(mine.doubtful)

    def _ask(self, hold: LeaseHold, how: str, inbox: str) -> bool:
        answer = self._look(hold, how, inbox)
        if isinstance(answer, int):
            hold.number = answer
            return True
        self.mine.rivals = answer.rivals
        return False

    def _look(self, hold: LeaseHold, how: str, inbox: str) -> int | _Refusal:
        if inbox:
            hold.inbox = inbox
        hold.since = now = monotonic()
        hold.leased(now)

        def understand(answer: Any) -> int | _Refusal:
            if isinstance(answer, (bytes, str)):
                token, _, number = text_of_part(answer).rpartition(" ")
                if token == hold.token and number.isdecimal():
                    return int(number)
            return _refusal(answer)

        return self.server.run(
            understand, self._take, hold.token, self._milliseconds, hold.member, how, *self._arguments
        )

    def _wait(self, hold: LeaseHold, deadline: Deadline) -> bool:
        from redis.exceptions import AuthenticationError

        inbox: Inbox | None = None
        answer: int | _Refusal | None = None
        if self.mine.lined_up is not None:
            (inbox, answer), self.mine.lined_up = self.mine.lined_up, None
        pauses = Pauses()
        try:
            while True:
                try:
                    inbox = inbox or self.server.inbox()
                    answer = self._look(hold, "wait", inbox.address) if answer is None else answer
                    if isinstance(answer, int):
                        hold.number = answer
                        return True
                    self.mine.rivals = answer.rivals
                    heard = inbox.receive(hold.token, answer.pause(pauses, deadline))
                    if heard is not None and not heard[0]:  # a message that the lock is free
                        heard = inbox.receive(hold.token, _within(_GRACE, deadline))
                    if heard is not None and heard[0] and self._granted(hold, answer, *heard):
                        return True
                    if heard is None and deadline.remaining() == 0:
                        return self._ask(hold, "last", "")
                    answer = None
                except AuthenticationError:
                    raise
                except unanswered():
                    answer = None
                    if inbox is not None:
                        inbox.close()
                        inbox = None
                    if not deadline.remaining():
                        raise
                    sleep(pauses.next(deadline))
        except BaseException:
            if inbox is not None:
                inbox.close()
                inbox = None
            raise
        finally:
            if inbox is not None:
                self.server.give_back(inbox)

    def _granted(self, hold: LeaseHold, refusal: _Refusal, number: int, at: int) -> bool:
        """Note that the lease was granted some time after the refusal; return False if that came after its end."""
        now = monotonic()
        hold.leased(min(hold.since + max(0, at - refusal.at) / 1_000_000, now))
        hold.since = now
        hold.number = number
        return now < hold.ends

    def _undo(self, hold: LeaseHold) -> None:
        own = self._own()
        if hold in own:
            own.remove(hold)
        hold.leaving = True
        hold.is_over(False)
        renewing.renewer.drop(hold)
        if self.mine.doubtful is hold:
            self.mine.doubtful = None
        try:
            self._give(hold)
        except Exception:  # noqa: BLE001  the lease will free it
            pass

    # -- keeping it, and releasing it---------------------------------------------------------------------------------

    def release(self) -> None:
        """Release the last hold of the calling thread."""
        self.release_of(get_ident())

    def release_of(self, ident: int) -> None:
        """Release the last hold of that thread."""
        holds = self.holds.get(ident)
        if not holds:
            raise RuntimeError(
                f"cannot release {self.server.key!r}: the process that this one was forked from holds it"
            )
        self.let_go(holds.pop())

    def detach(self) -> LeaseHold:
        """Return the calling thread's last hold, which then belongs to no thread."""
        return self._own().pop()

    def let_go(self, hold: LeaseHold) -> None:
        """Release a hold.

        Raises:
            LeaseExpiredError: It was lost.
            redis.RedisError: The server did not answer, or refused.
        """
        hold.leaving = True
        if self.renews:
            renewing.renewer.drop(hold)
        try:
            had_it = self._give(hold)
        except refused():
            hold.is_over(True)
            raise
        except BaseException:  # an interrupt
            self._undo(hold)
            raise
        if not had_it:
            raise hold.report_here()
        hold.is_over(False)

    def _give(self, hold: LeaseHold) -> bool:
        return self.server.run(yes, self._let_go, hold.token, self._milliseconds, hold.member, "", *self._arguments)

    def renew(self) -> None:
        """Renew the lease of the calling thread's last hold."""
        hold, now = self._own()[-1], monotonic()
        if not self.extend(hold):
            raise hold.report_here()
        hold.leased(now)

    def extend(self, hold: LeaseHold) -> bool:
        """Renew the lease of a hold; return False if it is lost."""
        return self.server.run(yes, self._extend, hold.token, self._milliseconds)

    def extending(self, hold: LeaseHold) -> ScriptCall[bool]:
        """Return the call that renews the lease of a hold."""
        return self.server.call(yes, self._extend, hold.token, self._milliseconds)

    def current(self) -> LeaseHold | None:
        """Return the last hold of the calling thread, or otherwise the last hold of any thread."""
        own = self.holds.get(get_ident())
        return own[-1] if own else self.latest

    def rivals(self) -> str:
        """Name the holders at the calling thread's last check."""
        rivals = self.mine.rivals
        return ", ".join(map(str, rivals)) if len(rivals) < 2 else "; ".join(f"({rival})" for rival in rivals)

    def forget(self) -> None:
        """In a forked child: hold no lease of the parent's."""
        self.holds = {}
        self.latest = None
        self.mine = Mine()

    def __repr__(self) -> str:
        return f"a lease of {self.seconds:g} s in Redis"


def _within(seconds: float, deadline: Deadline) -> float:
    left = deadline.remaining()
    return seconds if left is None else min(seconds, left)


def yes(answer: Any) -> bool:
    """Return whether an answer of 0 or 1 means yes."""
    if type(answer) is not int or answer not in (0, 1):
        raise ValueError("it is neither 0 nor 1")
    return answer == 1


def _refusal(answer: Any) -> _Refusal:
    what, at, place, again, *rivals = answer if type(answer) is list and len(answer) > 5 else ("", "", 0, 0)
    integers = all(type(each) is int for each in (place, again, *rivals[1::2])) and len(rivals) % 2 == 0
    if text_of_part(what) != "held" or not text_of_part(at).isdecimal() or not integers:
        raise ValueError("it is neither a number for this hold nor a place in the queue and who has it")
    return _Refusal(int(text_of_part(at)), place, again, tuple(map(holder_of_token, rivals[::2], rivals[1::2])))


def check_lease(lease: float) -> float:
    """Return the lease in seconds, or raise if it is not valid."""
    seconds = check_timeout(lease)
    if seconds is None:
        raise TypeError("lease must be a number of seconds, or a holder that dies would keep the lock forever")
    if seconds == 0:
        raise ValueError("lease must be more than 0 seconds")
    return seconds
