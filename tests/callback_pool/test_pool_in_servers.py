"""The programs of the guides, each run with the real thing.

They need ``pip install gunicorn uwsgi django fastapi uvicorn celery nbclient ipykernel cloudpickle pyinstaller``. A
test without its package is skipped.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from urllib.request import urlopen

import pytest

from polling import until
from programs import environment

PAGES = Path(__file__).parents[2] / "docs" / "howto"
LIMIT = 120.0

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.name != "posix", reason="these servers fork"),
    pytest.mark.skipif(not PAGES.is_dir(), reason="the pages are not there: only the tests were copied"),
]


def needs(*packages: str) -> None:
    """Skip the test if a package is not installed."""
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


def programs(page: str) -> dict[str, str]:
    """The programs on the page that have a caption, by the caption."""
    text = (PAGES / page).read_text(encoding="utf-8")
    found = re.findall(r"^\.\. code-block:: python\n   :caption: (.*)\n\n((?:   .*\n|\n)+)", text, re.MULTILINE)
    return {caption: textwrap.dedent(program) for caption, program in found}


def free_port() -> int:
    """A port of this machine that is not in use."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def get(port: int, path: str = "/") -> str:
    """The text that the server answers."""
    with urlopen(f"http://127.0.0.1:{port}{path}", timeout=LIMIT) as answer:
        return str(answer.read().decode())


