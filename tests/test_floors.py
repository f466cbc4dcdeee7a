"""The floors: no file of the library imports one that is above it, and none import each other in a cycle.

All imports count: those inside functions, those for type checkers alone, and imports by a name in a string.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from pathlib import Path

import pytest

import syncprims
from syncprims import adapters

ROOT = Path(__file__).parents[1]
PACKAGE = Path(syncprims.__file__).parent

# From the ground up. A folder of the library is a floor; in `_core` each file is one.
FLOORS = (
    "_speedups",
    "facts",
    "errors",
    "_core.clock",
    "_core.gil",
    "_core.this_process",
    "_core.reentrant",
    "_core.speedups",
    "_core.foreign",
    "_core.lazy",
    "_core.greenlets",
    "_core.state",
    "_core.observing",
    "_core.deadline",
    "_core.integers",
    "_core.registry",
    "_core.stacks",
    "_core.sites",
    "_core.thread_ends",
    "_core.gates",
    "_core.interrupts",
    "_core.mailbox",
    "_core.waits",
    "_core.wait_graph",
    "_core.holders",
    "_core.deadlocks",
    "_core.snapshot",
    "_core.report",
    "_core",
    "_locks",
    "_counter",
    "_runner",
    "callback_pool",
    "adapters",
    "diagnostics",
    "watch",
    "testing",
    "_tour",
    "__main__",
    "",  # the package itself
)

Trees = Mapping[str, ast.Module]
Arrow = tuple[str, str]


# -- reading ---------------------------------------------------------------------------------------------------------


def read(folder: Path) -> dict[str, ast.Module]:
    """Parse all modules of a package, each under its dotted name; a package's own is that of its `__init__`."""
    trees = {}
    for path in sorted([*folder.rglob("*.py"), *folder.rglob("*.pyi")]):
        parts = path.relative_to(folder.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        trees[name] = ast.parse(path.read_text(encoding="utf-8"), name)
    return trees


def seeded(**modules: str) -> dict[str, ast.Module]:
    """Make the modules of a small package `p`; two underscores in a name mean a dot."""
    return {f"p.{name.replace('__', '.')}": ast.parse(text) for name, text in modules.items()} | {"p": ast.parse("")}


def home_of(name: str) -> str:
    """Return the module that defines a public name of the library."""
    home: str = getattr(getattr(syncprims, name), "__module__", "syncprims")
    return home


def arrows(trees: Trees, public: Callable[[str], str] | None = None) -> set[Arrow]:
    """Return which module imports which, in any way; `public` finds the module of an exported name."""
    return {(name, to) for name in trees for to in _imported(name, trees, public) if to != name}


def _imported(name: str, trees: Trees, public: Callable[[str], str] | None) -> Iterable[str]:
    top = name.partition(".")[0]
    for node in ast.walk(trees[name]):
        if isinstance(node, ast.Import):
            wanted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*_above(name, trees, node.level), *filter(None, [node.module])])
            wanted = [
                public(alias.name)
                if public and base == top and f"{base}.{alias.name}" not in trees
                else f"{base}.{alias.name}"
                for alias in node.names
            ]
        elif isinstance(node, ast.Call) and _is_import(node) and isinstance(node.args[0], ast.Constant):
            text = str(node.args[0].value)
            level = len(text) - len(text.lstrip("."))
            wanted = [".".join([*_above(name, trees, level), *filter(None, [text.lstrip(".")])])]
        else:
            continue
        for each in wanted:
            if (found := _module_of(each, trees)) is not None:
                yield found


def _above(name: str, trees: Trees, level: int) -> list[str]:
    """The parts of the package that so many dots mean."""
    if not level:
        return []
    is_package = any(other.startswith(f"{name}.") for other in trees)
    parts = name.split(".")
    return parts[: len(parts) - level + is_package]


def _is_import(call: ast.Call) -> bool:
    called = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    return called in ("import_module", "__import__", "find_spec") and bool(call.args)


def _module_of(dotted: str, trees: Trees) -> str | None:
    """The module with this name, or the module that defines it; None if it is not one of these modules."""
    while dotted and dotted not in trees:
        dotted = dotted.rpartition(".")[0]
    return dotted or None


def computed(trees: Trees) -> set[str]:
    """Return the modules that import others by names which only a run can determine."""
    return {
        name
        for name, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and _is_import(node) and not isinstance(node.args[0], ast.Constant)
    }


# -- judging ---------------------------------------------------------------------------------------------------------


def floor_of(module: str, floors: tuple[str, ...] = FLOORS) -> int:
    """Return the floor of a module: that of its own name, or else of its folder."""
    name = module.partition(".")[2]
    while name not in floors:
        name = name.rpartition(".")[0]
    return floors.index(name)


def upward(found: Iterable[Arrow], floors: tuple[str, ...] = FLOORS) -> set[Arrow]:
    """Return the arrows that lead to a higher floor."""
    return {(start, end) for start, end in found if floor_of(end, floors) > floor_of(start, floors)}


def cycles(found: Iterable[Arrow]) -> list[list[str]]:
    """Return the groups of modules of which each imports, directly or indirectly, all the others."""
    known: dict[str, set[str]] = {}
    for start, end in found:
        known.setdefault(start, set()).add(end)
    reached = {start: _reach(start, known) for start in known}
    groups = {frozenset(each for each in reached[start] if start in reached.get(each, ())) for start in reached}
    return sorted(sorted(group) for group in groups if group)


