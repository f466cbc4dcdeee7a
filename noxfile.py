"""Everything that has to hold before a change goes in: ``nox``, or one session with ``nox -s typing``."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import nox

PYTHONS = ["3.11", "3.12", "3.13", "3.13t", "3.14", "3.14t", "3.15"]

nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = False  # few machines have all of them
nox.options.sessions = ["tests", "coverage", "wheel", "typing", "lint", "docs"]
nox.needs_version = ">=2024.10"


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests and every example in the documentation."""
    session.install("-e", ".[test]")
    session.run("pytest", *session.posargs)


@nox.session(python=PYTHONS[0])
def coverage(session: nox.Session) -> None:
    """Hold the coverage of lines and branches, by all tests that can be traced; some need a redis-server."""
    session.install("-e", ".[test,redis,dask]")
    session.run("pytest", "--cov", *session.posargs)


@nox.session(python=PYTHONS[0])
def wheel(session: nox.Session) -> None:
    """Run the tests against the built wheel, where a file that was left out of it can't hide."""
    built = Path(session.create_tmp()) / "dist"
    shutil.rmtree(built, ignore_errors=True)
    session.install("build")
    session.run("python", "-m", "build", "--outdir", os.fspath(built))
    (archive,) = built.glob("*.whl")
    session.install("--force-reinstall", f"{archive}[test]")
    session.run("pytest", "tests", *session.posargs)


@nox.session(python=PYTHONS[0])
def typing(session: nox.Session) -> None:
    """Check the types of the library, its tests and its examples."""
    session.install("-e", ".[test]", *nox.project.dependency_groups(_project(), "typing"), "nox")
    session.run("mypy", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and form."""
    session.install(*nox.project.dependency_groups(_project(), "lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the pages, with every warning an error, and run their examples."""
    session.install("-e", ".[docs]")
    for builder in ("html", "doctest"):
        session.run("sphinx-build", "-W", "-n", "-b", builder, "docs", f"docs/_build/{builder}")


@nox.session(python=PYTHONS)
def slow(session: nox.Session) -> None:
    """Run the long part of the evidence, which the other sessions leave out."""
    session.install("-e", ".[test]")
    session.run("pytest", "-m", "slow", *session.posargs)


def _project() -> dict[str, object]:
    return nox.project.load_toml("pyproject.toml")
