"""`RedisCounter`: an integer on a Redis server, for threads, processes and machines."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, SupportsIndex

from .._core.deadline import Deadline
from .._core.foreign import text_of, words
from .._core.integers import Bounds, integer, shown
from .._core.state import State
from .._core.waits import Waiting
from .._counter.surface import CounterSurface
from .._counter.waiting import says_yes
from ..errors import CounterTimeoutError
from .redis_connection import unanswered
from .redis_server import Script, Server, poll

if TYPE_CHECKING:
    from redis import Redis

# A change is one script, which the server runs in one step. Lua's numbers are exact to 53 bits, Redis's own to 64. So
# Redis computes the sums, and the script compares the digits.
_CHANGE = Script(
    """
local function less(a, b)
  local minus = a:sub(1, 1) == '-'
  if minus ~= (b:sub(1, 1) == '-') then return minus end
  if a == b then return false end
  if #a ~= #b then return (#a < #b) ~= minus end
  return (a < b) ~= minus
end
local key, kind, number, minimum, maximum, expected = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local present = redis.call('GET', key)
local old = present or '0'
if old ~= '0' and not old:match('^-?[1-9]%d*$') then
  return redis.error_reply('ERR the key ' .. key .. ' holds no integer')
end
if kind == 'set' then
  if less(number, minimum) or less(maximum, number) then return {0, old} end
  if expected and old ~= expected then return {1, old, old} end
  redis.call('SET', key, number, 'KEEPTTL')
  return {1, old, number}
end
local sum = redis.pcall('INCRBY', key, number)
if type(sum) == 'table' then
  if sum.err:find('overflow') then return {0, old} end
  return sum
end
local new = redis.call('GET', key)
if less(new, minimum) or less(maximum, new) then
  if present then redis.call('DECRBY', key, number) else redis.call('DEL', key) end
  return {0, old}
