"""One cell of the fault table, in this process: ``python -m pool_faults.cell ROW EXECUTOR``."""

from __future__ import annotations

import faulthandler
import os
import sys
import traceback

from .cell_runs import HARD_LIMIT
from .rows import all_rows


def main() -> None:
    """Run the cell; its last line is its entry in the table."""
    name, place = sys.argv[1:]
    faulthandler.dump_traceback_later(HARD_LIMIT - 5)  # if it hangs, report where
    try:
        outcome = all_rows()[name].scenario(place)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)  # an open pool would rightly wait at exit for the scenario's leftovers
    print(f"outcome {outcome}", flush=True)
    faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    main()