def answers(port: int) -> bool:
    """Whether a server listens there."""
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def running(folder: Path, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program in the folder, and end it by SIGTERM; all of its processes are gone afterwards."""
    with (folder / "log").open("wb") as log:
        program = subprocess.Popen(
            [sys.executable, *command],
            cwd=folder,
            env=environment() | {"PYTHONUNBUFFERED": "1"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            yield program
            program.send_signal(signal.SIGTERM)
            program.wait(LIMIT)
        finally:
            if program.poll() is None:
                os.killpg(program.pid, signal.SIGKILL)
                program.wait(LIMIT)


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a program in the folder to its end, which has to be successful."""
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize("preload", [[], ["--preload"]], ids=["", "preload"])
def test_gunicorn(tmp_path: Path, preload: list[str]) -> None:
    """The application answers, and the server ends when it is asked to."""
    needs("gunicorn")
    (tmp_path / "shop.py").write_text(programs("web-servers.rst")["shop.py"])
    port = free_port()
    options = ["--workers=2", "--threads=2", f"--bind=127.0.0.1:{port}", "--no-control-socket", *preload]
    with running(tmp_path, "-m", "gunicorn", *options, "shop:application"):
        until(lambda: answers(port), LIMIT)
        assert [get(port)[:16] for _ in range(4)] == ["sent to customer"] * 4


@pytest.mark.parametrize("lazy", [[], ["--lazy-apps"]], ids=["", "lazy"])
def test_uwsgi(tmp_path: Path, lazy: list[str]) -> None:
    """The application answers, even if it was imported before a fork that Python does not know of."""
    server = Path(sys.prefix, "bin", "uwsgi")
    if not server.exists():
        pytest.skip("not installed: uwsgi")
    (tmp_path / "shop.py").write_text(programs("web-servers.rst")["shop.py"])
    port = free_port()
    options = ["--master", "--processes=2", "--threads=2", "--need-app", "--die-on-term", "--module=shop", *lazy]
    start = f"import os, sys; os.execv({os.fspath(server)!r}, sys.argv)"
    with running(tmp_path, "-c", start, *options, f"--http-socket=127.0.0.1:{port}"):
        until(lambda: answers(port), LIMIT)
        assert [get(port)[:16] for _ in range(4)] == ["sent to customer"] * 4


def test_uwsgi_with_processes(tmp_path: Path) -> None:
    """The page's pool has processes, although uWSGI's threads block all signals; they end with the server."""
    server = Path(sys.prefix, "bin", "uwsgi")
    if not server.exists():
        pytest.skip("not installed: uwsgi")
    text = (PAGES / "web-servers.rst").read_text(encoding="utf-8").partition("**Processes.** In uWSGI")[2]
    found = re.search(r"^\.\. code-block:: python\n\n((?:   .*\n|\n)+)", text, re.MULTILINE)
    assert found is not None
    (tmp_path / "images.py").write_text(
        textwrap.dedent(found[1])
        + textwrap.dedent("""
            def application(environ, start_response):
                start_response("200 OK", [])
                return [str(pool().submit(pow, 2, 5).result(60)).encode()]
            """)
    )
    port = free_port()
    options = ["--master", "--processes=1", "--threads=2", "--need-app", "--die-on-term", "--module=images"]
    start = f"import os, sys; os.execv({os.fspath(server)!r}, sys.argv)"
    with running(tmp_path, "-c", start, *options, "--lazy-apps", f"--http-socket=127.0.0.1:{port}"):
        until(lambda: answers(port), LIMIT)
        assert [get(port) for _ in range(3)] == ["32"] * 3
    log = (tmp_path / "log").read_text()
    assert "kills worker process" not in log
    assert "Error" not in log


def test_django(tmp_path: Path) -> None:
    """The view answers while the pool sends the mail, which is done when the server has ended."""
    needs("django")
    (tmp_path / "shop").mkdir()
    found = programs("web-servers.rst")
    (tmp_path / "shop" / "work.py").write_text(found["shop/work.py"])
    sends = """
        from pathlib import Path

        def send_mail(address):
            Path(address).touch()
        """
    (tmp_path / "shop" / "views.py").write_text(found["shop/views.py"] + textwrap.dedent(sends))
    (tmp_path / "site_of_shop.py").write_text(
        textwrap.dedent("""
            from django.urls import path

            ALLOWED_HOSTS, DEBUG, ROOT_URLCONF, SECRET_KEY = ["127.0.0.1"], True, "site_of_shop", "not a secret"

            def buy(request):
                from shop.views import buy
                return buy(request)

            urlpatterns = [path("buy", buy)]
            """)
    )
    port = free_port()
    options = ["runserver", "--noreload", "--skip-checks", "--settings=site_of_shop", f"--pythonpath={tmp_path}"]
    with running(tmp_path, "-m", "django", *options, f"127.0.0.1:{port}"):
        until(lambda: answers(port), LIMIT)
        with urlopen(f"http://127.0.0.1:{port}/buy", data=b"address=alice", timeout=LIMIT) as answer:
            assert answer.read() == b"thank you"
    assert (tmp_path / "alice").exists()


def test_uvicorn(tmp_path: Path) -> None:
    """FastAPI's endpoints answer, and the pool of processes is closed at the end."""
    needs("fastapi", "uvicorn")
    (tmp_path / "thumbnails.py").write_text(programs("web-servers.rst")["thumbnails.py"])
    port = free_port()
    with running(tmp_path, "-m", "uvicorn", "thumbnails:app", f"--port={port}"):
        until(lambda: answers(port), LIMIT)
        assert (get(port, "/square/7"), get(port, "/buy")) == ("49", '"sold"')
    assert "Application shutdown complete" in (tmp_path / "log").read_text()


@pytest.mark.parametrize("closes", [True, False])
def test_celery(tmp_path: Path, closes: bool) -> None:
    """A forked child finishes the tasks of its pool if a signal closes the pool; otherwise they are lost."""
    needs("celery")
    program = programs("celery.rst")["jobs.py"]
    inbox = {f"data_folder_{way}": os.fspath(tmp_path / "inbox") for way in ("in", "out")}
    (tmp_path / "inbox").mkdir()
    old = 'broker="redis://localhost", backend="redis://localhost"'
    assert old in program
    program = program.replace(old, f'broker="filesystem://", backend="file://{tmp_path}"')
    closing = "@worker_process_shutdown.connect\n"
    assert closing in program
    ends = (
        f"ending = Event()\n\n{closing}def end(**_):\n    ending.set()\n\n{closing}"
        if closes
        else "ending = Event()\n\n"
    )
    program = "from pathlib import Path\nfrom threading import Event\n" + program.replace(closing, ends)
    program += textwrap.dedent(f"""
        app.conf.broker_transport_options = {inbox | {"control_folder": os.fspath(tmp_path / "inbox")}!r}

        def later():
            ending.wait(60.0)
            Path("finished").touch()

        @app.task
        def leave():
            pool().apply_async(later)
        """)
    (tmp_path / "jobs.py").write_text(program)
    ask = "from jobs import *; print(sizes.delay(['a', 'bcd']).get(timeout=60)); leave.delay().get(timeout=60)"
    with running(tmp_path, "-m", "celery", "--app=jobs", "worker", "--concurrency=1"):
        asked = run(tmp_path, "-c", ask)
        assert asked.stdout == "[1, 3]\n", asked.stderr
    assert (tmp_path / "finished").exists() == closes


def test_jupyter(tmp_path: Path) -> None:
    """Functions of a cell are sent with cloudpickle, and without it the error says so."""
    needs("nbclient", "ipykernel", "cloudpickle")
    text = (PAGES / "notebooks-and-frozen-programs.rst").read_text(encoding="utf-8").partition("In a program frozen")[0]
    cells = [
        textwrap.dedent(cell)
        for cell in re.findall(r"^\.\. code-block:: python\n\n((?:   .*\n|\n)+)", text, re.MULTILINE)
    ]
    assert "cloudpickle.dumps" in cells[0]
    bare = cells[0].replace(", dumps=cloudpickle.dumps", "")
    (tmp_path / "notebook.py").write_text(
        textwrap.dedent(f"""
            import nbclient, nbformat
            cells = {[*cells, bare, cells[1]]!r}
            book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
            nbclient.NotebookClient(book, timeout=60, kernel_name="python3", allow_errors=True).execute()
            print([output.get("data", {{}}).get("text/plain") or output.get("evalue")
                   for cell in book.cells for output in cell.outputs])
            """)
    )
    done = run(tmp_path, "notebook.py")
    assert done.stdout.startswith("['[0, 3, 6, 9]', \"the call can't be unpickled in the worker"), done.stdout


def test_pyinstaller(tmp_path: Path) -> None:
    """A frozen program has a pool of processes, and one without freeze_support() is refused before it starts any."""
    needs("PyInstaller")
    program = programs("notebooks-and-frozen-programs.rst")["resize.py"]
    results: list[tuple[int, str]] = []
    last = ""
    for name, text in (("resize", program), ("bare", program.replace("    freeze_support()\n", ""))):
        (tmp_path / f"{name}.py").write_text(text)
        build = [sys.executable, "-m", "PyInstaller", "--onedir", "--noconfirm", "--log-level=ERROR", f"{name}.py"]
        subprocess.run(build, cwd=tmp_path, env=environment(), timeout=LIMIT, check=True)
        done = subprocess.run(
            [tmp_path / "dist" / name / name], capture_output=True, text=True, timeout=LIMIT, check=False
        )
        results.append((done.returncode, done.stdout))
        last = done.stderr
    assert results == [(0, "[1, 4, 9]\n"), (1, "")]
    assert "does not call multiprocessing.freeze_support()" in last


def test_logging(tmp_path: Path) -> None:
    """The program logs the long wait as the page shows it; only numbers, the time and the interpreter differ."""
    page = (PAGES / "logging.rst").read_text(encoding="utf-8")
    before, _, after = page.partition("As ``shop.py``, this program logs:")
    program = re.findall(r"^\.\. code-block:: python\n\n((?:   .*\n|\n)+)", before, re.MULTILINE)[-1]
    shown = re.search(r"^\.\. code-block:: text\n\n((?:   .*\n|\n)+)", after, re.MULTILINE)
    assert shown is not None
    (tmp_path / "shop.py").write_text(textwrap.dedent(program))
    done = run(tmp_path, "shop.py")

    def alike(text: str) -> str:
        text = re.sub(r"; \d{4}-.*", "", text.replace(f"{tmp_path}{os.sep}", ""))
        return re.sub(r"ident \d+|process \d+|\d+\.\d s", "", text).strip()

    assert alike(done.stderr) == alike(textwrap.dedent(shown[1]))
