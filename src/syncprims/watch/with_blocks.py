"""With blocks: whether a thread is inside the body of a `with` whose context manager is a given lock."""

from __future__ import annotations

import ast
import threading
from _thread import get_ident
from collections.abc import Iterable, Sequence
from itertools import islice
from opcode import opmap
from types import CodeType, FrameType, MemberDescriptorType, ModuleType
from typing import Any, Final, Protocol, runtime_checkable

from .._core.foreign import guarded, type_name
from .._core.stacks import is_ours, variable_in
from .origins import note_source, position_of, tree_of

# If a `with` acquired a lock, leaving its block releases the lock, and a thread that waits inside the block does not
# leave it. So it is certain which thread must act, although any thread may release a plain lock. The blocks that a
# frame is in are read from the source and the position of the instruction that runs. The lock of each block is found
# from the names in its header, without running any code of the program: attributes of instances and modules, items of
# lists, tuples and dictionaries, sums of integers. A lock that can't be found in this way is noted as unknown.
#
# The locks of the compiled core know which instruction took them, and their owner is never stale. If that instruction
# is a `with`, and its code is on the stack of the thread that has the lock, the thread is in the block, because leaving
# the block releases the lock.

_UNKNOWN: Final = object()
_SUSPENDABLE: Final = 0x20 | 0x80 | 0x200  # the flags of generators, coroutines and coroutines made of generators
_BEFORE_WITH: Final = opmap.get("BEFORE_WITH", -1)  # until 3.13
_LOAD_SPECIAL: Final = opmap.get("LOAD_SPECIAL", -1)  # later versions have this in front of the call
_WITH_EXCEPT_START: Final = opmap["WITH_EXCEPT_START"]  # handles an exception in the block of each `with`
_PLAIN: Final = (int, str, bool, type(None), float, bytes)


class BlocksEntered:
    """The blocks in which a thread is.

    Attributes:
        places: For each thing, by its id, the file, line and function of the `with`.
        unknown: Whether the thread is in a block whose lock can't be found.
        tasks: For each thing in whose block not the thread itself is, but a suspended task of its event loop: the name
            of that task in reports.
    """

    __slots__ = ("places", "tasks", "unknown")

    def __init__(self) -> None:
        self.places: dict[int, tuple[str, int, str]] = {}
        self.unknown: bool = False
        self.tasks: dict[int, str] = {}


@runtime_checkable
class Enterable(Protocol):
    """A lock that may know where it was entered."""

    def entered_at(self, ident: int) -> tuple[CodeType, int] | None:
        """The instruction and code that acquired it, if that is known, and the thread holds it by a `with`."""


def blocks_of(frame: FrameType | None, things: Sequence[object]) -> BlocksEntered:
    """Find the blocks of these things that a stack of the calling thread is in."""
    found = BlocksEntered()
    me = get_ident()
    locks = [thing for thing in things if isinstance(thing, Enterable)]
    noted = [(lock, *place) for lock in locks if (place := lock.entered_at(me)) is not None]
    while frame is not None:
        for lock, code, at in noted:
            # Not in a generator: another generator with the same code may be the one that took the lock.
            if frame.f_code is code and not code.co_flags & _SUSPENDABLE and _is_with(code, at):
                found.places.setdefault(id(lock), (code.co_filename, _line_at(code, at), code.co_name))
        if not is_ours(frame.f_code.co_filename):
            guarded(None, _look_at, frame, things, found)
        frame = frame.f_back
    return found


def add_blocks_of(frames: Iterable[FrameType], things: Sequence[object], found: BlocksEntered) -> None:
    """Add the blocks of these things in which these suspended frames are."""
    for frame in frames:
        guarded(None, _look_at, frame, things, found)


def _is_with(code: CodeType, at: int) -> bool:
    # Only a `with`, not a call of `__enter__` by hand.
    called = code.co_code[at]
    return called == _BEFORE_WITH or (at >= 2 and code.co_code[at - 2] == _LOAD_SPECIAL)


