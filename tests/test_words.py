"""The words of sources, pages, tests, benchmarks and examples: CONTRIBUTING.md has plainer ones for some."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import syncprims

ROOT, PACKAGE = Path(__file__).parents[1], Path(syncprims.__file__).parent
DOCS = ROOT / "docs"

if not DOCS.is_dir():
    pytest.skip("the pages are not there: only the tests were copied", allow_module_level=True)

READ = {".py", ".c", ".js", ".html", ".rst", ".md", ".txt", ".svg"}
TEXTS = {
    path: path.read_text(encoding="utf-8")
    for folder in (PACKAGE, DOCS, ROOT / "tests", ROOT / "benchmarks", ROOT / "examples")
    for path in folder.rglob("*")
    if path.suffix in READ and "_build" not in path.parts and path != Path(__file__)  # which has the words themselves
} | {ROOT / name: (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "CHANGELOG.md")}


@pytest.mark.parametrize(
    ("word", "most"),
    [
        *[("for ever", 0), ("circles?", 8), ("nobody", 12), ("whoever", 3), ("lest", 1), ("anew", 1)],
        *[("in vain", 0), ("in all else", 0), ("whereupon", 0), ("hence", 0), ("meanwhile", 12), ("stands there", 0)],
        *[("what is no", 2), ("who is no", 0), ("is told", 2), ("are told", 2), ("let go of", 2), ("tell whether", 2)],
    ],
)
def test_a_word_that_has_a_plainer_one_is_rare(word: str, most: int) -> None:
    """The word is in all of them together at most so often, also across the end of a line."""
    found = re.compile(r"(?i)\b" + word.replace(" ", r"[\s#*]+") + r"\b")
    places = [
        f"{path.relative_to(path.parents[1])}: {hit}" for path, text in TEXTS.items() for hit in found.findall(text)
    ]
    assert len(places) <= most, places
