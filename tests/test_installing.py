"""Installing works with a compiler and without one, from the sources, from the source archive and editable."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow  # nox -s installing
for needed in ("hatchling", "editables", "pip"):
    pytest.importorskip(needed, reason="nox -s installing has what builds the library")
if not (ROOT / "hatch_build.py").exists():
    pytest.skip("the sources are not there: only the tests were copied", allow_module_level=True)

needs_a_compiler = pytest.mark.skipif(
    sys.platform != "win32" and not (shutil.which("cc") or shutil.which("gcc")), reason="there is no compiler"
)
NO_COMPILER = {"CC": "/nonexistent/cc"}
SHOW = "import syncprims; print(syncprims.compiled, syncprims.AtomicCounter(1).increment())"


def run(*command: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a program that does not find the library of this process."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "SYNCPRIMS_SPEEDUPS")}
    return subprocess.run(command, env=kept | variables, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the sources, without compiled files."""
    ignored = shutil.ignore_patterns(
        ".git", "*.so", "*.pyd", "build", "dist", "tests", "docs", ".*_cache", "__pycache__"
    )
    return Path(shutil.copytree(ROOT, tmp_path / "tree", ignore=ignored))


def wheel_from(source: Path, into: Path, **variables: str) -> tuple[str, str]:
    """Build a wheel, and return its file's name and the output of a program that has it on its path."""
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    built = run(*pip, "-w", into, source, **variables)
    assert built.returncode == 0, built.stderr
    (path,) = into.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(into / "unpacked")
    shown = run(sys.executable, "-c", SHOW, PYTHONPATH=str(into / "unpacked"))
    assert shown.returncode == 0, shown.stderr
    return path.name, shown.stdout.strip()


@needs_a_compiler
def test_with_a_compiler_the_wheel_has_the_core_and_says_so(tree: Path, tmp_path: Path) -> None:
    """It is tagged for this Python and platform, and the core is used."""
    before = {path for path in tree.rglob("*") if "__pycache__" not in path.parts}
    name, shown = wheel_from(tree, tmp_path / "out")
    assert shown == "True 2"
    assert "-none-any" not in name
    assert {path for path in tree.rglob("*") if "__pycache__" not in path.parts} == before


@needs_a_compiler
def test_a_core_for_another_python_is_not_used(tree: Path, tmp_path: Path) -> None:
    """Nothing tells its file from the right one if its name has no tag, so it says itself what it is for."""
    source = tree / "src/syncprims/_speedups.c"
    checked = "Py_Version >> 16 != PY_VERSION_HEX >> 16"
    text = source.read_text(encoding="utf-8")
    assert checked in text
    source.write_text(text.replace(checked, "Py_Version >> 16 != 0x0301"), encoding="utf-8")
    assert wheel_from(tree, tmp_path / "out", SYNCPRIMS_SPEEDUPS="1")[1] == "False 2"


@pytest.mark.parametrize("variables", [NO_COMPILER, {"SYNCPRIMS_SPEEDUPS": "0"}], ids=["no compiler", "refused"])
def test_without_a_compiler_the_wheel_is_for_every_python(
    tree: Path, tmp_path: Path, variables: dict[str, str]
) -> None:
    """If nothing can or may be compiled, the wheel has Python alone, is tagged so, and works."""
    name, shown = wheel_from(tree, tmp_path / "out", **variables)
    assert shown == "False 2"
    assert name.endswith("-py3-none-any.whl")


def test_who_asks_for_the_core_gets_it_or_an_error(tree: Path, tmp_path: Path) -> None:
    """With SYNCPRIMS_SPEEDUPS=1 a build without the core fails, and says why."""
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    built = run(*pip, "-w", tmp_path / "out", tree, **NO_COMPILER, SYNCPRIMS_SPEEDUPS="1")
    assert built.returncode != 0
    assert "SYNCPRIMS_SPEEDUPS=1, and the core can't be compiled" in built.stdout + built.stderr
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.parametrize("value", ["yes", "no", "1 ", "2"])
def test_another_value_is_an_error(tree: Path, tmp_path: Path, value: str) -> None:
    """Who means 1 must not get a build that ignores it."""
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    built = run(*pip, "-w", tmp_path / "out", tree, SYNCPRIMS_SPEEDUPS=value)
    assert built.returncode != 0
    assert f"SYNCPRIMS_SPEEDUPS can be 1, 0 or not set, but not {value!r}" in built.stdout + built.stderr


@needs_a_compiler
def test_the_source_archive_has_the_core(tree: Path, tmp_path: Path) -> None:
    """A wheel that is built from the source archive has the core, too; the archive has no compiled files."""
    (tree / "src/syncprims/_speedups.old.so").touch()
    build = "from hatchling.build import build_sdist; import sys; print(build_sdist(sys.argv[1]))"
    made = subprocess.run(
        [sys.executable, "-c", build, tmp_path], cwd=tree, capture_output=True, text=True, timeout=120, check=True
    )
    archive = tmp_path / made.stdout.strip().splitlines()[-1]
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    assert {"src/syncprims/_speedups.c", "hatch_build.py"} <= names
    assert not any(name.endswith((".so", ".pyd")) for name in names)
    _, shown = wheel_from(archive, tmp_path / "out", SYNCPRIMS_SPEEDUPS="1")
    assert shown == "True 2"


@pytest.mark.parametrize(
    ("variables", "form"),
    [pytest.param({}, "True 2", marks=needs_a_compiler), (NO_COMPILER, "False 2")],
    ids=["compiler", "no compiler"],
)
def test_an_editable_installation_works(tree: Path, tmp_path: Path, variables: dict[str, str], form: str) -> None:
    """An editable installation has the core beside its source, or works without."""
    venv.create(tmp_path / "venv", system_site_packages=True, with_pip=False)
    python = next(
        path for path in [tmp_path / "venv/bin/python", tmp_path / "venv/Scripts/python.exe"] if path.exists()
    )
    pip: list[str | Path] = [python, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
    # The packages that build it are those of this environment, which may be a virtual one itself.
    site = os.pathsep.join(path for path in sys.path if path.endswith("site-packages"))
    installed = run(*pip, "-e", tree, PYTHONPATH=site, **variables)
    assert installed.returncode == 0, installed.stderr
    shown = run(python, "-c", SHOW)
    assert shown.stdout.strip() == form, shown.stderr
    # Installing again leaves nothing of the installation before.
    installed = run(*pip, "-e", tree, PYTHONPATH=site, SYNCPRIMS_SPEEDUPS="0")
    assert installed.returncode == 0, installed.stderr
    assert run(python, "-c", SHOW).stdout.strip() == "False 2"


def test_a_bare_clone_needs_no_compiler(tree: Path) -> None:
    """The sources alone run, unchanged."""
    shown = run(sys.executable, "-c", SHOW, PYTHONPATH=str(tree / "src"), **NO_COMPILER)
    assert shown.stdout.strip() == "False 2", shown.stderr
