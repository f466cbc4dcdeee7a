"""The names that a report gives to locks, read from the program's source."""

from __future__ import annotations

import errno
import linecache
import queue
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from syncprims.watch import install
from syncprims.watch.observed import number_of, origin_of
from syncprims.watch.origins import Origin, is_maker, name_made, tree_of
from syncprims.watch.with_blocks import blocks_of

PROGRAM = """
import sys
import threading

ledger = threading.Lock()

def look(blocks_of):
    with ledger:
        return blocks_of(sys._getframe(), [ledger])
"""


@pytest.fixture
def program(tmp_path: Path) -> ModuleType:
    """A program whose source has not been read."""
    return _module_of(tmp_path / "ledger_program.py", PROGRAM)


def _module_of(path: Path, text: str) -> ModuleType:
    path.write_text(text)
    module = ModuleType(path.stem)
    exec(compile(text, str(path), "exec"), vars(module))
    return module


def _name_of_ledger(program: ModuleType) -> str:
    return name_made(Origin(program.look.__code__, 5, ""), 1, "Lock")


def _no_descriptor(*_: Any, **__: Any) -> Any:
    raise OSError(errno.EMFILE, "Too many open files")


def _too_deep(*_: Any, **__: Any) -> Any:
    raise RecursionError("maximum recursion depth exceeded during compilation")


@pytest.mark.parametrize(
    ("what", "failing"), [("tokenize.open", _no_descriptor), ("ast.parse", _too_deep)], ids=["descriptors", "recursion"]
)
def test_a_source_that_could_not_be_read_once_is_read_the_next_time(
    program: ModuleType, what: str, failing: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(what, failing)
        assert _name_of_ledger(program) == "the Lock made at ledger_program.py:5"
        found = program.look(blocks_of)
        assert (found.unknown, found.places) == (True, {})
    assert _name_of_ledger(program) == "ledger (ledger_program.py:5)"
    found = program.look(blocks_of)
    assert not found.unknown
    assert [line for _, line, _ in found.places.values()] == [8]


MAKER = """
import threading

class {0}:
    def __init__(self):
        self._lock = threading.Lock()

    def look(self, blocks_of):
        import sys
        with self._lock:
            return blocks_of(sys._getframe(), [self._lock])
"""


def test_functions_of_two_files_with_equal_code_are_told_apart(tmp_path: Path) -> None:
    found = []
    watching = install(after=60.0, asleep=None)
    try:
        for name in ("Account", "Booking"):
            module = _module_of(tmp_path / f"{name.lower()}.py", MAKER.format(name))
            found.append(vars(module)[name]())
    finally:
        watching.uninstall()
    account, booking = found
    assert type(account).__init__.__code__ == type(booking).__init__.__code__, "the test shows nothing"
    names = [name_made(origin_of(each._lock), number_of(each._lock), "Lock") for each in found]
    assert names == ["Account._lock (account.py:6)", "Booking._lock (booking.py:6)"]
    for each, file in zip(found, ("account.py", "booking.py"), strict=True):
        (place,) = each.look(blocks_of).places.values()
        assert (Path(place[0]).name, place[1]) == (file, 10)


def test_a_function_of_the_program_is_not_taken_for_an_equal_one_of_the_library() -> None:
    text = Path(queue.__file__).read_text()
    program: dict[str, Any] = {"__name__": "its_own_queue"}
    exec(compile(text, "its_own_queue.py", "exec", dont_inherit=True), program)
    theirs, its_own = queue.Queue.__init__.__code__, program["Queue"].__init__.__code__
    assert theirs == its_own, "the test shows nothing"
    assert (is_maker(theirs), is_maker(its_own)) == (True, False)


def test_a_source_is_parsed_once(program: ModuleType) -> None:
    first = tree_of(program.look.__code__.co_filename)
    assert first is not None
    linecache.clearcache()
    assert tree_of(program.look.__code__.co_filename) is first
