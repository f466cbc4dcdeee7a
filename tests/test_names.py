"""A name has one meaning in the whole project: no two files, and no two public classes, have the same name.

A reader who finds a name in a message, a traceback or a comment has one place to look for it.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import pytest

import syncprims

TESTS: Final = Path(__file__).parent
PACKAGE: Final = Path(syncprims.__file__).parent

# Python, pytest and mypy look for these names.
GIVEN: Final = {"__init__", "__main__", "conftest"}

SAME_FILES: Final = {
    "interrupts": "testing's is the public `interrupts`, which delivers them; _core's survives them",
    "surface": "each folder of primitives has one: what its primitive has in common with its relatives on a server",
    "threads": "testing's is the public `Threads`; workers' is the place where tasks of the kind 'thread' run",
}
SAME_CLASSES: Final = {
    "Job": "the pool's, and what a file below it has to know of it",
}


def twice(named: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Return the names that more than one place has, with the places."""
    places: dict[str, list[str]] = defaultdict(list)
    for name, place in named:
        places[name].append(place)
    return {name: where for name, where in places.items() if len(where) > 1}


def files() -> list[tuple[str, str]]:
    """The names of the library's files, and of shared files of its tests: a test itself is found by its folder."""
    return [
        (path.stem, str(path.relative_to(folder.parent)))
        for folder in (PACKAGE, TESTS)
        for path in sorted(folder.rglob("*.py"))
        if path.stem not in GIVEN and not path.stem.startswith("test_")
    ]


def classes() -> list[tuple[str, str]]:
    """The names of the library's classes, without those that are private to a file."""
    return [
        (node.name, str(path.relative_to(PACKAGE)))
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    ]


@pytest.mark.parametrize(("found", "allowed"), [(files(), SAME_FILES), (classes(), SAME_CLASSES)])
def test_a_name_means_one_thing(found: list[tuple[str, str]], allowed: dict[str, str]) -> None:
    """Only allowed names occur twice, each for a reason; and no name is allowed without need."""
    assert len(found) > 100
    assert {name: where for name, where in twice(found).items() if name not in allowed} == {}
    assert allowed.keys() <= twice(found).keys()


def test_a_name_that_occurs_twice_is_found() -> None:
    """The test of the test: two of three places that share a name are reported under it."""
    assert twice([("table", "a/table.py"), ("page", "a/page.py"), ("table", "b/table.py")]) == {
        "table": ["a/table.py", "b/table.py"]
    }
