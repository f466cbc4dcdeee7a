"""A pipeline whose stages run in their own threads, strictly in order, round after round.

Each stage hands its result to the next: read, clean, count. A stage never sees unfinished work, because it begins only
when the one before it is done. A stage that fails breaks the pipeline, so that no thread waits for work that won't
come.

Run it: ``python ordered_pipeline.py``.
"""

from __future__ import annotations

from collections import Counter

from syncprims import BrokenSequenceError, OrderedRunner, Turn

VERSES = ("The owl and the pussycat", "went to sea", "In a beautiful pea-green boat")


class Pipeline:
    """Three stages that pass on a batch; they need no lock, because they never run at the same time."""

    def __init__(self, verses: tuple[str, ...]) -> None:
        self.verses = verses
        self.batch: list[str] = []
        self.words: Counter[str] = Counter()

    def read(self, turn: Turn) -> str:
        """Take the verse of this round."""
        self.batch = self.verses[turn.round].split()
        return f"round {turn.round}: read {len(self.batch)} words"

    def clean(self, turn: Turn) -> str:
        """Make its words comparable."""
        self.batch = [word.lower().strip(".,") for word in self.batch]
        return f"round {turn.round}: cleaned them"

    def count(self, turn: Turn) -> str:
        """Count them, and drop the batch."""
        self.words.update(self.batch)
        self.batch = []
        return f"round {turn.round}: knows {len(self.words)} different words"


def main() -> None:
    """Run three rounds, then a pipeline that breaks in its second stage."""
    pipeline = Pipeline(VERSES)
    stages = {"read": pipeline.read, "clean": pipeline.clean, "count": pipeline.count}
    runner = OrderedRunner(*stages, rounds=len(VERSES), timeout=10.0, name="verses")
    for line in runner.run(stages):
        print(line)
    assert pipeline.words["the"] == 2, pipeline.words

    def trip(turn: Turn) -> str:
        raise ValueError(f"the scissors are blunt in round {turn.round}")

    runner.reset()
    try:
        runner.run({**stages, "clean": trip})
    except ValueError as error:
        print(f"the pipeline broke: {error}")
    try:
        with runner.step("count"):
            print("never reached")
    except BrokenSequenceError as error:
        print(f"and a later thread gets: {error}")


if __name__ == "__main__":
    main()
