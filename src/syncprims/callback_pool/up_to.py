"""Who a wait for a pool is up to: the thread that runs a task, any worker, or the dispatcher in a callback."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final, Protocol
from weakref import ref

from .._core.foreign import words
from .._core.waits import Group, UpTo

# The wait-for graph asks these groups when a wait may never end (see `_core.deadlocks`), from any thread, while the
# pool goes on. They only look, and if they can't tell they say that the wait may end:
#
# 1. A task that runs in a thread here is up to that thread, unless it has a time limit of its own. In another process
#    or interpreter it can't wait for what is held here.
# 2. A task that is queued is up to any worker. A worker that may still be started will do, and so will one whose task
#    has a limit, since it is replaced then.
# 3. A task that is done is up to the dispatcher, which is stuck at most in a callback or a hook.
#
# That another thread may cancel a task, or abort the pool, is not foreseen.

_SHOWN: Final = 3  # threads


class Crew(Protocol):
    """The workers of a pool."""

    def takers(self) -> Collection[int | None]:
        """The threads any of which may take a queued task; None is one that is not known or may still be started."""

    def at_work(self) -> Collection[int]:
        """The threads that run tasks without a limit."""


class Caller(Protocol):
    """The dispatcher of a pool."""

    def calling(self) -> tuple[int, str] | None:
        """Its thread and what it runs, while that is a callback or a hook."""


class Job(Protocol):
    """What is to be done for a task."""

    @property
    def label(self) -> str:
        """What messages call it."""

    @property
    def timeout(self) -> float | None:
        """How long the call may run."""

    @property
    def worker(self) -> int | None:
        """The ident of the thread that runs it; None for none of this process."""

    def running(self) -> bool:
        """Whether it runs now, as far as that can be known."""

    def done(self) -> bool:
        """Whether it is done."""


def _no_one() -> None:
    return None


class Staff:
    """Who works for a pool, as far as the waits for the pool have to know; keeps none of them alive."""

    def __init__(self, pool_name: str) -> None:
        self.pool_name: str = pool_name
        self.workers: Final = Workers(self)
        self._crew: Callable[[], Crew | None] = _no_one
        self._caller: Callable[[], Caller | None] = _no_one

    def hire(self, crew: Crew, caller: Caller) -> None:
        """Know who they are."""
        self._crew, self._caller = ref(crew), ref(caller)

    def takers(self) -> Collection[int | None]:
        """Who may take a queued task."""
        crew = self._crew()
        return (None,) if crew is None else crew.takers()

    def at_work(self) -> Collection[int]:
        """Who runs tasks without a limit."""
        crew = self._crew()
        return () if crew is None else crew.at_work()

    def calling(self) -> tuple[int, str] | None:
        """The dispatcher's thread and what it runs, while that is of the user's."""
        caller = self._caller()
        return None if caller is None else caller.calling()


class Workers(Group):
    """Any worker of a pool."""

    one_is_enough = True
    advice = (
        "give the pool another worker (max_workers), or do not wait in its tasks for other tasks of the same pool: "
        "give those a callback instead"
    )

    def __init__(self, staff: Staff) -> None:
        self._staff = staff

    def members(self) -> Collection[UpTo]:
        """Who they are now."""
        return self._staff.takers()

    def words(self, thread: Callable[[int], str]) -> str:
        """Name them."""
        known = [each for each in self._staff.takers() if each is not None]
        which = "whose only worker is" if len(known) == 1 else "whose workers are"
        return f"{which} {_listed(known, thread)}"


class TaskDone(Group):
    """What brings a task to its end."""

    one_is_enough = False

    def __init__(self, staff: Staff, jobs: Mapping[Any, Job], task: object) -> None:
        self._staff = staff
        self._jobs = jobs
        self._task = task

    def members(self) -> Collection[UpTo]:
        """The thread that runs it, or any worker."""
        return _ends(self._jobs.get(self._task), self._staff)

    def words(self, thread: Callable[[int], str]) -> str:
        """Say where it is."""
        job = self._jobs.get(self._task)
        if job is None or job.worker is None:
            return f"which is queued in {words(self._staff.pool_name)}, {self._staff.workers.words(thread)}"
        return f"which runs in {thread(job.worker)}"

    @property
    def advice(self) -> str:
        """It depends on where the task is."""
        job = self._jobs.get(self._task)
        if job is None or job.worker is None:
            return self._staff.workers.advice
        return "hold nothing that the task needs while you wait for its result, or give it a callback instead"


class TaskSettled(TaskDone):
    """What brings a task and its callback to their end."""

    def members(self) -> Collection[UpTo]:
        """The dispatcher while it runs a callback, this one's or another's, and who brings the task to its end."""
        job, calling = self._jobs.get(self._task), self._staff.calling()
        if job is None:
            return ()
        return (*_ends(job, self._staff), *(() if calling is None else (calling[0],)))

    def words(self, thread: Callable[[int], str]) -> str:
        """Say where it is, or what keeps the dispatcher."""
        calling, job = self._staff.calling(), self._jobs.get(self._task)
        if calling is None:
            return super().words(thread)
        busy = f"which comes after the {calling[1]}, in {thread(calling[0])}"
        return busy if job is None or job.done() else f"{busy}; and the task is one {super().words(thread)}"

    advice = "hold nothing that the task or a callback needs while you wait for them"


class AnyDone(Group):
    """What brings any of some tasks to its end."""

    one_is_enough = True
    advice = "hold nothing that the tasks need while you wait for them"

    def __init__(self, staff: Staff, jobs: Mapping[Any, Job], tasks: Callable[[], Iterable[object]]) -> None:
        self._staff = staff
        self._jobs = jobs
        self._tasks = tasks

    def members(self) -> Collection[UpTo]:
        """The thread that runs each, or any worker for those that are queued."""
        members: dict[UpTo, None] = {}
        for task in self._tasks():
            ends = _ends(self._jobs.get(task), self._staff)
            if not ends:
                return (None,)
            members.update(dict.fromkeys(ends))
        return tuple(members)

    def words(self, thread: Callable[[int], str]) -> str:
        """Name the threads that run them."""
        return f"whose tasks are up to {_listed(_idents(self), thread)}"


class Room(Group):
    """What makes room for one more task: the end of any, with its callback."""

    one_is_enough = False
    advice = "hold nothing that the tasks or a callback need while you submit, or allow more tasks (max_pending)"

    def __init__(self, staff: Staff, jobs: Mapping[Any, Job]) -> None:
        self._staff = staff
        self._any = AnyDone(staff, jobs, lambda: list(jobs))

    def members(self) -> Collection[UpTo]:
        """The dispatcher while it runs a callback, after which there is room; else who ends a task."""
        calling = self._staff.calling()
        return (self._any,) if calling is None else (calling[0],)

    def words(self, thread: Callable[[int], str]) -> str:
        """Say who that is."""
        calling = self._staff.calling()
        return (
            self._any.words(thread)
            if calling is None
            else f"which comes after the {calling[1]}, in {thread(calling[0])}"
        )


class Idle(Group):
    """What brings all tasks and callbacks to their end."""

    one_is_enough = False
    advice = "hold nothing that the tasks or a callback need while you join or close the pool"

    def __init__(self, staff: Staff, jobs: Mapping[Any, Job]) -> None:
        self._staff = staff
        self._jobs = jobs

    def members(self) -> Collection[UpTo]:
        """Each thread that runs one, and the dispatcher while it runs a callback."""
        calling = self._staff.calling()
        return (*self._staff.at_work(), *(() if calling is None else (calling[0],)))

    def words(self, thread: Callable[[int], str]) -> str:
        """Name them."""
        calling = self._staff.calling()
        facts = [f"the {calling[1]}, in {thread(calling[0])}"] if calling is not None else []
        facts += [
            f"{words(job.label)}, which runs in {thread(job.worker)}"
            for job in list(self._jobs.values())
            if job.worker is not None and not job.done()
        ][:_SHOWN]
        return f"which is up to {' and '.join(facts)}"


def _ends(job: Job | None, staff: Staff) -> tuple[int] | tuple[Group] | tuple[()]:
    """Who brings a task to its end; no one if that may come by itself."""
    if job is None or job.done():
        return ()
    worker = job.worker
    if worker is not None:
        return () if job.timeout is not None else (worker,)
    return () if job.running() else (staff.workers,)


def _idents(group: Group) -> list[int]:
    found: dict[int, None] = {}
    for each in group.members():
        if isinstance(each, int):
            found[each] = None
        elif each is not None:
            found.update(dict.fromkeys(_idents(each)))
    return list(found)


def _listed(idents: Collection[int], thread: Callable[[int], str]) -> str:
    shown = [thread(each) for each in list(idents)[:_SHOWN]]
    left_out = len(idents) - len(shown)
    return ", ".join(shown) + (f" and {left_out} more" if left_out else "")
