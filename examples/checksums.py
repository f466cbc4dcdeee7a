"""Checksums of all files in a folder, with progress, in the form that ``sha256sum --check`` reads.

A pool hashes the files. A callback for each file adds its line to the manifest, an error callback notes the files that
could not be read, and the pool reports progress. Ctrl-C cancels the tasks that have not begun, and ends the program at
once.

Run it: ``python checksums.py [FOLDER]``; without a folder it takes its own. The exit code is 1 if a file could not be
read.
"""

from __future__ import annotations

import hashlib
import sys
from functools import partial
from pathlib import Path

from syncprims import AtomicCounter, CallbackPool

CHUNK = 1 << 20
STEPS = 4  # how often progress is printed


class Manifest:
    """The callbacks fill this. They run one at a time, on the pool's own thread, so it needs no lock."""

    def __init__(self) -> None:
        self.sums: dict[Path, str] = {}
        self.unreadable: dict[Path, BaseException] = {}

    def add(self, path: Path, digest: str) -> None:
        """Note a file's checksum."""
        self.sums[path] = digest

    def miss(self, path: Path, error: BaseException) -> None:
        """Note why there is no checksum."""
        self.unreadable[path] = error

    def __str__(self) -> str:
        return "\n".join(f"{digest}  {path.as_posix()}" for path, digest in sorted(self.sums.items()))


def hash_file(path: Path, read: AtomicCounter) -> str:
    """Return the checksum of a file, in a thread of the pool, which releases the GIL while it hashes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            read.add(len(chunk))
    return digest.hexdigest()


def tell(settled: int, total: int) -> None:
    """Print the progress, a few times."""
    if settled % max(1, total // STEPS) == 0 or settled == total:
        print(f"{settled} of {total} files", file=sys.stderr)


def hash_folder(folder: Path) -> tuple[Manifest, int]:
    """Hash every file in the folder, but no compiled ones; return the manifest and the number of bytes read."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.parent.name != "__pycache__")
    manifest, read = Manifest(), AtomicCounter(name="bytes read")
    with CallbackPool("thread", max_pending=100, on_progress=tell) as pool:
        for path in paths:
            pool.apply_async(
                hash_file,
                (path, read),
                callback=partial(manifest.add, path),
                error_callback=partial(manifest.miss, path),
            )
    return manifest, read.value


def main() -> int:
    """Print the manifest of a folder."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    manifest, size = hash_folder(folder)
    print(manifest)
    print(f"{len(manifest.sums)} files, {size} bytes", file=sys.stderr)
    for path, error in manifest.unreadable.items():
        print(f"{path}: {error}", file=sys.stderr)
    return 1 if manifest.unreadable else 0


if __name__ == "__main__":
    sys.exit(main())
