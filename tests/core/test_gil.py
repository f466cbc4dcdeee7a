"""Whether there is a GIL is known for good, although a free-threaded build enables it for moments."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from threading import Event

import pytest

from locks.actors import LIMIT, Actors, eventually
from programs import environment
from syncprims._core import gil

EXTENSION = "_csv"
is_enabled: Callable[[], bool] = getattr(sys, "_is_gil_enabled", lambda: True)  # before 3.13 there is no such function


@pytest.mark.skipif(gil.HAS_GIL, reason="there is always a GIL")
def test_an_import_in_another_thread_does_not_count() -> None:
    """While a thread imports an extension module, the GIL is enabled. It will be disabled again."""
    spec = find_spec(EXTENSION)
    assert spec is not None
    if spec.origin == "built-in":
        pytest.skip(f"{EXTENSION} is no extension module here")
    code = compile(Path(gil.__file__).read_text(encoding="utf-8"), gil.__file__, "exec")
    over = Event()
    moments: list[bool] = []

    def import_it() -> None:
        while not over.is_set():
            module_from_spec(spec)

    def has_met_such_moments() -> bool:
        for _ in range(10_000):
            if is_enabled():
                space: dict[str, bool] = {}
                exec(code, space)
                if is_enabled():
                    moments.append(space["HAS_GIL"])
        return moments != []

    with Actors() as actors:
        actors.start(import_it)
        try:
            eventually(has_met_such_moments)
        finally:
            over.set()
    assert not any(moments)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="there is always a GIL")
def test_a_gil_that_the_user_asked_for_counts() -> None:
    """It can't be disabled."""
    program = "from syncprims._core.gil import HAS_GIL; print(HAS_GIL)"
    done = subprocess.run(
        [sys.executable, "-X", "gil=1", "-c", program],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=True,
    )
    assert done.stdout == "True\n"
