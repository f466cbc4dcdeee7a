"""Everything that has to hold before a change goes in: ``nox``, or one session with ``nox -s typing``.

The workflow and ``.ci/run`` call these sessions. What a check does is written here and nowhere else.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import nox
from nox.command import CommandFailed

PYTEST = ("python", "-m", "pytest")
PYTHONS = ["3.11", "3.12", "3.13", "3.13t", "3.14", "3.14t", "3.15"]

# What is safe to run in several threads at once: pytest-run-parallel does so where there is no GIL.
IN_FOUR_THREADS = [
    "tests/counter/test_counter_contract.py",
    "tests/counter/test_counter_update.py",
    "tests/locks/test_acquire_all.py",
    "tests/locks/test_lock_contract.py",
    "tests/locks/test_lock_hold.py",
]
SANITIZED = [
    "tests/counter/test_counter_both_forms.py",
    "tests/locks/test_lock_both_forms.py",
    "tests/watch/test_observed_in_c.py",
]
SLOW_SAMPLE = {
    "SYNCPRIMS_EVIDENCE_SECONDS": "15",
    "SYNCPRIMS_FAULT_SEED": "1",
    "SYNCPRIMS_FAULT_CELLS": "2",
    "SYNCPRIMS_FAULT_RUNS": "1",
    "SYNCPRIMS_OUTPUT_RUNS": "4",
}

# The folder of archives that were built before, of which `pure` tests the wheel; without it that builds its own.
DIST = os.environ.get("SYNCPRIMS_DIST")
# Where there is a compiler, a build without the core is a failure. Who wants another rule sets the variable.
HAS_COMPILER = os.name == "nt" or bool(shutil.which("cc") or shutil.which("gcc"))
WITH_CORE = {"SYNCPRIMS_SPEEDUPS": os.environ.get("SYNCPRIMS_SPEEDUPS", "1" if HAS_COMPILER else "")}
WITHOUT_CORE = {"SYNCPRIMS_SPEEDUPS": "0"}

nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = False  # few machines have all of them
nox.options.sessions = ["tests", "coverage", "wheel-3.11", "wheel_types", "typing", "lint", "docs"]
nox.needs_version = ">=2024.10"


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests and every example in the documentation."""
    _install(session, "-e", ".[test]")
    _pytest(session, *session.posargs)


