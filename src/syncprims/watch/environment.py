"""The environment: the variable ``SYNCPRIMS_WATCH`` turns the watch on in a process when it imports the library."""

from __future__ import annotations

import os

from .children import complain
from .installing import install_with
from .options import ENVIRONMENT, WatchOptions


def install_as_environment_says() -> None:
    """Turn the watch on if the variable says so; if its value is invalid, write a line to the standard error stream."""
    try:
        options = WatchOptions.from_environment(os.environ.get(ENVIRONMENT, ""))
    except (TypeError, ValueError) as error:
        complain(f"{ENVIRONMENT} is not valid, so nothing is watched: {error}; set it to 1, or to options")
        return
    if options is not None:
        try:
            install_with(options, by_environment=True)
        except (ImportError, OSError) as error:
            complain(str(error))
