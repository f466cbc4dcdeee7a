"""The pool's own threads: they start once, serve an inbox, and know which pools they work for."""

from __future__ import annotations

from _queue import SimpleQueue
from _thread import allocate_lock
from collections.abc import Callable
from functools import partial
from logging import ERROR
from threading import Thread, current_thread, local, main_thread
from typing import Any, Literal

from .._core.deadline import Deadline
from .._core.foreign import log

# -- their start and their work ----------------------------------------------------------------------------------------


def why_no_thread(error: RuntimeError) -> str:
    """Say why a thread could not be started, and what to do; the text follows the name of the thread."""
    if main_thread().is_alive():
        return f"can't be started ({error}): the system gives this process no more. Let some threads end first"
    return (
        f"can't be started ({error}), as the program's main thread has ended, and from then on Python 3.12 starts none"
        ". Submit a first task earlier, or let the main thread wait for the pool"
    )


class HelperThread:
    """A daemon thread that starts once, when it is first needed, even if several threads start it or are interrupted.

    The thread claims its role itself. So if an interrupt comes between its start and the record of it, or two threads
    start it at once, a second thread finds the role taken and ends.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._role = allocate_lock()
        self.started: bool = False
        self.thread: Thread | None = None

    def ensure(self, target: Callable[..., object], *args: Any) -> None:
        """Let the thread call ``target(*args)`` unless it was started; `RuntimeError` if there are no more threads."""
        if not self.started:
            try:
                Thread(target=self._run, args=(target, args), name=self._name, daemon=True).start()
            except RuntimeError as error:
                raise RuntimeError(f"the thread {self._name!r} {why_no_thread(error)}") from error
            self.started = True

    def over(self) -> bool:
        """True once the thread has ended."""
        return self.thread is not None and not self.thread.is_alive()

    def await_end(self, deadline: Deadline) -> None:
        """Block until the thread has ended, or the time is up."""
        if self.thread is not None:
            self.thread.join(deadline.remaining())

    def _run(self, target: Callable[..., object], args: tuple[Any, ...]) -> None:
        if self._role.acquire(blocking=False):
            self.started = True
            self.thread = current_thread()
            target(*args)


def serve(inbox: SimpleQueue[Any], handle: Callable[[Any], object]) -> None:
    """Handle items until None comes, whatever exceptions the handling raises; while idle, keep no item alive.

    It must be harmless to handle an item twice: an item is handled again if its handling was interrupted.
    """
    # Not `inbox.get()` in a loop: an exception that is raised in the thread from outside could come between the end of
    # such a call and the store of its result.
    for item in iter(inbox.get, None):
        try:
            handle(item)
        except BaseException as error:  # noqa: BLE001  this thread has more to do, and others wait for it
            log(ERROR, f"{current_thread().name} met an error, and goes on", error)
            try:
                handle(item)
            except BaseException as again:  # noqa: BLE001  see above
                log(ERROR, f"{current_thread().name} met an error once more, and goes on", again)
        del item


# -- the pools that they work for --------------------------------------------------------------------------------------

Role = Literal["task", "callback", "hook"]


class _Here(local):
    # A tuple, because an executor may run a task of one pool in the middle of a task of another.
    roles: tuple[tuple[object, Role], ...] = ()


_here = _Here()


def enter(pool: object, role: Role) -> tuple[tuple[object, Role], ...]:
    """Note what this thread does for the pool from now on; return the argument for `leave`."""
    before = _here.roles
    _here.roles = (*before, (pool, role))
    return before


# : Undoes an `enter`. It is a call of C, so it happens for certain if it is the first one in a ``finally``.
leave: Callable[[tuple[tuple[object, Role], ...]], None] = partial(setattr, _here, "roles")


def role_in(pool: object) -> Literal["task", "callback"] | None:
    """Return what this thread does for the pool: run a callback (or a hook), or else a task, or neither.

    Such code may submit in spite of limits, and must not wait for the pool.
    """
    found: Literal["task"] | None = None
    for employer, role in _here.roles:
        if employer is pool:
            if role != "task":
                return "callback"
            found = role
    return found


def in_hook(pool: object) -> bool:
    """Whether this thread runs a hook of the pool now. A hook sees every task, so it looks at none in particular."""
    for employer, role in reversed(_here.roles):
        if employer is pool:
            return role == "hook"
    return False
