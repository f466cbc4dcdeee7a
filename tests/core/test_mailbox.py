"""A mailbox: what its reader gets, that a writer always wakes it, and that its waits end despite signals."""

from __future__ import annotations

import signal
import subprocess
import sys
from _queue import Empty
from collections import deque
from collections.abc import Callable
from textwrap import dedent
from typing import Any

import pytest

from core.step_orders import Explorer, step
from syncprims._core import mailbox as _mailbox
from syncprims._core.mailbox import Mailbox
from syncprims.testing import Threads, patience

# -- what it does ------------------------------------------------------------------------------------------------------


def test_items_come_out_in_order() -> None:
    """This holds for both methods that add items."""
    box: Mailbox[int] = Mailbox()
    put_3 = box.putting(3)
    box.put(1)
    box.put(2)
    for _ in range(2):
        assert put_3() is None  # an `__exit__` may end with its result
    assert [box.get(0), box.get(None), box.get_nowait(), box.get(1)] == [1, 2, 3, 3]


def test_an_empty_one_says_so() -> None:
    """It does so at once, or after the time."""
    box: Mailbox[int] = Mailbox()
    with pytest.raises(Empty):
        box.get_nowait()
    for seconds in (0, 0.001):
        with pytest.raises(Empty):
            box.get(seconds)


@pytest.mark.parametrize("seconds", [None, 30.0])
def test_a_reader_is_woken(seconds: float | None) -> None:
    """Each item wakes it, in the main thread and in others."""
    for reads_here in (True, False):
        box, back = Mailbox[int](), Mailbox[int]()

        def answer(box: Mailbox[int] = box, back: Mailbox[int] = back) -> None:
            for _ in range(100):
                back.put(box.get(seconds) + 1)

        def ask(box: Mailbox[int] = box, back: Mailbox[int] = back) -> None:
            for number in range(100):
                box.putting(number)()
                assert back.get(patience()) == number + 1

        with Threads() as threads:
            threads.start(answer if reads_here else ask)
            (ask if reads_here else answer)()


def test_a_signal_handler_may_put() -> None:
    """An item from a handler ends the wait that the handler interrupted."""
    box: Mailbox[str] = Mailbox()
    before = signal.signal(signal.SIGALRM, lambda *_: box.put("from the handler"))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        assert box.get(patience()) == "from the handler"
    finally:
        signal.signal(signal.SIGALRM, before)


# -- every order of the steps of a writer and a reader -----------------------------------------------------------------


class SeenItems(deque[Any]):
    """The items, with steps."""

    def append(self, item: Any) -> None:
        step("items", changes=True)
        super().append(item)

    def popleft(self) -> Any:
        step("items", changes=True)
        return super().popleft()

    def __bool__(self) -> bool:
        step("items")
        return len(self) > 0


class SeenGates(dict[None, Callable[[], None]]):
    """The place for a gate, with steps."""

    def pop(self, key: None, default: Any = None) -> Any:
        step("gate", changes=True)
        return super().pop(key, default)

    def __setitem__(self, key: None, gate: Callable[[], None]) -> None:
        step("gate", changes=True)
        super().__setitem__(key, gate)


class SeenGate:
    """A lock, with steps; its second `acquire` waits."""

    def __init__(self) -> None:
        self.locked = False

    def acquire(self, *_: object) -> bool:
        if self.locked:
            step(self, changes=True, ready=lambda: not self.locked)
        self.locked = True
        return True

    def release(self) -> None:
        assert self.locked, "released twice"
        step(self, changes=True)
        self.locked = False


class SeenMailbox(Mailbox[int]):
    """A mailbox whose steps the explorer sees."""

    def __init__(self) -> None:
        super().__init__()
        self._items, self._gates = SeenItems(), SeenGates()
        self._wake = self._waking()


class LooksTooEarly(SeenMailbox):
    """A control: its reader looks for an item before it puts up its gate."""

    def get(self, seconds: float | None) -> int:
        while not self._items:
            gate = SeenGate()
            gate.acquire()
            self._gates[None] = gate.release
            gate.acquire()
        return self._items.popleft()


