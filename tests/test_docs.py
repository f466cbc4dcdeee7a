"""The pages keep up with the library: every error, every example and every public name has its place."""

from __future__ import annotations

import importlib.util
import inspect
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType

import pytest

import syncprims
from syncprims import adapters, diagnostics, errors, testing, watch

ROOT = Path(__file__).parents[1]
PACKAGE, TESTS = Path(syncprims.__file__).parent, Path(__file__).parent
DOCS = ROOT / "docs"

if not DOCS.is_dir():
    pytest.skip("the pages are not there: only the tests were copied", allow_module_level=True)

PAGES = {page.relative_to(DOCS).as_posix(): page.read_text(encoding="utf-8") for page in DOCS.rglob("*.rst")}
PRIMITIVES = ["AtomicCounter", "CallbackPool", "LockAdapter", "OrderedRunner", "Task", "TimedLock", "TimedRLock"]


@pytest.mark.parametrize("name", sorted(set(errors.__all__) - {"SyncError", "SyncTimeoutError"}))
def test_each_error_is_in_the_table_and_described(name: str) -> None:
    """The page of errors has the cause of each error and the remedy, and shows its docstring."""
    page = PAGES["reference/errors.rst"]
    assert f"   * - `{name}`\n" in page
    assert f".. autoexception:: {name}\n" in page


@pytest.mark.parametrize("name", syncprims.__all__)
def test_each_public_name_has_its_place_in_the_reference(name: str) -> None:
    """Every name that can be imported from the package is described on one page of the reference."""
    directives = (f":: {name}\n", f":: {name}(")
    pages = [path for path, text in PAGES.items() if any(directive in text for directive in directives)]
    assert len(pages) == 1, pages
    assert pages[0].startswith("reference/")


def test_each_message_that_the_page_of_symptoms_explains_exists() -> None:
    """A message that was reworded is reworded there as well."""
    _, _, table = PAGES["howto/troubleshooting.rst"].partition("By message")
    rows = "".join(re.findall(r"^   \* - (``.*)$", table, re.MULTILINE))
    sources = "".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    with pytest.raises(RuntimeError) as of_c:
        syncprims.TimedLock().release()
    known = re.sub(r'"\s+f?"', "", sources) + str(of_c.value)  # a string may be in several pieces
    parts = [part.strip(" ,") for words in re.findall("``(.*?)``", rows) for part in words.split("…")]
    assert len(parts) > 10
    assert not [part for part in parts if part not in known]


@pytest.mark.parametrize("module", [adapters, diagnostics, testing, watch], ids=lambda module: module.__name__)
def test_each_name_of_the_modules_has_its_place_in_the_reference(module: ModuleType) -> None:
    """Every name that can be imported from its own module is described on that module's page."""
    page = PAGES[f"reference/{module.__name__.rpartition('.')[2]}.rst"]
    names = set(module.__all__) - set(syncprims.__all__)
    assert not [name for name in names if not re.search(rf"^\.\. auto\w+:: {name}$", page, re.MULTILINE)]


@pytest.mark.parametrize("name", PRIMITIVES)
def test_each_primitive_says_what_it_promises(name: str) -> None:
    """Its docstring has an example and the four sections, in the usual order."""
    text = inspect.getdoc(getattr(syncprims, name)) or ""
    sections = [">>> ", "**Fairness", "**Thread safety", "**Differences from ", "**Subclassing"]
    places = [text.find(section) for section in sections]
    assert -1 not in places, dict(zip(sections, places, strict=True))
    assert places == sorted(places), dict(zip(sections, places, strict=True))


def test_each_example_is_listed() -> None:
    """The page of examples names every program in the folder, and none that is not there."""
    page = PAGES["examples.rst"]
    for program in (ROOT / "examples").glob("*.py"):
        assert f"``{program.name}``" in page, program.name


def test_each_page_can_be_reached() -> None:
    """Every page is in the contents of another."""
    for path in PAGES:
        name = Path(path).with_suffix("").name
        contents = [text for page, text in PAGES.items() if page != path and ".. toctree::" in text]
        assert path in ("404.rst", "index.rst") or any(
            line.strip().rpartition("/")[2] == name or fnmatch(path.removesuffix(".rst"), line.strip())
            for text in contents
            for line in text.splitlines()
        ), path


