"""The result of a check: `ConformanceReport`, and `ConformanceError` if a clause is broken."""

from __future__ import annotations

from ...facts import Frozen

__all__ = ["BrokenClause", "ClauseNotRun", "ConformanceError", "ConformanceReport"]


class BrokenClause(Frozen):
    """A clause of the contract that the objects of a factory don't keep.

    Attributes:
        clause: Its name, a sentence that should be true.
        done: What the check did.
        happened: What happened then.

    Example:
        >>> from syncprims.testing import BrokenClause
        >>> BrokenClause("locked() tells", "asked a held lock", "locked() gave False, not True").done
        'asked a held lock'
    """

    __slots__ = ("clause", "done", "happened")

    clause: str
    done: str
    happened: str

    def __init__(self, clause: str, done: str, happened: str) -> None:
        self._set(clause, done, happened)


class ClauseNotRun(Frozen):
    """A clause that could not be tried here.

    Attributes:
        clause: Its name.
        reason: Why not.

    Example:
        >>> from syncprims.testing import ClauseNotRun
        >>> ClauseNotRun("survives a fork", "this system has no os.fork").reason
        'this system has no os.fork'
    """

    __slots__ = ("clause", "reason")

    clause: str
    reason: str

    def __init__(self, clause: str, reason: str) -> None:
        self._set(clause, reason)


class ConformanceReport(Frozen):
    """The result of a check. Its `str` is a text for a log.

    Attributes:
        check: The check's name, like ``"check_lock"``.
        subject: What was checked: the factory's name.
        kept: The clauses that hold.
        not_kept: The clauses that ``without=`` left out, so no code may rely on them.
        not_run: The clauses that could not be tried, as `ClauseNotRun`.
        broken: The clauses that don't hold, as `BrokenClause`. Empty in a report that a check returns. If there are
            any, the check raises a `ConformanceError` that carries the report.

    Example:
        >>> from syncprims.testing import ConformanceReport
        >>> print(ConformanceReport("check_lock", "MyLock", ("locked() tells",), ("survives a fork",), (), ()))
        not kept, as said: survives a fork
        check_lock: MyLock keeps 1 of 2 clauses
    """

    __slots__ = ("check", "subject", "kept", "not_kept", "not_run", "broken")  # noqa: RUF023  the order of the arguments

    check: str
    subject: str
    kept: tuple[str, ...]
    not_kept: tuple[str, ...]
    not_run: tuple[ClauseNotRun, ...]
    broken: tuple[BrokenClause, ...]

    def __init__(
        self,
        check: str,
        subject: str,
        kept: tuple[str, ...],
        not_kept: tuple[str, ...],
        not_run: tuple[ClauseNotRun, ...],
        broken: tuple[BrokenClause, ...],
    ) -> None:
        self._set(check, subject, kept, not_kept, not_run, broken)

    def __str__(self) -> str:
        lines = [f"not kept, as said: {clause}" for clause in self.not_kept]
        lines += [f"not run: {one.clause} ({one.reason})" for one in self.not_run]
        for one in self.broken:
            lines += [f"broken: {one.clause}", f"  done: {one.done}", f"  happened: {one.happened}"]
        clauses = len(self.kept) + len(self.not_kept) + len(self.not_run) + len(self.broken)
        if self.broken:
            names = "; ".join(one.clause for one in self.broken)
            lines.append(f"{self.check}: {self.subject} breaks {len(self.broken)} of {clauses} clauses: {names}")
        else:
            lines.append(f"{self.check}: {self.subject} keeps {len(self.kept)} of {clauses} clauses")
        return "\n".join(lines)


class ConformanceError(AssertionError):
    """Objects of the factory break the contract. The message says which clauses, what was done and what happened.

    Attributes:
        report: The `ConformanceReport`.
    """

    def __init__(self, message: str = "", *, report: ConformanceReport | None = None) -> None:
        super().__init__(message)
        self.report = report
