"""The program's main module, in workers that have to find what it defines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# CPython takes `__main__.__file__` away as soon as a script has come to its end, before anything that runs at exit.
# From then on multiprocessing can't tell a new worker where the script is. So a pool notes that while it is made, for
# the workers that start, or are replaced, while it drains.

Source = dict[str, Any]


def main_source() -> Source:
    """Return where the main module comes from, as multiprocessing tells its workers."""
    from multiprocessing.spawn import get_preparation_data

    return {key: value for key, value in get_preparation_data("worker").items() if key.startswith("init_main")}


def import_main(source: Source) -> None:
    """Import it under the name ``__mp_main__``, unless that has been done."""
    from multiprocessing.spawn import prepare

    prepare(source)


class WithMain:
    """Something to be unpickled in a worker process, once the main module is there: as itself, not as this object.

    It travels with the start of the process, as what is pickled then may (a lock of multiprocessing, say).
    """

    def __init__(self, thing: object) -> None:
        self._thing = thing
        self._source = main_source()

    def __reduce__(self) -> tuple[Callable[[Source, bytes], object], tuple[Source, bytes]]:
        from multiprocessing.reduction import ForkingPickler

        return _unpack, (self._source, bytes(ForkingPickler.dumps(self._thing)))


def _unpack(source: Source, packed: bytes) -> object:
    import pickle

    import_main(source)
    return pickle.loads(packed)
