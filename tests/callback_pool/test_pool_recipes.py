"""Watching a pool: the recipes for tqdm and rich with the real libraries, progress, numbers and the log."""

from __future__ import annotations

import io
import logging
import re
import textwrap
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from callback_pool.pool_workers import add, fail
from pool_faults.callback_faults import complain
from syncprims import CallbackPool
from syncprims.testing import Threads

LIMIT = 60.0
WORDS = ["counted"] * 20


PAGE = Path(__file__).parents[2] / "docs" / "howto" / "callbacks.rst"


def recipe(name: str) -> str:
    """Return the code of the page that uses that name."""
    if not PAGE.exists():
        pytest.skip("the pages are not there: only the tests were copied")
    blocks = re.findall(r"^\.\. code-block:: python\n\n((?:   .*\n)+)", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    (found,) = [textwrap.dedent(block) for block in blocks if f"{name}(" in block]
    return found


def test_tqdm_recipe() -> None:
    """The lines of the page make a tqdm bar that ends full."""
    tqdm = pytest.importorskip("tqdm").tqdm
    names: dict[str, Any] = {"tqdm": partial(tqdm, file=io.StringIO()), "CallbackPool": CallbackPool, "words": WORDS}
    exec(recipe("tqdm"), names)
    assert names["lengths"] == [*map(len, WORDS)]
    assert names["bar"].n == len(WORDS)


def test_rich_recipe() -> None:
    """The lines of the page make a rich bar whose total follows the submissions, and which ends full."""
    progress = pytest.importorskip("rich.progress").Progress
    console = pytest.importorskip("rich.console").Console(file=io.StringIO())
    names: dict[str, Any] = {
        "Progress": partial(progress, console=console),
        "CallbackPool": CallbackPool,
        "words": WORDS,
    }
    exec(recipe("Progress"), names)
    assert names["lengths"] == [*map(len, WORDS)]
    (bar,) = names["bars"].tasks
    assert (bar.completed, bar.total, bar.finished) == (len(WORDS), len(WORDS), True)


def test_progress_counts_every_task_once() -> None:
    """The first number counts up by one to the end; the second is never less than the first, and ends equal."""
    seen: list[tuple[int, int]] = []
    with CallbackPool(max_workers=4, on_progress=lambda done, total: seen.append((done, total))) as pool:
        with Threads() as threads:
            for _ in range(4):
                threads.start(lambda: [pool.submit(add, n) for n in range(50)])
        assert pool.submit(add, 1).cancel() in (True, False)
    assert [done for done, _ in seen] == [*range(1, 202)]
    assert all(done <= total for done, total in seen)
    assert seen[-1] == (201, 201)


def test_log_names_the_task(caplog: pytest.LogCaptureFixture) -> None:
    """An unseen error is logged under "syncprims", with the task's function, the pool's name and traceback."""
    with caplog.at_level(logging.ERROR, "syncprims"), CallbackPool(name="parcels", on_callback_error="log") as pool:
        pool.apply_async(fail, ("damaged",))
        pool.apply_async(add, (1,), callback=complain)
    assert {record.name for record in caplog.records} == {"syncprims"}
    text = [record.getMessage() for record in caplog.records]
    assert len(text) == 2
    assert any("fail of 'parcels'" in line and "damaged" in line for line in text)
    assert any("add of 'parcels'" in line for line in text)
    assert all(record.exc_info for record in caplog.records)


who: ContextVar[str] = ContextVar("who", default="nobody")


def refuse(name: str) -> str:
    raise ValueError(name)


def whoami() -> str:
    return who.get()


def test_tasks_and_callbacks_see_the_submitters_context() -> None:
    """Tasks run in a copy of the submitter's context, and so do the callbacks of each task."""
    seen: list[tuple[Any, str]] = []

    def tell(value: object) -> None:
        seen.append((value, who.get()))
        who.set("callback")  # no other code must see this

    with CallbackPool(max_workers=1) as pool:
        for name in ("ada", "bob"):
            who.set(name)
            pool.apply_async(whoami, callback=tell)
            pool.apply_async(refuse, (name,), error_callback=lambda error: tell(str(error)))
        who.set("somebody else")
    assert seen == [("ada", "ada"), ("ada", "ada"), ("bob", "bob"), ("bob", "bob")]
    assert who.get() == "somebody else"


def test_callbacks_of_process_tasks_see_the_submitters_context() -> None:
    """A call in a process has no context there, but its callback here has the submitter's."""
    seen: list[str] = []
    with CallbackPool("process", max_workers=1) as pool:
        who.set("ada")
        pool.apply_async(add, (1,), callback=lambda _: seen.append(who.get()))
        who.set("somebody else")
    assert seen == ["ada"]
