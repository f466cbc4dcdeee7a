"""Redis in production: with permissions, TLS, Sentinel and failovers, RESP3, small pools; and a refused Cluster."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from adapters.servers import RedisServer, free_port
from adapters.test_redis_peers import peer
from adapters.test_redis_queue import in_line
from polling import until
from syncprims import LockTimeoutError
from syncprims.adapters import RedisCounter, RedisLock, RedisSemaphore
from syncprims.testing import Threads, assert_blocks, patience

if TYPE_CHECKING:
    from redis import Redis

pytest.importorskip("redis", reason="needs redis-py: pip install 'syncprims[redis]'")

LEASE: Final = 30.0

PAGE: Final = Path(__file__).parents[2] / "docs" / "past-one-machine.rst"


def stated(user: str) -> tuple[str, ...]:
    """The commands that the page allows this user; its keys and channels are the same for all tests."""
    text = PAGE.read_text(encoding="utf-8")
    words = text[text.index(f"ACL SETUSER {user} on >secret") :].split()[5:]
    rules = list(takewhile(lambda word: word[0] in "+~&r", words))
    patterns = ["~jobs:*"] if user == "counters" else ["resetchannels", "&syncprims:*", "~jobs:*", "~{jobs:*"]
    assert [rule for rule in rules if rule[0] != "+"] == patterns
    return tuple(rule[1:] for rule in rules if rule[0] == "+")


def waited_for(lock: RedisLock | RedisSemaphore, admin: Redis) -> None:
    """Acquire it, let another thread wait for it, and pass it on."""

    def take() -> bool:
        with lock.hold(patience(30.0)):
            return lock.held_by_me()

    with Threads() as threads:
        with lock:
            waiting = threads.start(take)
            until(lambda: waiting.done() or in_line(admin, lock.name, 1)())
            if waiting.done():
                waiting.result()
        assert waiting.result() is True


def use_lock(client: Redis, key: str, admin: Redis) -> None:
    """Do everything with a lock that talks to the server."""
    lock = RedisLock(client, key, lease=LEASE, timeout=patience(30.0))
    with lock:
        lock.renew()
        assert lock.locked()
    waited_for(lock, admin)
    with lock, pytest.raises(LockTimeoutError), RedisLock(client, key, lease=LEASE).hold(0.05):
        pytest.fail("the body ran without the lock")


def use_semaphore(client: Redis, key: str, admin: Redis) -> None:
    """Do the same with a semaphore."""
    semaphore = RedisSemaphore(client, key, 1, lease=LEASE, timeout=patience(30.0))
    with semaphore:
        semaphore.renew()
        assert len(semaphore.holders) == 1
    waited_for(semaphore, admin)
    with semaphore, pytest.raises(LockTimeoutError), semaphore.hold(0.05):
        pytest.fail("the body ran without a permit")


def use_counter(client: Redis, key: str, admin: Redis) -> None:
    """Do the same with a counter."""
    counter = RedisCounter(client, key, maximum=3)
    counter.set(1)
    assert counter.increment() == 2
    with pytest.raises(ValueError, match="more than its maximum"):
        counter.add(5)
    with pytest.raises(ValueError, match="more than its maximum"):
        RedisCounter(client, f"{key}-new", maximum=3).add(5)


USES: Final = {
    "lock": (use_lock, "locks"),
    "semaphore": (use_semaphore, "semaphores"),
    "counter": (use_counter, "counters"),
}


# -- rights ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("what", USES)
def test_the_rights_that_are_stated_suffice_and_none_is_too_much(
    shared_server: RedisServer, client: Redis, key: str, what: str, protocol: int
) -> None:
    """With them everything works; without any one of them a command is refused, with a pointer to the list."""
    from redis import Redis
    from redis.exceptions import ResponseError

    use, user = USES[what]
    rights = stated(user)
    keys = [f"{key}*"] if what == "counter" else [f"{key}*", f"{{{key}*"]
    channels = [] if what == "counter" else ["syncprims:*"]

    def allow(*commands: str) -> Redis:
        client.acl_setuser(
            key,
            enabled=True,
            reset=True,
            passwords=["+secret"],
            keys=keys,
            channels=channels,
            commands=[f"+{command}" for command in commands],
        )
        return Redis(
            "127.0.0.1",
            shared_server.port,
            username=key,
            password="secret",
            socket_timeout=patience(5.0),
            protocol=protocol,
        )

    with allow(*rights) as limited:
        use(limited, key, client)
    if protocol == 3:  # once is enough
        return
    for missing in rights:
        if missing == "eval":
            client.script_flush()
        with allow(*(right for right in rights if right != missing)) as limited:
            with pytest.raises(ResponseError) as caught:
                use(limited, f"{key}-{missing}", client)
            assert "Past one machine" in "".join(caught.value.__notes__), missing
    client.acl_deluser(key)


# -- clients -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decode", [False, True], ids=["bytes", "text"])
@pytest.mark.parametrize("protocol", [2, 3], ids=["RESP2", "RESP3"])
def test_every_protocol_and_every_kind_of_text_will_do(
    shared_server: RedisServer, key: str, protocol: int, decode: bool
) -> None:
    """Waiters get their messages in both protocols, and answers may be decoded or not."""
    from redis import Redis

    with Redis(
        "127.0.0.1", shared_server.port, socket_timeout=patience(5.0), protocol=protocol, decode_responses=decode
    ) as client:
        for name, (use, _) in USES.items():
            use(client, f"{key}-{name}", shared_server.client())


@pytest.mark.parametrize("blocking", [False, True])
def test_a_pool_that_is_exhausted_is_not_ours(shared_server: RedisServer, key: str, blocking: bool) -> None:
    """The locks have their own connections, so a program that has used up its pool can still release a lock."""
    from redis import BlockingConnectionPool, ConnectionPool, Redis
    from redis.exceptions import ConnectionError as NoConnectionError

    kind = BlockingConnectionPool if blocking else ConnectionPool
    options: dict[str, Any] = {"timeout": 0.01} if blocking else {}
    pool = kind(max_connections=1, host="127.0.0.1", port=shared_server.port, socket_timeout=patience(5.0), **options)
    client = Redis(connection_pool=pool)
    taken = pool.get_connection()
    with pytest.raises(NoConnectionError):
        client.ping()
    use_lock(client, key, shared_server.client())
    pool.release(taken)


def test_a_server_that_takes_no_more_clients_is_waited_for(own_server: RedisServer, key: str) -> None:
    """A wait goes on to its limit, and the error has the reason; once there is room again, it gets the lock."""
    client = own_server.client()
    client.ping()
    lock = RedisLock(own_server.client(), key, lease=LEASE)
    client.config_set("maxclients", 1)
    with pytest.raises(LockTimeoutError, match="max number of clients"), lock.hold(0.1):
        pytest.fail("the body ran without the lock")
    with Threads() as threads:
        waiting = threads.start(lock.acquire, timeout=patience(30.0))
        until(lambda: lock.waiting == 1)
        client.config_set("maxclients", 100)
        assert waiting.result() is True


def test_the_database_and_the_password_are_the_clients(own_server: RedisServer, key: str) -> None:
    """Nothing is written elsewhere, and threads that wait are reached there as well."""
    from redis import Redis

    own_server.client().config_set("requirepass", "secret")
    with (
        Redis("127.0.0.1", own_server.port, db=3, password="secret", socket_timeout=patience(5.0)) as client,
        Redis("127.0.0.1", own_server.port, db=0, password="secret", socket_timeout=patience(5.0)) as elsewhere,
    ):
        for name, (use, _) in USES.items():
            use(client, f"{key}-{name}", client)
        assert client.dbsize()
        assert not elsewhere.dbsize()


def test_a_waiting_thread_has_one_connection_more_than_one_that_talks(own_server: RedisServer, key: str) -> None:
    """As the page says, so that the limits of a server can be set."""
    waiters = 3
    admin = own_server.client()
    locks = [RedisLock(own_server.client(), key, lease=LEASE) for _ in range(2)]

    def listening() -> int:
        return len(admin.client_list(_type="pubsub"))

    def take(lock: RedisLock) -> None:
        with lock.hold(patience(30.0)):
            pass

    with Threads() as threads:
        with locks[0]:
            for number in range(waiters):
                threads.start(take, locks[number % 2])
            until(in_line(admin, key, waiters))
            assert listening() == waiters
            assert len(admin.client_list()) <= 2 * waiters + 2  # the holder's, and this test's
        threads.join(patience(30.0))


# -- a server that says something else to waiting threads -------------------------------------------------------------

HELD: Final = b"*6\r\n$4\r\nheld\r\n$16\r\n1700000000000000\r\n:0\r\n:0\r\n$14\r\nhost/1/other/x\r\n:30000\r\n"


def saying_to_waiters(word: bytes) -> Callable[[socket.socket, bytes], object]:
    """A server on which the lock is held, and which sends this to a client that subscribes."""

    def answer(connection: socket.socket, data: bytes) -> None:
        connection.sendall(word if b"SUBSCRIBE" in data else HELD)

    return answer


@pytest.mark.parametrize(
    "word", [b"+OK\r\n", b":75\r\n", b"*-1\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", 1000 * b"*1\r\n", b"-ERR no\r\n"]
)
def test_garbage_in_place_of_a_subscription_is_an_error(word: bytes) -> None:
    """No thread waits for a message that can't come."""
    from redis.exceptions import RedisError

    with peer(saying_to_waiters(word)) as it:
        lock = RedisLock(it.client(), "lock", lease=5)
        with pytest.raises(RedisError), lock:
            pytest.fail("the body ran without the lock")
        assert not lock.held_by_me()


