"""Every kind of hang gets its name, and a program that only looks like one gets none."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from watch.outputs import FOLDER, SHOWN, as_shown, report_of
from watch.watching import BEGINNING, END, HERE, QUICK, run, watch

# For each program the heading of its report, and the texts in it.
HANGS = {
    "two_accounts.py": (
        "DEADLOCK",
        [
            "2 threads wait for each other, and can never go on",
            "Thread 'there' has waited",
            "for Account._lock (two_accounts.py:12)",
            "held by Thread 'back', taken at two_accounts.py:20 in transfer",
            "two_accounts.py:22 in transfer",
            "take the locks in the same order",
        ],
    ),
    "two_acquired.py": ("DEADLOCK", ["Thread 'there'", "held by Thread 'back'", "two_acquired.py:14 in work"]),
    "two_rlocks.py": (
        "DEADLOCK",
        [
            "for stock (two_rlocks.py:7)",
            "for orders (two_rlocks.py:8)",
            "held by Thread 'back', taken at two_rlocks.py:13",
        ],
    ),
    "philosophers.py": ("DEADLOCK", ["5 threads", "for forks[…] (philosophers.py:8) no. 3", "Thread 'philosopher-4'"]),
    "join_while_holding.py": (
        "DEADLOCK",
        ["for the end of Thread 'worker'", "for lock (join_while_holding.py:7)", "release the lock before joining"],
    ),
    "own_pool.py": (
        "LIKELY DEADLOCK",
        ["the result of a task that is queued in the ThreadPoolExecutor 'jobs'", "unless the pool gets another worker"],
    ),
    "left_by_fork.py": ("DEADLOCK", ["lock (left_by_fork.py:8)", "held by Thread 'holder'", "not in this process"]),
    "signal_handler.py": ("DEADLOCK", ["held by itself, taken at signal_handler.py:17 in <module>", "set a flag"]),
    "finalizer.py": (
        "DEADLOCK",
        ["held by itself, taken at finalizer.py:19 in <module>", "finalizer.py:14 in __del__"],
    ),
    "queue_in_finalizer.py": (
        "DEADLOCK",
        ["the mutex of the Queue log made at queue_in_finalizer.py:7", "taken at queue_in_finalizer.py:17"],
    ),
    "import_waits": (
        "DEADLOCK",
        ["the import of the module 'loading'", "which is importing it", "the end of Thread 'importer'"],
    ),
    "nested_monitors.py": (
        "ALL ASLEEP",
        [
            "a notification of the Condition ready (nested_monitors.py:8)",
            "for outer (nested_monitors.py:7)",
            "held by Thread 'consumer'",
            "only a signal or code in C",
        ],
    ),
    "queue_not_filled.py": ("ALL ASLEEP", ["an item from the Queue jobs (queue_not_filled.py:8)", "'worker-1'"]),
    "queue_not_joined.py": ("ALL ASLEEP", ["all tasks to be done of the Queue jobs (queue_not_joined.py:8)"]),
    "exit_waits.py": (
        "ALL ASLEEP",
        ["the end of Thread 'listener' (not daemon), to end the program", "the Event stopping (exit_waits.py:7)"],
    ),
    "died_holding.py": ("DEADLOCK", ["whose holder is gone", "held by Thread 'worker'", "which has ended"]),
    "died_with_plain_lock.py": ("DEADLOCK", ["whose holder is gone", "held by Thread 'worker'", "which has ended"]),
    "released_by_others.py": (
        "LIKELY DEADLOCK",
        ["unless another thread releases the lock: one did so with a lock that was made at the same place"],
    ),
}

HANGS |= {
    "both_orders.py": (
        "LOCK ORDER",
        [
            "2 locks were taken in both orders",
            "Thread 'ship' held stock (both_orders.py:7), taken at both_orders.py:12 in ship, "
            "when it took orders (both_orders.py:8) at both_orders.py:12 in ship",
            "Thread 'cancel' held orders (both_orders.py:8), taken at both_orders.py:17 in cancel, "
            "when it took stock (both_orders.py:7) at both_orders.py:17 in cancel",
            "# syncprims: any order",
        ],
    ),
    "slow_wait.py": (
        "SLOW",
        ["for more than 0.4 s", "for report (slow_wait.py:8)", "held by Thread 'printer'", "Thread 'printer' is here:"],
    ),
}
HANGS |= {
    "task_holds_lock.py": (
        "DEADLOCK",
        [
            "Thread 'MainThread', which runs Task 'Task-3' (refresh), has waited",
            "for cache (task_holds_lock.py:6)",
            "held by itself, taken at task_holds_lock.py:10 in refresh, by Task 'Task-2' (refresh), which is suspended",
            "hold no lock of threading over an await",
        ],
    ),
    "task_holds_for_thread.py": (
        "LIKELY DEADLOCK",
        [
            "2 threads and tasks wait for each other, and can never go on; unless one of these tasks is cancelled",
            "Thread 'asyncio_0' has waited",
            "held by Task 'Task-1' (main), taken at task_holds_for_thread.py:15 in main",
            "Task 'Task-1' (main) in Thread 'MainThread' has waited",
            "for the result of a task that runs in Thread 'asyncio_0'",
            "hold no lock of threading over an await",
        ],
    ),
    "loop_blocked.py": (
        "LOOP BLOCKED",
        [
            "a blocking wait in the thread of an event loop stops all tasks of that loop",
            "Thread 'MainThread', which runs Task 'consumer' (consume), has waited",
            "for an item from the Queue jobs (loop_blocked.py:6)",
            "asyncio.to_thread",
        ],
    ),
    "loop_blocked_by_ours.py": (
        "LOOP BLOCKED",
        ["which runs Task 'Task-1' (ship), has waited", "for 'orders'", "held by Thread 'Thread-1 (hold)'"],
    ),
    "own_loop.py": (
        "DEADLOCK",
        [
            "1 thread waits for itself",
            "which runs Task 'Task-1' (main), has waited",
            "for the result of a coroutine that was handed to an event loop",
            "up to itself, which runs that event loop",
            "own_loop.py:11 in fetch_now",
            "in the thread of a loop await the coroutine itself",
        ],
    ),
    "loop_and_thread.py": (
        "DEADLOCK",
        [
            "for lock (loop_and_thread.py:6)",
            "held by Thread 'asker'",
            "up to Thread 'MainThread', which runs that event loop",
        ],
    ),
    "tasks_in_both_orders.py": (
        "LIKELY DEADLOCK",
        [
            "2 tasks wait for each other, and can never go on; unless one of these tasks is cancelled",
            "Task 'out' (move) in Thread 'MainThread' has waited",
            "for the asyncio.Lock there (tasks_in_both_orders.py:14)",
            "held by Task 'back' (move), taken at tasks_in_both_orders.py:7 in move",
            "for the asyncio.Lock here (tasks_in_both_orders.py:14)",
            "tasks_in_both_orders.py:9 in move",
        ],
    ),
    "task_locks_twice.py": (
        "LIKELY DEADLOCK",
        [
            "1 task waits for itself",
            "for the asyncio.Lock Account.lock (task_locks_twice.py:8)",
            "held by itself, taken at task_locks_twice.py:11 in deposit",
            "an asyncio.Lock can't be taken again by the task that has it",
        ],
    ),
    "task_awaits_under_lock.py": (
        "LIKELY DEADLOCK",
        [
            "for the lock of the Condition changed made at task_awaits_under_lock.py:12",
            "for the tasks of a gather()",
            "up to Task 'Task-2' (store), which has not ended",
        ],
    ),
}
OPTIONS = {"both_orders.py": ("--order",), "slow_wait.py": ("--slow", "0.4")}
SAMPLE = (
    "two_accounts.py",
    "own_pool.py",
    "queue_not_joined.py",
    "signal_handler.py",
    "left_by_fork.py",
    "both_orders.py",
    "task_holds_lock.py",
    "loop_blocked.py",
    "tasks_in_both_orders.py",
)
QUICK_LOOK_ALIKES = ("baton.py", "generator_holds.py", "one_order.py", "tasks_going_on.py")


def _marked(names: list[str], sample: tuple[str, ...]) -> list[object]:
    return [name if name in sample else pytest.param(name, marks=pytest.mark.slow) for name in names]


def test_every_hang_is_expected() -> None:
    """Each program in the folder of hangs has its line in the table."""
    assert {path.name for path in (HERE / "hangs").iterdir() if path.name != "__pycache__"} == HANGS.keys()


@pytest.mark.parametrize("program", _marked([*HANGS], SAMPLE))
def test_the_kind_of_hang_is_named(program: str) -> None:
    """A program that hangs gets one block, with the right heading and the waits."""
    if program == "left_by_fork.py" and sys.platform == "win32":
        pytest.skip("there is no fork")
    heading, said = HANGS[program]
    block = watch(f"hangs/{program}", options=(*QUICK, *OPTIONS.get(program, ())))
    assert block.startswith(f"{BEGINNING}{heading} in process "), block
    assert block.splitlines()[-1].startswith(END), block
    assert [words for words in said if words not in block] == [], block


@pytest.mark.parametrize(
    "program", _marked(sorted(path.name for path in (HERE / "harmless").glob("*.py")), QUICK_LOOK_ALIKES)
)
def test_what_goes_on_is_not_called_a_deadlock(program: str) -> None:
    """A program that only looks stuck for a while ends as without the watch, and is not called a deadlock."""
    orders = ["--order"] if program == "one_order.py" else []
    found = run("-m", "syncprims.watch", *QUICK, "--no-asleep", *orders, str(HERE / "harmless" / program))
    assert found.returncode == 0, found.stderr
    assert found.stdout.splitlines()[-1] == "done"
    assert f"{BEGINNING}DEADLOCK" not in found.stderr
    assert "LOOP BLOCKED" not in found.stderr
    if program != "generator_holds.py":  # that one is likely, as far as is known
        assert found.stderr == ""


@pytest.mark.parametrize("place", ["both_orders.py:7", "both_orders.py:7,both_orders.py:8", "both_orders.py:12"])
def test_an_order_can_be_ignored(place: str) -> None:
    """It is given by the place that made or acquired a lock, or a pair of places."""
    found = run("-m", "syncprims.watch", "--order", "--ignore", place, str(HERE / "hangs" / "both_orders.py"))
    assert (found.returncode, found.stderr) == (0, "")


def _lines(report: str) -> list[str]:
    """The lines of a report in an order that does not depend on the thread from which a cycle is seen."""
    return sorted(
        re.sub(r"'(there|back|out)'|no\. [12]|:[0-9]+ in (get|join)", "", line) for line in report.splitlines()
    )


@pytest.mark.skipif(not FOLDER.is_dir(), reason="the pages are not there: only the tests were copied")
@pytest.mark.parametrize("program", _marked([*SHOWN], ("two_accounts.py",)))
def test_the_pages_show_real_reports(program: str) -> None:
    """The pages show the real output; ``python -m watch.outputs`` writes it."""
    shown = (FOLDER / program).with_suffix(".txt").read_text(encoding="utf-8")
    assert _lines(report_of(program)) == _lines(shown)


@pytest.mark.skipif(not FOLDER.is_dir(), reason="the pages are not there: only the tests were copied")
def test_the_readme_shows_a_real_report(tmp_path: Path) -> None:
    """The README's first program hangs, and the report below it is what the watch prints."""
    text = (FOLDER.parents[1] / "README.md").read_text(encoding="utf-8")
    (program,), (shown,) = (
        re.findall(r"(?ms)^```python\n(import .*?)^```", text),
        re.findall(r"(?ms)^```text\n(.*?)^```", text),
    )
    (tmp_path / "bank.py").write_text(program, encoding="utf-8")
    assert _lines(as_shown(watch(tmp_path / "bank.py"))) == _lines(shown)
