"""Each use of an idiom of `_core.interrupts` is needed: undone in a copy of the package, a sweep finds a leak."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final, NamedTuple

import pytest

import syncprims

pytestmark = [pytest.mark.slow, pytest.mark.untraceable]

TESTS: Final = Path(__file__).parents[1]
LOCKS: Final = "locks/test_lock_interrupts.py"
RUNNER: Final = "runner/test_runner_interrupts.py"
COUNTER: Final = "counter/test_counter_interrupts.py"


class Undone(NamedTuple):
    """One use of an idiom, the code in its place, and the sweep that has to notice."""

    name: str
    file: str
    old: str
    new: str
    test: str
    only: str  # of the sweep's parameters, as for ``pytest -k``


HANDLER: Final = """        except BaseException:
            try:
                _c_release(self)
            except RuntimeError:
                pass
            raise
"""
ENTER: Final = """            self._wait(self._timeout, True)
            return self
"""
WITHIN: Final = """            self._wait(timeout, True)
            return self
"""
ACQUIRE: Final = """            return self._try(False) or self._wait(limit, False)
"""
LATER: Final = """        except BaseException:
            str(self)
            _c_release(self)
            raise
"""

UNDONE: Final = [
    # -- a handler whose first call is the release in C
    Undone(
        "enter",
        "_locks/timed_lock.py",
        ENTER + HANDLER,
        ENTER + "        finally:\n            pass\n",
        f"{LOCKS}::test_free_lock_never_leaks",
        "by_with and TimedLock",
    ),
    Undone(
        "hold",
        "_locks/timed_lock.py",
        WITHIN + HANDLER,
        WITHIN + "        finally:\n            pass\n",
        f"{LOCKS}::test_free_lock_never_leaks",
        "by_hold and TimedLock",
    ),
    Undone(
        "acquire",
        "_locks/timed_lock.py",
        ACQUIRE + HANDLER,
        ACQUIRE + "        finally:\n            pass\n",
        f"{LOCKS}::test_free_lock_never_leaks",
        "by_acquire and TimedLock",
    ),
    Undone(
        "enter, not first",
        "_locks/timed_lock.py",
        ENTER + HANDLER,
        ENTER + LATER,
        f"{LOCKS}::test_free_lock_never_leaks",
        "by_with and TimedLock",
    ),
    Undone(
        "the lock of a key, acquired",
        "_locks/keyed.py",
        "                self.release()\n                raise\n",
        "                raise\n",
        "locks/test_keyed.py::test_an_interrupt_leaks_nothing",
        "by_acquire",
    ),
    Undone(
        "the looking at what was acquired",
        "_locks/keyed.py",
        "                    self._acquired.append(lock)\n                    raise\n",
        "                    raise\n",
        "locks/test_keyed.py::test_an_interrupt_loses_no_lock_that_is_only_held",
        "",
    ),
    Undone(
        "the forgetting of keys",
        "_locks/in_use.py",
        "                    if not failed:\n                        self._gone.append(dead)\n",
        "",
        "locks/test_keyed.py::test_an_interrupt_leaks_nothing",
        "by_keys_in_python",
    ),
    Undone(
        "the end of a shared call, not first",
        "_locks/shared_call.py",
        "                known.clear()\n",
        "                len(known)\n                known.clear()\n",
        "locks/test_once.py::test_an_interrupt_leaves_no_error",
        "",
    ),
    # -- attempt
    Undone(
        "taken again",
        "_locks/timed_lock.py",
        "(taken,) = map(_c_acquire, (self,))",
        "taken = _c_acquire(self)",
        f"{LOCKS}::test_lock_taken_again_never_leaks",
        "",
    ),
    Undone(
        "the condition's giving up",
        "_locks/timed_lock.py",
        "(state,) = map(_c_release_save, (self,))",
        "state = _c_release_save(self)",
        f"{LOCKS}::test_condition_never_leaks",
        "",
    ),
    Undone(
        "the adapter's try",
        "_locks/lock_adapter.py",
        "(answer,) = map(_try, (self._lock,))",
        "answer = _try(self._lock)",
        f"{LOCKS}::test_adapters_of_locks_in_c_never_leak",
        "adapter_by_with",
    ),
    Undone(
        "the step's try",
        "_runner/steps.py",
        "for took in sequence.tries[step]:  # noqa: B007  `attempt`, prepared; used below\n                break",
        "took = sequence.gates[step].acquire(False)",
        f"{RUNNER}::test_interrupt_anywhere_never_wedges_the_sequence",
        "two_rounds",
    ),
    Undone(
        "the step's wait",
        "_runner/sequence.py",
        "(took,) = map(gate.acquire, (True,), (-1 if timeout is None else timeout,))",
        "took = gate.acquire(True, -1 if timeout is None else timeout)",
        f"{RUNNER}::test_interrupt_of_a_waiting_thread_leaves_its_turn_untaken",
        "wait_for_the_turn",
    ),
    Undone(
        "the runner's start",
        "_runner/sequence.py",
        "took = attempt(self.start.acquire, False)",
        "took = self.start.acquire(False)",
        f"{RUNNER}::test_interrupt_anywhere_never_wedges_the_sequence",
        "one_context",
    ),
    Undone(
        "the guarded value's update",
        "_locks/guarded.py",
        "for made in starmap(fn, ((self._value,),)):\n                self._value = made\n                return made",
        "self._value = fn(self._value)\n            return self._value",
        "locks/test_guarded.py::test_what_the_function_has_returned_is_not_lost",
        "",
    ),
    Undone(
        "the result of what runs once",
        "_locks/once.py",
        "self.kept = (attempt(self._fn),)",
        "self.kept = (self._fn(),)",
        "locks/test_once.py::test_what_has_returned_is_never_run_again",
        "",
    ),
    Undone(
        "attempt itself",
        "_core/interrupts.py",
        "    for outcome in starmap(take, (args,)):\n        return outcome",
        "    outcome = take(*args)\n    return outcome",
        "core/test_interrupts.py::test_an_attempt_is_stored_before_an_interrupt_comes",
        "by_attempt",
    ),
    # -- the condition's way back
    Undone(
        "the condition, interrupted as it gives up",
        "_locks/timed_lock.py",
        "            again.close()\n",
        "            pass\n",
        f"{LOCKS}::test_condition_never_leaks",
        "",
    ),
    Undone(
        "the condition's taking back, not first",
        "_locks/timed_lock.py",
        "                if state is not None:\n                    _c_acquire_restore(self, state)",
        "                waiting.withdraw()\n                if state is not None:\n"
        "                    _c_acquire_restore(self, state)",
        f"{LOCKS}::test_condition_never_leaks",
        "",
    ),
    # -- leaving in C
    Undone(
        "the adapter's exit",
        "_locks/lock_adapter.py",
        "    __exit__: LeaveInC = LeaveInC(_leave)\n",
        "    def __exit__(self, *exc_info: object) -> None:\n        self._leave()(*exc_info)\n",
        f"{LOCKS}::test_adapters_of_locks_in_c_never_leak",
        "adapter_by_with",
    ),
    Undone(
        "acquire_all's exit",
        "_locks/acquire_all.py",
        "    __exit__ = LeaveInC(_leave)\n",
        "    def __exit__(self, *exc_info):\n        self._leave()(*exc_info)\n",
        f"{LOCKS}::test_free_lock_never_leaks",
        "by_acquire_all and TimedLock",
    ),
    Undone(
        "the step's exit",
        "_runner/steps.py",
        "        __exit__ = LeaveInC(_leave)\n",
        "        def __exit__(self, *exc_info):\n            self._leave()(*exc_info)\n",
        f"{RUNNER}::test_interrupt_anywhere_never_wedges_the_sequence",
        "two_rounds",
    ),
    Undone(
        "hold's exit",
        "_locks/hold.py",
        '    __exit__: LeaveInC = LeaveInC(attrgetter("_lock.__exit__"))\n',
        "    def __exit__(self, *exc_info):\n        self._lock.__exit__(*exc_info)\n",
        f"{LOCKS}::test_free_lock_never_leaks",
        "by_hold and TimedLock",
    ),
    Undone(
        "leaving's open try",
        "_core/interrupts.py",
        "        except BaseException as interrupt:\n            if entered:",
        "        except BaseException as interrupt:\n            if not entered:",
        f"{LOCKS}::test_adapters_of_locks_in_c_never_leak",
        "adapter_by_with",
    ),
    # -- exhaust, and the rest after a failure
    Undone(
        "exhaust itself",
        "_core/interrupts.py",
        "exhaust: Callable[[Iterable[object]], None] = deque[object](maxlen=0).extend",
        "def exhaust(calls):\n    for _ in calls:\n        pass\n",
        f"{LOCKS}::test_adapters_of_locks_in_c_never_leak",
        "adapters_together",
    ),
    Undone(
        "what acquire_all lets go by, prepared",
        "_locks/acquire_all.py",
        "        except BaseException as error:\n            try:\n                exhaust(letting_go)",
        "        except BaseException as error:\n            letting_go = map(call, iter(mine.pop, token))\n"
        "            try:\n                exhaust(letting_go)",
        f"{LOCKS}::test_entering_by_hand_takes_all_or_none",
        "",
    ),
    Undone(
        "what releases, fetched before",
        "_locks/acquire_all.py",
        "                lock._enter_within(left)\n                mine.append(release)",
        "                lock._enter_within(left)\n                mine.append(lock._release)",
        f"{LOCKS}::test_adapters_of_locks_in_c_never_leak",
        "adapters_together",
    ),
    Undone(
        "the rest, first of all, on the way in",
        "_locks/acquire_all.py",
        "                try:\n                    exhaust(letting_go)  # release the rest first\n",
        "                try:\n                    pass\n",
        f"{LOCKS}::test_entering_by_hand_takes_all_or_none",
        "",
    ),
    Undone(
        "the rest, first of all, on the way out",
        "_core/interrupts.py",
        "        except BaseException as failure:  # noqa: BLE001  raised, or noted\n"
        "            try:\n"
        "                exhaust(letting_go)\n",
        "        except BaseException as failure:  # noqa: BLE001  raised, or noted\n"
        "            try:\n"
        "                pass\n",
        f"{LOCKS}::test_adapters_of_locks_in_c_never_leak",
        "one_of_all_fails",
    ),
    Undone(
        "the rest, first of all, after an interrupt",
        "_core/interrupts.py",
        "                    try:\n                        exhaust(letting_go)  # release the rest first\n",
        "                    try:\n                        pass\n",
        f"{LOCKS}::test_adapters_of_locks_in_c_never_leak",
        "one_of_all_fails",
    ),
    Undone(
        "the adapter's hold, struck off without a call",
        "_locks/lock_adapter.py",
        "                    try:\n"
        "                        del mine[held]  # not a call: another interrupt can come only after it\n"
        "                    except IndexError:\n                        pass",
        "                    if len(mine) > held:\n                        mine.pop()",
        f"{LOCKS}::test_an_adapted_lock_is_released_as_often_as_it_was_taken",
        "",
    ),
    # -- the end of a sequence, told and opened by one call
    Undone(
        "the end of a step that was cut off",
        "_runner/steps.py",
        "                try:\n                    exhaust(cut_off.opening)",
        "                cut_off.ends.append(breaking)\n"
        "                try:\n"
        "                    exhaust(cut_off.prepare_opening())",
        f"{RUNNER}::test_interrupt_anywhere_never_wedges_the_sequence",
        "two_rounds or failing_step",
    ),
    Undone(
        "the end of a start that was cut off",
        "_runner/sequence.py",
        "                self.breaking.cause = error\n                try:\n                    exhaust(self.opening)",
        "                self.breaking.cause = error\n                self.ends.append(self.breaking)\n"
        "                try:\n                    exhaust(self.prepare_opening())",
        f"{RUNNER}::test_interrupt_anywhere_never_wedges_the_sequence",
        "one_context",
    ),
    Undone(
        "the end by any thread",
        "_runner/sequence.py",
        "        try:\n"
        "            exhaust(opening)\n"
        "        except RuntimeError:\n"
        "            go_on(opening)\n"
        "\n"
        "    # -- waiting",
        "        self.ends.append(end)\n"
        "        try:\n"
        "            exhaust(self.prepare_opening())\n"
        "        except RuntimeError:\n"
        "            go_on(opening)\n\n    # -- waiting",
        f"{RUNNER}::test_interrupt_anywhere_never_wedges_the_sequence",
        "steered or stopped_step",
    ),
    Undone(
        "the stop's try",
        "_runner/sequence.py",
        "(took,) = taking  #",
        "took = next(taking)  #",
        f"{RUNNER}::test_interrupt_anywhere_never_wedges_the_sequence",
        "steered or stopped_step",
    ),
    Undone(
        "what leaves, back at the last moment",
        "_runner/steps.py",
        "        place, leave = home(), own()\n",
        "        home().own, home().leave = own, own()\n",
        f"{RUNNER}::test_interrupt_anywhere_never_wedges_the_sequence",
        "two_rounds",
    ),
    Undone(
        "the watcher's leaving the list",
        "_runner/sequence.py",
        "            try:\n                self.watchers.remove(watch)",
        "            str(self)\n            try:\n                self.watchers.remove(watch)",
        f"{RUNNER}::test_interrupt_of_a_waiting_thread_leaves_its_turn_untaken",
        "wait_for_the_round",
    ),
    # -- the counter
    Undone(
        "the counter's telling",
        "_counter/atomic_counter.py",
        "                exhaust(news)\n",
        "                for _ in news:\n                    pass\n",
        f"{COUNTER}::test_an_interrupted_change_never_loses_a_wake_up",
        "",
    ),
    Undone(
        "the counter's telling, right after the store",
        "_counter/atomic_counter.py",
        "                exhaust(news)\n",
        "                len(self.name)\n                exhaust(news)\n",
        f"{COUNTER}::test_an_interrupted_change_never_loses_a_wake_up",
        "",
    ),
    Undone(
        "the waiter's leaving the counter",
        "_counter/waiting.py",
        "            try:\n                counter._waiters.pop(self, None)",
        "            str(self)\n            try:\n                counter._waiters.pop(self, None)",
        f"{COUNTER}::test_interrupted_waits_leave_nothing",
        "until",
    ),
]


def swept(package: Path, test: str, only: str) -> subprocess.CompletedProcess[str]:
    """Run the sweep with a copy of the package, up to its first leak; the worker's mode would take too long."""
    path = os.pathsep.join([str(package.parent), str(TESTS)])
    expression = f"not worker and ({only})" if only else "not worker"
    options = [
        "-x",
        "-q",
        "-n",
        "0",
        "-p",
        "no:cacheprovider",
        "-m",
        "",
        "-k",
        expression,
        "--rootdir",
        str(TESTS.parent),
    ]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(TESTS / test)],
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
        cwd=TESTS.parent,
        env={**os.environ, "PYTHONPATH": path},
    )


