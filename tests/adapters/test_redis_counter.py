"""`RedisCounter` on a real server: exact for all clients, within its bounds and within 64 bits."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import pytest

from adapters.examples import run_examples
from adapters.servers import RedisServer
from syncprims import CounterBoundsError, CounterTimeoutError
from syncprims.adapters import RedisCounter
from syncprims.testing import Threads, check_counter, patience

if TYPE_CHECKING:
    from redis import Redis

MOST: Final = 2**63 - 1

# The guarantees that a counter on a server lacks, and their clauses.
WEAKENED: Final = (
    "an integer of any size is exact",
    "update() calls its function once, with the value, and returns the new one",
    "no other change comes in the middle of an update()",
    "an update() whose function raises changes nothing",
    "a change from within its own update() raises DeadlockError",
    "a counter is usable in a forked child",  # it forks in the middle of an update()
    "an interrupt anywhere in a change leaves it made or not made, and the counter usable",  # of an update() too
    "wait_until() sees a value that came and went",
    "a counter shows its name in repr(), can be weakly referenced, and can't be pickled",  # repr() asks no server
)


class Complete(RedisCounter):
    """It adds the methods that are left out on purpose, as far as possible, so that the kit can try the rest."""

    initial = 0

    def update(self, fn: Callable[[int], int]) -> int:
        """Try until no other client comes in between: the function may run several times."""
        while True:
            value = self.value
            new = fn(value)
            if self.compare_and_set(value, new):
                return new

    def reset(self) -> int:
        """Restore the value that the factory began with."""
        return self.get_and_set(self.initial)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # interrupted, redis-py drops sockets
def test_it_keeps_the_contract_of_a_counter_but_for_the_clauses_listed(client: Redis, key: str) -> None:
    """The conformance kit passes it, without the clauses that no counter on a server can keep."""
    serials = iter(range(1_000_000))

    def make(value: int = 0, **bounds: Any) -> Any:
        counter = Complete(client, f"{key}-{next(serials)}", **bounds)
        counter.set(value)
        counter.initial = value
        return counter

    assert check_counter(make, without=WEAKENED).broken == ()


def test_the_examples_of_the_documentation_run(shared_server: RedisServer) -> None:
    """The class's docstring shows the true outcomes."""
    run_examples(RedisCounter, shared_server)


def test_a_key_that_is_not_there_is_zero_and_two_objects_are_one_counter(client: Redis, key: str) -> None:
    """The key on the server is the counter; objects only refer to it."""
    one, other = RedisCounter(client, key), RedisCounter(client, key)
    assert (one.value, int(one), f"{one:02}", one.name) == (0, 0, "00", key)
    assert one.increment() == 1
    assert other.decrement(3) == -2
    assert one.add(5) == 3
    assert other.get_and_add(4) == 3
    assert one.get_and_set(9) == 7
    assert other.compare_and_set(9, 1)
    assert not one.compare_and_set(9, 2)
    assert int(client.get(key) or 0) == 1


def test_bounds_are_checked_on_the_server_before_anything_changes(client: Redis, key: str) -> None:
    """A change out of bounds reports the counter's value, and does not create a missing key."""
    counter = RedisCounter(client, key, minimum=-3, maximum=7)
    assert (counter.minimum, counter.maximum) == (-3, 7)
    for change in (lambda: counter.add(8), lambda: counter.decrement(4), lambda: counter.set(8)):
        with pytest.raises(CounterBoundsError) as caught:
            change()
        facts = (caught.value.value, caught.value.minimum, caught.value.maximum)
        assert facts == (0, -3, 7)
    assert not client.exists(key)
    assert counter.add(7) == 7
    with pytest.raises(CounterBoundsError, match="can't become 8, more than its maximum 7; it stays at 7"):
        counter.increment()
    with pytest.raises(CounterBoundsError):
        counter.compare_and_set(6, 8)
    assert counter.decrement(10) == -3
    with pytest.raises(CounterBoundsError, match="it stays at -3"):
        counter.decrement()
    assert counter.value == -3


@pytest.mark.parametrize("start", [2**53 - 1, 2**53, 2**62, MOST - 1, -(2**53) - 1, -MOST + 1, 0, -1])
def test_it_is_exact_to_64_bits(client: Redis, key: str, start: int) -> None:
    """It is exact where floating-point numbers would round, and so are its comparisons."""
    counter = RedisCounter(client, key, minimum=start - 1, maximum=start + 1)
    counter.set(start)
    assert counter.increment() == start + 1
    with pytest.raises(CounterBoundsError):
        counter.increment()
    assert counter.decrement(2) == start - 1
    with pytest.raises(CounterBoundsError):
        counter.decrement()
    assert counter.get_and_add(1) == start - 1
    assert not counter.compare_and_set(start + 1, start)
    assert counter.compare_and_set(start, start + 1)
    assert counter.value == start + 1


def test_a_sum_beyond_64_bits_is_out_of_bounds(client: Redis, key: str) -> None:
    """It is refused like any other, and the value stays."""
    counter = RedisCounter(client, key)
    for end, step in ((MOST, 1), (-MOST, -1), (MOST, MOST), (-MOST, -MOST)):
        counter.set(end)
        with pytest.raises(CounterBoundsError) as caught:
            counter.add(step)
        assert caught.value.value == counter.value == end
    for too_large in (2**63, -(2**63), 2**200):
        for change in (counter.add, counter.set, counter.increment, counter.decrement):
            with pytest.raises(OverflowError, match="what Redis can hold"):
                change(too_large)
        with pytest.raises(OverflowError):
            RedisCounter(client, key, maximum=too_large)


