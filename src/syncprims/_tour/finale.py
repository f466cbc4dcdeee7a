"""The real job: worker processes hash every file under a folder, and the manifest is verified."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TextIO

from syncprims import AtomicCounter, CallbackErrors, CallbackPool

from .hashing import FileHash, find_batches, hash_files
from .manifest import Manifest, verifier, verify
from .stage import Stage

REDRAW = 0.1  # seconds between two progress lines, at least
AHEAD = 8  # batches submitted per worker: a large tree must not fill the memory
SHOWN = 10  # lines of a failed verification


class Progress:
    """A progress line on the terminal; nothing if the stream is not a terminal."""

    def __init__(self, stream: TextIO | None, files: AtomicCounter, size: AtomicCounter) -> None:
        self._stream = stream if stream is not None and stream.isatty() else None
        self._files = files
        self._size = size
        self._begun = monotonic()
        self._drawn = -REDRAW

    def draw(self) -> None:
        """Draw the line, unless it has just been drawn."""
        now = monotonic()
        if now - self._drawn >= REDRAW:
            self._drawn = now
            rate = self._size.value / 1e6 / max(now - self._begun, REDRAW)
            self._write(
                f"\r  hashed {self._files.value:,} files, {self._size.value / 1e6:,.1f} MB ({rate:,.0f} MB/s)\x1b[K"
            )

    def finish(self) -> None:
        """Draw the last state, and leave the terminal as it was."""
        self._drawn -= REDRAW
        self.draw()
        self._write("\r\x1b[K")

    def _write(self, text: str) -> None:
        if self._stream is None:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:
            self._stream = None  # the terminal has gone; the work goes on


class TreeHasher:
    """Hashes a tree into a manifest, counting as the callbacks come in."""

    def __init__(self, root: Path, manifest: Manifest, progress_to: TextIO | None) -> None:
        self.root = root
        self.manifest = manifest
        self.found = 0
        self.files = AtomicCounter(name="files")
        self.size = AtomicCounter(name="bytes")
        self.unread: list[FileHash] = []
        self.unlisted: list[FileHash] = []
        self.failed: list[BaseException] = []  # errors of whole batches: shown unless Ctrl-C ends the job
        self._progress = Progress(progress_to, self.files, self.size)

    def run(self, workers: int) -> None:
        """Hash everything; when this returns, each batch is recorded or its error is in ``failed``.

        Raises:
            CallbackErrors: A callback failed, as on a full disk.
        """
        self._progress.draw()
        root = os.fsencode(os.path.realpath(self.root))
        try:
            with (
                _no_bytecode(),
                CallbackPool("process", max_workers=workers, max_pending=AHEAD * workers, name="hashing") as pool,
            ):
                for number, batch in enumerate(find_batches(root, self.manifest.own_paths, self.unlisted)):
                    if self.failed or pool.stats.callback_errors:
                        break  # the manifest can't become complete any more
                    self.found += len(batch)
                    record = partial(self._take, number)
                    pool.apply_async(hash_files, (batch,), callback=record, error_callback=self.failed.append)
        finally:
            self._progress.finish()

    # The callback, which runs on the pool's dispatcher thread, one call at a time.
    def _take(self, number: int, hashes: list[FileHash]) -> None:
        unread = [one for one in hashes if one.problem]
        self.unread += unread
        self.manifest.add(number, hashes)
        self.files.add(len(hashes) - len(unread))
        self.size.add(sum(one.size for one in hashes))
        self._progress.draw()


def play(stage: Stage, root: Path, manifest: Manifest, workers: int, progress_to: TextIO | None) -> str:
    """Hash the tree, write and verify the manifest; return the figures as half a sentence."""
    stage.scene(
        "The real job: hash a tree in worker processes",
        f"Every regular file under {str(root)!a} is hashed with SHA-256 by {workers} worker processes.",
        "Callbacks count files and bytes, and write the manifest in path order.",
    )
    hasher = TreeHasher(root, manifest, progress_to)
    begun = monotonic()
    try:
        hasher.run(workers)
    except CallbackErrors as errors:
        hasher.failed += _flatten(errors)
    figures = f"{hasher.files.value:,} files ({hasher.size.value / 1e6:,.1f} MB) hashed in {monotonic() - begun:.1f} s"
    problems = hasher.unlisted + hasher.unread
    if problems:
        figures += f", {len(problems):,} could not be read"
        stage.insist(*(f"  can't read {os.fsdecode(problem.path)!a}: {problem.problem}" for problem in problems))
    stage.say(f"  {figures}")
    for reason in sorted({f"{type(error).__name__}: {error}" for error in hasher.failed}):
        stage.check(False, f"every batch is hashed and recorded: {reason}")
    if hasher.failed:
        return figures
    stage.check(
        hasher.files.value == manifest.files == hasher.found - len(hasher.unread),
        "every file that was found is in the counter and in the manifest, or in the list of those that can't be read",
    )
    _put_in_place(stage, manifest)
    return f"{figures}, manifest {str(manifest.output)!a}"


def _put_in_place(stage: Stage, manifest: Manifest) -> None:
    try:
        manifest.commit()
    except OSError as error:
        stage.check(False, f"the manifest is in its place: {error}")
        return
    stage.say(f"  the manifest is {str(manifest.output)!a}")
    if not manifest.files:
        return  # sha256sum rejects an empty manifest
    command = verifier()
    wrong = verify(manifest.output, command)
    checker = f"{command} --check --quiet" if command else "a second reading (there is no sha256sum of coreutils)"
    stage.check(not wrong, f"{checker} accepts the manifest")
    stage.insist(*(f"    {line}" for line in wrong[:SHOWN]))


@contextmanager
def _no_bytecode() -> Iterator[None]:
    # The default tree is the standard library. Workers that write bytecode caches would change it during the job.
    variable = "PYTHONDONTWRITEBYTECODE"
    before, flag = os.environ.get(variable), sys.dont_write_bytecode
    os.environ[variable], sys.dont_write_bytecode = "1", True
    try:
        yield
    finally:
        sys.dont_write_bytecode = flag
        if before is None:
            del os.environ[variable]
        else:
            os.environ[variable] = before


def _flatten(group: BaseExceptionGroup[Exception]) -> Iterator[Exception]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _flatten(error)
        else:
            yield error
