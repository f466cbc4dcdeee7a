"""A program runs under watch as without it: arguments, exit codes, tracebacks, `__main__`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from polling import sending
from watch.watching import BEGINNING, END, HERE, LIMIT, QUICK, block_of, run, variables

WATCH = ("-m", "syncprims.watch")

FACTS = """
import sys
print(sys.argv[1:], __name__, __package__, __spec__ and __spec__.name, sys.modules["__main__"].__dict__ is globals())
print(sys.path[0], globals().get("__file__"), sorted(name for name in globals() if name.startswith("__")))
print(sys.argv[0])
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(FACTS)
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(FACTS)
    (package / "module.py").write_text(FACTS)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "__main__.py").write_text(FACTS)
    with zipfile.ZipFile(tmp_path / "archive.pyz", "w") as archive:
        archive.writestr("__main__.py", FACTS)
    return path


@pytest.mark.parametrize(
    "arguments",
    [
        ["program.py", "a", "--after", "b"],
        ["-m", "package.module", "a"],
        ["-m", "package", "-x"],
        ["folder", "a"],
        ["archive.pyz", "a"],
        ["-", "a", "b"],
    ],
    ids=lambda arguments: arguments[0] if arguments[0] != "-m" else arguments[1],
)
def test_a_program_finds_what_it_finds_without_the_watch(program: Path, arguments: list[str]) -> None:
    """Scripts, modules, packages, folders, zip files and standard input see the same arguments, path and names."""
    stdin = FACTS if arguments[0] == "-" else ""
    plain = run(*arguments, stdin=stdin, cwd=program.parent)
    watched = run(*WATCH, "--after", "5", *arguments, stdin=stdin, cwd=program.parent)
    assert plain.returncode == 0, plain.stderr
    assert watched.stderr == plain.stderr
    assert watched.stdout == plain.stdout
    assert watched.returncode == 0


def test_a_zip_file_is_reported_like_a_folder(tmp_path: Path) -> None:
    """The report has the names of variables and the places of `with`, of its main module and of others."""
    hang = (HERE / "hangs" / "two_accounts.py").read_text(encoding="utf-8")
    with zipfile.ZipFile(tmp_path / "archive.pyz", "w") as archive:
        archive.writestr("bank.py", hang)
        archive.writestr("__main__.py", "import runpy\nrunpy.run_module('bank', run_name='__main__')\n")
    with zipfile.ZipFile(tmp_path / "alone.pyz", "w") as archive:
        archive.writestr("__main__.py", hang)
    for program, file in (("archive.pyz", "bank.py"), ("alone.pyz", "__main__.py")):
        block = block_of(*WATCH, *QUICK, str(tmp_path / program), env={"SYNCPRIMS_PURE": "1"})
        assert f"for Account._lock ({file}:12) no. 1" in block
        assert f"taken at {file}:20 in transfer" in block


ENDS = {
    "exit with a number": "import sys; sys.exit(3)",
    "exit with a message": "import sys; sys.exit('bad')",
    "an error": "def fail():\n    1 / 0\n\nfail()\n",
    "an error in a chain": "try:\n    1 / 0\nexcept Exception as error:\n    raise KeyError('x') from error\n",
    "an error of a hook": "import sys\nsys.excepthook = lambda *args: print('hook', args[0].__name__)\n1 / 0\n",
    "no syntax": "def\n",
    "interrupted": "import signal\nsignal.raise_signal(signal.SIGINT)\n",
    "killed": "import os\nos.kill(os.getpid(), 15)\nimport time\ntime.sleep(30)\n",
    "handlers at exit": "import atexit, threading\natexit.register(print, 'bye')\n"
    "threading.Timer(0.1, print, ['late']).start()\nprint('end')\n",
}


@pytest.mark.parametrize("kind", ENDS)
def test_a_program_ends_as_without_the_watch(tmp_path: Path, kind: str) -> None:
    """Exit code, output and traceback are the same."""
    (tmp_path / "program.py").write_text(ENDS[kind])
    plain = run("program.py", cwd=tmp_path)
    watched = run(*WATCH, "program.py", cwd=tmp_path)
    assert (watched.returncode, watched.stdout, watched.stderr) == (plain.returncode, plain.stdout, plain.stderr)


