"""Explorations of interleavings by frontrun, each in its own program: how to run one, and its report."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

# frontrun replaces the locks of the whole process and looks into no installed package, so each exploration is a process
# of its own, with the sources. Of its verdicts with threads `exhausted` is always None, but it goes on until its time
# is up or nothing is left to explore. So a complete exploration covers every interleaving with at most so many
# preemptions, as far as frontrun sees that two instructions touch the same attribute, dictionary or lock. The mutations
# show how far that is.


@dataclass
class Report:
    """The result of an exploration."""

    holds: bool | None
    explored: int
    complete: bool
    """Whether there was nothing left to explore, up to the bound of preemptions."""
    outcomes: dict[str, int]
    explanation: str | None


class Scenario(Protocol):
    """The state of one execution; the class makes it, and defines the threads."""

    workers: Sequence[Callable[[Any], object]]

    def holds(self) -> bool:
        """Whether the final state is right."""


def explore(script: Path, scenario: str, *, preemptions: int, seconds: float) -> Report:
    """Explore in another process, and return its report."""
    from programs import environment  # here, because that process first changes what the library imports

    # A check would see the order of the explored locks, and compiled code can't be explored.
    inherited = environment(tests=True, without=["SYNCPRIMS_LOCK_ORDER"]) | {"SYNCPRIMS_PURE": "1"}
    ran = subprocess.run(
        [sys.executable, script, scenario, str(preemptions), str(seconds)],
        env={**inherited, "FRONTRUN_ACTIVE": "1"},
        capture_output=True,
        text=True,
        timeout=seconds + 30,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return Report(**json.loads(ran.stdout.splitlines()[-1]))


def main(scenarios: dict[str, Any], outcomes: dict[str, int], name: str, preemptions: str, seconds: str) -> None:
    """The main function of that process: explore the scenario with that name, and print the report."""
    import frontrun  # type: ignore[import-untyped]  # it has no types, and does not exist for every interpreter

    kind = scenarios[name]
    if hasattr(kind, "mutate"):
        kind.mutate()

    def make() -> Any:
        gc.collect()
        return kind()

    # A collection during an execution may run code that frontrun wants to schedule, from inside its scheduler.
    gc.freeze()
    gc.disable()
    started = monotonic()
    report = Report(False, 0, False, outcomes, None)
    try:
        result = frontrun.explore(
            setup=make,
            workers=kind.workers,
            invariant=kind.holds,
            preemption_bound=int(preemptions),
            total_timeout=float(seconds),
            # With its own clock it knows at once that all threads are blocked.
            clock=getattr(kind, "clock", "virtual"),
            detect_io=False,
            timeout_per_run=60.0,  # by the real clock; a busy machine may delay a thread for long
            trace_packages=["syncprims.*"],
            reproduce_on_failure=0,
        )
    except Exception as error:  # from a thread
        report.explanation = repr(error)
    else:
        report.holds, report.explored = result.property_holds, result.num_explored
        report.complete = result.property_holds is True and monotonic() - started < float(seconds)
        report.explanation = result.explanation or result.inconclusive_reason
    print(json.dumps(asdict(report)), flush=True)
    os._exit(0)  # threads of an abandoned execution may be left, and can't be ended
