"""Order: threads that pass a turn on to each other, from 2 to 32 of them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from itertools import count
from types import SimpleNamespace
from typing import Any

from syncprims import OrderedRunner, Turn

from .measuring import OURS, STDLIB, Case, Group, Work, package
from .together import together

TURNS = 320  # in each round, shared by the threads

Player = Callable[[int], Any]
"""Takes so many turns of one thread."""


def play(players: list[Player], turns: int) -> float:
    """Let each player take its share of the turns in its own thread, and return the seconds of all together."""

    def work(player: Player) -> Work:
        return lambda rounds: float(player(rounds) is None)

    return together([work(player) for player in players], turns // len(players))


def _chained(make: Callable[[], Any], size: int, turns: int) -> float:
    locks = [make() for _ in range(size)]
    for lock in locks[1:]:
        lock.acquire()

    def player(mine: Any, following: Any, rounds: int) -> None:
        for _ in range(rounds):
            mine.acquire()
            following.release()

    return play([partial(player, locks[i], locks[(i + 1) % size]) for i in range(size)], turns)


def runner(size: int, turns: int) -> float:
    """Pass turns on by ``with runner.step()``."""
    names = [str(number) for number in range(size)]
    relay = OrderedRunner(*names, rounds=turns // size)

    def player(step: str, rounds: int) -> None:
        for _ in range(rounds):
            with relay.step(step):
                pass

    return play([partial(player, name) for name in names], turns)


def _serve(size: int, turns: int) -> float:
    names = [str(number) for number in range(size)]
    runner = OrderedRunner(*names, rounds=turns // size)

    def body(turn: Turn) -> None:
        """Do nothing."""

    def player(step: str, _: int) -> None:
        runner.serve(step, body)

    return play([partial(player, name) for name in names], turns)


def _condition(size: int, turns: int) -> float:
    condition = threading.Condition()
    serials = count()
    turn = [next(serials)]

    def player(number: int, rounds: int) -> None:
        def mine() -> bool:
            return turn[0] % size == number

        for _ in range(rounds):
            with condition:
                condition.wait_for(mine)
                turn[0] = next(serials)
                condition.notify_all()

    return play([partial(player, number) for number in range(size)], turns)


def _barrier(size: int, turns: int) -> float:
    barrier = threading.Barrier(size)

    def player(rounds: int) -> None:
        for _ in range(rounds * size):  # every thread has to come to every turn
            barrier.wait()

    return play([player] * size, turns)


def _aiologic(size: int, turns: int) -> float:
    def gate() -> Any:
        semaphore = package("aiologic").BinarySemaphore(1)
        return SimpleNamespace(acquire=semaphore.green_acquire, release=semaphore.green_release)

    return _chained(gate, size, turns)


def _case(name: str, maker: str, play: Callable[[int, int], float], size: int, goal: float | None = None) -> Case:
    return Case(name, maker, lambda _: partial(play, size), goal)


def _hand_off(size: int, goal: float | None = None) -> Group:
    return Group(
        f"order-{size}",
        f"Handing a turn on among {size} threads",
        (
            _case("chained Locks", STDLIB, partial(_chained, threading.Lock), size),
            _case("with runner.step()", OURS, runner, size, goal),
            _case("runner.serve()", OURS, _serve, size),
            _case("Condition", STDLIB, _condition, size),
            _case("Barrier", STDLIB, _barrier, size),
            _case("aiologic.BinarySemaphore", "aiologic", _aiologic, size),
        ),
        operations=TURNS,
    )


GROUPS = (
    _hand_off(2, 1.4),
    _hand_off(8, 1.4),
    Group(
        "order-growth",
        "What a turn costs among more threads, beside two",
        (
            _case("runner, 2 threads", OURS, runner, 2),
            *(_case(f"runner, {size} threads", OURS, runner, size, 2.0) for size in (4, 8, 16, 32)),
            *(_case(f"Condition, {size} threads", STDLIB, _condition, size) for size in (2, 8, 32)),
        ),
        operations=TURNS,
    ),
)
