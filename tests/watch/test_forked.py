"""Pre-fork servers: a process imports the program, is watched from then on, and forks its workers."""

from __future__ import annotations

import os
import sys
import sysconfig
from typing import Final

import pytest

from watch.watching import block_of, run

pytestmark = [
    pytest.mark.untraceable,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork"),
]
WATCH: Final = {"SYNCPRIMS_WATCH": "--after 0.3 --no-asleep"}

# A server's actions around its fork. C code may fork without Python's hooks, and hold the GIL during that.
IMPORTED: Final = """
import ctypes, multiprocessing, os, sys, threading
import syncprims
a, b = threading.Lock(), threading.Lock()
meet = threading.Barrier(2)
def transfer(first, second):
    with first:
        meet.wait(30.0)
        with second:
            pass
def work():
    for locks in ((a, b), (b, a)):
        threading.Thread(target=transfer, args=locks).start()
def worker(fork):
    if pid := fork():
        _, status = os.waitpid(pid, 0)
        os._exit(os.waitstatus_to_exitcode(status))
    work()
"""
FORKS: Final = {
    "os.fork": "worker(os.fork)",
    "os.fork in a thread": "one = threading.Thread(target=worker, args=[os.fork])\none.start()\none.join()",
    "os.fork after a wait": "a.acquire(); a.acquire(timeout=0.01); a.release()\nworker(os.fork)",
    "multiprocessing": "multiprocessing.get_context('fork').Process(target=work).start()",
    "in C": "worker(ctypes.PyDLL(None).fork)",
}
# Until the thread waits, and the watch's thread exists: a beginning thread may have locks of the interpreter.
WITH_THREADS: Final = """
threading.Thread(target=threading.Event().wait, daemon=True).start()
while len(sys._current_frames()) < 3:
    pass
"""


@pytest.mark.parametrize("fork", FORKS)
def test_a_worker_reports_its_own_deadlock(fork: str) -> None:
    """This holds for every way to fork."""
    report = block_of("-W", "ignore", "-c", IMPORTED + FORKS[fork], env=WATCH)
    assert "DEADLOCK in process" in report.partition("\n")[0]
    assert "2 threads wait for each other, and can never go on:" in report


def test_a_fork_in_c_finds_no_thread_of_the_watch() -> None:
    """Without hooks it can't end before, and Python would take it for the child's: it has not begun."""
    program = "import os, sys, threading\nimport syncprims\nprint(len(sys._current_frames()))"
    assert run("-c", program, env=WATCH).stdout == "1\n"


COUNTED: Final = """
import _thread, os, sys, threading
from _thread import _count
import syncprims
lock = threading.Lock()
lock.acquire()
def count():
    lock.acquire(timeout=0.01)
    while len(sys._current_frames()) < 2:
        pass
    return _thread._count()
counts = [_thread._count(), count()]
if os.fork() == 0:
    os._exit(count())
counts += [os.wait()[1], count()]
print(counts, _count())
"""


def test_the_thread_of_the_watch_is_not_counted() -> None:
    """Tests count threads to check that theirs have ended, and the watch's begins with a wait and after a fork."""
    assert run("-c", COUNTED, env=WATCH).stdout == "[0, 0, 0, 0] 1\n"


FIRST_WAIT: Final = """
def work():
    a.acquire()
    a.acquire(timeout=0.01)
    os._exit(7)
"""


@pytest.mark.skipif(
    bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    reason="such a child can start no thread, with or without a watch",
)
def test_a_fork_in_c_with_threads() -> None:
    """Until 3.12 reading the threads could crash the child, so it reports that it is not watched; later it is."""
    if sys.version_info >= (3, 13):
        report = block_of("-W", "ignore", "-c", IMPORTED + WITH_THREADS + FORKS["in C"], env=WATCH)
        assert "2 threads wait for each other, and can never go on:" in report
        return
    ended = run("-c", IMPORTED + FIRST_WAIT + WITH_THREADS + FORKS["in C"], env=WATCH)
    assert ended.returncode == 7
    assert "is not watched: it was forked in C, without Python's hooks" in ended.stderr
    assert ended.stderr.count("\n") == 1
