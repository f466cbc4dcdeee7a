"""Whole programs: output order, interpreter exit, Ctrl-C, the parent's death, and the cost of imports."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from polling import ended, sending

TESTS = Path(__file__).resolve().parents[1]
LIMIT = 60.0
MADE_IN = {"process": (3, 11), "interpreter": (3, 14)}

HEAD = """
import os, sys, threading
sys.path.insert(0, sys.argv[1])
from callback_pool import pool_workers
from polling import until_exists
from syncprims.callback_pool import CallbackPool
"""


def run(tmp_path: Path, body: str, *arguments: str) -> tuple[int, list[str], str]:
    """Run a program as a file, with its output in pipes; returns status, lines and errors."""
    # Without a buffer, `print` makes several writes, and the lines of two processes may mix.
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    program = start(tmp_path, body, *arguments)
    done = subprocess.run(program, capture_output=True, text=True, timeout=LIMIT, check=False, env=buffered)
    return done.returncode, done.stdout.splitlines(), done.stderr


def start(tmp_path: Path, body: str, *arguments: str) -> list[str]:
    program = tmp_path / "program.py"
    program.write_text(HEAD + body)
    return [sys.executable, str(program), str(TESTS), *arguments]


def test_childs_lines_come_before_its_callbacks(tmp_path: Path) -> None:
    """The article's program: the child prints, returns, and the callback prints after it, into one pipe."""
    body = """
def report(value):
    print("callback", value)

if __name__ == "__main__":
    with CallbackPool("process", max_workers=3) as pool:
        for name in "abc":
            pool.apply_async(pool_workers.say, args=(name,), callback=report)
"""
    status, lines, errors = run(tmp_path, body)
    assert (status, errors) == (0, "")
    assert sorted(lines) == ["a", "b", "c", "callback a", "callback b", "callback c"]
    for name in "abc":
        assert lines.index(name) < lines.index(f"callback {name}")


@pytest.mark.parametrize("kind", ["thread", "process", "handed in"])
def test_open_pool_drains_at_exit(tmp_path: Path, kind: str) -> None:
    """Six tasks of a pool that was not closed all run at exit, with callbacks and the tasks that these submit."""
    body = """
def again(n):
    print(n, flush=True)
    if n < 100:
        pool.apply_async(pool_workers.add, (n, 100), callback=again)

if __name__ == "__main__":
    kind = sys.argv[2]
    if kind == "handed in":
        from concurrent.futures import ThreadPoolExecutor
        kind = ThreadPoolExecutor(2)
        pool = CallbackPool(kind)
    else:
        pool = CallbackPool(kind, max_workers=2)
    for n in range(6):
        pool.apply_async(pool_workers.add, (n,), callback=again)
"""
    status, lines, errors = run(tmp_path, body, kind)
    assert (status, errors) == (0, "")
    assert sorted(map(int, lines)) == [*range(6), *range(100, 106)]


