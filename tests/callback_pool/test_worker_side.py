"""The worker's treatment of a call, run here: its outcome is sent, and every failure comes back as an error."""

from __future__ import annotations

import copyreg
import multiprocessing
import pickle
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from syncprims import TransportError
from syncprims.callback_pool.travel import arrival
from syncprims.callback_pool.travel import start_board as starts
from syncprims.callback_pool.travel.arrival import Luggage
from syncprims.callback_pool.travel.envelope import pack, portable, run_packed, unpack

LIMIT = 60.0


def outcome(fn: Callable[..., object], *args: object, dumps_blob: bytes | None = None) -> tuple[Any, Any]:
    """Send the call through the worker's side, and return the outcome."""
    return unpack(run_packed(pack(pickle.dumps, fn, args, {}), dumps_blob, None, 0, True))


def fail() -> NoReturn:
    raise LookupError("its own")


class NotForTravel:
    """Can't be pickled."""

    def __reduce__(self) -> NoReturn:
        raise TypeError("stay")


class BrokenOnArrival:
    """Can be pickled, but not unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return (fail, ())


class OneWayError(Exception):
    """Can be pickled, but not unpickled."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(one + other)


class BecomesTextError(Exception):
    """Becomes an object that is not an exception."""

    def __reduce__(self) -> tuple[object, ...]:
        return (str, ("text",))


class SpeechlessError(Exception):
    """Raises when it is put into words."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


def raise_one_way() -> NoReturn:
    raise OneWayError("one", "other")


def raise_text() -> NoReturn:
    raise BecomesTextError


def raise_speechless() -> NoReturn:
    raise SpeechlessError(NotForTravel())


def test_a_result_comes_back() -> None:
    """The call gets its arguments, and its output is flushed."""
    assert outcome(max, 2, 7) == (7, None)


def test_an_error_comes_back_with_the_workers_stack() -> None:
    """It is of the same type, and its cause is the place where it was raised, as text."""
    result, error = outcome(fail)
    assert result is None
    assert type(error) is LookupError
    assert "in fail" in str(error.__cause__)


@pytest.mark.parametrize(
    ("fn", "says"),
    [
        (NotForTravel, "NotForTravel() returned a .*NotForTravel, which can't be pickled: TypeError: stay"),
        (raise_one_way, "does not survive pickling, this is what it was: .*OneWayError: oneother"),
        (raise_text, "does not survive pickling, this is what it was: .*BecomesTextError: \nwhy .* into a str"),
        (raise_speechless, "this is what it was: .*SpeechlessError: \nwhy it can't .*: TypeError: stay"),
        (BrokenOnArrival, "the result can't be unpickled here: LookupError: its own"),
    ],
)
def test_what_cannot_travel_is_an_error_that_says_so(
    fn: Callable[[], object], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This holds for results and errors; only this task fails."""
    # Dask, once imported, pickles every error in another way, by which more of them can be unpickled.
    for error in (OneWayError, BecomesTextError, SpeechlessError):
        monkeypatch.delitem(copyreg.dispatch_table, error, raising=False)
    _, told = outcome(fn)
    assert type(told) is TransportError
    with pytest.raises(TransportError, match=says.replace("()", r"\(\)")):
        raise told


def test_a_call_that_the_worker_cannot_load_is_an_error_that_says_so() -> None:
    """For example, it can't import a module that this process can."""
    call = pickle.dumps(BrokenOnArrival())
    _, error = unpack(run_packed(call, None, None, 0, False))
    assert type(error) is TransportError
    assert "the call can't be unpickled in the worker: LookupError: its own" in str(error)


@pytest.mark.parametrize("pickled", [pickle.dumps("no error"), pickle.dumps(BrokenOnArrival()), b"", None])
def test_an_error_that_cannot_be_loaded_here_is_described(pickled: bytes | None) -> None:
    """The worker could load it, so its description is reported."""
    _, error = unpack(pickle.dumps((False, pickled, "OddError", "of theirs", "the stack", [])))
    assert type(error) is TransportError
    assert str(error).endswith("this is what it was: OddError: of theirs")


def dumps_loudly(thing: object) -> bytes:
    return pickle.dumps(thing, 2)


def test_the_pools_own_pickler_serves_the_results_if_it_can_travel() -> None:
    """The standard one need not be sent; one that can't be pickled is not sent."""
    assert portable(pickle.dumps) is None
    assert portable(lambda thing: pickle.dumps(NotForTravel())) is None
    blob = portable(dumps_loudly)
    assert blob is not None
    assert outcome(max, 2, 7, dumps_blob=blob) == (7, None)
    packed = run_packed(pack(pickle.dumps, max, (2, 7), {}), blob, None, 0, False)
    assert packed == dumps_loudly((True, 7))


def test_a_start_is_stamped_where_the_parent_reads_it(tmp_path: Path) -> None:
    """A slot beyond the part of the board that the worker has mapped is found; a board that is gone does no harm."""
    board = starts.StartBoard()
    address = board.address
    slots = [board.take() for _ in range(600)]
    try:
        for slot in (slots[0], slots[-1]):
            assert board.read(slot) is None
            starts.stamp(address, slot)
            assert (board.read(slot) or 0) > 0
    finally:
        starts._maps.pop(address, None)
    starts.stamp(f"00:{tmp_path / 'gone'}", slots[0])


def test_a_worker_leaves_ctrl_c_to_its_parent_and_watches_it() -> None:
    """From the arrival on, Ctrl-C is only noted; a process without a parent has none to watch."""
    before = signal.getsignal(signal.SIGINT)
    seen: list[object] = []
    ours, theirs = multiprocessing.Pipe()
    try:
        luggage = Luggage(theirs, None, {}, (max, (2, 7)), pickle.dumps, None, False)
        arrive, arguments = luggage.__reduce__()
        arrived = arrive(*arguments)
        assert arrived.start_call == (max, (2, 7))
        arrived = arrived._replace(start_call=(seen.append, (1,)))
        signal.raise_signal(signal.SIGINT)
        ours.send_bytes(pack(pickle.dumps, max, (2, 7), {}))
        ours.send_bytes(arrival.NO_MORE)
        arrival.work(arrived)
        said = [pickle.loads(ours.recv_bytes())[0] for _ in range(2)]
        assert said == ["started", "ready"]
        assert ours.recv_bytes() == arrival.INTERRUPTED
        assert unpack(ours.recv_bytes()) == (7, None)
    finally:
        signal.signal(signal.SIGINT, before)
        ours.close()
        theirs.close()
    assert seen == [1]
    arrival._end_with_parent()


def test_output_that_cannot_be_flushed_hurts_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process without streams runs calls nevertheless."""
    monkeypatch.setattr(sys, "stdout", None)
    assert outcome(max, 2, 7) == (7, None)
