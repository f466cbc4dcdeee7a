"""One cell of the fault table, in this process: ``python -m pool_faults.cell ROW EXECUTOR``."""

from __future__ import annotations

import faulthandler
import sys

from .rows import all_rows


def main() -> None:
    """Run the cell; its last line is what the table shows."""
    name, place = sys.argv[1:]
    faulthandler.dump_traceback_later(35)  # if it hangs, say where
    outcome = all_rows()[name].scenario(place)
    print(f"outcome {outcome}", flush=True)
    faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    main()
