"""Compile the optional core while a wheel is built, if that can be done; else the wheel has Python alone."""

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CoreHook(BuildHookInterface[Any]):
    """``SYNCPRIMS_SPEEDUPS=1`` makes it an error if the core can't be compiled; with ``0`` nothing is tried."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile before the wheel is filled; an editable installation finds the core beside its source."""
        wanted = os.environ.get("SYNCPRIMS_SPEEDUPS", "")
        if wanted == "0" or (wanted != "1" and sys.implementation.name != "cpython"):
            return
        try:
            built = compile_into(Path(self.root), "src" if version == "editable" else "build/core")
        except (Exception, SystemExit) as error:
            if wanted == "1":
                raise RuntimeError(f"SYNCPRIMS_SPEEDUPS=1, and the core can't be compiled: {error}") from error
            self.app.display_warning(f"syncprims is installed without its compiled core, which failed with: {error}")
            return
        build_data.update(pure_python=False, infer_tag=True)
        if version != "editable":
            build_data["force_include"][str(built)] = f"syncprims/{built.name}"


def compile_into(root: Path, folder: str) -> Path:
    """Compile the core with the compiler of this Python, and return the file."""
    from setuptools import Distribution, Extension  # inside, so that a failing import counts like a failing compiler

    flags = [] if sys.platform == "win32" else ["-O2"]
    core = Extension("syncprims._speedups", [str(root / "src/syncprims/_speedups.c")], extra_compile_args=flags)
    command: Any = Distribution({"ext_modules": [core]}).get_command_obj("build_ext")
    with TemporaryDirectory() as command.build_temp:
        command.build_lib, command.force = str(root / folder), True
        command.ensure_finalized()
        command.run()
    return Path(command.get_ext_fullpath(core.name))
