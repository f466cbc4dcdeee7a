"""The command line: ``python -m syncprims.watch [OPTIONS] PROGRAM.py ARGS…`` or ``-m MODULE ARGS…``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

from .children import complain
from .installing import install_with
from .launching import STDIN, NoProgramError, run_module, run_script
from .options import WatchOptions

BAD_INPUT: Final = 2

USAGE: Final = """\
usage: python -m syncprims.watch [OPTIONS] PROGRAM.py [ARGS ...]
       python -m syncprims.watch [OPTIONS] -m MODULE [ARGS ...]

Run a program, a folder or a zip file with a __main__, or "-" for standard input, and report when its threads
can't go on: who waits for what, who holds it, and where it was acquired. The program still hangs.

  --after S     report threads that have waited for each other for S seconds (1), or one that has stopped its event loop
  --asleep S    report that all threads wait without a limit after S seconds (5); --no-asleep never
  --order       report two locks that are acquired in both orders, even if nothing hangs; slower
  --ignore PLACE  with --order: ignore the locks that are made or taken at PLACE (file.py:12), or a pair of
                places (a.py:12,b.py:30)
  --slow S      report each wait that is longer than S seconds
  --children    watch the processes that the program starts as well
  --json FILE   add each report to FILE as one line of JSON; "-" is standard output
  --file FILE   add the text of reports to FILE instead of standard error
  --record FILE   record who waits for which lock and who holds it, and write that to FILE (.html or .json) at the
                end, with the locks that threads waited for most; each use of a lock takes longer
  --metrics[=PORT]  count waits and holds for prometheus_client, and serve them at that port of this machine
  --break       raise DeadlockError in the wait that completes a certain deadlock
"""


def main(argv: Sequence[str]) -> int | None:
    """Run the command line; return only if the program has ended, or there is none."""
    if list(argv[:1]) in (["-h"], ["--help"]):
        sys.stdout.write(USAGE)
        return 0
    try:
        options, left = WatchOptions.parse(argv)
    except (TypeError, ValueError) as error:
        return _refuse(str(error))
    if left[:1] == ["--"]:
        del left[0]
    if not left and (sys.stdin is None or sys.stdin.isatty()):
        return _refuse("there is no program to run")
    if left[:1] == ["-m"] and len(left) == 1:
        return _refuse("-m takes the name of a module")
    try:
        install_with(options)
    except (ImportError, OSError) as error:
        return _refuse(str(error))
    try:
        if left[:1] == ["-m"]:
            run_module(left[1], left[2:])
        else:
            run_script(left[0] if left else STDIN, left[1:])
    except NoProgramError as error:
        complain(str(error))
        return BAD_INPUT if left[:1] != ["-m"] else 1
    return None


def _refuse(message: str) -> int:
    complain(f"{message}; see --help")
    return BAD_INPUT