@pytest.mark.parametrize("word", ["1 2 another's", "x y z", "", "99999999999999999999 9 ", "1 2 " + "x" * 10_000])
@pytest.mark.parametrize("kind", ["message", "pmessage"])
def test_a_word_for_another_or_for_nobody_is_no_lock(kind: str, word: str) -> None:
    """The waiter goes on to its limit, however many messages come."""

    def answer(connection: socket.socket, data: bytes) -> None:
        if b"SUBSCRIBE" not in data:
            connection.sendall(HELD)
            return
        channel = data.split(b"\r\n")[4]
        head = b"$%d\r\n%b\r\n" % (len(channel), channel)
        connection.sendall(b"*3\r\n$9\r\nsubscribe\r\n%b:1\r\n" % head)
        said = word.encode()
        for _ in range(50):
            text = b"$%d\r\n%b\r\n" % (len(kind), kind.encode())
            connection.sendall(b"*3\r\n%b%b$%d\r\n%b\r\n" % (text, head, len(said), said))

    with peer(answer) as it:
        lock = RedisLock(it.client(), "lock", lease=5, timeout=0.3)
        with pytest.raises(LockTimeoutError, match="Thread 'other' of process 1 on 'host'"), lock:
            pytest.fail("the body ran without the lock")


def test_a_word_in_slow_motion_is_given_up_in_time() -> None:
    """Each message has the time of an answer; a wait with a limit ends at most one exchange later."""

    def answer(connection: socket.socket, data: bytes) -> None:
        if b"SUBSCRIBE" in data:
            it.dribble(connection, b"*3\r\n$9\r\nsubscribe\r\n" + 1000 * b"x")
        else:
            connection.sendall(HELD)

    with peer(answer) as it:
        lock = RedisLock(it.client(), "lock", lease=5, timeout=0.2)
        with pytest.raises(LockTimeoutError, match="did not answer"), lock:
            pytest.fail("the body ran without the lock")


