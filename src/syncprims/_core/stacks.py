"""The stacks of threads: how to read them while the threads run, and how to describe them."""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import chain, starmap, tee
from operator import attrgetter
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from .foreign import printable
from .gil import HAS_GIL

if TYPE_CHECKING:
    from traceback import FrameSummary

# If a thread walks the frames of another one, the interpreter may crash.
#
# 1. Without the GIL the other thread runs on at the same time. Not even a frame that it noted before it blocked is
#    safe, because it may wake up. Only one frame can be read, the innermost. So a thread that waits notes the lines of
#    its stack before it blocks, which costs some microseconds.
# 2. With the GIL the walk is safe from 3.12 on. Before, the garbage collector may begin in the middle of C code that
#    makes a frame object. Then a finalizer in Python lets other threads run, and the frame may be gone. So the
#    collector pauses during a walk.
#
# A function must not keep a frame of another thread in a variable when it returns or raises. That thread may look at
# this one at the same time. Then the frames of both functions refer to each other, and keep all variables of both
# threads' stacks alive until a collection. `with_frames` takes care of that for the frames of all threads.

T = TypeVar("T")
Place = tuple[CodeType, "int | None"]

FRAMES_ARE_SHARED: Final = HAS_GIL


def file_of(module: ModuleType) -> str:
    """The file of a module as its code names it.

    This differs from `__file__` in a frozen program, and if the code was compiled elsewhere and came without its
    source: there `threading` may be ``threading.py``, without a folder.
    """
    entries = vars(module)
    kinds = [vars(each) for each in list(entries.values()) if isinstance(each, type)]
    for each in (value for names in (entries, *kinds) for value in list(names.values())):
        if type(each) is FunctionType and each.__globals__ is entries:
            return each.__code__.co_filename
    return module.__file__ or ""


FILE_OF_THREADING: Final = file_of(threading)
_PACKAGE = os.path.join(os.path.dirname(os.path.dirname(sys._getframe().f_code.co_filename)), "")
# The tour is in the package too, but uses it like any program.
_TOUR = os.path.join(_PACKAGE, "_tour", "")
STANDARD_LIBRARY: Final = os.path.dirname(FILE_OF_THREADING)
# The files whose frames may lie between a program and its wait.
_PASSED_OVER = (
    _PACKAGE,
    FILE_OF_THREADING,
    os.path.join(STANDARD_LIBRARY, "contextlib.py"),
    os.path.join(STANDARD_LIBRARY, "concurrent", "futures", ""),
)

# Every thread of `threading` begins with these functions.
_START = ("_bootstrap", "_bootstrap_inner", "run")

# The threads that look now, each with whether the collector must be turned on again afterwards.
_lookers: dict[object, bool] = {}


def without_collection(look: Callable[[], T]) -> T:
    """Return ``look()``; no collection begins during the call, on versions on which that could crash it."""
    if sys.version_info >= (3, 12):
        return look()
    me = object()
    try:
        _lookers[me] = collects = gc.isenabled() or any(list(_lookers.values()))
        gc.disable()
        return look()
    finally:
        # gc.enable() is the first call, so no interrupt comes before it.
        if me in _lookers:
            del _lookers[me]
            if collects and not _lookers:
                gc.enable()


def frames_of_threads() -> dict[int, FrameType]:
    """The innermost frame of each thread, by its ident."""
    return without_collection(sys._current_frames)


def with_frames(look: Callable[[dict[int, FrameType]], T]) -> T:
    """Return ``look(frames)``, with the innermost frame of each thread by its ident, and keep none of them.

    Listing the frames stops all threads. So a caller that looks at several threads lists them once.
    """
    frames = frames_of_threads()
    try:
        return look(frames)
    finally:
        frames.clear()  # the traceback of an error keeps the variables of this function and of `look`


def codes_of_threads() -> dict[int, CodeType]:
    """The code that each thread runs now, by its ident.

    A frame that is held when its function returns keeps the variables alive, and what frees it later is another thread.
    So this is one call of C, after which no frame is held; with the GIL no thread runs during it.
    """
    return without_collection(lambda: dict(_codes(*tee(starmap(sys._current_frames, ((),))))))


def _codes(frames: Iterator[dict[int, FrameType]], same: Iterator[dict[int, FrameType]]) -> Iterator[Any]:
    return zip(chain.from_iterable(frames), map(_code_of, chain.from_iterable(map(dict.values, same))), strict=True)


_code_of: Final[Callable[[Any], CodeType]] = attrgetter("f_code")


