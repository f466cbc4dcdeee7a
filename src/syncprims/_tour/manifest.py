"""The manifest for `sha256sum --check`, written in path order and put in place as a whole or not at all."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from syncprims import TimedLock

from .hashing import FileHash

VERIFY_LIMIT = 600.0  # seconds

# sha256sum's own escapes; a line whose name has one begins with a backslash.
_ESCAPES = {b"\\": b"\\\\", b"\n": b"\\n", b"\r": b"\\r"}


def default_output() -> Path:
    """Choose a unique name in the folder for temporary files."""
    return Path(tempfile.gettempdir(), f"syncprims-{secrets.token_hex(4)}.sha256")


class Manifest:
    """A manifest in progress. Batches may come in any order and from any thread; they are written in their order.

    Leaving its ``with`` block without `commit` removes the draft, and leaves an older file unchanged.

    Raises:
        OSError: The output can't be written there.
    """

    def __init__(self, output: Path) -> None:
        self.output = Path(os.path.realpath(output))
        if self.output.exists() and not self.output.is_file():
            raise OSError("it is there already, and no regular file")
        self.files = 0
        self._draft = self.output.with_name(f".syncprims-{secrets.token_hex(4)}.tmp")
        self._file = open(self._draft, "xb")  # noqa: SIM115  __exit__ closes it
        self._lock = TimedLock(timeout=30, name="manifest")
        # Guarded by _lock:
        self._waiting: dict[int, bytes] = {}
        self._next = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        with suppress(FileNotFoundError):
            self._draft.unlink()

    @property
    def own_paths(self) -> frozenset[bytes]:
        """The paths of the manifest itself, whose hashes could never be right."""
        return frozenset(map(os.fsencode, (self.output, self._draft)))

    def add(self, batch: int, hashes: Sequence[FileHash]) -> None:
        """Write a batch, once all batches before it are written.

        Raises:
            LockTimeoutError: Another thread has been writing for 30 s.
            OSError: The batch could not be written.
        """
        good = [one for one in hashes if not one.problem]
        lines = b"".join(format_line(one.path, one.digest) for one in good)
        with self._lock:
            self.files += len(good)
            self._waiting[batch] = lines
            self._write_ready_locked()

    def _write_ready_locked(self) -> None:
        while self._next in self._waiting:
            self._file.write(self._waiting.pop(self._next))
            self._next += 1

    def commit(self) -> None:
        """Put the complete manifest in its place.

        Raises:
            OSError: It could not be written.
        """
        self._file.close()
        with suppress(FileNotFoundError):
            shutil.copymode(self.output, self._draft)
        self._draft.replace(self.output)


def format_line(path: bytes, digest: str) -> bytes:
    r"""Write one line as `sha256sum` does.

    Example:
        >>> from syncprims._tour.manifest import format_line
        >>> format_line(b"two\nlines", "2c26b4")
        b'\\2c26b4  two\\nlines\n'
    """
    name = path
    for raw, escaped in _ESCAPES.items():  # the backslash comes first
        name = name.replace(raw, escaped)
    mark = b"\\" if name != path else b""
    return mark + digest.encode() + b"  " + name + b"\n"


def parse_line(line: bytes) -> tuple[bytes, str]:
    r"""Read a line of `format_line`: the path and the digest.

    Example:
        >>> from syncprims._tour.manifest import format_line, parse_line
        >>> parse_line(format_line(b"back\\slash", "2c26b4"))
        (b'back\\slash', '2c26b4')
    """
    digest, name = line.removesuffix(b"\n").split(b"  ", 1)
    if digest.startswith(b"\\"):
        unescape = {escaped[1:]: raw for raw, escaped in _ESCAPES.items()}
        first, *rest = name.replace(b"\\\\", b"\\\0").split(b"\\")  # no name contains NUL
        name = first + b"".join(unescape[part[:1].replace(b"\0", b"\\")] + part[1:] for part in rest)
    return name, digest.removeprefix(b"\\").decode()


def verifier() -> str | None:
    """Find the `sha256sum` of coreutils: other programs of that name lack the escapes or the options."""
    command = shutil.which("sha256sum")
    if command is not None:
        version = subprocess.run([command, "--version"], capture_output=True, check=False, timeout=VERIFY_LIMIT)
        if b"coreutils" in version.stdout:
            return command
    return None


def verify(manifest: Path, command: str | None) -> list[str]:
    """Check every line of a manifest, by `sha256sum` or else in Python, and return the errors."""
    if command is None:
        return verify_in_python(manifest)
    checked = subprocess.run(
        [command, "--check", "--quiet", "--", manifest],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=VERIFY_LIMIT,
    )
    found = [ascii(os.fsdecode(line)) for line in (checked.stdout + checked.stderr).splitlines()]
    return found or ([f"sha256sum ended with {checked.returncode}"] if checked.returncode else [])


def verify_in_python(manifest: Path) -> list[str]:
    """Check every line of a manifest and return the errors."""
    wrong = []
    with open(manifest, "rb") as lines:
        for line in lines:
            path, digest = parse_line(line)
            try:
                with open(path, "rb") as file:
                    same = hashlib.file_digest(file, "sha256").hexdigest() == digest
            except OSError as error:
                wrong.append(f"{os.fsdecode(path)!a}: {error.strerror}")
            else:
                if not same:
                    wrong.append(f"{os.fsdecode(path)!a}: it is not what was hashed")
    return wrong
