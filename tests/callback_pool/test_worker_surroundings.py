"""The surroundings of worker processes: those of the pool, its main module, and the main guard."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from syncprims import CallbackPool
from syncprims.callback_pool.travel.surroundings import Surroundings

from .test_pool_programs import run

LIMIT = 60.0
posix = pytest.mark.skipif(os.name != "posix", reason="what it passes on is a matter of the system")


# -- surroundings ------------------------------------------------------------------------------------------------------


def surroundings(name: str) -> tuple[str | None, str, int]:
    """Run in a worker: an environment variable, the working directory and the umask."""
    umask = os.umask(0)
    os.umask(umask)
    return os.environ.get(name), os.getcwd(), umask


@posix
def test_workers_have_the_surroundings_of_the_pools_making(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are not those of the program's first pool, nor those of the first task."""
    with CallbackPool("process", max_workers=1) as first:
        first.submit(surroundings, "SYNCPRIMS_TEST").result(LIMIT)
        before = os.umask(0o027)
        try:
            monkeypatch.setenv("SYNCPRIMS_TEST", "second")
            monkeypatch.chdir(tmp_path)
            with CallbackPool("process", max_workers=1) as second:
                os.umask(0o077)
                monkeypatch.setenv("SYNCPRIMS_TEST", "too late")
                monkeypatch.chdir("/")
                made_in = second.submit(surroundings, "SYNCPRIMS_TEST").result(LIMIT)
        finally:
            os.umask(before)
        assert made_in[:2] == ("second", str(tmp_path))
        if sys.platform == "linux":  # elsewhere it can't be read without changing it
            assert made_in[2] == 0o027
        assert first.submit(surroundings, "SYNCPRIMS_TEST").result(LIMIT)[0] is None


@posix
def test_workers_write_where_the_pools_making_pointed(tmp_path: Path) -> None:
    """Standard streams are those of that moment too, even if they are redirected again before the first task."""
    body = """
def say(word):
    print(word, flush=True)
    os.system(f"echo {word} of a program")

if __name__ == "__main__":
    files = [open(os.path.join(sys.argv[2], name), "w") for name in ("one", "two", "three")]
    os.dup2(files[0].fileno(), 1)
    with CallbackPool("process", max_workers=1) as first:
        first.submit(say, "first").result(50)
        os.dup2(files[1].fileno(), 1)
        second = CallbackPool("process", max_workers=1)
        os.dup2(files[2].fileno(), 1)
        with second:
            second.submit(say, "second").result(50)
        first.submit(say, "again").result(50)
"""
    status, _, errors = run(tmp_path, body, str(tmp_path))
    assert (status, errors) == (0, "")
    assert (tmp_path / "one").read_text().splitlines() == ["first", "first of a program", "again", "again of a program"]
    assert (tmp_path / "two").read_text().splitlines() == ["second", "second of a program"]
    assert (tmp_path / "three").read_text() == ""


@posix
def test_closed_streams_are_no_hindrance(tmp_path: Path) -> None:
    """A daemon has none; and no other file gets their numbers in the workers."""
    body = """
def streams():
    return [os.path.samefile(f"/dev/fd/{number}", os.devnull) for number in (0, 1, 2)]

if __name__ == "__main__":
    out = os.dup(1)
    for number in (0, 1, 2):
        os.close(number)
    with CallbackPool("process", max_workers=1) as pool:
        os.write(out, b"%a\\n" % pool.submit(streams).result(50))
    os._exit(0)
"""
    assert run(tmp_path, body) == (0, ["[True, True, True]"], "")


@posix
def test_folder_that_has_gone_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers can't start in the removed folder, and nothing hangs."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    with CallbackPool("process", max_workers=1) as pool:
        monkeypatch.chdir(tmp_path)
        gone.rmdir()
        error = pool.submit(pow, 2, 3).exception(LIMIT)
    assert isinstance(error, FileNotFoundError)
    assert error.filename == str(gone)


@posix
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_streams_are_let_go() -> None:
    """A pool that is closed, dropped or in a forked child holds none of them open."""

    def holders() -> int:
        return sum(os.path.sameopenfile(fd, 1) for fd in descriptors())

    def descriptors() -> list[int]:
        return [fd for fd in map(int, os.listdir("/dev/fd")) if fd != 1 and fd_is_open(fd)]

    before = holders()
    pool = CallbackPool("process", max_workers=1)
    assert holders() == before + 1
    child = os.fork()
    if child == 0:
        os._exit(holders() - before)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    pool.close(LIMIT)
    assert holders() == before
    pool = CallbackPool("process", max_workers=1)
    del pool
    assert holders() == before


def fd_is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


