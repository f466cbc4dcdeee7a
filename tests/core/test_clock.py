"""The clock: waits end even if the program's own clock does not move."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from unittest.mock import patch

import pytest

import syncprims
from syncprims import AtomicCounter, CounterTimeoutError
from syncprims._core import clock

ENDS = """
with: LockTimeoutError
hold: LockTimeoutError
acquire: False
own lock again: False
acquire_all: LockTimeoutError
adapter: LockTimeoutError
adapter's acquire: False
wait_until: CounterTimeoutError
wait_for: CounterTimeoutError
wait_for, while it changes: CounterTimeoutError
step: StepTimeoutError
serve: StepTimeoutError
wait: StepTimeoutError
run: StepTimeoutError
result: PoolTimeoutError
join: PoolTimeoutError
close: PoolTimeoutError
map: PoolTimeoutError
map_unordered: PoolTimeoutError
wait_settled: PoolTimeoutError
task: TaskTimeoutError
process: TaskTimeoutError
threads: WedgeError
assert_blocks: False
"""
_needs_freezegun = pytest.mark.skipif(find_spec("freezegun") is None, reason="freezegun is not installed")


@pytest.mark.parametrize("how", ["before", "after", pytest.param("freezegun", marks=_needs_freezegun)])
def test_every_wait_ends_though_the_programs_clock_stands_still(how: str) -> None:
    """It makes no difference whether the clock was replaced before or after the import, by name or everywhere."""
    program = [sys.executable, str(Path(__file__).with_name("frozen_clock.py")), how]
    done = subprocess.run(program, capture_output=True, text=True, timeout=90, check=False)
    assert done.stdout == ENDS[1:], done.stderr[-2000:]


def test_a_wait_measures_real_time_under_a_clock_of_the_tests() -> None:
    """Nor does a clock that leaps ahead end a wait too soon."""
    with patch("time.monotonic", lambda: 1e12), pytest.raises(CounterTimeoutError) as caught:
        AtomicCounter().wait_until(1, timeout=0.05)
    assert 0.05 <= caught.value.waited < 10


def test_nothing_in_the_library_has_the_clock_that_tests_replace() -> None:
    """The clock is imported from one place, where a search for the functions of `time` does not find them."""
    import time

    for name in clock.__all__:
        assert getattr(clock, name) is not getattr(time, name)
    root = Path(syncprims.__file__).parent
    clocked = re.compile(r"^\s*(from time import .*(monotonic|perf_counter|sleep)|import time\b)", re.MULTILINE)
    importing = {
        str(file.relative_to(root)) for file in root.rglob("*.py") if clocked.search(file.read_text(encoding="utf-8"))
    }
    assert {name for name in importing if not name.startswith("_tour")} == {"_core/clock.py"}
