"""Compile the optional core while a wheel is built, if that can be done; else the wheel has Python alone."""

import os
import shutil
import sys
import sysconfig
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CoreHook(BuildHookInterface[Any]):
    """``SYNCPRIMS_SPEEDUPS=1`` makes it an error if the core can't be compiled; with ``0`` nothing is tried."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile before the wheel is filled; an editable installation finds the core beside its source."""
        wanted = os.environ.get("SYNCPRIMS_SPEEDUPS", "")
        if wanted not in ("", "0", "1"):
            raise ValueError(f"SYNCPRIMS_SPEEDUPS can be 1, 0 or not set, but not {wanted!r}")
        core = Path(self.root, f"src/syncprims/_speedups{sysconfig.get_config_var('EXT_SUFFIX')}")
        if version == "editable":
            core.unlink(missing_ok=True)  # that of an earlier installation
        if wanted == "0" or (wanted != "1" and sys.implementation.name != "cpython"):
            return
        self.scratch = TemporaryDirectory()  # it goes away with this object, when the wheel is there
        try:
            built = compile_into(self.scratch.name, str(core.with_name("_speedups.c")))
            if version == "editable":
                shutil.copy(built, core)
        except (Exception, SystemExit) as error:
            if wanted == "1":
                raise RuntimeError(f"SYNCPRIMS_SPEEDUPS=1, and the core can't be compiled: {error}") from error
            self.app.display_warning(f"syncprims is installed without its compiled core, which failed with: {error}")
            return
        build_data.update(pure_python=False, infer_tag=True)
        if version != "editable":
            build_data["force_include"][built] = f"syncprims/{core.name}"


def compile_into(folder: str, source: str) -> str:
    """Compile the core with the compiler of this Python, and return the file."""
    from setuptools import Distribution, Extension  # inside, so that a failing import counts like a failing compiler

    flags = [] if sys.platform == "win32" else ["-O2"]
    # The headers on Windows are the same with the GIL and without.
    macros: Any = [("Py_GIL_DISABLED", "1")] if sysconfig.get_config_var("Py_GIL_DISABLED") else []
    core = Extension("syncprims._speedups", [source], define_macros=macros, extra_compile_args=flags)
    command: Any = Distribution({"ext_modules": [core]}).get_command_obj("build_ext")
    command.build_temp = command.build_lib = folder
    command.ensure_finalized()
    command.run()
    return str(command.get_ext_fullpath(core.name))
