"""Type checkers infer what the API promises, and reject what it forbids: ``api.py`` contains both."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import syncprims

API = Path(__file__).with_name("api.py")
PACKAGES = Path(syncprims.__file__).parents[1]
INSTALLED = PACKAGES.name == "site-packages"  # then checkers find it by themselves


@pytest.mark.untraceable  # it runs nothing of the library
def test_mypy_infers_what_is_asserted_and_nothing_is_ignored_in_vain(tmp_path: Path) -> None:
    """Strict mypy finds no error in the file, and no ignored line without one."""
    pytest.importorskip("mypy", reason="mypy is not installed: pip install mypy")
    config = tmp_path / "mypy.ini"
    path = "" if INSTALLED else f"mypy_path = {PACKAGES}\n"
    config.write_text(f"[mypy]\nstrict = True\nfollow_imports = silent\n{path}cache_dir = {tmp_path / 'cache'}\n")
    command = [sys.executable, "-m", "mypy", "--config-file", str(config), str(API)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.slow
def test_pyright_infers_what_is_asserted_and_nothing_is_ignored_in_vain(tmp_path: Path) -> None:
    """Strict pyright agrees."""
    if shutil.which("pyright") is None and not Path(sys.executable).with_name("pyright").exists():
        pytest.skip("pyright is not installed: pip install pyright")
    (tmp_path / "pyrightconfig.json").write_text(
        json.dumps(
            {
                "include": [str(API)],
                "extraPaths": [] if INSTALLED else [str(PACKAGES)],
                "typeCheckingMode": "strict",
                "reportUnnecessaryTypeIgnoreComment": "error",
                # Hooks are protected, and this file is not about private or unused names.
                "reportPrivateUsage": "none",
                "reportUnusedFunction": "none",
            }
        )
    )
    command = [sys.executable, "-m", "pyright", "--project", str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr
