"""Metrics: how long threads wait for the observed locks and hold them, for `prometheus_client`."""

from __future__ import annotations

from _thread import get_ident
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import Any, Final

from .._core.clock import perf_counter_ns
from .exact import ExactLock, ExactRLock, serial_of_exact
from .observed import origin_of
from .origins import Origin, name_made

# The threads of the program count by themselves, in plain lists, and prometheus_client is not called before a scrape.
# So none of its locks is acquired while a lock of the program is acquired or released; its own locks may be observed,
# too.
#
# A cell of counts belongs to one thread and one place that makes locks, so that no count is lost: between reading an
# element of a list and storing the sum, no interrupt is delivered, and no other thread writes there.

BUCKETS: Final = (1e-5, 1e-4, 1e-3, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)
_NANOSECONDS: Final = tuple(int(each * 1e9) for each in BUCKETS)
_WIDTH: Final = len(BUCKETS) + 1  # the last bucket has no bound
_MOST: Final = 20_000  # cells; all later places count as one
_NAMES: Final = ("lock_wait_seconds", "lock_held_seconds")
_HELP: Final = (
    "How long threads waited until they took a lock or gave it up, by where the lock was made",
    "How long a lock was held, by where it was made",
)

MISSING: Final = "metrics need the package prometheus_client: pip install 'syncprims[metrics]'"


class MetricsMissingError(ImportError):
    """Metrics were asked for, and `prometheus_client` is not installed."""


class _Cell:
    """The counts of one thread for the locks of one place."""

    __slots__ = ("counts", "sums")

    def __init__(self) -> None:
        self.counts = [0] * (2 * _WIDTH)  # of waits, then of holds
        self.sums = [0, 0]


class LockMetrics:
    """An observer of exact locks, and a collector of `prometheus_client`.

    Raises:
        MetricsMissingError: prometheus_client is not installed.
    """

    def __init__(self) -> None:
        try:
            import prometheus_client
            from prometheus_client.core import HistogramMetricFamily
        except ImportError as error:
            raise MetricsMissingError(MISSING) from error
        self._family: Any = HistogramMetricFamily
        self._registry: Any = prometheus_client.REGISTRY
        self._serve: Any = prometheus_client.start_http_server
        self._cells: dict[tuple[int, Origin | None, str], _Cell] = {}
        self._asked: dict[tuple[int, int], int] = {}  # when a thread began to want a lock
        self._had: dict[tuple[int, int], int] = {}  # when it got the lock

    # -- counting -------------------------------------------------------------------------------------------------

    def asks(self, lock: ExactLock | ExactRLock, endless: bool) -> None:  # noqa: ARG002  all waits count
        """A thread is about to take a lock."""
        self._asked[get_ident(), serial_of_exact(lock)] = perf_counter_ns()

    def taken(self, lock: ExactLock | ExactRLock, at: int) -> None:
        """The thread has the lock."""
        key = get_ident(), serial_of_exact(lock)
        began = self._asked.pop(key, None)
        self._had[key] = at
        if began is not None:
            self._count(lock, key[0], 0, at - began)

    def refused(self, lock: ExactLock | ExactRLock, error: BaseException | None) -> None:
        """The thread did not get the lock."""
        key = get_ident(), serial_of_exact(lock)
        began = self._asked.pop(key, None)
        if error is not None:
            self._had.pop(key, None)
        if began is not None:
            self._count(lock, key[0], 0, perf_counter_ns() - began)

    def released(self, lock: ExactLock | ExactRLock, at: int, by: int) -> None:
        """The lock is released."""
        began = self._had.pop((by, serial_of_exact(lock)), None)
        if began is not None:
            self._count(lock, get_ident(), 1, at - began)

    def _count(self, lock: ExactLock | ExactRLock, me: int, which: int, lasted: int) -> None:
        origin = origin_of(lock)
        key = me, origin if origin.code is not None else None, "Lock" if isinstance(lock, ExactLock) else "RLock"
        cell = self._cells.get(key)
        if cell is None:
            if len(self._cells) >= _MOST:
                key = me, None, key[2]
            cell = self._cells.setdefault(key, _Cell())
        cell.counts[which * _WIDTH + bisect_left(_NANOSECONDS, lasted)] += 1
        cell.sums[which] += lasted

    # -- for prometheus_client ------------------------------------------------------------------------------------

    def register(self, port: int | None) -> int:
        """Add the histograms to the default registry, and serve it at the port, if there is one.

        It returns the ident of the server's thread, or 0.

        Raises:
            OSError: The port can't be used.
        """
        served = 0
        if port is not None:
            _, thread = self._serve(port, addr="127.0.0.1", registry=self._registry)
            served = thread.ident
        self._registry.register(self)
        return served

    def unregister(self) -> None:
        """Remove the histograms from the registry."""
        self._registry.unregister(self)

    def describe(self) -> Iterable[object]:
        """Yield the histograms without their values."""
        return [self._family(name, text, labels=["name"]) for name, text in zip(_NAMES, _HELP, strict=True)]

    def collect(self) -> Iterator[object]:
        """Yield the histograms."""
        found: dict[tuple[Origin | None, str], list[_Cell]] = {}
        for (_, origin, kind), cell in self._cells.copy().items():
            found.setdefault((origin, kind), []).append(cell)
        names: dict[str, list[_Cell]] = {}
        for (origin, kind), cells in found.items():
            name = f"the {kind} made at an unknown place" if origin is None else name_made(origin, 0, kind)
            names.setdefault(name, []).extend(cells)
        bounds = [*map(str, BUCKETS), "+Inf"]
        for which, family in enumerate(self.describe()):
            for name, cells in names.items():
                total = 0
                buckets = []
                for place, bound in enumerate(bounds):
                    total += sum(cell.counts[which * _WIDTH + place] for cell in cells)
                    buckets.append((bound, total))
                if total:
                    seconds = sum(cell.sums[which] for cell in cells) / 1e9
                    family.add_metric([name], buckets=buckets, sum_value=seconds)  # type: ignore[attr-defined]  # it has one
            yield family

    def forget_threads(self) -> None:
        """Begin again in a forked child, which has a registry of its own."""
        self._cells.clear()
        self._asked.clear()
        me = get_ident()
        self._had = {key: at for key, at in self._had.items() if key[0] == me}