# -- TLS ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[str, str]:
    """A self-signed key and certificate for this machine."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("needs openssl, which makes the certificate: apt-get install openssl")
    key, certificate = str(tmp_path / "key.pem"), str(tmp_path / "certificate.pem")
    subprocess.run(
        [
            *(program, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-keyout", key, "-out", certificate, "-days", "1", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
        ],
        check=True,
        capture_output=True,
    )
    return key, certificate


def test_it_works_over_tls(certificate: tuple[str, str], key: str) -> None:
    """Waiting works as well; and a certificate that is not trusted is an error, not a lock."""
    from redis import Redis
    from redis.exceptions import ConnectionError as NotTrustedError

    private, public = certificate
    port = free_port()
    options = ["--tls-port", str(port), "--tls-cert-file", public, "--tls-key-file", private]
    with RedisServer(*options, "--tls-ca-cert-file", public, "--tls-auth-clients", "no") as server:
        until(lambda: tls_answers(port))
        with Redis("127.0.0.1", port, ssl=True, ssl_ca_certs=public, socket_timeout=patience(5.0)) as client:
            for name, (use, _) in USES.items():
                use(client, f"{key}-{name}", client)
        with Redis("127.0.0.1", port, ssl=True, socket_timeout=patience(5.0)) as distrusting:
            lock = RedisLock(distrusting, key, lease=LEASE)
            with pytest.raises(NotTrustedError, match="certificate verify failed"):
                lock.acquire(False)
        assert server.client().dbsize() >= 0


def tls_answers(port: int) -> bool:
    """Whether a server listens, and can use TLS at all."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except OSError:
        return False
    return True


