"""Floors of a lock on a Redis server: the cost of each guarantee beyond the two commands of any lock."""

from __future__ import annotations

from collections.abc import Callable
from time import sleep
from typing import Any
from uuid import uuid4

from syncprims.adapters.leases import PREAMBLE, yes
from syncprims.adapters.redis_server import Script, Server

LEASE = "30000"

_TAKE = "if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then {granted} return 1 end return 0"
_LET_GO = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end {looks} redis.call('DEL', KEYS[1]) return 1"
_LOOKS = "redis.call('ZRANGE', queue, 0, 0)"


class Bare:
    """The least that any lock has to send: two commands."""

    def __init__(self, client: Any, name: str) -> None:
        self._client = client
        self._name = name

    def __enter__(self) -> None:
        pause = 0.001
        while not self._take():
            sleep(pause)

    def __exit__(self, *exc_info: object) -> None:
        self._let_go()

    def _take(self) -> bool:
        return bool(self._client.set(self._name, "mine", nx=True, px=30_000))

    def _let_go(self) -> None:
        self._client.delete(self._name)


class Owned(Bare):
    """A late holder does not release the next one's lock: so the release is a script, and acquiring, too."""

    def __init__(self, client: Any, name: str) -> None:
        super().__init__(client, name)
        self._token = uuid4().hex
        self._taking = client.register_script(_TAKE.format(granted=""))
        self._letting_go = client.register_script(_LET_GO.format(looks=""))

    def _take(self) -> bool:
        return bool(self._taking(keys=[self._name], args=[self._token, LEASE]))

    def _let_go(self) -> None:
        self._letting_go(keys=[self._name], args=[self._token])


class Bounded(Bare):
    """Each exchange ends in time, is sent once, and its answer is checked."""

    granted = looks = preamble = ""

    def __init__(self, client: Any, name: str) -> None:
        super().__init__(client, name)
        self._token = uuid4().hex
        self._server = Server(client, name, "Floor", *(("token", "queue", "turn") if self.preamble else ()))
        self._taking = Script(self.preamble + _TAKE.format(granted=self.granted))
        self._letting_go = Script(self.preamble + _LET_GO.format(looks=self.looks))

    def _take(self) -> bool:
        return self._server.run(yes, self._taking, self._token, LEASE)

    def _let_go(self) -> None:
        self._server.run(yes, self._letting_go, self._token)


class Fenced(Bounded):
    """The server draws a token in the same step."""

    preamble = PREAMBLE
    granted = "number()"


class InOrder(Fenced):
    """Both check whether another one waits."""

    granted = f"{Fenced.granted} {_LOOKS}"
    looks = _LOOKS


FLOORS: dict[str, Callable[[Any, str], Bare]] = {
    "SET NX and DEL": Bare,
    "+ released by its owner only": Owned,
    "+ in time, and checked": Bounded,
    "+ a token": Fenced,
    "+ looks for waiters": InOrder,
}
