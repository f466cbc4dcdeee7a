"""Origins: the place that made a lock, its number among those made there, and the variable that stores it."""

from __future__ import annotations

import ast
import linecache
import os
import queue
import sys
from collections.abc import Iterator
from functools import lru_cache
from importlib.machinery import ModuleSpec
from itertools import count, islice
from types import CodeType, FrameType
from typing import Final

from .._core.foreign import guarded, printable
from .._core.stacks import FILE_OF_THREADING, STANDARD_LIBRARY, file_of, is_passed_over

# A program knows a lock by a variable or an attribute, which the lock can't see. But the line that made it is known,
# and nearly always that line stores it. So the name is read from the source when a report needs it.

WATCH_FOLDER: Final = os.path.join(os.path.dirname(sys._getframe().f_code.co_filename), "")
"""The folder of the files of the watch, as their code names it."""
# These functions make locks for the program: the line that counts is in one of their callers.
_MAKERS: Final = (
    WATCH_FOLDER,
    FILE_OF_THREADING,
    file_of(queue),
    os.path.join(STANDARD_LIBRARY, "concurrent", "futures", ""),
    os.path.join(STANDARD_LIBRARY, "asyncio", "locks.py"),
)
_MOST: Final = 20_000  # places; after so many, a program that makes code without end gets no more names


class Origin:
    """A line of the program that makes locks.

    Attributes:
        code: The function.
        line: The line.
        column: The column of the call, or -1.
        part: The thing that the lock is a part of: the library's function that made it, as `"Queue.__init__"`, or "".
        many: Whether more than one lock was made.
        released_by: The threads that released a lock that another thread had taken, and have not ended.
        is_signal: Whether any thread ever did so.
    """

    __slots__ = ("_made", "code", "column", "is_signal", "line", "many", "part", "released_by")

    def __init__(self, code: CodeType | None, line: int, part: str, column: int = -1) -> None:
        self.code: CodeType | None = code
        self.line: int = line
        self.column: int = column
        self.part: str = part
        self._made: Iterator[int] = count(1)
        self.many: bool = False
        self.released_by: set[int] = set()
        self.is_signal: bool = False

    def next_number(self) -> int:
        """Return the number of a lock that is made there now."""
        number = next(self._made)
        if number > 1:
            self.many = True
        return number

    @property
    def filename(self) -> str:
        """The file, or "" if no code of the program is known."""
        return "" if self.code is None else self.code.co_filename

    def where(self) -> str:
        """Put the place into words, like ``bank.py:12``."""
        return printable(f"{os.path.basename(self.filename)}:{self.line}") if self.code else "an unknown place"

    def note_release(self, ident: int) -> None:
        """Note that a thread released a lock that another thread had taken."""
        self.is_signal = True
        self.released_by.add(ident)

    def owner(self) -> str:
        """The class of the object that the lock is a part of, or ""."""
        return self.part.partition(".")[0]


# The key has the file as well, because code objects don't compare it: two files may have functions with equal code.
_origins: dict[tuple[str, CodeType, int, str], Origin] = {}
_makers: dict[str, bool] = {}


def is_maker(code: CodeType) -> bool:
    """Whether the code belongs to a library that makes and takes locks for the program."""
    filename = code.co_filename
    known = _makers.get(filename)
    if known is None:
        known = filename.startswith(_MAKERS)
        if len(_makers) < _MOST:
            _makers[filename] = known
    return known