# -- Sentinel, and a failover in the middle of a hold ------------------------------------------------------------------


@pytest.fixture
def sentinel(tmp_path: Path) -> Iterator[Any]:
    """A master, a replica and a sentinel that watches both."""
    with ExitStack() as stack:
        master = stack.enter_context(RedisServer())
        replica = stack.enter_context(RedisServer("--replicaof", "127.0.0.1", str(master.port)))
        port = free_port()
        configuration = tmp_path / "sentinel.conf"
        configuration.write_text(
            f"port {port}\nbind 127.0.0.1\nsentinel monitor ours 127.0.0.1 {master.port} 1\n"
            f"sentinel down-after-milliseconds ours 500\nsentinel failover-timeout ours 4000\n"
        )
        stack.enter_context(RedisServer(sentinel=configuration, port=port))
        from redis import Redis
        from redis.sentinel import Sentinel

        until(lambda: info(replica.client(), "master_link_status") == "up", patience(30.0))
        watching: Any = Redis("127.0.0.1", port, socket_timeout=patience(5.0))
        until(lambda: int(watching.sentinel_master("ours")["num-slaves"]) == 1, patience(60.0))
        yield Sentinel([("127.0.0.1", port)], socket_timeout=patience(5.0)), master, replica, watching


def info(client: Redis, what: str) -> object:
    """The server's facts about its replication."""
    return client.info("replication").get(what)


def test_a_failover_in_the_middle_of_a_hold(sentinel: Any, key: str) -> None:
    """Locks that the replica knows are still held, renewed and passed on; tokens go on growing, and counts stay."""
    found, master, replica, watching = sentinel
    client = found.master_for("ours", socket_timeout=patience(2.0))
    lock = RedisLock(client, key, lease=LEASE, timeout=patience(60.0), renew=True)
    limited = RedisSemaphore(client, f"{key}-permits", 1, lease=LEASE, timeout=patience(60.0), renew=True)
    counter = RedisCounter(client, f"{key}-count")
    writer = master.client()

    def take(it: RedisLock | RedisSemaphore) -> int:
        with it:
            return it.token

    with Threads(patience(90.0)) as threads:
        with lock, limited:
            counter.add(5)
            tokens = [lock.token, limited.token]
            waiting = [threads.start(take, each) for each in (lock, limited)]
            until(lambda: lock.waiting == limited.waiting == 1)
            writer.set(f"{key}-written", 1)  # the last one, because WAIT is only for writes of its own connection
            until(lambda: writer.wait(1, 1000) == 1)
            master.kill()
            until(lambda: info(replica.client(), "role") == "master", patience(60.0))
            for each in (lock, limited):
                until(partial(renewed_at, each), patience(60.0))
                assert not each.lost.is_set()
            assert replica.client().exists(key)
        assert all(late.result(patience(60.0)) > token for late, token in zip(waiting, tokens, strict=True))
    assert counter.increment() == 6
    assert not replica.client().exists(key)
    assert limited.value == 1
    assert watching.ping()


def renewed_at(lock: RedisLock | RedisSemaphore) -> bool:
    """Whether a renewal by hand reaches the new master."""
    from redis.exceptions import RedisError

    try:
        lock.renew()
    except RedisError:
        return False
    return True


