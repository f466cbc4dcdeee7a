"""The tour: every primitive at work, ``python3 -m syncprims [PATH] [--output FILE] [--workers N] [--quiet]``.

Its exit code is 0 if every check passed, 1 if one failed, 2 for bad input, 130 after Ctrl-C, and 141 if the reader of
its output has gone.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import sysconfig
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from ._tour.stage import Stage

FAILED, BAD_INPUT, INTERRUPTED, NO_READER = 1, 2, 130, 141


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # Only one line, because --help shows the usage.
        self.exit(BAD_INPUT, f"syncprims: {message}; see --help\n")


def _workers(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"the number of workers must be at least 1, not {text!a}")
    return number


def _folder(text: str) -> Path:
    try:
        os.scandir(text).close()  # not the Path: an empty one is the current folder
    except OSError as error:
        raise argparse.ArgumentTypeError(f"can't list the folder {text!a}: {error.strerror}") from error
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"can't list the folder {text!a}: {error}") from error
    return Path(text)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python3 -m syncprims",
        description="Show every primitive at work, and check what is shown.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "path",
        nargs="?",
        type=_folder,
        default=sysconfig.get_path("stdlib"),
        metavar="PATH",
        help="the folder whose files are hashed (default: Python's standard library, %(default)s)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="the file for the manifest (default: a new temporary file, which is named at the end)",
    )
    parser.add_argument(
        "--workers",
        type=_workers,
        default=min(os.cpu_count() or 1, 8),
        metavar="N",
        help="how many processes hash (default: %(default)s)",
    )
    parser.add_argument("--quiet", action="store_true", help="print only failures and one line at the end")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Play the tour and return its exit code.

    Args:
        argv: The arguments, without the program's name; by default those of the command line.

    Returns:
        0 if every check passed, 1 if one failed, 2 for bad input, 130 after Ctrl-C, 141 if the reader of the output
        has gone.
    """
    _occupy_closed_descriptors()
    try:
        wanted = _parser().parse_args(argv)
        if sys.stdout is None:  # it was closed before the program began
            _complain("can't write to stdout: it is closed")
            return FAILED
        return _play(wanted)
    except SystemExit as leaving:  # argparse has printed the message
        return leaving.code if isinstance(leaving.code, int) else BAD_INPUT
    except KeyboardInterrupt:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # the rest is quick, and one message is enough
        _complain("interrupted")
        return INTERRUPTED


def _occupy_closed_descriptors() -> None:
    # If a standard stream is closed, the first file that is opened gets its number, and C code or a child would write
    # to it.
    for standard in range(3):
        try:
            os.fstat(standard)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _complain(message: str) -> None:
    if sys.stderr is not None:  # otherwise print() would use stdout
        try:
            print(f"syncprims: {message}", file=sys.stderr, flush=True)
        except OSError:
            pass  # only the exit code is left


def _play(wanted: argparse.Namespace) -> int:
    # Imported here, where an interrupt is already caught.
    from ._tour import article, counting, finale, locking, ordering
    from ._tour.manifest import Manifest, default_output
    from ._tour.stage import Stage

    output = wanted.output if wanted.output is not None else default_output()
    stage = Stage(sys.stdout, quiet=wanted.quiet)
    figures: list[str] = []
    try:
        manifest = Manifest(output)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        _complain(f"can't write the output {str(output)!a}: {reason}")
        return BAD_INPUT

    def hash_tree(stage: Stage) -> None:
        progress_to = None if wanted.quiet else sys.stderr
        figures.append(finale.play(stage, wanted.path, manifest, wanted.workers, progress_to))

    scenes = [
        ("counting", counting.play),
        ("ordering", ordering.play),
        ("locking", locking.play),
        ("article", article.play),
        ("job", hash_tree),
    ]
    with manifest:
        for name, play in scenes:
            _perform(stage, name, play)
    return _close(stage, figures)


def _perform(stage: Stage, name: str, play: Callable[[Stage], object]) -> None:
    if stage.lost is None:
        try:
            play(stage)
        except Exception as error:  # noqa: BLE001  a scene that breaks off has failed
            stage.check(False, f"the scene {name!r} came to its end, but {type(error).__name__}: {error}")


def _close(stage: Stage, figures: Sequence[str]) -> int:
    failed = len(stage.failures)
    verdict = f"{failed} of {stage.checks} checks FAILED" if failed else f"{stage.checks} checks passed"
    stage.say("")
    stage.insist("; ".join((f"syncprims: {verdict}", *figures, *stage.failures)))
    if isinstance(stage.lost, BrokenPipeError):
        return NO_READER
    if stage.lost is not None:
        _complain(f"can't write to stdout: {stage.lost.strerror}")
        return FAILED
    return FAILED if failed else 0


if __name__ == "__main__":
    sys.exit(main())
