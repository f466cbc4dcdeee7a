"""Launching: running a program like the interpreter itself, after the watch is on."""

from __future__ import annotations

import builtins
import importlib.machinery
import importlib.util
import io
import linecache
import os
import sys
from collections.abc import Sequence
from types import CodeType, ModuleType, TracebackType
from typing import Any, Final

# The module `__main__` has to be the program's, so that it can pickle and spawn processes. The interpreter itself
# handles an exception, so exit codes and the end by Ctrl-C are as usual. A hook in front of the program's only removes
# the frames of this package from the traceback.

STDIN: Final = "-"
_HERE: Final = sys._getframe().f_code.co_filename


class NoProgramError(Exception):
    """The program does not exist; the message is that of the interpreter."""


def run_script(path: str, arguments: Sequence[str]) -> None:
    """Run a script, a folder or a zip file with a `__main__`, or with ``-`` the program from standard input."""
    sys.argv[:] = [path, *arguments]
    if path == STDIN:
        _run_stdin()
        return
    if _is_container(path):
        path = os.path.abspath(path)
        _put_first(path)
        _run_container(path)
        return
    _put_first(os.path.dirname(os.path.realpath(path)))
    filename = os.path.abspath(path)
    try:
        with io.open_code(filename) as file:
            source = file.read()
    except OSError as error:
        raise NoProgramError(f"can't open file {filename!r}: [Errno {error.errno}] {error.strerror}") from error
    loader: Any
    if source[:4] == importlib.util.MAGIC_NUMBER:
        loader = importlib.machinery.SourcelessFileLoader("__main__", filename)
        code = loader.get_code("__main__")
    else:
        loader = importlib.machinery.SourceFileLoader("__main__", filename)
        code = None
    main = _new_main(loader=loader, file=filename)
    _run(main, source if code is None else code, filename)


def run_module(name: str, arguments: Sequence[str]) -> None:
    """Run a module, like `python -m`."""
    sys.argv[:] = ["-m", *arguments]
    _put_first(os.getcwd())
    spec = _spec_of(name)
    sys.argv[0] = spec.origin or name
    loader: Any = spec.loader
    code = loader.get_code(spec.name)
    if code is None:
        raise NoProgramError(f"No code object available for {spec.name}")
    main = _new_main(loader=loader, file=spec.origin, spec=spec, package=spec.parent, cached=spec.cached)
    _run(main, code, spec.origin or name)


def _spec_of(name: str) -> importlib.machinery.ModuleSpec:
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise
        raise NoProgramError(
            f"Error while finding module specification for {name!r} (ModuleNotFoundError: {error})"
        ) from None
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise NoProgramError(
            f"Error while finding module specification for {name!r} ({type(error).__name__}: {error})"
        ) from None
    if spec is None:
        raise NoProgramError(f"No module named {name}")
    if spec.submodule_search_locations is not None:
        if name == "__main__" or name.endswith(".__main__"):
            raise NoProgramError("Cannot use package as __main__ module")
        try:
            return _spec_of(f"{name}.__main__")
        except NoProgramError as error:
            raise NoProgramError(f"{error}; {name!r} is a package and cannot be directly executed") from None
    if spec.loader is None:
        raise NoProgramError(f"{name!r} is a namespace package and cannot be executed")
    return spec


def _is_container(path: str) -> bool:
    if os.path.isdir(path):
        return True
    try:
        with open(path, "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 66_000))
            if b"PK\x05\x06" not in file.read():
                return False
    except OSError:
        return False
    import zipimport

    try:
        zipimport.zipimporter(path)
    except ImportError:
        return False
    return True


def _run_container(path: str) -> None:
    importer = _importer_of(path)
    spec = importer.find_spec("__main__") if importer is not None else None
    if spec is None or spec.loader is None:
        raise NoProgramError(f"can't find '__main__' module in {path!r}")
    loader: Any = spec.loader
    code = loader.get_code("__main__")
    main = _new_main(loader=loader, file=spec.origin, spec=spec, package="", cached=spec.cached)
    _run(main, code, spec.origin or path)


def _importer_of(path: str) -> Any:
    import pkgutil

    return pkgutil.get_importer(path)


def _run_stdin() -> None:
    if not sys.flags.safe_path:
        sys.path.insert(0, "")
    source = sys.stdin.buffer.read()
    main = _new_main(loader=importlib.machinery.BuiltinImporter, file="<stdin>")
    text = source.decode(errors="replace")
    linecache.cache["<stdin>"] = (len(text), None, text.splitlines(keepends=True), "<stdin>")
    _run(main, source, "<stdin>")


def _put_first(folder: str) -> None:
    if not sys.flags.safe_path:
        sys.path.insert(0, folder)


def _new_main(
    *, loader: object, file: str | None, spec: object = None, package: str | None = None, cached: str | None = None
) -> ModuleType:
    main = ModuleType("__main__")
    entries: dict[str, object] = {
        "__builtins__": builtins,
        "__loader__": loader,
        "__package__": package,
        "__spec__": spec,
    }
    if file is not None:
        entries["__file__"] = file
    if sys.version_info < (3, 15):
        entries["__cached__"] = cached
    if sys.version_info < (3, 14):
        entries["__annotations__"] = {}
    vars(main).update(entries)
    # Kept alive, as in the interpreter: threads and handlers may run longer than the program's last line.
    _mains.extend((sys.modules["__main__"], main))
    sys.modules["__main__"] = main
    return main


_mains: list[ModuleType] = []


def _run(main: ModuleType, program: bytes | CodeType, filename: str) -> None:
    try:
        code = compile(program, filename, "exec", dont_inherit=True) if isinstance(program, bytes) else program
        exec(code, vars(main))
    except SystemExit:
        raise
    except BaseException as error:
        _hide_our_frames(error)
        raise


def _hide_our_frames(error: BaseException) -> None:
    theirs = _without_ours(error.__traceback__)
    hook = sys.excepthook

    def show(kind: type[BaseException], value: BaseException, traceback: TracebackType | None) -> None:
        if value is error:
            traceback = theirs
            value = value.with_traceback(theirs)
        hook(kind, value, traceback)

    sys.excepthook = show


def _without_ours(traceback: TracebackType | None) -> TracebackType | None:
    while traceback is not None and traceback.tb_frame.f_code.co_filename == _HERE:
        traceback = traceback.tb_next
    return traceback