end
return {1, old, new}
"""
)

_MOST = 2**63 - 1


class RedisCounter(CounterSurface):
    """An integer on a Redis server, for the threads, processes and machines that know its name.

    Use it like an `AtomicCounter` for programs without shared memory: to count work on a cluster, to hand out numbers,
    to keep a budget. Think of the ticket dispenser at the door: each customer draws the next number.

    Args:
        client: A ``redis.Redis`` of one server, or from Sentinel. The counter uses its address, password and time
            limits, but its own connections, which never send a command twice: a change is made once or not at all.
        name: The key on the server, and the counter's name in messages. A missing key counts as 0.
        minimum: The least value allowed; None, the default, means the least of 64 bits. Every program that changes the
            counter has to give the same bounds, because each change checks them and the server does not store them.
        maximum: The greatest value allowed; None, the default, means the greatest of 64 bits.

    Raises:
        ValueError: The client's ``socket_timeout`` or ``socket_connect_timeout`` is None, so that it could wait forever
            for a server that has gone. Or ``minimum`` is greater than ``maximum``.
        TypeError: The client is of another kind, the name is not a string, or a bound is not an integer.
        OverflowError: A bound does not fit into 64 bits.

    Example:
        >>> from redis import Redis  # doctest: +SKIP
        >>> from syncprims.adapters import RedisCounter
        >>> client = Redis("localhost", 6379, socket_timeout=1.0)  # doctest: +SKIP
        >>> pages = RedisCounter(client, "pages printed", minimum=0, maximum=500)  # doctest: +SKIP
        >>> pages.set(0)  # doctest: +SKIP
        >>> pages.increment(), pages.add(9), pages.value  # doctest: +SKIP
        (1, 10, 10)

    Except for the properties ``name``, ``minimum`` and ``maximum``, all methods take one round trip, and block for at
    most the client's ``socket_timeout`` and ``socket_connect_timeout`` (in addition to a timeout). They raise the
    client's own error if the server does not answer. Then it is not known whether the change was made, and it is not
    made again: if you need an exact count after such failures, use `compare_and_set`.

    **Fairness.** The server makes changes in the order in which they reach it.

    **Thread safety.** All methods may be called from any thread.

    **Differences from AtomicCounter.** Integers have 64 bits, as in Redis; a change beyond them raises
    `CounterBoundsError`. There is no ``update``, because the function could not be guaranteed to run exactly once if
    the connection breaks; use `compare_and_set`. There is no ``reset``, because there is no initial value, and no
    ``_on_change``, because other programs change it. `wait_for` polls the server.

    **Subclassing.** There are no hooks, and no method calls one that may be overridden.
    """

    def __init__(
        self,
        client: Redis,
        name: str,
        *,
        minimum: SupportsIndex | None = None,
        maximum: SupportsIndex | None = None,
    ) -> None:
        self._server = Server(client, name, type(self).__name__)
        self._name = self._server.key
        low = -_MOST if minimum is None else _fitting(minimum, "minimum")
        high = _MOST if maximum is None else _fitting(maximum, "maximum")
        self._bounds = Bounds(low, high)
        self._limits = low, high

    # -- what it is ---------------------------------------------------------------------------------------------------

    @property
    def value(self) -> int:
        """The value right now; one round trip."""
        return self._server.ask("GET", self._number)

    @property
    def name(self) -> str:
        """The key on the server, and the counter's name in messages."""
        return self._name

    def __repr__(self) -> str:
        return f"<syncprims.adapters.{type(self).__name__} object {self._name!r}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"cannot pickle or copy {self!r}: make one from a client and the same name on the other side")

    # -- changing it --------------------------------------------------------------------------------------------------

    def increment(self, n: SupportsIndex = 1) -> int:
        """Add ``n`` and return the new value.

        Args:
            n: The number to add; by default 1.

        Raises:
            CounterBoundsError: The sum is out of bounds. The value stays the same.
            TypeError: ``n`` is not an integer.
            OverflowError: ``n`` does not fit into 64 bits.
            redis.RedisError: The server did not answer, or refused. Whether the change was made is not known.
        """
        return self._change("add", _fitting(n, "n"))[1]

    def decrement(self, n: SupportsIndex = 1) -> int:
        """Subtract ``n`` and return the new value; otherwise like `increment`."""
        return self._change("add", -_fitting(n, "n"))[1]

    def add(self, n: SupportsIndex) -> int:
        """Add ``n`` and return the new value; like `increment`."""
        return self._change("add", _fitting(n, "n"))[1]

    def get_and_add(self, n: SupportsIndex = 1) -> int:
        """Add ``n`` and return the old value; otherwise like `increment`."""
        return self._change("add", _fitting(n, "n"))[0]

    def set(self, new: SupportsIndex) -> None:
        """Set the value.

        Args:
            new: The new value.

        Raises:
            CounterBoundsError: It is out of bounds. The value stays the same.
            TypeError: It is not an integer.
            OverflowError: It does not fit into 64 bits.
            redis.RedisError: The server did not answer, or refused. Whether the change was made is not known.
        """
        self._change("set", _fitting(new, "new"))

    def get_and_set(self, new: SupportsIndex) -> int:
        """Set the value and return the old one; otherwise like `set`."""
        return self._change("set", _fitting(new, "new"))[0]

    def compare_and_set(self, expected: SupportsIndex, new: SupportsIndex) -> bool:
        """Set the value if it is the expected one, in one step on the server.

        Args:
            expected: The value that the counter must have.
            new: The value that it gets then.

        Returns:
            Whether the value was the expected one, and was set.

        Raises:
            CounterBoundsError: The new value is out of bounds, even if the counter does not have the expected value.
                The value stays the same.
            TypeError: One of them is not an integer.
            OverflowError: One of them does not fit into 64 bits.
            redis.RedisError: The server did not answer, or refused. Whether the change was made is not known.
        """
        wanted = _fitting(expected, "expected")
        return self._change("set", _fitting(new, "new"), wanted)[0] == wanted

    def _change(self, kind: str, number: int, *expected: int) -> tuple[int, int]:
        def understand(answer: Any) -> tuple[int, int | None]:
            made, *values = answer if type(answer) is list and answer else (None,)
            if type(made) is not int or made not in (0, 1) or len(values) != 1 + made:
                raise ValueError("it is neither [0, old] nor [1, old, new]")
            old = self._integer(values[0])
            wanted = number if kind == "set" else old + number
            if not made:
                if low <= wanted <= high:
                    raise ValueError(f"{wanted} is within the bounds")
                return old, None
            new = self._integer(values[1])
            if new != (old if expected and old != expected[0] else wanted):
                raise ValueError(f"{old} does not become {new} by this")
            return old, new

        low, high = self._limits
        old, new = self._server.run(understand, _CHANGE, kind, *map(str, (number, low, high, *expected)))
        if new is None:
            self._bounds.check(number if kind == "set" else old + number, self, old)
            raise AssertionError  # the check above has found that it is out of bounds
        return old, new

    # -- waiting for it -----------------------------------------------------------------------------------------------

    def wait_for(self, predicate: Callable[[int], bool], timeout: float | None = None) -> int:
        """Wait until the predicate is true of the value, and return that value.

        It polls the value in pauses that grow from 1 ms to 50 ms, so it may miss a value that comes and goes in
        between. If the counter may grow past the value, use `wait_until`.

        Args:
            predicate: Takes a value and returns whether to stop waiting. It runs in this thread.
            timeout: How long to wait, in seconds. None, the default, waits forever; 0 checks once. With a timeout it
                also waits for a server that does not answer.

        Raises:
            CounterTimeoutError: The time was up. The error has the last value seen (0 if there was none). If the server
                did not answer, the client's error is the cause.
            TypeError: The predicate can't be called.
            ValueError: The timeout is negative or NaN.
            OverflowError: The timeout is larger than `threading.TIMEOUT_MAX`.
            redis.RedisError: The server did not answer and there is no timeout, or the server refused the command.
            Exception: Whatever the predicate raises.
        """
        if not callable(predicate):
            raise TypeError(f"wait_for needs a function of the value, not {words(predicate)}")
        return self._wait(predicate, "a value that the predicate accepts", timeout)

    def wait_until(self, value: SupportsIndex, timeout: float | None = None) -> int:
        """Wait until the value is at least this one, and return the value; otherwise like `wait_for`.

        Args:
            value: The value to wait for.
            timeout: How long to wait, in seconds. None, the default, waits forever; 0 checks once.
        """
        goal = integer(value, "value")
        return self._wait(goal.__le__, f"{shown(goal)} or more", timeout)

    def _wait(self, predicate: Callable[[int], bool], what: str, timeout: float | None) -> int:
        deadline = Deadline(timeout)
        seen = 0
        failure_of_its_own: BaseException | None = None

        def accepts(value: int) -> bool:
            nonlocal seen, failure_of_its_own
            seen = value
            try:
                return says_yes(predicate(value))
            except BaseException as failure:
                failure_of_its_own = failure
                raise

        waiting = Waiting(self, deadline.at, takes_part=False)
        try:
            waiting.publish()
            if poll(partial(self._server.ask, "GET", self._number), accepts, deadline):
                return seen
            raise self._late(f"and it is {shown(seen)}", what, seen, deadline)
        except unanswered() as failure:
            if failure is failure_of_its_own or timeout is None or deadline.remaining():
                raise
            raise self._late(
                f"and its Redis server did not answer: {text_of(failure)}", what, seen, deadline
            ) from failure
        finally:
            failure_of_its_own = None  # otherwise its traceback would keep it alive
            waiting.withdraw()

    def _number(self, answer: Any) -> int:
        """Return the value of the key on the server; a missing key counts as 0."""
        return 0 if answer is None else self._integer(answer)

    def _integer(self, answer: Any) -> int:
        if not isinstance(answer, (bytes, str)):
            raise ValueError("it is no text")
        text = answer.decode(errors="replace") if isinstance(answer, bytes) else answer
        if re.fullmatch("0|-?[1-9][0-9]{0,18}", text) is None:
            from redis import ResponseError

            raise ResponseError(f"the key {self._name!r} holds no integer, but {words(answer)}")
        return int(text)

    def _late(self, how: str, what: str, seen: int, deadline: Deadline) -> CounterTimeoutError:
        waited = deadline.waited()
        return CounterTimeoutError(
            f"waited {waited:.1f} s for {self._name!r} to be {what}, {how}",
            value=seen,
            timeout=deadline.timeout,
            waited=waited,
        )

    def _state(self) -> State:
        return State(self, type(self).__name__, self.name)

    def _up_to(self, waiter: int) -> None:
        """Return None: no known thread has to act before a waiter can go on."""

    def _is_mine(self) -> bool:
        return False


def _fitting(number: SupportsIndex, what: str) -> int:
    value = integer(number, what)
    if abs(value) > _MOST:
        raise OverflowError(f"{what} must be between {-_MOST} and {_MOST}, what Redis can hold, not {shown(value)}")
    return value
