"""The wait-for graph as vertices and arrows: which vertices are stuck, can be reached, or can reach each other."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping

from .waits import Group, UpTo

# A wait is up to one thread, to all threads of a group, or to any thread of a group (see `waits`). A thread is stuck if
# it waits for a stuck thread, for all threads of a group in which one is stuck, or for any thread of a group in which
# all are stuck. Several sets of threads satisfy this definition; we mean the largest. The simplest case is a cycle of
# threads that wait for each other's locks.
#
# To find that set: threads that wait for nothing are free. A free thread frees the threads whose wait it ends, and so
# on against the arrows; the rest are stuck. Each vertex and arrow is handled once. `deadlocks` reads the arrows while
# the threads run; except for `members_of`, these functions look only at what was read.

Vertex = int | Group
Arrows = dict[Vertex, tuple[Vertex, ...]]  # each target once, in the order in which they were named


def members_of(group: Group) -> tuple[Vertex, ...]:
    """The members of a group; none if the group is free."""
    members = group.members()
    return () if group.one_is_enough and None in members else each_once(members)


def each_once(named: Iterable[UpTo]) -> tuple[Vertex, ...]:
    """The known vertices among these, each once and in the same order."""
    return tuple(dict.fromkeys(each for each in named if each is not None))


def stuck_in(arrows: Arrows) -> set[Vertex]:
    """Return the vertices that can't go on: all that remain after those that wait for nothing have freed others."""
    pointing: dict[Vertex, list[Vertex]] = {}
    left: dict[Vertex, int] = {}  # how many others have to become free before the vertex does
    for vertex, ends in arrows.items():
        left[vertex] = min(len(ends), 1) if not isinstance(vertex, int) and vertex.one_is_enough else len(ends)
        for end in ends:
            pointing.setdefault(end, []).append(vertex)
    free: list[Vertex] = [vertex for vertex, number in left.items() if not number]
    free.extend(end for end in pointing if end not in arrows)
    for vertex in free:
        for other in pointing.get(vertex, ()):
            left[other] -= 1
            if left[other] == 0:
                free.append(other)
    return {vertex for vertex, number in left.items() if number > 0}


def within(ends: tuple[Vertex, ...], vertices: Container[Vertex]) -> tuple[Vertex, ...]:
    """Those of the ends that are among the vertices."""
    return tuple(end for end in ends if end in vertices)


def reached_from(start: Vertex, arrows: Mapping[Vertex, Iterable[Vertex]]) -> dict[Vertex, Vertex]:
    """The vertices reachable from one, nearest first, each with its predecessor, also the start if it is one."""
    found: dict[Vertex, Vertex] = {start: start}
    todo: list[Vertex] = [start]
    for vertex in todo:
        for end in arrows.get(vertex, ()):
            if end not in found:
                found[end] = vertex
                todo.append(end)
    return found


def components_of(arrows: Arrows) -> Iterator[dict[Vertex, None]]:
    """The sets of vertices that can reach each other (Kosaraju's algorithm)."""
    # First a depth-first search lists the vertices in the order in which it finishes them. Then each vertex that is
    # left, in the reverse of that order, begins a component, which is collected against the arrows.
    done: dict[Vertex, None] = {}
    entered: set[Vertex] = set()
    for root in arrows:
        path = [(root, iter(arrows[root]))] if root not in entered else []
        entered.add(root)
        while path:
            vertex, ends = path[-1]
            end = next((end for end in ends if end not in entered), None)
            if end is None:
                done[vertex] = None
                path.pop()
            else:
                entered.add(end)
                path.append((end, iter(arrows[end])))
    backward: dict[Vertex, list[Vertex]] = {}
    for vertex in arrows:
        for end in arrows[vertex]:
            backward.setdefault(end, []).append(vertex)
    left = set(arrows)
    for vertex in reversed(done):
        if vertex in left:
            todo: list[Vertex] = [vertex]
            component: dict[Vertex, None] = {}
            while todo:
                each = todo.pop()
                if each in left:
                    left.discard(each)
                    component[each] = None
                    todo.extend(backward.get(each, ()))
            yield component
