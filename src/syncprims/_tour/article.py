"""The pool program: a child prints and returns a value, and a callback in the parent receives it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from syncprims import CallbackPool

from .stage import Stage

DISHES = ("soup", "fish", "cake")
LIMIT = 60.0  # seconds, for the whole program


def cook(dish: str) -> str:
    """The child's function: print two lines and return a value."""
    print(f"child: cooking {dish}")  # noqa: T201  printing is what the program is about
    print(f"child: {dish} is done")  # noqa: T201  as above
    return dish.upper()


def serve(plate: str) -> None:
    """The callback, in the parent: receive the value that the child returned."""
    print(f"callback: here is {plate}", flush=True)  # noqa: T201  as above


def program() -> None:
    """Run the program itself. It needs no sleep, because the end of the block waits for the callbacks."""
    with CallbackPool("process", max_workers=3) as pool:
        for dish in DISHES:
            pool.apply_async(cook, (dish,), callback=serve)


def play(stage: Stage) -> None:
    """Show that every callback runs, and after its child's lines, even if stdout is a pipe."""
    stage.scene(
        "A process pool whose callbacks run, in the right order",
        "Three children print and return a value, which a callback receives. Nothing sleeps to wait for a callback.",
        "Stdout is a pipe here, where a child's lines usually come out last, or never.",
    )
    # This runs as a separate program, so that its children have a pipe for stdout even if the tour's own stdout is a
    # terminal. They import their functions from this module, because they could not find those in __main__ of `python
    # -c`.
    done = subprocess.run(
        [sys.executable, "-c", f"from {__name__} import program; program()"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        text=True,
        timeout=LIMIT,
        env=_environment(),
    )
    lines = done.stdout.splitlines()
    stage.say(*(f"  {line}" for line in (*lines, *done.stderr.splitlines())))
    stage.check(done.returncode == 0, "the program ended well")
    stage.check(len(lines) == 3 * len(DISHES), "every line came out once")
    stage.check(all(_in_order(lines, dish) for dish in DISHES), "each child's lines came before its callback's")


def _environment() -> dict[str, str]:
    home = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH")]))
    # Without a buffer, print() writes a line and its end separately, and the lines of three children would mix.
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return {**inherited, "PYTHONPATH": path}


def _in_order(lines: list[str], dish: str) -> bool:
    wanted = [f"child: cooking {dish}", f"child: {dish} is done", f"callback: here is {dish.upper()}"]
    return [line for line in lines if line in wanted] == wanted