@pytest.mark.parametrize("name", ["deadlock", "gates", "task"])
def test_drawings_are_what_their_source_draws(name: str) -> None:
    """The committed drawing is the one that the program beside it makes."""
    spec = importlib.util.spec_from_file_location("draw", DOCS / "diagrams" / "draw.py")
    assert spec is not None
    assert spec.loader is not None
    draw = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(draw)
    drawn = (DOCS / "diagrams" / f"{name}.svg").read_text(encoding="utf-8")
    assert drawn == str(draw.DRAWINGS[name]()), "run docs/diagrams/draw.py"


def test_listings_can_be_pasted() -> None:
    """Up to Python 3.12, an interactive Python needs an empty line between a block and the statement after it."""
    block = r"^( *)>>> (?:(?:with|for|def|async|class|while|if|try)\b|@).*\n(?:\1\.\.\..*\n)*?\1\.\.\.  .*\n\1>>> .*"
    files = [ROOT / "README.md", *DOCS.rglob("*.rst"), *PACKAGE.rglob("*.py")]
    found = {file: re.search(block, file.read_text(encoding="utf-8"), re.MULTILINE) for file in files}
    assert [f"{file}: {match[0]}" for file, match in found.items() if match] == []


@pytest.mark.parametrize("path", [*PAGES, "../README.md", "../CONTRIBUTING.md"])
def test_paths_of_tests_that_are_shown_exist(path: str) -> None:
    """A command in the pages names no test that was moved."""
    shown = re.findall(r"\btests/[\w/.]*\w", (DOCS / path).read_text(encoding="utf-8"))
    assert [name for name in shown if not (ROOT / name).exists()] == []


def test_the_pages_stay_light() -> None:
    """All figures kept for them have at most 1.5 MB: the raw numbers don't belong there."""
    made = {DOCS / "_build", DOCS / "benchmarks" / "raw"}
    kept = [path for path in DOCS.rglob("*") if path.is_file() and path.suffix != ".pyc" and not made & {*path.parents}]
    assert sum(path.stat().st_size for path in kept) <= 1_500_000


def on_the_map() -> Iterator[Path]:
    """Yield each file and folder of CONTRIBUTING.md's map; indented lines are in the folder above them."""
    drawn = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("```text\n")[2].partition("```")[0]
    folders: list[tuple[int, Path]] = []
    for line in drawn.splitlines():
        depth = len(line) - len(line.lstrip())
        folders = [(outer, folder) for outer, folder in folders if outer < depth]
        for name in re.split(r" {3,}", line.strip())[0].split():
            # The package may be an installed one, beside tests that were copied alone.
            path = PACKAGE if name == "src/syncprims/" else (folders[-1][1] if folders else ROOT) / name
            if name.endswith("/"):
                folders.append((depth, path))
            yield path


def test_the_map_is_that_of_the_tree() -> None:
    """CONTRIBUTING.md's map names each file and folder of the library, and the shared files of tests, once."""
    named = list(on_the_map())
    assert [path for path in named if not path.exists()] == [], "gone"
    left_out = ("__init__.py", "__pycache__", "py.typed")
    library = {
        path for path in PACKAGE.rglob("*") if path.name not in left_out and path.suffix not in (".pyc", ".so", ".pyd")
    }
    shared = {path for path in TESTS.glob("*.py") if not path.name.startswith(("test_", "conftest"))}
    assert sorted((library | shared).difference(named)) == [], "not on the map"
    assert len(named) == len(set(named))


def test_the_folders_of_the_tests_are_those_of_the_library() -> None:
    """Each subject has one name: its tests are in a folder with the same name as the library's."""
    subjects = {path.name.strip("_") for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert subjects | {"evidence", "pages", "pool_faults", "typing"} == {
        path.name for path in TESTS.iterdir() if any(path.glob("*.py"))
    }


def test_each_likely_change_has_its_file_and_its_tests() -> None:
    """CONTRIBUTING.md lists the files and tests for over thirty changes, and all of them exist."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## To change something")[2]
    rows = [line.split("|")[1:-1] for line in text.partition("\n## ")[0].splitlines() if line.startswith("| ")][2:]
    assert len(rows) >= 30
    for change, where, tested in rows:
        (place,), (tests,) = re.findall(r"`([\w./-]+)`", where), re.findall(r"`([\w./-]+)`", tested)
        assert (PACKAGE / place).is_file() or (ROOT / place).is_file(), change
        assert (ROOT / tests).is_file(), change
