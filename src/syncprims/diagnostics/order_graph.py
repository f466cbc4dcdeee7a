"""`OrderGraph`: the orders in which locks were acquired, as a graph, and the paths that lead back through it."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Any, Generic, Protocol, TypeVar
from weakref import ref

# Locks are known by keys, so the graph keeps none alive. When a lock goes away, its edges do too. The callback of its
# weak reference only makes a note of that, because it may be called at any moment.
#
# Adding an edge is one call of C. If two threads add the two halves of an inversion at once, and look for a path only
# then, one sees the other's half, even without a mutex.

K = TypeVar("K", bound=Hashable)


class Edge(Protocol[K]):
    """One lock was acquired while another was held.

    Attributes:
        guards: The other locks that were held each time.
        reported: Whether it is an inversion that has been reported.
    """

    guards: frozenset[K]
    reported: bool


E = TypeVar("E", bound=Edge[Any])


class OrderGraph(Generic[K, E]):
    """A graph of locks, with an edge for each pair of which one lock was acquired while the other was held."""

    def __init__(self) -> None:
        self._edges: dict[K, dict[K, E]] = {}
        self._refs: dict[K, ref[Any]] = {}
        self._gone: deque[K] = deque()

    def edge(self, held: K, taken: K) -> E | None:
        """Return the edge from one lock to another, if there is one."""
        edges = self._edges.get(held)
        return None if edges is None else edges.get(taken)

    def add(self, held: K, taken: K, edge: E) -> E:
        """Add an edge; return it, or the edge that was there before."""
        edges = self._edges.get(held)
        if edges is None:
            edges = self._edges.setdefault(held, {})
        return edges.setdefault(taken, edge)

    def path(self, start: K, goal: K, guards: frozenset[K], *, through_reported: bool) -> list[E] | None:
        """Return a path of edges from one lock to another, on which no guard occurs twice or is one of these guards.

        Args:
            start: The first lock.
            goal: The last lock.
            guards: The guards of the edge that would close the path to a cycle.
            through_reported: Whether edges that were reported count.
        """
        todo: list[tuple[K, list[E], frozenset[K]]] = [(start, [], guards)]
        reached = set()
        while todo:
            key, path, kept = todo.pop()
            if key == goal:
                return path
            if (key, kept) not in reached:
                reached.add((key, kept))
                todo.extend(
                    (further, [*path, edge], kept | edge.guards)
                    for further, edge in list(self._edges.get(key, {}).items())
                    if (through_reported or not edge.reported) and not kept & edge.guards
                )
        return None

    def watch(self, key: K, lock: object) -> None:
        """Forget the edges of a lock when the lock is gone."""
        gone = self._gone
        if key not in self._refs:
            self._refs[key] = ref(lock, lambda _: gone.append(key))

    def forget_gone(self) -> None:
        """Forget the edges of locks that are gone."""
        while self._gone:
            key = self._gone.popleft()
            self._refs.pop(key, None)
            self._edges.pop(key, None)
            for edges in list(self._edges.values()):
                edges.pop(key, None)
