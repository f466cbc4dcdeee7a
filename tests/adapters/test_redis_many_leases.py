"""Many leases are renewed together, in few exchanges, and a fault of one affects only that one."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Event
from typing import TYPE_CHECKING, Any, Final

import pytest

from adapters.servers import RedisServer
from polling import until
from syncprims._core.clock import monotonic
from syncprims._core.mailbox import Mailbox
from syncprims.adapters import RedisLock, renewing
from syncprims.adapters.leases import yes
from syncprims.adapters.redis_server import Script, ScriptCall, Server, run_together
from syncprims.testing import patience

if TYPE_CHECKING:
    from redis import Redis

LEASE: Final = 6.0  # seconds; renewed after two
FOREVER: Final = 60_000  # milliseconds

INCREASE: Final = Script("redis.call('INCRBY', KEYS[1], ARGV[1]) return 1")


def increase(client: Redis, key: str, by: int) -> ScriptCall[bool]:
    """A call that increases the number at this key."""
    return Server(client, key, "the test").call(yes, INCREASE, str(by))


# -- one exchange for several scripts ----------------------------------------------------------------------------------


def test_each_call_has_its_own_outcome(client: Redis, key: str) -> None:
    """It is an answer, or the server's error, in the order of the calls."""
    from redis.exceptions import ResponseError

    client.lpush(f"{key}-2", "not a number")
    outcomes = run_together([increase(client, f"{key}-{number}", number) for number in (1, 2, 3)], 5.0)
    assert [outcomes[0], outcomes[2]] == [True, True]
    assert isinstance(outcomes[1], ResponseError)
    assert "WRONGTYPE" in str(outcomes[1])
    assert [client.get(f"{key}-{number}") for number in (1, 3)] == [b"1", b"3"]


def test_scripts_that_the_server_has_forgotten_run_once_each(client: Redis, key: str) -> None:
    """They are sent again, with their text; none of them runs twice."""
    for _ in range(2):
        client.script_flush()
        assert run_together([increase(client, f"{key}-{number}", 1) for number in range(5)], 5.0) == [True] * 5
    assert [client.get(f"{key}-{number}") for number in range(5)] == [b"2"] * 5


def test_no_call_needs_no_server(client: Redis) -> None:
    """The answer is an empty list."""
    assert run_together([], 5.0) == []


def test_a_server_that_does_not_answer_is_the_outcome_of_all(own_server: RedisServer, key: str) -> None:
    """The connection is dropped: its late answers are not confused with those of the next call."""
    from redis.exceptions import TimeoutError as Silence

    client = own_server.client(socket_timeout=30.0)
    calls = [increase(client, f"{key}-{number}", 1) for number in range(3)]
    assert run_together(calls, 5.0) == [True] * 3
    own_server.stall()
    try:
        outcomes = run_together(calls, 0.1)
    finally:
        own_server.go_on()
    assert [type(outcome) for outcome in outcomes] == [Silence] * 3
    until(lambda: client.get(f"{key}-2") == b"2", patience(30.0))  # the server did execute it in the end
    assert calls[0].server.ask("GET", int) == 2


def test_an_answer_that_means_nothing_ends_the_exchange(client: Redis, key: str) -> None:
    """The answers before it count; the rest may belong to other commands."""
    from redis.exceptions import InvalidResponse

    def never(answer: Any) -> bool:
        raise ValueError("not that")

    good, last = increase(client, f"{key}-1", 1), increase(client, f"{key}-3", 1)
    bad = Server(client, f"{key}-2", "the test").call(never, INCREASE, "1")
    outcomes = run_together([good, bad, last], 5.0)
    assert outcomes[0] is True
    assert [type(outcome) for outcome in outcomes[1:]] == [InvalidResponse] * 2
    assert last.server.ask("GET", int) == 1


# -- the thread that renews --------------------------------------------------------------------------------------------


