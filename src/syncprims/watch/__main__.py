"""``python -m syncprims.watch PROGRAM.py ARGS…``: run a program, and report when its threads can't go on."""

from __future__ import annotations

import sys

from .command import main

if __name__ == "__main__":
    # `-m` has put the caller's folder first in the path; the program has its own folder there.
    if not sys.flags.safe_path:
        del sys.path[0]
    if (_code := main(sys.argv[1:])) is not None:
        sys.exit(_code)