def variable_in(frame: FrameType, name: str, default: object = None) -> Any:
    """A variable of a frame whose thread does not run it now, or is the calling one."""
    variables = frame.f_locals
    found = variables.get(name, default)
    # Until 3.12 a function's frame keeps this dictionary, a copy of the variables, which would live as long as the
    # frame. It is not emptied if the function has called `locals()`, or if a tracer may write it back to the variables.
    if (
        type(variables) is dict
        and frame.f_code.co_flags & _IS_FUNCTION
        and frame.f_trace is None
        and sys.getrefcount(variables) <= _OF_FRAME
    ):
        variables.clear()
    return found


_IS_FUNCTION: Final = 0x1  # CO_OPTIMIZED: the variables are not in a dictionary
_OF_FRAME: Final = 3  # references to it: of the frame, of the variable above, and of the argument


def places(frame: FrameType | None) -> list[Place]:
    """The places of a stack, innermost first: of the calling thread, or of any while frames are shared."""
    try:
        return without_collection(lambda: _walk(frame))
    finally:
        frame = None


def own_places() -> list[Place]:
    """The places of the stack of the caller's caller, innermost first."""
    return _walk(sys._getframe(2))


def stands_on(frame: FrameType | None, frame_id: int) -> bool:
    """Whether only functions of this library are on top of the frame with that id; for versions that share frames."""

    def walk(frame: FrameType | None) -> bool:
        while frame is not None:
            if id(frame) == frame_id:
                del frame
                return True
            frame = frame.f_back if is_ours(frame.f_code.co_filename) else None
        return False

    try:
        return without_collection(lambda: walk(frame))
    finally:
        frame = None


def _walk(frame: FrameType | None) -> list[Place]:
    found: list[Place] = []
    while frame is not None:
        found.append((frame.f_code, frame.f_lineno))
        frame = frame.f_back
    return found


def summaries(stack: list[Place]) -> tuple[FrameSummary, ...]:
    """Turn places into the objects of `traceback`, outermost first."""
    # Imported late: from 3.14 on it imports dataclasses and inspect, and only a wait that has failed needs it.
    from traceback import FrameSummary

    # StackSummary.extract would read source files now, and its frames may not be picklable.
    return tuple(FrameSummary(code.co_filename, line, code.co_name, lookup_line=False) for code, line in stack)[::-1]


def is_ours(filename: str) -> bool:
    """Whether frames of this file are those of this library."""
    return filename.startswith(_PACKAGE) and not filename.startswith(_TOUR)


def is_passed_over(filename: str) -> bool:
    """Whether frames of this file are this library's, or lie between the library and the program."""
    return filename.startswith(_PASSED_OVER) and not filename.startswith(_TOUR)


def without_ours(stack: tuple[FrameSummary, ...]) -> tuple[FrameSummary, ...]:
    """The stack down to where it leaves the program; the whole stack if no frame is the program's."""
    inner = len(stack)
    while inner and is_passed_over(stack[inner - 1].filename):
        inner -= 1
    return stack[:inner] or stack


def programs_own(stack: tuple[FrameSummary, ...]) -> tuple[FrameSummary, ...]:
    """The frames of the program alone, without those of this library and those between the two."""
    return tuple(frame for frame in stack if not is_passed_over(frame.filename))


def without_library(stack: tuple[FrameSummary, ...]) -> tuple[FrameSummary, ...]:
    """The frames that are not of this library, without those at the beginning of every thread."""
    rest = [frame for frame in stack if not frame.filename.startswith(_PACKAGE) or frame.filename.startswith(_TOUR)]
    while rest and rest[0].filename == FILE_OF_THREADING and rest[0].name in _START:
        del rest[0]
    return tuple(rest)


def without_start(stack: tuple[FrameSummary, ...]) -> tuple[FrameSummary, ...]:
    """The stack from where it enters the program, without the frames at the beginning of every thread."""
    while stack and stack[0].filename == FILE_OF_THREADING:
        stack = stack[1:]
    return stack


def whereabouts(stack: tuple[FrameSummary, ...]) -> str:
    """Say in a few words where a stack is: at the program's innermost frame, if there is one."""
    if not stack:
        return "at an unknown place"
    theirs = (frame for frame in reversed(stack) if not is_passed_over(frame.filename))
    frame = next(theirs, stack[-1])
    return f"at {printable(f'{os.path.basename(frame.filename)}:{frame.lineno} in {frame.name}')}"


def say_frame(frame: FrameSummary) -> str:
    """Say where a frame of a stack is, on one line."""
    return printable(f"{frame.filename}:{frame.lineno} in {frame.name}")
