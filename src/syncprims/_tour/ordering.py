"""Three threads print in a predefined order, whatever the scheduler does."""

from __future__ import annotations

from functools import partial

from syncprims import OrderedRunner, Turn

from .stage import Stage, together

STEPS = ("breakfast", "lunch", "dinner")
ROUNDS = 3


def play(stage: Stage) -> None:
    """Show that each thread releases the next, and that the last releases the first again."""
    stage.scene(
        "Three threads in a predefined order",
        f"One thread for each of {', '.join(STEPS)}, started last to first. Each, when done, releases the next;",
        "the last releases the first for another round.",
    )
    runner = OrderedRunner(*STEPS, rounds=ROUNDS, timeout=10, name="meals")
    served: list[str] = []

    def serve(turn: Turn) -> None:
        served.append(turn.step)
        stage.say(f"  round {turn.round + 1}: {turn.step}")

    latecomers_first = tuple(reversed(STEPS))
    for error in together(*(partial(runner.serve, step, serve) for step in latecomers_first), names=latecomers_first):
        if error is not None:
            raise error
    stage.check(served == list(STEPS) * ROUNDS, f"{len(served)} turns, each in its place")
    stage.check(runner.state == "finished", "the sequence is over after its last round, and no thread is left waiting")