def test_ctrl_c_ends_a_program_that_waits(tmp_path: Path) -> None:
    """The signal ends it, as without the watch, in the middle of a wait for a lock."""
    (tmp_path / "program.py").write_text(
        "import threading\nlock = threading.Lock()\nlock.acquire()\nprint('waits', flush=True)\nlock.acquire()\n"
    )
    for prefix in ((), WATCH):
        with subprocess.Popen(
            [sys.executable, *prefix, "program.py"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=tmp_path,
            env=variables(),
            text=True,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "waits\n"
            try:
                with sending(process.send_signal, signal.SIGINT):
                    _, told = process.communicate(timeout=LIMIT)
            finally:
                process.kill()
            assert told.splitlines()[-1] == "KeyboardInterrupt"
            assert process.returncode == -signal.SIGINT


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (["--nothing", "x.py"], "there is no option --nothing", 2),
        (["--after", "soon", "x.py"], "--after takes a number of seconds, not 'soon'", 2),
        (["--after", "-1", "x.py"], "after must be more than 0 seconds", 2),
        (["--slow"], "--slow takes a value", 2),
        (["nowhere.py"], "can't open file", 2),
        (["-m"], "-m takes the name of a module", 2),
        (["-m", "no_such_module"], "No module named no_such_module", 1),
        (["-m", "no_such.module"], "Error while finding module specification for 'no_such.module'", 1),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_input_is_refused_in_one_line(tmp_path: Path, arguments: list[str], message: str, code: int) -> None:
    """For a program that can't be run or read, there is one line and an exit code."""
    found = run(*WATCH, *arguments, cwd=tmp_path)
    assert message in found.stderr
    assert len(found.stderr.splitlines()) == 1, found.stderr
    assert found.returncode == code


def test_help_says_what_is_possible() -> None:
    """Each option appears."""
    said = run(*WATCH, "--help").stdout
    options = ("--after", "--asleep", "--order", "--slow", "--children", "--json", "--file", "--break")
    assert [option for option in options if option not in said] == []


def test_json_lines_are_what_the_page_says(tmp_path: Path) -> None:
    """A report is one line of JSON with the fields of the schema."""
    file = tmp_path / "reports.jsonl"
    block = block_of(*WATCH, *QUICK, "--json", str(file), str(HERE / "hangs" / "two_accounts.py"))
    assert block.startswith(f"{BEGINNING}DEADLOCK")
    (line,) = file.read_text().splitlines()
    found = json.loads(line)
    assert found["syncprims_watch"] == 1
    assert (found["heading"], found["certain"], len(found["threads"])) == ("DEADLOCK", True, 2)
    assert set(found) == {
        *("syncprims_watch", "heading", "certain", "summary", "doubts", "advice", "notes", "time", "pid", "python"),
        "threads",
    }
    for thread in found["threads"]:
        assert set(thread) == {"name", "ident", "task", "waits_for", "seconds", "up_to", "stack"}
        assert thread["task"] is None
        (holder,) = thread["up_to"]
        assert set(holder) == {"name", "ident", "task", "alive", "taken_at", "why"}
        assert holder["taken_at"]["function"] == "transfer"
        assert thread["stack"][-1].keys() == {"file", "line", "function"}


def test_break_raises_in_the_wait_that_closes_the_cycle() -> None:
    """With --break one of the threads gets the error, with the report in it; the other one goes on."""
    found = run(*WATCH, *QUICK, "--break", str(HERE / "hangs" / "two_accounts.py"))
    assert found.returncode == 0, found.stderr
    assert found.stderr.count("syncprims.errors.DeadlockError: DEADLOCK: 2 threads wait for each other") == 1


OF_MULTIPROCESSING = (
    "import multiprocessing, runpy\n"
    "if __name__ == '__main__':\n"
    "    multiprocessing.set_start_method('{way}')\n"
    "    child = multiprocessing.Process(target=runpy.run_path, args=({hang!r},))\n"
    "    child.start()\n    child.join()\n"
)
CHILDREN = {
    "subprocess": "import subprocess, sys\nsubprocess.run([sys.executable, {hang!r}])\n",
    "spawn": OF_MULTIPROCESSING,
    "forkserver": OF_MULTIPROCESSING,
    "fork": OF_MULTIPROCESSING,
    "exec": "import os, sys\nos.execv(sys.executable, [sys.executable, {hang!r}])\n",
}


@pytest.mark.parametrize(
    "way", [pytest.param(way, marks=[] if way == "spawn" else pytest.mark.slow) for way in CHILDREN]
)
def test_children_are_watched_if_asked_for(tmp_path: Path, way: str) -> None:
    """A child that hangs reports it, however it was started."""
    if "fork" in way and not hasattr(os, "fork"):
        pytest.skip("there is no fork")
    program = tmp_path / "program.py"
    program.write_text(CHILDREN[way].format(way=way, hang=str(HERE / "hangs" / "two_rlocks.py")))
    block = block_of(*WATCH, *QUICK, "--children", str(program))
    assert block.startswith(f"{BEGINNING}DEADLOCK"), block
    assert "for stock (two_rlocks.py:7)" in block
    assert block.splitlines()[-1].startswith(END)


def test_children_keep_their_own_sitecustomize_and_path(tmp_path: Path) -> None:
    """A child finds the same path, modules and sitecustomize as without the watch."""
    (tmp_path / "sitecustomize.py").write_text("print('customized')\n")
    inner = "import sys; print(sys.path, 'syncprims' in sys.modules, sys.modules['sitecustomize'].__file__)"
    (tmp_path / "program.py").write_text(
        f"import subprocess, sys, os\nos.environ['PYTHONPATH'] += os.pathsep + {str(tmp_path)!r}\n"
        f"print(subprocess.run([sys.executable, '-c', {inner!r}], capture_output=True, text=True))\n"
    )
    plain, watched = (run(*prefix, "program.py", cwd=tmp_path) for prefix in ((), (*WATCH, "--children")))
    assert "customized" in plain.stdout
    assert watched.stdout == plain.stdout.replace(" False ", " True ")


@pytest.mark.parametrize(
    ("value", "on"), [("1", True), ("--after 3 --slow 2", True), ("0", False), ("", False), ("--after x", None)]
)
def test_the_environment_turns_it_on(value: str, on: bool | None) -> None:
    """SYNCPRIMS_WATCH turns the watch on in a process that imports the library; an invalid value is reported."""
    program = "import syncprims, threading; print(hasattr(threading.Lock(), '_taker'))"
    found = run("-c", program, env={"SYNCPRIMS_WATCH": value})
    assert found.returncode == 0, found.stderr
    assert found.stdout == f"{on is True}\n"
    assert ("is not valid" in found.stderr) is (on is None)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_fork_warns_of_no_thread(tmp_path: Path) -> None:
    """A program that forks and has one thread gets no warning about another one."""
    program = tmp_path / "program.py"
    program.write_text(
        "import os, warnings\nwarnings.simplefilter('error')\n"
        "for _ in range(5):\n    child = os.fork()\n    if not child:\n        os._exit(0)\n    os.waitpid(child, 0)\n"
    )
    found = run(*WATCH, str(program))
    assert (found.returncode, found.stderr) == (0, "")
