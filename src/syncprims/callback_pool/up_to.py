"""The threads that a wait for a pool is up to: one that runs a task, any worker, or the dispatcher in a callback."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final, Protocol
from weakref import ref

from .._core.foreign import words
from .._core.state import Stated
from .._core.waits import Awaited, Group, UpTo

# The wait-for graph asks these groups whether a wait may never end (see `_core.deadlocks`), from any thread, while the
# pool goes on. They only read, and if they are not certain they answer that the wait may end:
#
# 1. A task that runs in a thread here is up to that thread, unless it has its own timeout. A task in another process or
#    interpreter can't wait for locks that are held here, but the thread that unpickles its outcome can.
# 2. A queued task is up to any worker. A worker that may still be started is enough. So is a worker whose task has a
#    timeout, because it is replaced then.
# 3. A task that is done is up to the dispatcher, which can be stuck only in a callback or a hook.
#
# These groups don't consider that another thread may cancel a task, or abort the pool.

_SHOWN: Final = 3  # threads


class Workforce(Protocol):
    """The workers of a pool."""

    def takers(self) -> Collection[int | None]:
        """The threads of which any may take a queued task; None is one that is not known or may still be started."""

    def at_work(self) -> Collection[int]:
        """The threads that run tasks without a limit."""


class Caller(Protocol):
    """The dispatcher of a pool."""

    def calling(self) -> tuple[int, str] | None:
        """Its thread and the callback or hook that it runs, if it runs one."""


class Job(Protocol):
    """The job of a task."""

    @property
    def label(self) -> str:
        """Its name in messages."""

    @property
    def limited(self) -> bool:
        """Whether it will end in time: it has its own timeout, or its group has one."""

    @property
    def worker(self) -> int | None:
        """The ident of the thread that runs it, or unpickles its outcome; None if no thread of this process does."""

    @property
    def arrives(self) -> bool:
        """Whether that thread unpickles its outcome."""

    @property
    def parts(self) -> Group | None:
        """The tasks that it is up to, if no worker runs it."""

    def done(self) -> bool:
        """Whether it is done."""


class Pool(Stated, Protocol):
    """The open tasks of a pool."""

    @property
    def jobs(self) -> Mapping[Any, Job]:
        """The open tasks, each with its job."""

    @property
    def staff(self) -> Staff:
        """The threads that work for it."""


def _no_one() -> None:
    return None


class Workers(Group):
    """Any worker of a pool."""

    one_is_enough = True

    def __init__(self, staff: Staff) -> None:
        self._staff = staff

    def members(self) -> Collection[UpTo]:
        """The workers that the pool has now."""
        return self._staff.takers()


class Staff:
    """The threads that work for a pool, for the waits for the pool; it keeps none of them alive.

    Attributes:
        workers: Any worker.
    """

    def __init__(self) -> None:
        self.workers: Final = Workers(self)
        self._crew: Callable[[], Workforce | None] = _no_one
        self._caller: Callable[[], Caller | None] = _no_one

    def hire(self, crew: Workforce, caller: Caller) -> None:
        """Set the workers and the dispatcher."""
        self._crew, self._caller = ref(crew), ref(caller)

    def takers(self) -> Collection[int | None]:
        """The threads that may take a queued task."""
        crew = self._crew()
        return (None,) if crew is None else crew.takers()

    def at_work(self) -> Collection[int]:
        """The threads that run tasks without a limit."""
        crew = self._crew()
        return () if crew is None else crew.at_work()

    def calling(self) -> tuple[int, str] | None:
        """The dispatcher's thread and the user's code that it runs, if it runs any."""
        caller = self._caller()
        return None if caller is None else caller.calling()


# -- one task ----------------------------------------------------------------------------------------------------------


class TaskDone(Awaited):
    """The end of a task: up to the thread that runs it, or to any worker."""

    __slots__ = ("_label", "_task", "of")

    of: Pool

    def __init__(self, pool: Pool, task: object, label: str) -> None:
        self.of = pool
        self._task = task
        self._label = label

    @property
    def sought(self) -> str:
        """The result of the task."""
        return f"the result of {words(self._label)}"

    def _up_to(self, waiter: int) -> UpTo:  # noqa: ARG002  also a task may wait for itself
        job = self.of.jobs.get(self._task)  # as in `_end_of`, but without a call: every wait for a result asks
        if job is None or job.done():
            return None
        worker = job.worker
        if worker is None:
            return self.of.staff.workers if job.parts is None else job.parts
        return None if job.limited else worker

    def why(self, thread: Callable[[int], str]) -> str:
        """Say where the task is."""
        job = self.of.jobs.get(self._task)
        if job is not None and job.worker is not None:
            return f"{'whose outcome is unpickled' if job.arrives else 'which runs'} in {thread(job.worker)}"
        if job is not None and job.parts is not None:
            return f"which is up to {_listed(_idents(job.parts), thread)}"
        known = [each for each in self.of.staff.takers() if each is not None]
        which = "whose only worker is" if len(known) == 1 else "whose workers are"
        return f"which is queued in {words(self.of.name)}, {which} {_listed(known, thread)}"

    @property
    def advice(self) -> str:
        """The advice for the place where the task is."""
        job = self.of.jobs.get(self._task)
        if job is None or job.worker is None:
            return (
                "give the pool another worker (max_workers), or do not wait in its tasks for other tasks of the same "
                "pool: give those a callback instead"
            )
        return "hold nothing that the task needs while you wait for its result, or give it a callback instead"


class TaskSettled(TaskDone, Group):
    """The end of a task and its callback: up to the dispatcher too while it runs any callback."""

    __slots__ = ()

    one_is_enough = False

    @property
    def sought(self) -> str:
        """The callback of the task."""
        return f"the callback of {words(self._label)}"

    def _up_to(self, waiter: int) -> UpTo:  # noqa: ARG002  the same
        return self

    def members(self) -> Collection[UpTo]:
        """The end of the task, and the dispatcher if it runs a callback."""
        job, calling = self.of.jobs.get(self._task), self.of.staff.calling()
        if job is None:
            return ()
        return (_end_of(job, self.of.staff), None if calling is None else calling[0])

    def why(self, thread: Callable[[int], str]) -> str:
        """Say where the task is, or which callback keeps the dispatcher busy."""
        calling, job = self.of.staff.calling(), self.of.jobs.get(self._task)
        if calling is None:
            return super().why(thread)
        busy = f"which comes after the {calling[1]}, in {thread(calling[0])}"
        return busy if job is None or job.done() else f"{busy}, and after the task, {super().why(thread)}"

    @property
    def advice(self) -> str:
        """The same advice wherever the task is."""
        return "hold nothing that the task or a callback needs while you wait for them"


# -- several tasks -----------------------------------------------------------------------------------------------------


class AnyDone(Awaited, Group):
    """The end of any of some tasks: up to the threads that run them, or to any worker."""

    __slots__ = ("_label", "_tasks", "of")

    one_is_enough = True
    of: Pool

    def __init__(self, pool: Pool, label: str, tasks: Callable[[], Iterable[object]]) -> None:
        self.of = pool
        self._label = label
        self._tasks = tasks

    @property
    def sought(self) -> str:
        """The first result of the tasks."""
        return f"the next result of {words(self._label)}"

    def _up_to(self, waiter: int) -> UpTo:  # noqa: ARG002  the same
        return self

    def members(self) -> Collection[UpTo]:
        """For each task the threads that end it; None for a task that may end by itself."""
        return [_end_of(self.of.jobs.get(task), self.of.staff) for task in self._tasks()]

    def why(self, thread: Callable[[int], str]) -> str:
        """Name the threads that run them."""
        return f"which is up to {_listed(_idents(self), thread)}"

    @property
    def advice(self) -> str:
        """The advice for all of these tasks."""
        return "hold nothing that the tasks need while you wait for them, or give the pool another worker (max_workers)"


class AllDone(Group):
    """The end of all of some tasks."""

    one_is_enough = False

    def __init__(self, pool: Pool, tasks: Callable[[], Iterable[object]]) -> None:
        self._pool = pool
        self._tasks = tasks

    def members(self) -> Collection[UpTo]:
        """For each task the threads that end it."""
        return [_end_of(self._pool.jobs.get(task), self._pool.staff) for task in self._tasks()]


class Room(Awaited, Group):
    """Room for one more task. While the dispatcher runs a callback, this is up to it; otherwise to any task."""

    __slots__ = ("_any", "of")

    one_is_enough = False
    of: Pool

    def __init__(self, pool: Pool) -> None:
        self.of = pool
        self._any = AnyDone(pool, "", lambda: list(pool.jobs))

    @property
    def sought(self) -> str:
        """Room for a task."""
        return "room for a task"

    def _up_to(self, waiter: int) -> UpTo:  # noqa: ARG002  the same
        return self

    def members(self) -> Collection[UpTo]:
        """The dispatcher if it runs a callback, otherwise any task."""
        calling = self.of.staff.calling()
        return (self._any,) if calling is None else (calling[0],)

    def why(self, thread: Callable[[int], str]) -> str:
        """Say which of the two it is."""
        calling = self.of.staff.calling()
        if calling is None:
            return self._any.why(thread)
        return f"which comes after the {calling[1]}, in {thread(calling[0])}"

    @property
    def advice(self) -> str:
        """The same advice for both."""
        return "hold nothing that the tasks or a callback need while you submit, or allow more tasks (max_pending)"


class Idle(Awaited, Group):
    """The end of all tasks and callbacks: up to each thread that runs one, and to the dispatcher in a callback."""

    __slots__ = ("of",)

    one_is_enough = False
    of: Pool

    def __init__(self, pool: Pool) -> None:
        self.of = pool

    @property
    def sought(self) -> str:
        """The end of all tasks."""
        return "the end of all tasks"

    def _up_to(self, waiter: int) -> UpTo:  # noqa: ARG002  the same
        return self

    def members(self) -> Collection[UpTo]:
        """The threads that run tasks or a callback."""
        calling = self.of.staff.calling()
        return (*self.of.staff.at_work(), None if calling is None else calling[0])

    def why(self, thread: Callable[[int], str]) -> str:
        """Name the threads and what they run."""
        calling = self.of.staff.calling()
        facts = [f"the {calling[1]}, in {thread(calling[0])}"] if calling is not None else []
        facts += [
            f"{words(job.label)}, which runs in {thread(job.worker)}"
            for job in list(self.of.jobs.values())
            if job.worker is not None and not job.done()
        ][:_SHOWN]
        return f"which is up to {' and '.join(facts)}"

    @property
    def advice(self) -> str:
        """The advice for all of these threads."""
        return "hold nothing that the tasks or a callback need while you join or close the pool"


class GroupDone(Awaited, Group):
    """The end of the tasks of a group: up to the threads that run them, to any worker, and to the dispatcher."""

    __slots__ = ("_limited", "_tasks", "of")

    one_is_enough = False
    of: Pool

    def __init__(self, pool: Pool, tasks: Callable[[], Iterable[object]], *, limited: bool) -> None:
        self.of = pool
        self._tasks = tasks
        self._limited = limited

    @property
    def sought(self) -> str:
        """The end of the group's tasks."""
        return "the end of the tasks of a group"

    def _up_to(self, waiter: int) -> UpTo:  # noqa: ARG002  the same
        return None if self._limited else self

    def members(self) -> Collection[UpTo]:
        """The ends of the tasks, and the dispatcher if it runs a callback."""
        calling = self.of.staff.calling()
        ends = [_end_of(self.of.jobs.get(task), self.of.staff) for task in self._tasks()]
        return (*ends, None if calling is None else calling[0])

    def why(self, thread: Callable[[int], str]) -> str:
        """Name the threads."""
        return f"which is up to {_listed(_idents(self), thread)}"

    @property
    def advice(self) -> str:
        """The advice for all of these threads."""
        return (
            "hold nothing that its tasks or a callback need when you leave a group, give the pool another worker "
            "(max_workers), or give the group a limit (timeout)"
        )


def _end_of(job: Job | None, staff: Staff) -> UpTo:
    """The threads that end a task; None if it may end by itself."""
    if job is None or job.done():
        return None
    worker = job.worker
    if worker is None:  # it is queued; or it runs elsewhere, and no worker is known there
        return staff.workers if job.parts is None else job.parts
    return None if job.limited else worker


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