class FakeLease:
    """A lease that is due at once, and only once."""

    seconds = 3.0

    def __init__(self, server: object) -> None:
        self.server = server
        self.due = monotonic()
        self.outcomes: list[bool | Exception] = []

    def attend(self) -> ScriptCall[bool] | None:
        """Return the call that renews it."""
        self.due = monotonic() + 1000.0
        return self  # type: ignore[return-value]  # the exchange is a fake too

    def settle(self, asked: float, outcome: bool | Exception) -> None:
        """Note the outcome."""
        self.outcomes.append(outcome)


def test_all_that_are_due_at_one_server_go_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to a hundred go; a silent server is asked once in a round, and its others come first in the next."""
    exceptions = pytest.importorskip("redis.exceptions", reason="needs redis-py: pip install 'syncprims[redis]'")
    here, silent = object(), object()
    leases = [FakeLease(here if number % 2 else silent) for number in range(500)]
    exchanges: list[list[FakeLease]] = []

    def exchange(calls: Sequence[Any], within: float) -> list[bool | Exception]:
        assert within == 1.0
        exchanges.append(list(calls))
        return [True if call.server is here else exceptions.TimeoutError("no answer") for call in calls]

    monkeypatch.setattr(renewing, "run_together", exchange)
    renewer = renewing.Renewer()
    renewer._leases = dict.fromkeys(leases)
    renewer._round()
    of_here = [len(each) for each in exchanges if each[0].server is here]
    of_silent = [each for each in exchanges if each[0].server is silent]
    assert of_here == [100, 100, 50]
    assert [len(each) for each in of_silent] == [100]
    renewer._round()
    (again,) = [each for each in exchanges if each[0].server is silent and each not in of_silent]
    assert len(again) == 100
    assert not set(again) & set(of_silent[0])


def test_leases_at_a_distant_server_are_renewed_in_few_exchanges(
    client: Redis, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exchange takes a tenth of a second, so three hundred single renewals would take half a minute."""
    exchanges: list[int] = []

    def far(calls: Sequence[ScriptCall[bool]], within: float) -> list[bool | Exception]:
        exchanges.append(len(calls))
        Event().wait(0.1)
        return run_together(calls, within)

    monkeypatch.setattr(renewing, "run_together", far)
    locks = [RedisLock(client, f"{key}-{number}", lease=LEASE, renew=True) for number in range(300)]
    for lock in locks:
        lock.acquire()
        client.pexpire(lock.name, FOREVER)  # until it is renewed
    until(lambda: all(client.pttl(lock.name) <= LEASE * 1000 for lock in locks), patience(60.0))
    assert sum(filter(None, exchanges)) >= 300
    assert len([size for size in exchanges if size]) < 150
    assert not any(lock.lost.is_set() for lock in locks)
    for lock in locks:
        lock.release()


def test_one_lease_that_is_lost_is_no_others_loss(client: Redis, key: str) -> None:
    """They are renewed in one exchange; the same holds for a key that has another type now."""
    locks = [RedisLock(client, f"{key}-{number}", lease=LEASE, renew=True) for number in range(4)]
    for lock in locks:
        lock.acquire()
    client.delete(locks[1].name, locks[2].name)
    client.lpush(locks[2].name, "something else")
    for lock in (locks[0], locks[3]):
        client.pexpire(lock.name, FOREVER)
    assert locks[1].lost.wait(patience(30.0)) is True
    for lock in (locks[0], locks[3]):
        until(lambda lock=lock: client.pttl(lock.name) <= LEASE * 1000, patience(30.0))  # type: ignore[misc]  # mypy can't infer it
        assert not lock.lost.is_set()
        lock.release()


def test_a_short_hold_does_not_wake_the_thread(client: Redis, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is over long before its lease is due: waking the thread would take longer than the hold."""
    messages: list[None] = []
    put = Mailbox.put

    def count(box: Mailbox[None], item: None) -> None:
        messages.append(None)
        put(box, item)

    monkeypatch.setattr(Mailbox, "put", count)
    lock = RedisLock(client, key, lease=30.0, renew=True)
    for _ in range(200):
        with lock:
            pass
    assert len(messages) < 20
