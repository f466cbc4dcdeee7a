"""The contract of a pool's tasks and callbacks: each runs once, in order, and no error is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any, TypeAlias

from ...callback_pool import CallbackPool, Task
from ...errors import CallbackErrors, CallbackExit, DeadlockError, TaskTimeoutError
from .contract import Contract
from .pool_tasks import Gate, fail, keywords, linger, pool_limit
from .trial import aside, expect, expect_that, moment, raises, told, until

Make: TypeAlias = Callable[..., CallbackPool]

# Workers may be processes, which take time to start, and many pools at once would only delay each other.
callbacks: Contract[Make] = Contract(moment=0.6)


class Heard:
    """The arguments that the callbacks of a task got."""

    def __init__(self) -> None:
        self.results: list[object] = []
        self.errors: list[BaseException] = []

    def ok(self, result: object) -> None:
        """The callback."""
        self.results.append(result)

    def wrong(self, error: BaseException) -> None:
        """The error callback."""
        self.errors.append(error)

    def expect(self, what: str, results: list[object], *errors: type[BaseException]) -> None:
        """Break the clause unless the callbacks got exactly this."""
        kinds = [type(error) for error in self.errors]
        well = self.results == results and len(kinds) == len(errors) and all(map(issubclass, kinds, errors))
        if not well:
            wanted = results or [kind.__name__ for kind in errors]
            got = [repr(result) for result in self.results] + [told(error) for error in self.errors]
            expect_that(False, f"the callbacks of {what} were told {', '.join(got) or 'nothing'}, and not {wanted!r}")


# -- tasks ------------------------------------------------------------------------------------------------------------


@callbacks.clause("a task's result is what its function returns", "submitted functions, and asked their tasks")
def _result(make: Make) -> None:
    with make(max_workers=2) as pool:
        tasks: list[tuple[Task[Any], object]] = [
            (pool.submit(pow, 2, 10), 1024),
            (pool.submit(keywords, 1, key="word"), ((1,), {"key": "word"})),
            (pool.apply_async(pow, (3, 3)), 27),
            (pool.apply_async(keywords, [1], {"key": "word"}), ((1,), {"key": "word"})),
        ]
        for task, wanted in tasks:
            expect(f"result() of {task}", task.result(pool_limit()), wanted)
            words = task.get(pool_limit()), task.ready(), task.successful(), task.done(), task.exception()
            expect("get(), ready(), successful(), done(), exception()", words, (wanted, True, True, True, None))


@callbacks.clause("an exception of a task comes out of result()", "submitted a function that raises")
def _raises(make: Make) -> None:
    with make(max_workers=2) as pool:
        for task in (pool.submit(fail, "in the task"), pool.apply_async(fail, ("in the task",))):
            error = raises(ValueError, "result()", task.result, pool_limit())
            expect("the exception's arguments", error.args, ("in the task",))
            expect("successful()", task.successful(), False)


# -- callbacks --------------------------------------------------------------------------------------------------------


@callbacks.clause("a callback gets the result, and is called once", "gave 20 tasks callbacks, and closed the pool")
def _once(make: Make) -> None:
    heard = [Heard() for _ in range(20)]
    with make(max_workers=2) as pool:
        for number, one in enumerate(heard):
            pool.apply_async(pow, (number, 2), callback=one.ok, error_callback=one.wrong)
    for number, one in enumerate(heard):
        one.expect("a task that returned", [number**2])


@callbacks.clause("an error callback gets the exception, and is called once", "gave 5 failing tasks callbacks")
def _error_once(make: Make) -> None:
    heard = [Heard() for _ in range(5)]
    with make(max_workers=2) as pool:
        for one in heard:
            pool.apply_async(fail, ("in the task",), callback=one.ok, error_callback=one.wrong)
    for one in heard:
        one.expect("a task that raised", [], ValueError)
        expect("the exception's arguments", one.errors[0].args, ("in the task",))


@callbacks.clause("callbacks run one at a time, on one thread that is not the submitter's", "looked where they run")
def _one_thread(make: Make) -> None:
    inside: list[int] = []
    crowds: list[int] = []
    threads: list[threading.Thread] = []

    def callback(_result: object) -> None:
        inside.append(1)
        crowds.append(len(inside))
        threads.append(threading.current_thread())
        inside.pop()

    with make(max_workers=4) as pool:
        for number in range(20):
            pool.apply_async(abs, (number,), callback=callback)
    expect("the largest number of callbacks together", max(crowds), 1)
    different = set(threads)
    own = threading.current_thread()
    names = [thread.name for thread in different]
    expect_that(len(different) == 1 and own not in different, f"they ran on {names}, the submitter on {own.name!r}")


@callbacks.clause("callbacks run in the order in which tasks are done", "let a later task be done first")
def _order(make: Make) -> None:
    order: list[str] = []
    with Gate() as gate, make(max_workers=2) as pool:
        slow = pool.apply_async(linger, gate.arguments, callback=order.append)
        gate.wait_reached()
        quick = pool.apply_async(str, ("quick",), callback=order.append)
        quick.wait_settled(pool_limit())
        gate.open()
        slow.wait_settled(pool_limit())
    expect("the callbacks", order, ["quick", "through"])


@callbacks.clause("a slow callback delays no result", "blocked a callback, and asked for another task's result")
def _slow(make: Make) -> None:
    go, begun = threading.Event(), threading.Event()

    def slowly(_result: object) -> None:
        begun.set()
        go.wait(pool_limit())

    with make(max_workers=2) as pool:
        try:
            slow = pool.apply_async(abs, (1,), callback=slowly)
            expect("the blocked callback's beginning", begun.wait(pool_limit()), True)
            expect("another task's result", pool.submit(abs, -2).result(pool_limit()), 2)
            expect("settled() of a task whose callback still runs", slow.settled(), False)
        finally:
            go.set()
        slow.wait_settled(pool_limit())
        expect("settled() after its callback", slow.settled(), True)


@callbacks.clause("a callback may wait for another task of the pool", "asked for a new task's result in a callback")
def _nested(make: Make) -> None:
    got: list[int] = []
    with make(max_workers=1) as pool:
        pool.apply_async(abs, (1,), callback=lambda _: got.append(pool.submit(abs, -2).result(pool_limit())))
    expect("the results in the callback", got, [2])


@callbacks.clause("a callback that waits for itself gets an error at once", "called join(), close() and more in it")
def _itself(make: Make) -> None:
    errors: dict[str, BaseException] = {}
    with make(max_workers=1) as pool:

        def callback(_result: object) -> None:
            for method in (pool.join, pool.close, task.wait_settled):
                try:
                    method(pool_limit())
                except BaseException as error:  # noqa: BLE001  to be looked at outside
                    errors[method.__name__] = error

        with Gate() as gate:
            task = pool.apply_async(linger, gate.arguments, callback=callback)
            gate.open()
            task.wait_settled(pool_limit() + moment())
    for method in ("join", "close", "wait_settled"):
        error = errors.get(method)
        what = told(error) if error else "nothing"
        expect_that(isinstance(error, DeadlockError), f"{method}() in a callback raised {what}, and no DeadlockError")


# -- errors -----------------------------------------------------------------------------------------------------------


@callbacks.clause("join() raises the exceptions of callbacks, once", "raised in callbacks, then joined twice")
def _callback_error(make: Make) -> None:
    error, second = ValueError("in the callback"), LookupError("in the error callback")

    def throw(what: BaseException) -> Callable[[object], None]:
        def callback(_result: object) -> None:
            raise what

        return callback

    with make(max_workers=1) as pool:
        pool.apply_async(abs, (1,), callback=throw(error))
        pool.apply_async(fail, ("in the task",), error_callback=throw(second))
        group = raises(CallbackErrors, "join()", pool.join, pool_limit())
        kept = list(group.exceptions)
        expect_that(error in kept and second in kept and len(kept) == 2, f"join() raised {told(group)}")
        pool.join(pool_limit())
        expect("a task after that", pool.submit(abs, -2).result(pool_limit()), 2)


@callbacks.clause("a callback that raises SystemExit does no harm, and join() raises it", "raised it, and went on")
def _callback_exit(make: Make) -> None:
    with make(max_workers=1) as pool:
        for _ in range(2):
            pool.apply_async(abs, (1,), callback=_leave)
        group = raises(CallbackErrors, "join()", pool.join, pool_limit())
        well = [isinstance(one, CallbackExit) and isinstance(one.__cause__, SystemExit) for one in group.exceptions]
        expect_that(well == [True, True], f"join() raised {told(group)}, and not two CallbackExit")
        heard = Heard()
        pool.apply_async(abs, (-2,), callback=heard.ok).wait_settled(pool_limit())
        heard.expect("a later task", [2])


def _leave(_result: object) -> None:
    raise SystemExit("in the callback")


@callbacks.clause(
    "a failure of apply_async() that no code looks at is raised by join(), once", "let a task fail, and joined"
)
def _unseen(make: Make) -> None:
    with make(max_workers=1) as pool:
        pool.apply_async(fail, ("unseen",))
        group = raises(CallbackErrors, "join()", pool.join, pool_limit())
        args = [one.args for one in group.exceptions]
        expect("the arguments of what join() raised", args, [("unseen",)])
        pool.join(pool_limit())


@callbacks.clause(
    "what no code looked at is raised by join(), of a map and of a dropped submit() too", "let both fail, and joined"
)
def _unseen_of_others(make: Make) -> None:
    with make(max_workers=1) as pool:
        unread = pool.map(fail, ["of a map"])
        pool.submit(fail, "of a submit")
        group = raises(CallbackErrors, "join()", pool.join, pool_limit())
        args = sorted(one.args for one in group.exceptions)
        expect("the arguments of what join() raised", args, [("of a map",), ("of a submit",)])
        del unread


@callbacks.clause("leaving the with raises errors that no code has seen", "let a task fail, and left")
def _unseen_with(make: Make) -> None:
    def use() -> None:
        with make(max_workers=1) as pool:
            pool.apply_async(fail, ("unseen",))

    group = raises(CallbackErrors, "leaving the with", use)
    expect("the arguments of what it raised", [one.args for one in group.exceptions], [("unseen",)])


@callbacks.clause("a failure that code looks at is not raised by join()", "looked at failures in each way, and joined")
def _seen(make: Make) -> None:
    heard = Heard()
    with make(max_workers=1) as pool:
        raises(ValueError, "result()", pool.apply_async(fail, ("seen",)).result, pool_limit())
        expect_that(pool.apply_async(fail, ("seen",)).exception(pool_limit()), "exception() gave None")
        pool.apply_async(fail, ("seen",), error_callback=heard.wrong)
        pool.join(pool_limit())
    heard.expect("a task that raised", [], ValueError)


@callbacks.clause("on_callback_error gets the errors, if it is a function", "gave one, and let two things fail")
def _on_error(make: Make) -> None:
    got: list[tuple[Task[Any], BaseException]] = []
    with make(max_workers=1, on_callback_error=lambda task, error: got.append((task, error))) as pool:
        task = pool.apply_async(abs, (1,), callback=_leave)
        other = pool.apply_async(fail, ("unseen",))
        pool.join(pool_limit())
        kinds = sorted((one is other, type(error).__name__) for one, error in got)
        expect("what the function got", kinds, [(False, "SystemExit"), (True, "ValueError")])
        expect_that(any(one is task for one, _ in got), "it did not get the task whose callback raised")


# -- cancelling, timeouts ---------------------------------------------------------------------------------------------


@callbacks.clause(
    "cancel() of a queued task gives CancelledError to its error callback, once", "cancelled behind another"
)
def _cancel(make: Make) -> None:
    heard = Heard()
    with Gate() as gate, make(max_workers=1) as pool:
        pool.apply_async(linger, gate.arguments)
        gate.wait_reached()
        queued = [pool.apply_async(abs, (1,), callback=heard.ok, error_callback=heard.wrong) for _ in range(3)]
        # Some executors have already fetched the next ones; the last one waits in any case.
        last = queued[-1]
        expect("cancel()", last.cancel(), True)
        expect("cancelled()", last.cancelled(), True)
        raises(CancelledError, "result()", last.result, pool_limit())
        last.wait_settled(pool_limit())
        heard.expect("the cancelled task", [], CancelledError)
        gate.open()
    expect("what the callbacks of the others were told", heard.results, [1, 1])


@callbacks.clause(
    "a task that runs for too long tells its error callback TaskTimeoutError, once, and its late result is dropped",
    "gave a task less time than it took",
)
def _timeout(make: Make) -> None:
    heard = Heard()
    with Gate() as gate, make(max_workers=1) as pool:
        aside(_warm_up, pool)
        task = pool.apply_async(
            linger, gate.arguments, callback=heard.ok, error_callback=heard.wrong, timeout=5 * moment()
        )
        raises(TaskTimeoutError, "result()", task.result, pool_limit())
        task.wait_settled(pool_limit())
        gate.open()
        expect("a later task", pool.submit(abs, -2).result(pool_limit()), 2)
        until("the late task should give its worker back", lambda: not pool.stats.abandoned, pool_limit())
    heard.expect("the task that took too long", [], TaskTimeoutError)


def _warm_up(pool: CallbackPool) -> None:
    expect("a first task", pool.submit(abs, -1).result(pool_limit()), 1)


@callbacks.clause("an innocent task behind a slow one does not expire", "queued one with a timeout behind another")
def _innocent(make: Make) -> None:
    heard = Heard()
    with Gate() as gate, make(max_workers=1) as pool:
        slow = pool.submit(linger, *gate.arguments)
        gate.wait_reached()
        task = pool.apply_async(abs, (-2,), callback=heard.ok, error_callback=heard.wrong, timeout=10 * moment())
        aside(task.wait, 20 * moment())
        expect("done() of a task that has not begun", task.done(), False)
        gate.open()
        slow.result(pool_limit())
        task.wait_settled(pool_limit())
    heard.expect("the task that waited for its turn", [2])