@pytest.mark.parametrize("kind", [kind for kind in ("process", "interpreter") if sys.version_info >= MADE_IN[kind]])
def test_workers_find_what_a_script_defines_that_has_ended(tmp_path: Path, kind: str) -> None:
    """Workers that start when the script has ended find its functions, like earlier ones."""
    program = tmp_path / "script.py"
    program.write_text(f"""
import sys
from syncprims import CallbackPool

def set_up(number):
    sys.hundred = number

def add_hundred(n):
    return sys.hundred + n

def again(n):
    print(n, flush=True)
    if n < 200:
        pool.apply_async(add_hundred, (n,), callback=again)

if __name__ == "__main__":
    pool = CallbackPool({kind!r}, max_workers=2, initializer=set_up, initargs=(100,))
    for n in range(6):
        pool.apply_async(add_hundred, (n,), callback=again)
""")
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=LIMIT, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(map(int, done.stdout.split())) == [*range(100, 106), *range(200, 206)]


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_exit_does_not_wait_for_abandoned_tasks(tmp_path: Path, kind: str) -> None:
    """A program whose expired task never returns ends at once, and its process ends as well."""
    body = """
if __name__ == "__main__":
    mark = sys.argv[3]
    pool = CallbackPool(sys.argv[2], max_workers=2)
    task = pool.apply_async(pool_workers.announce_then_hang, (mark,), error_callback=lambda e: print(type(e).__name__),
                            timeout=0.5)
    task.wait_settled(50)
    until_exists(mark)
"""
    mark = tmp_path / "pid"
    status, lines, errors = run(tmp_path, body, kind, str(mark))
    assert (status, lines, errors) == (0, ["TaskTimeoutError"], "")
    if kind == "process":
        assert ended(int(mark.read_text()))


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_ctrl_c_inside_with_tells_the_queue_and_ends_promptly(tmp_path: Path, kind: str) -> None:
    """SIGINT in a with block: every callback is called, and an endless task is not waited for."""
    body = """
told = []
if __name__ == "__main__":
    try:
        with CallbackPool(sys.argv[2], max_workers=1) as pool:
            for n in range(6):
                pool.apply_async(pool_workers.announce_then_hang, (sys.argv[3] + str(n),),
                                 error_callback=lambda e: told.append(type(e).__name__))
            until_exists(sys.argv[3] + "0")
            print("ready", flush=True)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        import atexit  # plain atexit comes after the pools' own end
        atexit.register(lambda: print(len(told), flush=True))
"""
    mark = tmp_path / "pid"
    program = subprocess.Popen(
        start(tmp_path, body, kind, str(mark)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert program.stdout is not None
    assert program.stdout.readline() == "ready\n"
    try:
        with sending(program.send_signal, signal.SIGINT):
            out, errors = program.communicate(timeout=LIMIT)
    finally:
        program.kill()
        program.wait(LIMIT)
    assert (program.returncode, errors) == (0, "")
    assert out.splitlines() == ["interrupted", "6"]
    if kind == "process":
        assert ended(int((tmp_path / "pid0").read_text()))


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX's")
def test_workers_end_when_the_parent_dies(tmp_path: Path) -> None:
    """A parent that is killed leaves no busy and no idle worker behind."""
    body = """
if __name__ == "__main__":
    pool = CallbackPool("process", max_workers=2)
    idle = pool.submit(pool_workers.pid).result(50)
    pool.submit(pool_workers.announce_then_hang, sys.argv[2])
    pool.submit(pool_workers.announce_then_hang, sys.argv[3])
    until_exists(sys.argv[2])
    until_exists(sys.argv[3])
    print("ready", flush=True)
    threading.Event().wait(60)
"""
    marks = [tmp_path / "0", tmp_path / "1"]
    program = subprocess.Popen(start(tmp_path, body, *map(str, marks)), stdout=subprocess.PIPE, text=True)
    assert program.stdout is not None
    assert program.stdout.readline() == "ready\n"
    program.kill()
    program.wait(LIMIT)
    for mark in marks:
        assert ended(int(mark.read_text()))
    program.stdout.close()


def test_unseen_errors_are_logged_at_exit(tmp_path: Path) -> None:
    """Errors that no join raised are logged when the interpreter ends."""
    body = """
pool = CallbackPool(max_workers=1, name="silent")
pool.apply_async(pool_workers.fail, ("unheard",))
"""
    status, _, errors = run(tmp_path, body)
    assert status == 0
    assert "ValueError: unheard" in errors


def test_importing_the_primitives_is_light(tmp_path: Path) -> None:
    """Importing and using primitives without a pool imports nothing heavy, on 3.14 not even through `traceback`."""
    program = tmp_path / "light.py"
    program.write_text("""
import sys, threading
heavy = {"asyncio", "multiprocessing", "dataclasses", "inspect", "logging", "traceback"} - set(sys.modules)
from syncprims import AtomicCounter, LockAdapter, OrderedRunner, TimedLock, acquire_all
assert threading.active_count() == 1
with acquire_all(TimedLock(), LockAdapter(threading.Lock()), timeout=1), TimedLock().hold(1):
    OrderedRunner("count").run({"count": lambda turn: AtomicCounter().increment()})
assert not heavy & set(sys.modules), heavy & set(sys.modules)
""")
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=LIMIT, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_importing_the_pool_is_light(tmp_path: Path) -> None:
    """Importing and using a thread pool imports nothing heavy, and importing starts no thread."""
    program = tmp_path / "light.py"
    program.write_text("""
import sys, threading, concurrent.futures.thread
heavy = {"asyncio", "multiprocessing", "dataclasses", "inspect", "concurrent.futures.process", "tempfile", "mmap"}
heavy -= set(sys.modules)  # 3.14's own traceback module takes some of them
from syncprims.callback_pool import CallbackPool
assert threading.active_count() == 1
assert not heavy & set(sys.modules), heavy & set(sys.modules)
with CallbackPool() as pool:
    pool.apply_async(len, ("a",), callback=abs, timeout=5)
    list(pool.map(abs, [1]))
heavy -= {"mmap"}  # a small module in C: see `this_process`
assert not heavy & set(sys.modules), heavy & set(sys.modules)
""")
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=LIMIT, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# -- pools that are made when the program ends -------------------------------------------------------------------------

STARTS_NO_LATE_THREAD = sys.version_info[:2] == (3, 12)  # it starts no thread once the main thread has ended


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_pool_that_is_made_after_the_main_thread_has_ended_loses_nothing(tmp_path: Path, kind: str) -> None:
    """A thread that outlives the main one makes a pool: its callbacks run, or it gets an error."""
    body = f"""
def late():
    threading.main_thread().join()
    try:
        pool = CallbackPool({kind!r}, max_workers=1)
        pool.apply_async(pool_workers.add, (1,), callback=lambda result: print("callback", result))
    except RuntimeError as error:
        print("refused", type(error).__name__, "the main thread has ended" in str(error))

if __name__ == "__main__":
    threading.Thread(target=late).start()
"""
    status, lines, errors = run(tmp_path, body)
    refused = kind == "process" or STARTS_NO_LATE_THREAD
    assert (status, lines, errors) == (0, ["refused PoolClosedError True"] if refused else ["callback 1"], "")


@pytest.mark.parametrize("leave", ["open", "closed"])
def test_pool_that_is_made_in_an_exit_handler_loses_nothing(tmp_path: Path, leave: str) -> None:
    """In a handler that was registered after the import a pool works; in an older one it is refused with an error."""
    body = f"""
import atexit

def use(which):
    try:
        pool = CallbackPool(max_workers=1)
        pool.apply_async(pool_workers.add, (1,), callback=lambda result: print(which, "callback", result))
        if {leave!r} == "closed":
            pool.close(10)
    except RuntimeError as error:
        print(which, "refused", "program has ended" in str(error) or "main thread has ended" in str(error))

if __name__ == "__main__":
    CallbackPool  # which imports the pool
    atexit.register(use, "newer")
"""
    newer = ["newer refused True"] if STARTS_NO_LATE_THREAD else ["newer callback 1"]
    status, lines, errors = run(tmp_path, body)
    assert (status, lines, errors) == (0, newer, "")
    program = tmp_path / "older.py"
    program.write_text(f"import atexit; atexit.register(lambda: use('older')){HEAD}{body}")
    done = subprocess.run(
        [sys.executable, str(program), str(TESTS)], capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert (done.returncode, done.stdout.splitlines(), done.stderr) == (0, [*newer, "older refused True"], "")


def test_pool_that_is_first_asked_for_in_an_exit_handler_is_refused(tmp_path: Path) -> None:
    """It could not be drained, so making it is an error."""
    program = tmp_path / "program.py"
    program.write_text("""
import atexit
import syncprims

def use():
    try:
        syncprims.CallbackPool(max_workers=1).apply_async(len, ("abc",), callback=print)
    except RuntimeError as error:
        print(type(error).__name__, "program has ended" in str(error))

atexit.register(use)
""")
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=LIMIT, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "PoolClosedError True\n", "")


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_pool_that_was_drained_takes_no_more(tmp_path: Path, kind: str) -> None:
    """An exit handler that runs after the pools' own gets an error from submit, as with every executor."""
    program = tmp_path / "program.py"
    program.write_text(f"""
import atexit

def use():
    try:
        pool.submit(abs, -1)
    except RuntimeError as error:
        print(type(error).__name__, error)

if __name__ == "__main__":
    atexit.register(use)  # before the import, so that it runs after the pools' own
    from syncprims import CallbackPool

    pool = CallbackPool({kind!r}, max_workers=1, name="late")
    pool.apply_async(abs, (-3,), callback=print)
""")
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=LIMIT, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    callback, refused = done.stdout.splitlines()
    assert callback == "3"
    assert refused.startswith("PoolClosedError ")
    assert "'late'" in refused


@pytest.mark.skipif(os.name != "posix", reason="kills a worker by its signal")
def test_broken_executor_that_is_lost_with_its_pool_does_not_keep_the_program(tmp_path: Path) -> None:
    """The expired task has the last reference to it, and the executor's thread drops that."""
    body = """
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

def use(path):
    pool = CallbackPool(ProcessPoolExecutor(1, mp_context=get_context("spawn")))
    task = pool.apply_async(pool_workers.announce_then_hang, (path,), error_callback=print, timeout=0.5)
    task.wait_settled(50)
    until_exists(path)
    pool.close(20)
    with open(path) as file:
        return int(file.read())

if __name__ == "__main__":
    import signal
    os.kill(use(sys.argv[2]), signal.SIGKILL)
"""
    status, lines, errors = run(tmp_path, body, str(tmp_path / "pid"))
    assert (status, len(lines)) == (0, 1), errors
