"""Which form of the library is used: the compiled core, or Python alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import syncprims
from both_forms import needs_the_core
from programs import TESTS, environment
from syncprims._core import speedups

SHOW = "import syncprims; print(syncprims.compiled, type(syncprims.AtomicCounter.increment).__name__)"


def shown(**variables: str) -> str:
    """The output of a program that is started with these variables."""
    env = environment(without=["SYNCPRIMS_PURE"]) | variables
    return subprocess.run(
        [sys.executable, "-c", SHOW], env=env, capture_output=True, text=True, timeout=60, check=True
    ).stdout.strip()


@pytest.mark.parametrize("value", ["1", "yes", "true"])
def test_a_variable_refuses_the_core(value: str) -> None:
    """With SYNCPRIMS_PURE, Python does all the work."""
    assert shown(SYNCPRIMS_PURE=value) == "False function"


@needs_the_core
@pytest.mark.parametrize("value", ["", "0"])
def test_the_core_is_used_when_it_is_there(value: str) -> None:
    """Without the variable, or with a value that means no, the core is used, and the output says so."""
    assert shown(SYNCPRIMS_PURE=value) == "True method_descriptor"


@needs_the_core
def test_a_core_of_another_revision_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A core that was compiled from another version of the sources is not used, because they would not fit together."""
    monkeypatch.delenv("SYNCPRIMS_PURE", raising=False)
    assert speedups._choose() is speedups.core
    monkeypatch.setattr(speedups.core, "REVISION", speedups._REVISION - 1)
    assert speedups._choose() is None


def test_what_only_has_the_name_of_the_core_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder or a module of that name, without a revision, is not used."""
    monkeypatch.delenv("SYNCPRIMS_PURE", raising=False)
    other = ModuleType("syncprims._speedups")
    monkeypatch.setitem(sys.modules, other.__name__, other)
    monkeypatch.setattr(syncprims, "_speedups", other, raising=False)
    assert speedups._choose() is None


@pytest.mark.parametrize("error", [ImportError, SystemError])
def test_a_core_that_can_not_be_loaded_is_left_alone(monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    """CPython's SystemError, too, which comes if only one of the core and this Python has the GIL."""

    class Refusing:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "syncprims._speedups":
                raise error

    monkeypatch.delenv("SYNCPRIMS_PURE", raising=False)
    monkeypatch.delitem(sys.modules, "syncprims._speedups", raising=False)
    monkeypatch.delattr(syncprims, "_speedups", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Refusing(), *sys.meta_path])
    assert speedups._choose() is None


def test_no_core_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a compiled file, Python does all the work."""
    monkeypatch.delenv("SYNCPRIMS_PURE", raising=False)
    monkeypatch.setitem(sys.modules, "syncprims._speedups", None)
    monkeypatch.delattr("syncprims._speedups", raising=False)
    assert speedups._choose() is None


@needs_the_core
def test_what_looks_into_python_holds_without_the_core() -> None:
    """The tests that need Python code to inspect pass in a program that refuses the core."""
    folders = sorted({path.parent for path in TESTS.rglob("test_*.py") if "mark.pure" in path.read_text("utf-8")})
    assert folders != [Path(__file__).parent]
    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-n",
            "0",
            "-p",
            "no:cacheprovider",
            "-m",
            "pure and not slow",
            *folders,
        ],
        env=environment() | {"SYNCPRIMS_PURE": "1"},
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    nothing_to_run = 5  # the exit code if there is no frontrun
    assert ran.returncode in (0, nothing_to_run), ran.stdout + ran.stderr