class TellsTooEarly(SeenMailbox):
    """A control: its writer opens the gate before the item is there."""

    def put(self, item: int) -> None:
        next(self._wake)
        self._items.append(item)


class TwoWriters:
    """Two threads add an item each, and a third one takes both."""

    def __init__(self, kind: type[SeenMailbox]) -> None:
        self._box = kind()
        self._got: list[int] = []
        self.actors = (lambda: self._box.put(1), lambda: self._box.put(2), self._read)

    def _read(self) -> None:
        self._got += [self._box.get(None), self._box.get(None)]

    def problem(self) -> str | None:
        return None if sorted(self._got) == [1, 2] else f"the reader got {self._got}"


@pytest.mark.parametrize("kind", [SeenMailbox, LooksTooEarly, TellsTooEarly])
def test_no_order_of_the_steps_leaves_a_reader_asleep(kind: type[SeenMailbox], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step of the calls in C counts, as without the GIL; the two controls are caught."""
    monkeypatch.setattr(_mailbox, "allocate_lock", SeenGate)
    found = Explorer(lambda: TwoWriters(kind), most=20_000).explore()
    if kind is SeenMailbox:
        assert found.complete, found.problem
        assert found.runs > 10
    else:
        assert found.problem == "all threads that have not ended are blocked"


# -- signals at the end of a wait --------------------------------------------------------------------------------------

WAITS = {
    "mailbox": "from syncprims._core.mailbox import Mailbox; wait = partial(Mailbox().get, LIMIT)",
    "counter": "wait = partial(syncprims.AtomicCounter().wait_until, 1, LIMIT)",
    "lock": "lock = take(syncprims.TimedLock()); wait = partial(lock.acquire, timeout=LIMIT)",
    "rlock": "lock = take(syncprims.TimedRLock()); wait = partial(lock.acquire, timeout=LIMIT)",
    "semaphore": "semaphore = take(syncprims.TimedSemaphore(1)); wait = partial(semaphore.acquire, timeout=LIMIT)",
    "read": "lock = syncprims.TimedRWLock(); take(lock.write()); wait = lock.read(LIMIT).__enter__",
    "write": "lock = syncprims.TimedRWLock(); take(lock.read()); wait = lock.write(LIMIT).__enter__",
    "keyed": "locks = syncprims.KeyedLock(); take(locks['a']); wait = locks['a'].hold(LIMIT).__enter__",
    "all of": "lock = take(syncprims.TimedLock()); wait = syncprims.acquire_all(lock, timeout=LIMIT).__enter__",
    "runner": "wait = partial(syncprims.OrderedRunner('a', 'b').wait, rounds=1, timeout=LIMIT)",
    "task": "wait = partial(pool().submit(go.wait).result, LIMIT)",
    "map": "results = pool().imap(go.wait, [None]); wait = partial(results.next, LIMIT)",
    "map, unordered": "results = pool().imap_unordered(go.wait, [None]); wait = partial(results.next, LIMIT)",
}

PROGRAM = """
    import signal, sys, threading
    from functools import partial

    import syncprims

    LIMIT = 0.0005
    go = threading.Event()

    def take(lock):
        taken = threading.Event()

        def stay():
            with lock:
                taken.set()
                go.wait()

        threading.Thread(target=stay, daemon=True).start()
        assert taken.wait(30)
        return lock

    def pool():
        return syncprims.CallbackPool(max_workers=1)

    {wait}
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.00013)
    late = 0
    for _ in range(100):
        try:
            late += wait() is False
        except TimeoutError:
            late += 1
        except Exception as error:
            late += type(error).__name__ == "Empty"
    signal.setitimer(signal.ITIMER_REAL, 0)
    go.set()
    print(late)
"""


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
def test_signals_do_not_prolong_a_wait(wait: str) -> None:
    """A wait ends at its limit even if handlers run all the time, and so also at the moment when it ends.

    Before Python 3.13, a wait of `SimpleQueue.get` does not end, after about ten waits.
    """
    program = dedent(PROGRAM).format(wait=wait)
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=patience(60.0), check=False
    )
    assert (ran.stdout, ran.stderr) == ("100\n", "")