@nox.session(python=False)
def readme(session: nox.Session) -> None:
    """Run the README's command for the tests, word for word, and the tour, which needs no installation."""
    blocks = re.findall(r"^```sh\n(.*?)^```", Path("README.md").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    command = next(line for block in blocks for line in block.splitlines() if "pytest" in line)
    _pytest(session, *session.posargs, command=["bash", "-c", f'{command} "$@"', "readme"])
    session.run("python3", "-m", "syncprims", "--quiet", env={"PYTHONPATH": "src"}, external=True)


@nox.session(python=PYTHONS[0])
def coverage(session: nox.Session) -> None:
    """Hold the coverage of lines and branches, by all tests that can be traced; some need a redis-server.

    Over Python alone: nothing can be traced in the core, and what it does is done in Python here.
    """
    _install(session, "-e", ".[test,redis,dask,postgres]", *_group("recipes"))
    Path(".coverage").unlink(missing_ok=True)
    # Tests that are tried again add to it. If a test ended its worker, what that worker had measured is missing: about
    # three percent, as the others run most lines too.
    pure, less = {"SYNCPRIMS_PURE": "1"}, ["--cov-fail-under=90"]
    _pytest(session, "--cov", "--cov-append", *session.posargs, env=pure, again=less)


@nox.session(python=PYTHONS[0])
def sample(session: nox.Session) -> None:
    """Run a sample of the long part of the evidence: random signals, random orders, and faults of pools."""
    _install(session, "-e", ".[test]")
    faults = ["tests/pool_faults/test_fault_table.py", "tests/pool_faults/test_pool_output.py"]
    _pytest(session, "-m", "slow", *(session.posargs or ["tests/evidence", *faults]), env=SLOW_SAMPLE)


@nox.session(python=PYTHONS)
def slow(session: nox.Session) -> None:
    """Run all of the long part of the evidence, which the other sessions leave out."""
    _install(session, "-e", ".[test]")
    _pytest(session, "-m", "slow", *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """Build the source archive, the wheel from it, and that of Python alone into ``dist``; check what is in them."""
    shutil.rmtree("dist", ignore_errors=True)
    _build(session, "dist", env=WITH_CORE)
    _build(session, "dist", "--wheel", env=WITHOUT_CORE)
    session.run("python", ".ci/contents.py", *map(os.fspath, Path("dist").iterdir()))


@nox.session(python=PYTHONS)
def wheel(session: nox.Session) -> None:
    """Run the tests against the wheel and away from the sources, where a file that was left out of it can't hide."""
    free_threaded = str(session.python).endswith("t")
    archive = _install_wheel(session)
    _install(session, *(_group("free-threaded") if free_threaded else [f"{archive}[test]"]))
    with session.chdir(_without_the_package(session)):
        if WITH_CORE["SYNCPRIMS_SPEEDUPS"] == "1":
            session.run("python", "-c", "import syncprims; assert syncprims.compiled")
        # With the examples in the docstrings, which only the installed package has here.
        _pytest(session, "--pyargs", "syncprims", *(session.posargs or ["tests"]))
        if free_threaded:
            parallel = ["-X", "gil=0", "-m", "pytest", "-n", "0", "--parallel-threads=4"]
            session.run("python", *parallel, *IN_FOUR_THREADS)


@nox.session(python=PYTHONS)
def pure(session: nox.Session) -> None:
    """Run the tests against the wheel of Python alone, which is for machines that no other is built for."""
    archive = _install_wheel(session, compiled=False)
    _install(session, f"{archive}[test]")
    with session.chdir(_without_the_package(session)):
        session.run("python", "-c", "import syncprims; assert not syncprims.compiled")
        _pytest(session, "--pyargs", "syncprims", *(session.posargs or ["tests"]))


@nox.session(python=PYTHONS[0])
def installing(session: nox.Session) -> None:
    """Install the library in every way, with a compiler and without."""
    requires = nox.project.load_toml("pyproject.toml")["build-system"]["requires"]
    _install(session, "-e", ".[test]", "editables", *requires)
    _pytest(session, "-m", "slow", "tests/test_installing.py", *session.posargs)


@nox.session(python=PYTHONS[0])
def sanitizers(session: nox.Session) -> None:
    """Run a sample of the tests of the core under AddressSanitizer and UBSan; ``.ci/sanitizers`` runs them all."""
    if not shutil.which(os.environ.get("CC", "gcc")):
        _cannot_be_had(session, "gcc")
    _install(session, "-e", ".[test]")
    session.run(".ci/sanitizers", "python", *(session.posargs or ["address,undefined", *SANITIZED]), external=True)


@nox.session(python=PYTHONS[0])
def wheel_types(session: nox.Session) -> None:
    """Check that the wheel's types are complete, and that type checkers infer from them what is asserted."""
    archive = _install_wheel(session)
    # With what the adapters are for, whose types are bases of theirs.
    _install(session, f"{archive}[test,redis]", "pyright[nodejs]", *_group("typing"))
    try:
        session.run("pyright", "--version")  # the first run gets the program itself
    except CommandFailed:
        _cannot_be_had(session, "pyright")
    with session.chdir(_without_the_package(session)):
        session.run("pyright", "--verifytypes", "syncprims", "--ignoreexternal")  # ends with 1 below 100 %
        _pytest(session, "-m", "", "tests/typing")  # all of them


@nox.session(python=PYTHONS[0])
def typing(session: nox.Session) -> None:
    """Check the types of the library, its tests, its examples and its benchmarks."""
    _install(session, "-e", ".[test,redis,dask]", *_group("typing"), *_group("browser"), "nox", "hatchling")
    session.run("mypy", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and form."""
    _install(session, *_group("lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the pages, with every warning an error, run their examples, and try them in a browser if there is one."""
    _install(session, "-e", ".[docs,test]", *_group("browser"))
    for builder in ("html", "doctest"):
        # Of what is compiled, Sphinx would not see the types; and of a page that it does not read again, the search
        # would not have the entries of the index.
        command = ["sphinx-build", "-E", "-W", "-n", "-q", "-b", builder, "docs", f"docs/_build/{builder}"]
        session.run(*command, env={"SYNCPRIMS_PURE": "1"})
    _pytest(session, "-n", "0", *(session.posargs or ["tests/pages"]), env={"SYNCPRIMS_PAGES": "docs/_build/html"})


def _pytest(
    session: nox.Session,
    *arguments: str,
    command: Sequence[str] = PYTEST,
    env: Mapping[str, str] | None = None,
    again: Sequence[str] = (),
) -> None:
    """Run tests. Under CI what failed may try again, one after the other, since the machine may have been too busy."""
    again = ["--last-failed", "--last-failed-no-failures", "none", "-n", "0", *again]
    try:
        session.run(*command, *arguments, env=env, external=command is not PYTEST)
    except CommandFailed:
        if not os.environ.get("CI"):
            raise
        session.warn(f"RETRIED, one after the other: what failed in {session.name}")
        session.run(*command, *arguments, *again, env=env, external=command is not PYTEST)


def _install(session: nox.Session, *what: str) -> None:
    """Install packages from an index. Where that fails the session fails, and says that it never began."""
    try:
        session.install("-q", *what)
    except CommandFailed:
        _cannot_be_had(session, " ".join(what))


def _cannot_be_had(session: nox.Session, what: str) -> None:
    session.error(f"CANNOT BE HAD: {what}")  # .ci/run looks for these words


def _build(session: nox.Session, folder: str, *options: str, env: Mapping[str, str]) -> None:
    """Build into the folder, with what the build needs installed before, where it is seen if that can't be had."""
    _install(session, "build", *nox.project.load_toml("pyproject.toml")["build-system"]["requires"])
    session.run("python", "-m", "build", "--no-isolation", "--outdir", folder, *options, env=env)


def _install_wheel(session: nox.Session, *, compiled: bool = True) -> str:
    """Install the wheel by itself, which needs no index, and return its path; one with the core is for this Python."""
    folder = Path(session.create_tmp(), "dist")
    if not compiled and DIST:
        folder = Path(DIST)
    else:
        shutil.rmtree(folder, ignore_errors=True)
        _build(session, os.fspath(folder), "--wheel", env=WITH_CORE if compiled else WITHOUT_CORE)
    (archive,) = folder.glob("*.whl" if compiled else "*-none-any.whl")
    path = os.fspath(archive.resolve())
    session.install("-q", "--no-deps", "--force-reinstall", path)
    return path


def _without_the_package(session: nox.Session) -> Path:
    """Copy the project without the package and without what git ignores, and return the folder."""
    ignored = [Path(line).name for line in Path(".gitignore").read_text(encoding="utf-8").splitlines()]
    tree = Path(session.create_tmp()) / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    shutil.copytree(".", tree, ignore=shutil.ignore_patterns(".git", "src", *ignored))
    return tree


def _group(name: str) -> tuple[str, ...]:
    return nox.project.dependency_groups(nox.project.load_toml("pyproject.toml"), name)