def copied(folder: Path) -> Path:
    # Without the compiled core, which bypasses the changed code.
    ignored = shutil.ignore_patterns("__pycache__", "*.so", "*.pyd")
    return Path(shutil.copytree(Path(syncprims.__file__).parent, folder / "syncprims", ignore=ignored))


@pytest.mark.parametrize("undone", UNDONE, ids=lambda undone: undone.name)
def test_a_sweep_notices_what_is_undone(undone: Undone, tmp_path: Path) -> None:
    """After the change, some interruption point leaves something broken, in a mode of the project's own sweeps."""
    package = copied(tmp_path)
    file = package / undone.file
    text = file.read_text(encoding="utf-8")
    assert text.count(undone.old) == 1, "the text to undo is not there exactly once"
    file.write_text(text.replace(undone.old, undone.new), encoding="utf-8")
    run = swept(package, undone.test, undone.only)
    assert run.returncode == 1, run.stdout[-3000:]
    assert "InterruptLeakError" in run.stdout, run.stdout[-3000:]


@pytest.mark.parametrize(("test", "only"), sorted({(undone.test, undone.only) for undone in UNDONE}))
def test_the_same_sweeps_find_nothing_where_nothing_is_undone(test: str, only: str, tmp_path: Path) -> None:
    """The control: what the sweeps notice above is the change."""
    run = swept(copied(tmp_path), test, only)
    assert run.returncode == 0, run.stdout[-3000:]
