"""`CallbackPool` over mpi4py's executor, in real jobs of the installed MPI."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from programs import environment

HERE: Final = Path(__file__).parent
EXAMPLE: Final = HERE.parents[1] / "examples" / "mpi_hashing.py"
# Open MPI refuses to run as root, and refuses more processes than cores.
OF_OPEN_MPI: Final = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
}


def run_by_mpi(program: Path, folder: Path) -> str:
    """Run a program in a job of three processes, and return what it prints; skip the test if there is no MPI."""
    pytest.importorskip("mpi4py", reason="needs mpi4py: pip install mpi4py")
    beside = os.path.join(os.path.dirname(sys.executable), "mpiexec")
    mpiexec = beside if os.path.exists(beside) else shutil.which("mpiexec")
    if mpiexec is None:
        pytest.skip("needs an MPI, with mpiexec on the path: pip install mpich")
    done = subprocess.run(
        [mpiexec, "-n", "3", sys.executable, "-m", "mpi4py.futures", str(program)],
        env=environment() | OF_OPEN_MPI,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_pool_keeps_what_it_promises_over_mpi(tmp_path: Path) -> None:
    """Callbacks, errors, time limits, cancelling and abort are as with the pool's own processes."""
    assert run_by_mpi(HERE / "mpi_program.py", tmp_path).split() == [
        *("callbacks", "errors", "limits", "abort", "callbacks")
    ]


def test_the_example_hashes_its_files(tmp_path: Path) -> None:
    """Every file is in the manifest, hashed by the processes of the job."""
    printed = run_by_mpi(EXAMPLE, tmp_path)
    lines = (tmp_path / "manifest.sha256").read_text().splitlines()
    assert len(lines) > 1
    assert f"{len(lines)} files under" in printed
