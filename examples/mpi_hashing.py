"""Hash every file under a folder with the processes of an MPI job; callbacks count them and write the manifest.

It is ``local_hashing.py`` with the executor of mpi4py in place of the pool's own processes. MPI starts the processes:
the first one runs this program, the others are its workers.

Run it: ``mpiexec -n 3 python -m mpi4py.futures mpi_hashing.py [FOLDER]``. It needs an MPI and mpi4py: ``pip install
mpi4py mpich``. Without a folder, it uses a small one of Python's. It writes ``manifest.sha256`` into the current
directory.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path

from syncprims import AtomicCounter, CallbackPool


def hash_file(path: str) -> str:
    """Make the line of a file in the manifest; runs in a worker."""
    with open(path, "rb") as file:
        return f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {path}\n"


def find_files(root: Path) -> list[str]:
    """List the files under the folder, without those that Python may be compiling now."""
    found = (os.path.join(folder, name) for folder, _, names in os.walk(root) for name in names)
    return sorted(path for path in found if "__pycache__" not in path)


def main(root: Path, manifest: Path) -> None:
    """Hash the tree, and prove the manifest right."""
    from mpi4py.futures import MPIPoolExecutor

    hashed = AtomicCounter()
    files = find_files(root)
    with open(manifest, "w") as out, MPIPoolExecutor() as executor, CallbackPool(executor) as pool:

        def record(line: str) -> None:  # in this process, one call after the other
            out.write(line)
            hashed.increment()

        for path in files:
            pool.apply_async(hash_file, (path,), callback=record)

    lines = manifest.read_text().splitlines(keepends=True)
    assert sorted(lines) == sorted(map(hash_file, files)), "the manifest is wrong"
    assert hashed.value == len(files), "the counter is wrong"
    print(f"{len(files)} files under {root} are hashed, counted and in {manifest}")


if __name__ == "__main__" and find_spec("mpi4py") is None:
    print("skipped: needs MPI and mpi4py: pip install mpi4py mpich")
elif __name__ == "__main__" and "mpi4py.futures" not in sys.modules:
    print("skipped: needs the processes of an MPI job: mpiexec -n 3 python -m mpi4py.futures mpi_hashing.py")
elif __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(json.__file__).parent, Path("manifest.sha256"))