def _reach(start: str, known: Mapping[str, set[str]]) -> set[str]:
    reached: set[str] = set()
    todo = [start]
    while todo:
        fresh = known.get(todo.pop(), set()) - reached
        reached |= fresh
        todo.extend(fresh)
    return reached


# -- the library -----------------------------------------------------------------------------------------------------

OURS = read(PACKAGE)
ARROWS = arrows(OURS, home_of)


def test_every_file_has_its_floor() -> None:
    """A new file gets its place: each of `_core` by its name, each other by its folder."""
    homeless = [
        name
        for name in OURS
        if FLOORS[floor_of(name)] in ("", "_core") and name not in ("syncprims", "syncprims._core")
    ]
    assert homeless == []
    assert [floor for floor in FLOORS if floor and f"syncprims.{floor}" not in OURS] == []


def test_arrows_point_down() -> None:
    """No import leads from a floor to a higher one."""
    assert upward(ARROWS) == set()


def test_no_files_know_each_other_in_a_cycle() -> None:
    """Also within a floor, of two files one is below the other."""
    assert cycles(ARROWS) == []


def test_no_benchmarks_know_each_other_in_a_cycle() -> None:
    """The same holds in the folder of the benchmarks."""
    folder = ROOT / "benchmarks"
    if not folder.is_dir():
        pytest.skip("the benchmarks are not there: only the tests were copied")
    assert cycles(arrows(read(folder))) == []


def test_only_packages_import_by_names_that_a_run_makes() -> None:
    """The target of such an import can't be read, so each is listed here, with targets below it."""
    finds_programs = {"syncprims.watch.launching"}  # of the users'; nothing of the library
    assert computed(OURS) - finds_programs == {"syncprims", "syncprims.adapters"}
    assert {import_module(f"syncprims.{name}").__name__ for name in syncprims._MODULES} <= OURS.keys()
    assert {f"syncprims.adapters.{name}" for name in adapters._LATER.values()} <= OURS.keys()


def test_the_map_has_the_floors_in_their_order() -> None:
    """CONTRIBUTING.md's map goes from the ground up."""
    page = ROOT / "CONTRIBUTING.md"
    if not page.is_file():
        pytest.skip("the map is not there: only the tests were copied")
    drawn = page.read_text(encoding="utf-8").partition("src/syncprims/")[2].partition("\ntests/")[0]
    named, folder = [], ""
    for line in drawn.splitlines()[1:]:
        depth = len(line) - len(line.lstrip())
        names = re.split(r" {3,}", line.strip())[0].split()
        if depth == 2:
            folder = names[0].removesuffix("/")
        if depth == 2 or (depth == 4 and folder == "_core"):
            stems = [Path(name).stem for name in names if not name.endswith(".c")]
            named += [stem if depth == 2 else f"_core.{stem}" for stem in stems]
    # The folder `_core` comes before its files on the map.
    floors = [floor for floor in FLOORS if floor not in ("", "_core")]
    assert [name for name in named if name != "_core"] == floors


# -- the test of the test --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "from .attic import beam",
        "from . import attic",
        "import p.attic",
        "from p.attic import beam",
        "def later():\n    from .attic import beam",
        "if TYPE_CHECKING:\n    from .attic import beam",
        "import_module('p.attic')",
        "importlib.import_module('.attic', __package__)",
        "__import__('p.attic')",
    ],
)
def test_an_arrow_upward_is_found_however_it_is_written(text: str) -> None:
    """A module on the ground that imports the attic is found, and the attic that imports the ground is not."""
    house = seeded(ground=text, attic="from .ground import stone\nimport os")
    found = arrows(house)
    assert found == {("p.ground", "p.attic"), ("p.attic", "p.ground")}
    assert upward(found, ("ground", "attic", "")) == {("p.ground", "p.attic")}


def test_an_arrow_that_is_added_to_the_library_is_found() -> None:
    """The floors are those of the library: one more import in a low file is found, and so is the cycle it closes."""
    low, high = "syncprims._core.waits", "syncprims.diagnostics"
    changed = ast.parse(f"{ast.unparse(OURS[low])}\ndef late():\n    from ..diagnostics import report")
    found = arrows({**OURS, low: changed}, home_of)
    assert found - ARROWS == {(low, high)}
    assert upward(found) == {(low, high)}
    assert any({low, high} <= {*cycle} for cycle in cycles(found))


def test_a_cycle_is_found_over_several_files() -> None:
    """Three files of one floor that import each other in turn are one cycle; a fourth that imports them is in none."""
    house = seeded(
        room__a="from .b import b",
        room__b="from . import c",
        room__c="from ..room.a import a",
        room__d="from .a import a",
        room="",
    )
    found = arrows(house)
    assert upward(found, ("room", "")) == set()
    assert cycles(found) == [["p.room.a", "p.room.b", "p.room.c"]]


def test_a_public_name_is_followed_to_its_home() -> None:
    """A module that imports a name from the package itself imports the module that defines it, not the roof."""
    house = seeded(ground="stone = 1", attic="from p import stone\nfrom p import ground")
    assert arrows(house, lambda name: {"stone": "p.ground"}[name]) == {("p.attic", "p.ground")}
    assert ("syncprims._tour.locking", "syncprims._locks.timed_lock") in ARROWS


def test_a_name_that_a_run_makes_is_seen() -> None:
    """An import by a computed name can't be followed, and is reported as such."""
    assert computed(seeded(ground="import_module(f'p.{name}')", attic="import_module('p.ground')")) == {"p.ground"}
