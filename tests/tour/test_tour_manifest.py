"""The tour's real job: files are found and hashed with care, and `sha256sum` accepts the manifest."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest

from syncprims._tour.hashing import FileHash, find_batches, hash_files
from syncprims._tour.manifest import Manifest, format_line, parse_line, verifier, verify
from tour.odd_tree import ODD_NAMES, digest, expected_manifest, grow_tree

LIMIT = 50.0  # seconds, for any program


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return grow_tree(tmp_path)


def test_manifest_stands_up_to_the_real_sha256sum(tree: Path, tmp_path: Path) -> None:
    """The system's own tool accepts the manifest without output, and finds a file that was changed."""
    command = verifier()
    if command is None:
        pytest.skip("there is no sha256sum of coreutils here")
    output = tmp_path / "MANIFEST"
    output.write_bytes(expected_manifest(tree))
    check = [command, "--check", "--quiet", str(output)]
    done = subprocess.run(check, capture_output=True, timeout=LIMIT, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    (tree / "back\\slash").write_text("changed")
    assert subprocess.run(check, capture_output=True, timeout=LIMIT, check=False).returncode == 1


@pytest.mark.parametrize("here", [True, False], ids=["in Python", "by sha256sum"])
def test_verification_finds_what_changed_and_what_went(tree: Path, tmp_path: Path, here: bool) -> None:
    """Both ways to verify accept a right manifest, and name each changed or missing file."""
    command = None if here else verifier()
    if not here and command is None:
        pytest.skip("there is no sha256sum of coreutils here")
    output = tmp_path / "MANIFEST"
    output.write_bytes(expected_manifest(tree))
    assert verify(output, command) == []
    (tree / "back\\slash").write_text("changed")
    (tree / "new\nline").unlink()
    wrong = "\n".join(verify(output, command))
    assert "slash" in wrong
    assert "line" in wrong
    assert "utf-8" not in wrong


def test_sha256sum_of_others_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tool of the same name that is not coreutils' is not used."""
    other = tmp_path / "sha256sum"
    other.write_text("#!/bin/sh\necho 'some other tool'\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert verifier() is None


@pytest.mark.parametrize("name", ODD_NAMES)
def test_manifest_line_is_what_sha256sum_writes(name: bytes, tmp_path: Path) -> None:
    """Each odd name is written as by coreutils, and read back unchanged."""
    path = os.path.join(os.fsencode(tmp_path), name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(name)
    line = format_line(path, digest(path))
    assert parse_line(line) == (path, digest(path))
    command = verifier()
    if command is not None:
        written = subprocess.run([command, path], capture_output=True, timeout=LIMIT, check=True).stdout
        assert line == written


def test_manifest_writes_batches_in_order_whatever_order_they_come_in(tmp_path: Path) -> None:
    """A batch waits for those before it, and a file with a problem gets no line."""
    output = tmp_path / "MANIFEST"
    with Manifest(output) as manifest:
        manifest.add(1, [FileHash(b"/b", "22", 2, ""), FileHash(b"/c", "", 0, "gone")])
        manifest.add(0, [FileHash(b"/a", "11", 1, "")])
        assert not output.exists()
        manifest.commit()
    assert output.read_bytes() == b"11  /a\n22  /b\n"
    assert manifest.files == 2


def test_manifest_that_is_not_committed_leaves_the_older_one(tmp_path: Path) -> None:
    """An aborted run changes nothing and leaves no draft behind."""
    output = tmp_path / "MANIFEST"
    output.write_text("older")

    def break_off() -> None:
        with Manifest(output) as manifest:
            manifest.add(0, [FileHash(b"/a", "11", 1, "")])
            raise LookupError

    with pytest.raises(LookupError):
        break_off()
    assert output.read_text() == "older"
    assert os.listdir(tmp_path) == ["MANIFEST"]


def test_folder_that_cannot_be_listed_is_reported(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that can't be listed is a problem of its own, and the rest is found."""
    refused = os.fsencode(tree / "a")
    scandir = os.scandir

    def refusing(path: bytes) -> object:
        if path == refused:
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr("syncprims._tour.hashing.os.scandir", refusing)
    problems: list[FileHash] = []
    found = [path for batch in find_batches(os.fsencode(tree), frozenset(), problems) for path in batch]
    assert problems == [FileHash(refused, "", 0, "Permission denied")]
    assert len(found) == len(ODD_NAMES) - 1


@pytest.mark.parametrize("replaced_by", ["fifo", "link to file", "a"])
def test_hashing_neither_blocks_nor_follows_what_a_file_became(tree: Path, replaced_by: str) -> None:
    """A file that is not a regular one when it is opened becomes a problem at once."""
    (result,) = hash_files([os.fsencode(tree / replaced_by)])
    assert result.problem
    assert result.digest == ""


def test_batches_are_bounded_and_in_path_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the number of files nor their size lets a batch grow without end, and folders sort as paths do."""
    monkeypatch.setattr("syncprims._tour.hashing.BATCH_FILES", 2)
    monkeypatch.setattr("syncprims._tour.hashing.BATCH_BYTES", 10)
    for name, size in {"a-b": 1, "a/x": 1, "a.b": 11, "b": 1, "c": 1, "d": 1}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * size)
    batches = list(find_batches(os.fsencode(tmp_path), frozenset(), []))
    names = [[os.path.relpath(os.fsdecode(path), tmp_path) for path in batch] for batch in batches]
    assert names == [["a-b", "a.b"], ["a/x", "b"], ["c", "d"]]