def test_a_key_with_a_life_of_its_own_keeps_it(client: Redis, key: str) -> None:
    """Changes, even refused ones, leave the expiry of the key as it is."""
    counter = RedisCounter(client, key, maximum=5)
    counter.set(1)
    client.expire(key, 1000)
    counter.increment()
    counter.set(4)
    with pytest.raises(CounterBoundsError):
        counter.add(2)
    assert client.ttl(key) > 900


@pytest.mark.parametrize("stored", ["text", "1.5", "007", "", "1 "])
def test_a_key_that_holds_something_else_is_an_error(client: Redis, key: str, stored: str) -> None:
    """It is neither counted nor overwritten."""
    from redis.exceptions import ResponseError

    client.set(key, stored)
    counter = RedisCounter(client, key)
    for change in (counter.increment, lambda: counter.set(1), lambda: counter.compare_and_set(1, 2)):
        with pytest.raises(ResponseError, match="holds no integer"):
            change()
    assert client.get(key) == stored.encode()


def test_a_waiter_sees_what_another_counts(client: Redis, key: str) -> None:
    """wait_until() returns once the value has been reached, and wait_for() once the predicate is true."""
    counter = RedisCounter(client, key)
    with Threads() as threads:
        reached = threads.start(counter.wait_until, 3, patience())
        odd = threads.start(counter.wait_for, lambda value: value == 3, None)
        for _ in range(3):
            RedisCounter(client, key).increment()
        assert reached.result() == odd.result() == 3


def test_a_wait_that_fails_says_what_the_value_is(client: Redis, key: str) -> None:
    """CounterTimeoutError has the value, the limit and the time waited."""
    counter = RedisCounter(client, key)
    counter.set(2)
    waits: list[Callable[[float], int]] = [
        lambda limit: counter.wait_until(3, limit),
        lambda limit: counter.wait_for(lambda value: value > 2, limit),
    ]
    for wait in waits:
        for limit in (0, 0.05):
            with pytest.raises(CounterTimeoutError, match="and it is 2") as caught:
                wait(limit)
            assert (caught.value.value, caught.value.timeout) == (2, limit)
            assert caught.value.waited >= 0.9 * limit
    with pytest.raises(ZeroDivisionError):
        counter.wait_for(lambda value: value // 0 == 1, patience())


def test_wrong_arguments_are_refused(shared_server: RedisServer, client: Redis, key: str) -> None:
    """A client without limits, bounds the wrong way round, and values that are not integers."""
    from redis import Redis

    endless = Redis("127.0.0.1", shared_server.port, socket_timeout=None)
    with pytest.raises(ValueError, match="RedisCounter needs a client whose socket_timeout is bounded"):
        RedisCounter(endless, key)
    with pytest.raises(ValueError, match="greater than maximum"):
        RedisCounter(client, key, minimum=2, maximum=1)
    with pytest.raises(TypeError):
        RedisCounter(client, 7)  # type: ignore[arg-type]  # this is the point
    with pytest.raises(TypeError):
        RedisCounter(object(), key)  # type: ignore[arg-type]  # this is the point
    counter = RedisCounter(client, key)
    for wrong in (True, 1.0, "1", None):
        with pytest.raises(TypeError):
            counter.add(wrong)  # type: ignore[arg-type]  # this is the point
    with pytest.raises(TypeError, match="a function of the value"):
        counter.wait_for(3)  # type: ignore[arg-type]  # this is the point
    with pytest.raises(ValueError, match="timeout"):
        counter.wait_until(3, -1)
    with pytest.raises(TypeError, match="make one from a client and the same name"):
        pickle.dumps(counter)
    assert repr(counter) == f"<syncprims.adapters.RedisCounter object {key!r}>"
    assert not client.exists(key)


def test_a_change_is_one_round_trip(client: Redis, key: str) -> None:
    """There is one command for each, with any bounds."""
    counter = RedisCounter(client, key, minimum=0, maximum=9)
    counter.set(0)
    before = client.info("commandstats")["cmdstat_evalsha"]["calls"]
    counter.increment()
    counter.compare_and_set(1, 2)
    assert client.info("commandstats")["cmdstat_evalsha"]["calls"] - before == 2


def test_it_needs_nothing_that_the_import_of_the_package_would_load() -> None:
    """Importing the adapters loads neither redis-py nor the modules that need it; unknown names are errors."""
    import subprocess
    import sys

    program = (
        "import sys, syncprims, syncprims.adapters as adapters\n"
        "assert not any(name.partition('.')[0] in ('redis', 'distributed') for name in sys.modules)\n"
        "assert 'syncprims.adapters.redis_lock' not in sys.modules\n"
        "assert adapters.RedisLock.__name__ == 'RedisLock' and 'redis' not in sys.modules\n"
        "from syncprims.adapters import *\n"
        "try: adapters.NoSuchThing\n"
        "except AttributeError as error: print(error)\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    assert "has no attribute 'NoSuchThing'" in run.stdout