def test_a_lock_that_the_replica_has_not_heard_of_is_lost_with_a_word(key: str) -> None:
    """With a failover before the replication, two may hold the lock; one gets the error, and has the lesser token."""
    with RedisServer() as master, RedisServer() as replica:  # it has replicated nothing
        from redis import Redis

        from syncprims.adapters import LeaseExpiredError

        client = Redis("127.0.0.1", master.port, socket_timeout=patience(5.0))
        lock = RedisLock(client, key, lease=LEASE)
        lock.acquire()
        token = lock.token
        client.connection_pool.connection_kwargs["port"] = replica.port  # Sentinel would report this from now on
        master.kill()
        other = RedisLock(replica.client(), key, lease=LEASE)
        with other:
            assert other.token > token
            until(lambda: told(lock, LeaseExpiredError))
        assert not lock.held_by_me()


def told(lock: RedisLock, error: type[Exception]) -> bool:
    """Whether renewing reports the loss of the lock, and releasing as well."""
    from redis.exceptions import RedisError

    try:
        lock.renew()
    except error:
        with pytest.raises(error):
            lock.release()
        return True
    except RedisError:
        return False
    raise AssertionError("it was renewed on a server that knows nothing of it")


# -- Cluster -----------------------------------------------------------------------------------------------------------


def test_a_cluster_is_refused_with_what_to_do(tmp_path: Path, key: str) -> None:
    """Its client is refused at once, and one of its nodes when it answers that the key is elsewhere."""
    from redis import Redis
    from redis.cluster import RedisCluster
    from redis.exceptions import RedisError

    buses = [str(free_port()), str(free_port())]

    def node(number: int) -> RedisServer:
        file = ["--dir", str(tmp_path), "--cluster-config-file", f"{number}.conf"]
        return RedisServer("--cluster-enabled", "yes", "--cluster-port", buses[number], *file)

    with node(0) as one, node(1) as two:
        here, there = one.client(), two.client()
        here.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        until(lambda: b"cluster_state:ok" in raw_info(here), patience(30.0))
        for name in (key, f"{{{key}}}-b", f"a{{{key}}}", f"{key}{{"):
            use_lock(here, name, here)  # all of its keys are in one slot
            use_semaphore(here, f"{name}s", here)
        cluster: Any = RedisCluster("127.0.0.1", one.port, socket_timeout=patience(5.0))
        makes: list[Callable[[Any], object]] = [
            lambda client: RedisLock(client, key, lease=LEASE),
            lambda client: RedisSemaphore(client, key, 1, lease=LEASE),
            lambda client: RedisCounter(client, key),
        ]
        for make in makes:
            with pytest.raises(TypeError, match=r"not redis.*RedisCluster: no Cluster, but one server"):
                make(cluster)
        cluster.close()
        here.execute_command("CLUSTER", "MEET", "127.0.0.1", two.port, buses[1])
        until(lambda: str(here.execute_command("CLUSTER", "NODES")).count("connected") >= 2, patience(30.0))
        lock = RedisLock(there, key, lease=LEASE)
        with Redis("127.0.0.1", two.port, socket_timeout=patience(5.0)):
            with pytest.raises(RedisError) as caught:
                lock.acquire(False)
            assert "a node of a Redis Cluster" in "".join(caught.value.__notes__)


def raw_info(client: Redis) -> bytes:
    """A node's facts about the cluster."""
    answer: Any = client.execute_command("CLUSTER", "INFO")
    return answer if isinstance(answer, bytes) else str(answer).replace("'", "").replace(": ", ":").encode()


def test_a_wait_ends_when_the_server_is_gone_for_good(own_server: RedisServer, key: str) -> None:
    """Threads that wait without a limit get the client's error, wherever they are in the queue."""
    from redis.exceptions import ConnectionError as LostError

    lock = RedisLock(own_server.client(), key, lease=LEASE)
    lock.acquire()
    waiting = [
        assert_blocks(lock.acquire, until=lambda: lock.waiting == 1),
        assert_blocks(lock.acquire, until=lambda: lock.waiting == 2),
    ]
    own_server.kill()
    assert all(isinstance(each.exception(patience(30.0)), LostError) for each in waiting)
