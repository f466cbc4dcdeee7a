"""All interleavings of two threads, explored systematically; runs under ``frontrun pytest``, and is skipped else."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from syncprims import _sequence
from syncprims.errors import SyncError
from syncprims.ordered_runner import OrderedRunner

frontrun = pytest.importorskip("frontrun")


class Scene:
    """A runner, and what its threads saw."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.runner = OrderedRunner("a", "b")


def takes(step: str) -> Callable[[Scene], None]:
    """A thread that takes one turn."""

    def take(scene: Scene) -> None:
        try:
            with scene.runner.step(step):
                scene.log.append(step)
        except SyncError as error:
            scene.log.append(type(error).__name__)

    return take


def stops(scene: Scene) -> None:
    """A thread that stops the sequence."""
    scene.runner.stop()


def aborts(scene: Scene) -> None:
    """A thread that aborts the sequence."""
    scene.runner.abort()


Worker = Callable[[Scene], None]
FINISHED, BROKEN = "SequenceFinishedError", "BrokenSequenceError"


HAND_OFFS = [
    pytest.param([takes("b"), takes("a")], {"finished"}, [["a", "b"]], id="hand-off"),
    pytest.param([takes("a"), stops], {"finished"}, [["a"], [FINISHED]], id="stop"),
    pytest.param([takes("a"), aborts], {"broken"}, [["a"], [BROKEN]], id="abort"),
    pytest.param([stops, aborts], {"finished", "broken"}, [[]], id="stop and abort"),
    pytest.param([takes("b"), aborts], {"broken"}, [[BROKEN]], id="waiter and abort"),
    pytest.param([takes("b"), stops], {"finished"}, [[FINISHED]], id="waiter and stop"),
]


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize(("workers", "states", "logs"), HAND_OFFS)
def test_every_interleaving_keeps_the_order(
    workers: list[Worker], states: set[str], logs: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However the threads interleave, with up to two preemptions, none hangs and all saw what fits the end."""
    # The explorer schedules at the locks that it puts in the place of threading.Lock.
    monkeypatch.setattr(_sequence, "allocate_lock", lambda: threading.Lock())
    result = frontrun.explore(
        setup=Scene,
        workers=workers,
        invariant=lambda scene: scene.runner.state in states and scene.log in logs,
        reproduce_on_failure=0,
        detect_io=False,
        total_timeout=120,
        trace_packages=["syncprims*"],
    )
    result.assert_holds()
    assert result.num_explored > 1
