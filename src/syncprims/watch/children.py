"""Children: watching the processes that a program starts."""

from __future__ import annotations

import atexit
import os
import shlex
import shutil
import sys
import tempfile
from typing import Final

from .options import ENVIRONMENT, WatchOptions

# A child finds the watch through a folder at the front of its PYTHONPATH, with a `sitecustomize` in it. This
# `sitecustomize` removes the folder from the child's own path again, turns the watch on, and calls the `sitecustomize`
# that would have been found without it. A child that is started with -I, -E or -S ignores all of this, and is not
# watched. A forked child needs nothing.

PATH: Final = "SYNCPRIMS_WATCH_PATH"

_SITECUSTOMIZE: Final = '''\
"""Turns syncprims.watch on in this process, and calls the next sitecustomize."""


def _begin():
    import os
    import sys

    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [each for each in sys.path if os.path.abspath(each or ".") != here or not each]
    library = os.environ.get("SYNCPRIMS_WATCH_PATH", "")
    known = library in sys.path
    if not known:
        sys.path.append(library)
    try:
        import syncprims.watch
    except Exception as error:
        sys.stderr.write(f"syncprims.watch: this child is not watched: {type(error).__name__}: {error}\\n")
    finally:
        if not known and library in sys.path:
            sys.path.remove(library)
    me = sys.modules.pop("sitecustomize", None)
    try:
        import sitecustomize
    except ImportError as error:
        if error.name != "sitecustomize":
            raise
        sys.modules["sitecustomize"] = me


_begin()
'''


def watch_children(options: WatchOptions) -> None:
    """Set the environment so that Python processes started by this one are watched."""
    library = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    os.environ[ENVIRONMENT] = shlex.join(options.arguments())
    os.environ[PATH] = library
    path = os.environ.get("PYTHONPATH", "")
    if any(_is_ours(folder) for folder in path.split(os.pathsep)):
        return  # this process is itself such a child
    folder = tempfile.mkdtemp(prefix="syncprims-watch-")
    with open(os.path.join(folder, "sitecustomize.py"), "w", encoding="utf-8") as file:
        file.write(_SITECUSTOMIZE)
    os.environ["PYTHONPATH"] = folder + (os.pathsep + path if path else "")
    me = os.getpid()

    def remove() -> None:
        if os.getpid() == me:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)


def _is_ours(folder: str) -> bool:
    return os.path.basename(folder).startswith("syncprims-watch-") and os.path.exists(
        os.path.join(folder, "sitecustomize.py")
    )


def is_child() -> bool:
    """Whether this process was started with the environment that `watch_children` sets."""
    return PATH in os.environ and any(map(_is_ours, os.environ.get("PYTHONPATH", "").split(os.pathsep)))


def complain(message: str) -> None:
    """Write a line about the watch itself."""
    if sys.stderr is not None:
        try:
            sys.stderr.write(f"syncprims.watch: {message}\n")
            sys.stderr.flush()
        except OSError:
            pass
