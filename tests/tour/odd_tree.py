"""A folder with odd names for the tour to hash, and its correct manifest."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from syncprims._tour.manifest import format_line

ODD_NAMES = [
    b" leading space",
    b"-",
    b"a.txt",
    b"a-b",
    b"a/b",  # sorts after "a-b", though the folder "a" sorts before it
    b"back\\slash",
    b"carriage\rreturn\r",
    b"ends in a backslash\\",
    b"new\nline",
    b"not \xff utf-8",
    b"\\n",
    "\u00e4 \U0001f600".encode(),
]


def grow_tree(tmp_path: Path) -> Path:
    """Make a folder with every odd name and with special files, and beside it the targets of links."""
    root = tmp_path / "tree"
    for number, name in enumerate(ODD_NAMES):
        path = os.path.join(os.fsencode(root), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(b"x" * number)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("not to be hashed")
    (root / "link to file").symlink_to(outside / "secret")
    (root / "link to folder").symlink_to(outside)
    (root / "dangling").symlink_to(outside / "nothing")
    os.mkfifo(root / "fifo")
    return root


def digest(path: bytes) -> str:
    return hashlib.sha256(Path(os.fsdecode(path)).read_bytes()).hexdigest()


def expected_manifest(root: Path) -> bytes:
    paths = [os.path.join(os.fsencode(os.path.realpath(root)), name) for name in ODD_NAMES]
    return b"".join(format_line(path, digest(path)) for path in sorted(paths))
