"""Finding files, and hashing them in worker processes, for the real job."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Container, Iterator, Sequence
from typing import NamedTuple

BATCH_FILES = 128
BATCH_BYTES = 8 << 20

# Paths are bytes everywhere, because a name need not be text.


class FileHash(NamedTuple):
    """The outcome of one file: its digest and size in bytes, or the problem."""

    path: bytes
    digest: str
    size: int
    problem: str


def hash_files(paths: Sequence[bytes]) -> list[FileHash]:
    """Hash each file with SHA-256; one that can't be read becomes a `FileHash` with a problem."""
    return [_hash_file(path) for path in paths]


def _hash_file(path: bytes) -> FileHash:
    try:
        with open(path, "rb", buffering=0, opener=_open_warily) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return FileHash(path, "", 0, "it is no regular file any more")
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return FileHash(path, digest, file.tell(), "")
    except OSError as error:
        return FileHash(path, "", 0, _reason(error))


def _open_warily(path: str, flags: int) -> int:
    # A file may have become a FIFO or a symbolic link since it was found: `open` must neither block nor follow.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0))


def find_batches(root: bytes, skip: Container[bytes], problems: list[FileHash]) -> Iterator[list[bytes]]:
    """Find every regular file under a folder, in path order, in batches of a suitable size.

    Symbolic links are not followed. A folder that can't be listed is added to ``problems``.
    """
    batch: list[bytes] = []
    size = 0
    for path, file_size in _find_files(root, problems):
        if path in skip:
            continue
        batch.append(path)
        size += file_size
        if len(batch) >= BATCH_FILES or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _find_files(root: bytes, problems: list[FileHash]) -> Iterator[tuple[bytes, int]]:
    pending = [_Found(root, True, 0)]  # not by recursion: a tree may be deeper than Python's stack
    while pending:
        found = pending.pop()
        if not found.is_folder:
            yield found.path, found.size
            continue
        try:
            pending.extend(sorted(_list_folder(found.path), key=_place, reverse=True))
        except OSError as error:
            problems.append(FileHash(found.path, "", 0, _reason(error)))


class _Found(NamedTuple):
    path: bytes
    is_folder: bool
    size: int


def _place(found: _Found) -> bytes:
    # With the separator, a folder sorts among its siblings like the paths of its files.
    return found.path + os.fsencode(os.sep) if found.is_folder else found.path


def _list_folder(folder: bytes) -> Iterator[_Found]:
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                if entry.is_dir(follow_symlinks=False):
                    yield _Found(entry.path, True, 0)
                elif entry.is_file(follow_symlinks=False):
                    yield _Found(entry.path, False, entry.stat(follow_symlinks=False).st_size)
            except FileNotFoundError:
                continue  # it was removed in the meantime


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
