"""Private names stay in the file that defines them: none of the library's is read or written from another one."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import syncprims

PACKAGE: Final = Path(syncprims.__file__).parent

# Names that no Python file defines, for which CPython offers no public alternative.
FOREIGN: Final = {
    "_active": "threading",
    "_args": "the handles of asyncio's loops",
    "_args_from_interpreter_flags": "subprocess",
    "_at_fork_reinit": "threading.RLock",
    "_callback": "the handles of asyncio's loops",
    "_callbacks": "asyncio.Task",
    "_chain_future": "asyncio.futures",
    "_children": "what asyncio.gather returns",
    "_count": "_thread",
    "_current_frames": "sys",
    "_delete": "threading.Thread",
    "_DummyThread": "threading",
    "_executor_manager_thread_wakeup": "ProcessPoolExecutor",
    "_exit": "os",
    "_fut_waiter": "asyncio.Task",
    "_get_running_loop": "asyncio",
    "_getframe": "sys",
    "_handlerList": "logging",
    "_is_owned": "threading.RLock",
    "_kwargs": "the executor of Dask",
    "_lock": "logging",
    "_max_workers": "the executors of concurrent.futures",
    "_processes": "ProcessPoolExecutor",
    "_replace": "named tuples, which have only this name for it",
    "_run_exitfuncs": "atexit",
    "_scheduled": "asyncio's loops",
    "_shutdown": "threading",
    "_shutdown_lock": "ProcessPoolExecutor",
    "_shutdown_thread": "ProcessPoolExecutor",
    "_state": "the futures of Dask",
    "_tasks": "asyncio.TaskGroup",
    "_threads": "ThreadPoolExecutor",
    "_waiters": "threading.Condition and asyncio.Lock",
    "_worker": "concurrent.futures.thread",
    "_WorkItem": "concurrent.futures.thread",
}


def reaches(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield the private attributes that a file uses on others and does not define, and the whole expressions.

    Hooks of a class's own bases, if they are called on the class by its name, are its own.
    """
    mine, classes = set(_defined(tree)), {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or not node.attr.startswith("_") or node.attr.startswith("__"):
            continue
        of = node.value.id if isinstance(node.value, ast.Name) else ""
        is_super = isinstance(node.value, ast.Call) and getattr(node.value.func, "id", "") == "super"
        if node.attr not in mine and of not in {"self", "cls", *classes} and not is_super:
            yield node.attr, ast.unparse(node)


def _defined(tree: ast.Module) -> Iterable[str]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
                yield node.attr
        elif isinstance(node, ast.Assign) and any(getattr(each, "id", "") == "__slots__" for each in node.targets):
            yield from (
                each.value
                for each in ast.walk(node.value)
                if isinstance(each, ast.Constant) and isinstance(each.value, str)
            )


def test_no_file_reaches_into_another_one() -> None:
    """A private name is used only in the file that defines it, or is not the library's."""
    found = {
        str(path.relative_to(PACKAGE)): list(reaches(ast.parse(path.read_text(encoding="utf-8"))))
        for path in sorted(PACKAGE.rglob("*.py"))
    }
    assert [(file, text) for file, asked in found.items() for name, text in asked if name not in FOREIGN] == []
    assert {name for asked in found.values() for name, _ in asked} == FOREIGN.keys()


def test_a_reach_is_found_whether_it_reads_or_writes() -> None:
    """The control: a private name of another object counts, and one that the file defines does not."""
    text = """
class Lock:
    def __init__(self, other):
        self._mine = other._theirs
        other._written = other._mine
        super()._inherited()
        self._inherited()
"""
    assert dict(reaches(ast.parse(text))) == {"_theirs": "other._theirs", "_written": "other._written"}
