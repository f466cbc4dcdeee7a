"""Stand-ins for nodes, waits of threads that do not exist, and the stuck threads by the definition."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from itertools import combinations

from syncprims._core import waits as _waits
from syncprims._core.waits import UpTo, Waiting


class Group(_waits.Group):
    """A group whose members come from a list: one entry for each call, the last entry forever."""

    def __init__(self, one_is_enough: bool, *members: Collection[UpTo]) -> None:
        """Make it with the members that it will return."""
        self.one_is_enough = one_is_enough
        self.answers = [*members]
        self.asked = 0

    def members(self) -> Collection[UpTo]:
        """Return the present members."""
        self.asked += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def all_of(*members: UpTo) -> Group:
    """A group whose members all have to act."""
    return Group(False, members)


def any_of(*members: UpTo) -> Group:
    """A group of which any member is enough."""
    return Group(True, members)


class Node:
    """A node whose threads come from a list: one entry for each call, the last entry forever.

    Like a lock, it returns None to a thread that has it.
    """

    def __init__(self, name: str, *answers: UpTo) -> None:
        """Make it with the threads that it will return."""
        self.name = name
        self.answers = [*answers]
        self.asked = 0

    def _up_to(self, waiter: int) -> UpTo:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return None if answer == waiter else answer

    def _is_mine(self) -> bool:
        return True  # it can't be excluded

    def _state(self) -> None:
        """Return None, so that no snapshot shows it."""


def waits(
    ident: int,
    node: Node,
    *,
    deadline_at: float | None = None,
    takes_part: bool = True,
    victim: bool = True,
    serial: float = _waits.SETTLED,
) -> Waiting:
    """Let a thread that does not exist wait, as if it had published and searched long ago."""
    waiting = Waiting(node, deadline_at, takes_part=takes_part, victim=victim)
    waiting.ident = ident
    waiting.below = _waits._innermost.get(ident)
    waiting.serial = serial
    _waits._innermost[ident] = waiting
    return waiting


def forget(idents: Iterable[int]) -> None:
    """Let these threads wait no more."""
    for ident in list(idents):
        _waits._innermost.pop(ident, None)


def stuck_by_definition(up_to: Mapping[int, Collection[UpTo]]) -> set[int]:
    """Return the largest set of threads of which each has a wait that only threads of the set could end.

    It tries every set, so there should be few threads.
    """
    return {
        ident
        for size in range(1, len(up_to) + 1)
        for idents in combinations(up_to, size)
        if all(any(_is_stuck(each, {*idents}) for each in up_to[ident]) for ident in idents)
        for ident in idents
    }


def _is_stuck(up_to: UpTo, idents: set[int]) -> bool:
    if up_to is None:
        return False
    if isinstance(up_to, int):
        return up_to in idents
    members = up_to.members()
    return bool(members) and (all if up_to.one_is_enough else any)(_is_stuck(each, idents) for each in members)