@posix
def test_descriptor_that_was_closed_behind_our_back_is_left_alone(tmp_path: Path) -> None:
    """A program that becomes a daemon closes all; then the number may be another file's."""
    around = Surroundings()
    held = around.for_popen()["stdout"]
    os.close(held)
    theirs = os.open(tmp_path / "theirs", os.O_CREAT | os.O_WRONLY)
    try:
        assert theirs == held
        assert around.for_popen()["stdout"] != held
        around.forget()
        assert os.path.samestat(os.fstat(held), os.stat(tmp_path / "theirs"))
    finally:
        os.close(theirs)


def ignored_and_blocked() -> tuple[bool, set[int], tuple[int, int]]:
    import resource

    ignored = signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN
    return (
        ignored,
        set(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, ()))),
        resource.getrlimit(resource.RLIMIT_CORE),
    )


@posix
def test_what_the_system_passes_on_is_that_of_the_first_task() -> None:
    """These are ignored and blocked signals and limits; starting the workers does not change SIGINT here."""
    import resource

    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    limits = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, limits[1]))
    try:
        with CallbackPool("process", max_workers=1) as pool:
            ignored, blocked, (core, _) = pool.submit(ignored_and_blocked).result(LIMIT)
        assert set(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, ()))) == {*map(int, mask), int(signal.SIGUSR2)}
    finally:
        signal.signal(signal.SIGUSR1, before)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        resource.setrlimit(resource.RLIMIT_CORE, limits)
    assert ignored
    assert signal.SIGUSR2 in blocked
    assert signal.SIGINT not in blocked
    assert core == 0


@posix
def test_path_with_odd_entries_reaches_the_workers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A path object in sys.path, a common mistake, does no harm."""
    (tmp_path / "only_there_for_workers.py").write_text("found = 'found'\n")
    monkeypatch.setattr(sys, "path", [*sys.path, tmp_path, str(tmp_path)])
    with CallbackPool("process", max_workers=1) as pool:
        assert pool.submit(import_it).result(LIMIT) == "found"


def import_it() -> Any:
    return __import__("only_there_for_workers").found


@posix
def test_folder_for_temporary_files_may_have_a_long_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket can't have such a path, so it is put into a folder under /tmp, which goes away with the program."""
    body = """
import tempfile

made, make = [], tempfile.mkdtemp

def noting(*args, **kwargs):
    made.append(make(*args, **kwargs))
    return made[-1]

if __name__ == "__main__":
    tempfile.mkdtemp = noting
    with CallbackPool("process", max_workers=1) as pool:
        print(pool.submit(pow, 2, 3).result(50))
    print(*made)
"""
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    status, (result, made), errors = run(tmp_path, body)
    assert (status, result) == (0, "8"), errors
    short = [each for each in made.split() if each.startswith("/tmp/pymp-")]
    assert short
    assert not any(map(os.path.exists, short))


# -- after a fork ------------------------------------------------------------------------------------------------------


@posix
@pytest.mark.parametrize("way", ["closed", "open", "unused"])
@pytest.mark.parametrize("leaving", ["os._exit(0)", "sys.exit(0)"])
def test_forked_child_makes_a_pool_of_its_own(tmp_path: Path, way: str, leaving: str) -> None:
    """This holds after any use of a pool in the parent, which goes on; the child ends normally, without an error."""
    body = f"""
import warnings

if __name__ == "__main__":
    parents = CallbackPool("process", max_workers=1)
    if {way != "unused"}:
        parents.submit(pow, 2, 3).result(50)
    if {way == "closed"}:
        parents.close(20)
    warnings.simplefilter("ignore")  # that the program has threads, which is the point
    child = os.fork()
    if child == 0:
        with CallbackPool("process", max_workers=1) as pool:
            print("child", pool.submit(pow, 2, 5).result(50), flush=True)
        {leaving}
    print("status", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    if {way != "closed"}:
        print("parent", parents.submit(pow, 2, 4).result(50))
        parents.close(20)
    with CallbackPool("process", max_workers=1) as pool:
        print("parent", pool.submit(pow, 2, 6).result(50))
"""
    status, lines, errors = run(tmp_path, body)
    # In some releases of 3.13 multiprocessing's own tracker reports that a forked child can't wait for it.
    assert errors == "" or "ResourceTracker.__del__" in errors
    assert (status, lines) == (0, ["child 32", "status 0", *(["parent 16"] if way != "closed" else []), "parent 64"])


# -- the main module ---------------------------------------------------------------------------------------------------


def test_pool_may_be_made_at_module_level(tmp_path: Path) -> None:
    """A worker that imports the main module makes the pool too, and never uses it."""
    body = """
pool = CallbackPool("process", max_workers=1)

def double(n):
    return 2 * n

if __name__ == "__main__":
    with pool:
        print(pool.submit(double, 4).result(50))
"""
    assert run(tmp_path, body) == (0, ["8"], "")


def test_program_without_its_guard_is_told_so(tmp_path: Path) -> None:
    """The error of its task and the worker's own message say so; neither blames an initializer."""
    body = """
with CallbackPool("process", max_workers=1) as pool:
    print(pool.submit(pow, 2, 3).exception(50))
"""
    status, lines, errors = run(tmp_path, body)
    assert status == 0
    (said,) = lines
    assert "the main module can't be imported in the worker processes" in said
    assert said.count('if __name__ == "__main__":') == 1
    assert "initializer" not in said
    assert "was submitted while a worker process imports the main module" in errors