def frame_of_program() -> FrameType | None:
    """The innermost frame of the calling thread that is the program's."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and (is_maker(frame.f_code) or is_passed_over(frame.f_code.co_filename)):
        frame = frame.f_back
    return frame


def origin_here() -> Origin:
    """The place in the program that is making a lock."""
    frame: FrameType | None = sys._getframe(2)
    part = ""
    while frame is not None and is_maker(frame.f_code):
        if not frame.f_code.co_filename.startswith(WATCH_FOLDER):
            part = frame.f_code.co_qualname
        frame = frame.f_back
    if frame is None:
        return Origin(None, 0, part)
    key = (frame.f_code.co_filename, frame.f_code, frame.f_lasti, part)
    found = _origins.get(key)
    if found is None:
        note_source(frame)
        found = Origin(frame.f_code, frame.f_lineno or 0, part, position_of(frame)[1])
        if len(_origins) < _MOST:
            found = _origins.setdefault(key, found)
    return found


def position_of(frame: FrameType) -> tuple[int, int]:
    """The line and the column of the instruction that runs; the column is -1 if it is not known."""
    line, _, column, _ = next(islice(frame.f_code.co_positions(), frame.f_lasti // 2, None), (None, None, None, None))
    return (frame.f_lineno or 0, -1) if line is None or column is None else (line, column)


def forget_thread(ident: int) -> None:
    """Forget the releases of a thread that has ended, because another thread may get its ident."""
    for origin in list(_origins.values()):
        origin.released_by.discard(ident)


def name_made(origin: Origin, number: int, kind: str) -> str:
    """Name a lock or another object by its variable and the place that made it; number 0 means all of that place."""
    stored = guarded(None, stored_in, origin.filename, origin.line, origin.column) if origin.code is not None else None
    which = f" no. {number}" if number and origin.many else ""
    owner = origin.owner()
    if owner and owner != kind:
        part = "mutex" if owner.endswith("Queue") else "lock"
        return f"the {part} of the {owner} {stored or ''}{' ' if stored else ''}made at {origin.where()}{which}"
    if stored:
        return f"{stored} ({origin.where()}){which}"
    return f"the {kind} made at {origin.where()}{which}"


# -- the source --------------------------------------------------------------------------------------------------------

_trees: dict[str, ast.Module] = {}


def note_source(frame: FrameType) -> None:
    """Let the source of a module be found later that has no file of its own, as in a zip archive."""
    filename, spec = frame.f_code.co_filename, dict.get(frame.f_globals, "__spec__")
    if type(spec) is ModuleSpec and type(spec.origin) is str and spec.origin == filename:
        # By the name in the spec: runpy gives modules another one.
        guarded(None, linecache.lazycache, filename, {"__name__": spec.name, "__loader__": spec.loader})


def tree_of(filename: str) -> ast.Module | None:
    """The syntax tree of a file of the program, or None if its source can't be read now.

    A failure is not remembered: a program that lacks descriptors or memory, or is deep in a recursion, may have failed
    to read its source only this time.
    """
    tree = _trees.get(filename)
    if tree is None:
        none: list[str] = []
        lines = guarded(none, linecache.getlines, filename)
        tree = guarded(None, ast.parse, "".join(lines)) if lines else None
        if tree is not None:
            _trees[filename] = tree
    return tree


def stored_in(filename: str, line: int, column: int = -1) -> str | None:
    """The target in which a line stores its value: ``Account._lock``, ``jobs``, ``forks[…]``; None if there is none."""
    tree = tree_of(filename)
    return None if tree is None else _target_in(tree, line, column)


@lru_cache(maxsize=_MOST)
def _target_in(tree: ast.Module, line: int, column: int) -> str | None:
    found: tuple[list[str], ast.stmt] | None = None
    for classes, statement in _statements(tree, []):
        if statement.lineno <= line <= (statement.end_lineno or statement.lineno):
            found = classes, statement  # the innermost comes last
    if found is None:
        return None
    classes, statement = found
    if isinstance(statement, ast.Assign):
        target, value = statement.targets[0], statement.value
    elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
        target, value = statement.target, statement.value
    else:
        return None
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
        here = (line, column)
        pairs = zip(target.elts, value.elts, strict=True)
        found_here = [(t, v) for t, v in pairs if _begin_of(v) <= here < _end_of(v)]
        if len(found_here) != 1:
            return None
        target, value = found_here[0]
    name = ast.unparse(target)
    if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and classes and classes[-1]:
        if target.value.id in ("self", "cls"):
            name = f"{classes[-1]}.{target.attr}"
    elif isinstance(target, ast.Name) and classes and classes[-1] and _is_in_class(tree, classes, statement):
        name = f"{classes[-1]}.{target.id}"
    several = isinstance(value, (ast.List, ast.ListComp, ast.Dict, ast.DictComp, ast.Tuple, ast.GeneratorExp))
    several = several or (isinstance(value, ast.Call) and any(isinstance(a, ast.GeneratorExp) for a in value.args))
    return printable(f"{name}[…]" if several else name)


def _begin_of(node: ast.expr) -> tuple[int, int]:
    return node.lineno, node.col_offset


def _end_of(node: ast.expr) -> tuple[int, int]:
    return node.end_lineno or node.lineno, node.end_col_offset or 0


def _statements(node: ast.AST, classes: list[str]) -> Iterator[tuple[list[str], ast.stmt]]:
    for child in ast.iter_child_nodes(node):
        inner = [*classes, child.name] if isinstance(child, ast.ClassDef) else classes
        if isinstance(child, ast.stmt):
            yield classes, child
        yield from _statements(child, inner)


def _is_in_class(tree: ast.Module, classes: list[str], statement: ast.stmt) -> bool:
    return any(
        isinstance(node, ast.ClassDef) and node.name == classes[-1] and statement in node.body
        for node in ast.walk(tree)
    )