def _line_at(code: CodeType, at: int) -> int:
    return next(islice(code.co_positions(), at // 2, None))[0] or code.co_firstlineno


def _look_at(frame: FrameType, things: Sequence[object], found: BlocksEntered) -> None:
    headers = _headers(frame)
    if not headers:
        found.unknown = found.unknown or _has_hidden_with(frame.f_code)
        return
    line, column = position_of(frame)
    for header in headers:
        if not header.first <= line <= header.last:
            continue
        for expression in header.expressions:
            end = (expression.end_lineno or 0, expression.end_col_offset or 0)
            entered = end <= (line, column) if column >= 0 else (expression.end_lineno or 0) < line
            if not entered:
                continue
            manager = _value(expression, frame, header.owner)
            if manager is _UNKNOWN:
                found.unknown = True
            for thing in things:
                if manager is thing or _lock_of(manager) is thing:
                    place = (frame.f_code.co_filename, expression.lineno, frame.f_code.co_name)
                    found.places.setdefault(id(thing), place)


def _lock_of(manager: object) -> object:
    """The lock that a `with` on a condition enters."""
    if isinstance(manager, threading.Condition) or type_name(manager) == "asyncio.locks.Condition":
        return guarded(None, getattr, manager, "_lock")
    return None


# -- headers -----------------------------------------------------------------------------------------------------------


class _Header:
    __slots__ = ("expressions", "first", "last", "owner")

    def __init__(self, node: ast.With | ast.AsyncWith, owner: str) -> None:
        self.first = node.lineno
        self.last = node.end_lineno or node.lineno
        self.expressions = [item.context_expr for item in node.items]
        self.owner = owner


# The key has the file as well, because code objects don't compare it: two files may have functions with equal code.
_known: dict[tuple[str, CodeType], list[_Header]] = {}


def _headers(frame: FrameType) -> list[_Header]:
    code = frame.f_code
    key = code.co_filename, code
    found = _known.get(key)
    if found is None:
        note_source(frame)
        tree = tree_of(code.co_filename)
        if tree is None:
            return []  # for now: the next call may find the source
        found = _headers_in(tree, code)
        if len(_known) < 10_000:
            _known[key] = found
    return found


def _has_hidden_with(code: CodeType) -> bool:
    """Whether code without source has a `with`; the interpreter's own code takes no lock of a program."""
    return _WITH_EXCEPT_START in code.co_code[::2] and not code.co_filename.startswith("<frozen ")


def _headers_in(tree: ast.Module, code: CodeType) -> list[_Header]:
    if code.co_name == "<module>":
        return list(_withs(tree, ""))
    for node, owner in _scopes(tree, ""):
        decorators = getattr(node, "decorator_list", ())
        first = min([node.lineno, *(each.lineno for each in decorators)])
        if first == code.co_firstlineno and getattr(node, "name", "<lambda>") == code.co_name:
            return list(_withs(node, owner))
    return []


_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


def _scopes(node: ast.AST, owner: str) -> Any:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _SCOPES):
            yield child, owner
        yield from _scopes(child, child.name if isinstance(child, ast.ClassDef) else owner)


def _withs(scope: ast.AST, owner: str) -> Any:
    for child in ast.iter_child_nodes(scope):
        if isinstance(child, (ast.With, ast.AsyncWith)):
            yield _Header(child, owner)
        if not isinstance(child, _SCOPES):
            yield from _withs(child, owner)


# -- values ------------------------------------------------------------------------------------------------------------


def _value(node: ast.expr, frame: FrameType, owner: str) -> Any:
    """The value of an expression, if it can be found without running code of the program."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        return _variable(node.id, frame)
    if isinstance(node, ast.NamedExpr):
        return _value(node.target, frame, owner)
    if isinstance(node, ast.Attribute):
        base = _value(node.value, frame, owner)
        name = node.attr
        if name.startswith("__") and not name.endswith("__") and owner.strip("_"):
            name = f"_{owner.lstrip('_')}{name}"
        return _UNKNOWN if base is _UNKNOWN else _attribute(base, name)
    if isinstance(node, ast.Subscript):
        base, index = _value(node.value, frame, owner), _value(node.slice, frame, owner)
        if type(base) in (list, tuple, dict) and type(index) in _PLAIN:
            return guarded(_UNKNOWN, base.__getitem__, index)
        return _UNKNOWN
    if isinstance(node, ast.BinOp):
        left, right = _value(node.left, frame, owner), _value(node.right, frame, owner)
        if type(left) is int and type(right) is int and max(abs(left), abs(right)) < 2**31:
            return _sum(node.op, left, right)
        return _UNKNOWN
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "len" and len(node.args) == 1:
        of = _value(node.args[0], frame, owner)
        return len(of) if type(of) in (list, tuple, dict, str) else _UNKNOWN
    return _UNKNOWN


def _sum(operator: ast.operator, left: int, right: int) -> object:
    if isinstance(operator, ast.Add):
        return left + right
    if isinstance(operator, ast.Sub):
        return left - right
    if isinstance(operator, ast.Mult):
        return left * right
    if isinstance(operator, ast.Mod) and right:
        return left % right
    if isinstance(operator, ast.FloorDiv) and right:
        return left // right
    return _UNKNOWN


def _variable(name: str, frame: FrameType) -> Any:
    found = variable_in(frame, name, _UNKNOWN)
    return frame.f_globals.get(name, _UNKNOWN) if found is _UNKNOWN else found


def _attribute(base: object, name: str) -> Any:
    if type(base) is ModuleType:
        return base.__dict__.get(name, _UNKNOWN)
    kind = base if type(base) is type else type(base)
    inherited = next((vars(each)[name] for each in kind.__mro__ if name in vars(each)), _UNKNOWN)
    if type(inherited) is MemberDescriptorType and base is not kind:
        return guarded(_UNKNOWN, inherited.__get__, base)
    if type_name(inherited) == "property" or hasattr(type(inherited), "__set__"):
        return _UNKNOWN
    if base is not kind:
        entries = guarded(None, object.__getattribute__, base, "__dict__")
        if type(entries) is dict and name in entries:
            return entries[name]
    return _UNKNOWN if hasattr(type(inherited), "__get__") else inherited