def test_main_module_that_fails_otherwise_is_named_with_its_error(tmp_path: Path) -> None:
    """The error is the same as when the module is only imported."""
    body = """
if __name__ != "__main__":
    raise LookupError("no such thing here")
with CallbackPool("process", max_workers=1) as pool:
    task = pool.submit(pow, 2, 3)
    error = task.exception(50)
print(error)
print(repr(error.__cause__))
"""
    _, lines, _ = run(tmp_path, body)
    assert "LookupError: no such thing here" in lines[0]
    assert lines[1] == "LookupError('no such thing here')"


@pytest.mark.parametrize("how", ["-c", "-"])
def test_program_without_a_file_is_told_what_to_do(how: str) -> None:
    """Its functions can't be imported; cloudpickle sends them, and functions of other modules work."""
    import subprocess

    pytest.importorskip("cloudpickle")
    program = """
import cloudpickle
from syncprims import CallbackPool
def double(n):
    return 2 * n
if __name__ == "__main__":
    with CallbackPool("process", max_workers=1) as pool:
        print(pool.submit(pow, 2, 3).result(50))
        print(pool.submit(double, 4).exception(50))
    with CallbackPool("process", max_workers=1, dumps=cloudpickle.dumps) as pool:
        print(pool.submit(double, 4).result(50))
"""
    command = [sys.executable, how, *([program] if how == "-c" else [])]
    done = subprocess.run(command, input=program, capture_output=True, text=True, timeout=60, check=True)
    first, second, third = done.stdout.splitlines()
    assert (first, third) == ("8", "8")
    assert "The main program came by -c or standard input" in second
    assert "dumps=cloudpickle.dumps" in second


def test_initializer_may_be_a_lambda_with_the_pools_own_pickler() -> None:
    """The error without such a pickler advises this."""
    cloudpickle = pytest.importorskip("cloudpickle")
    keep: Any = lambda word: setattr(sys, "kept_word", word)  # noqa: E731  it has to be a lambda
    with CallbackPool("process", max_workers=1, initializer=keep, initargs=("w",)) as pool:
        assert "dumps=cloudpickle.dumps" in str(pool.submit(pow, 2, 3).exception(LIMIT))
    with CallbackPool("process", max_workers=1, initializer=keep, initargs=("w",), dumps=cloudpickle.dumps) as pool:
        assert pool.submit(kept_word).result(LIMIT) == "w"


def kept_word() -> Any:
    return vars(sys)["kept_word"]


# -- frozen programs: only the refusal is tested, no worker is started -------------------------------------------------


def test_frozen_program_without_freeze_support_gets_no_processes(tmp_path: Path) -> None:
    """It would start itself, without end; the error has the line to add. Importing the name is not calling it."""
    body = """
from multiprocessing import freeze_support
sys.frozen = True
if __name__ == "__main__":
    try:
        CallbackPool("process", max_workers=1)
    except RuntimeError as error:
        print(error)
    CallbackPool("thread", max_workers=1).close()
"""
    status, lines, errors = run(tmp_path, body)
    assert (status, errors) == (0, "")
    assert "multiprocessing.freeze_support()" in lines[0]
    assert 'first line under if __name__ == "__main__":' in lines[0]


@pytest.mark.parametrize(
    "call", ["freeze_support()", "multiprocessing.freeze_support()", "prepare()", "later = CallbackPool('process')"]
)
def test_frozen_program_with_freeze_support_gets_them(tmp_path: Path, call: str) -> None:
    """The call may be anywhere in the main module's code, even after a pool is made."""
    body = f"""
import multiprocessing
from multiprocessing import freeze_support

def prepare():
    freeze_support()

sys.frozen = True
if __name__ == "__main__":
    {call}
    CallbackPool("process", max_workers=1).close(20)
    print("made")
    {"multiprocessing.freeze_support()" if "later" in call else ""}
"""
    assert run(tmp_path, body) == (0, ["made"], "")


def test_frozen_worker_that_runs_the_program_again_is_stopped(tmp_path: Path) -> None:
    """Whatever the parent has found, a process with a worker's command line accepts no task."""
    body = """
import multiprocessing
sys.frozen = True
sys.argv = [sys.argv[0], "--multiprocessing-fork", "handle=3"]
pool = CallbackPool("process", max_workers=1)
try:
    pool.submit(pow, 2, 3)
except RuntimeError as error:
    print(error)
if not sys.argv:
    multiprocessing.freeze_support()
"""
    status, lines, errors = run(tmp_path, body)
    assert (status, errors) == (0, "")
    assert "while a worker process imports the main module" in lines[0]
    assert "multiprocessing.freeze_support()" in lines[0]
