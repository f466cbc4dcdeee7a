"""Which of CPython's own tests of pools and executors are left out, why, and which test of ours checks the same."""

from __future__ import annotations

from typing import NamedTuple


class LeftOut(NamedTuple):
    """The reason why a test is left out.

    Attributes:
        why: The behaviour that `CallbackPool` does not have, on purpose.
        instead: The test of ours for the same, as ``file::function``; or for a fault, ``fault_table::scenario``. Empty
            if the test is only about private parts.
    """

    why: str
    instead: str


# -- multiprocessing.Pool ----------------------------------------------------------------------------------------------

OF_POOLS = {
    "test_make_pool": LeftOut(
        "counts the workers in the private _pool; here they start when they are needed",
        "test_pool_lifecycle::test_bad_arguments_are_refused_at_once",
    ),
    "test_resource_warning": LeftOut("sets the private _state of a closed pool, to be warned that it was not", ""),
    "test_unpickleable_result": LeftOut(
        "expects MaybeEncodingError; here it is a TransportError, which says what went wrong",
        "fault_table::unpicklable_result",
    ),
    "test_pool_worker_lifetime": LeftOut(
        "looks at the private _pool and calls the private _repopulate_pool",
        "test_pool_kill::test_max_tasks_per_child_renews_the_processes",
    ),
    "test_pool_maxtasksperchild_invalid": LeftOut(
        "0.5 and '12' are TypeErrors here, as for every count",
        "test_pool_kill::test_what_does_not_go_is_refused_at_once",
    ),
}
OF_THREAD_POOLS = {
    "test_terminate": LeftOut(
        "waits five minutes for threads, which can't be ended; later versions leave it out",
        "test_pool_lifecycle::test_terminate_returns_what_runs_in_threads",
    ),
}

# -- executors ---------------------------------------------------------------------------------------------------------

OF_EXECUTORS = {
    "test_submit_after_interpreter_shutdown": LeftOut(
        "looks for the words of the standard executor's error",
        "test_pool_programs::test_pool_that_was_drained_takes_no_more",
    ),
    "test_thread_names_assigned": LeftOut(
        "threads are named for the pool: there is no thread_name_prefix",
        "test_pool_as_executor::test_threads_are_named_for_their_pool",
    ),
    "test_thread_names_default": LeftOut(
        "threads are named for the pool, '<name>-worker-<n>'",
        "test_pool_as_executor::test_threads_are_named_for_their_pool",
    ),
    "test_del_shutdown": LeftOut(
        "drops the executor and holds results of its map; here these keep their pool until they were read",
        "test_pool_lifecycle::test_pool_that_is_dropped_ends_its_threads",
    ),
    "test_hang_global_shutdown_lock": LeftOut(
        "leaves `with` while a task submits itself again, which close() waits for; shutdown() ends it",
        "test_pool_as_executor::test_forks_and_shutdown_while_a_task_submits_itself_again",
    ),
    "test_killed_child": LeftOut(
        "expects that the executor is broken by it; here the task fails, and the others go on",
        "fault_table::one_of_eight_dies",
    ),
    "test_max_workers_too_large": LeftOut(
        "is about Windows, and the message is worded otherwise",
        "test_pool_as_executor::test_windows_takes_61_processes",
    ),
    "test_traceback": LeftOut(
        "the cause that carries the remote traceback is of multiprocessing's class, as the tests of Pool ask for",
        "test_pool_processes::test_error_brings_the_remote_traceback",
    ),
    "test_max_tasks_per_child_defaults_to_spawn_context": LeftOut(
        "here every start method goes with max_tasks_per_child",
        "test_pool_kill::test_processes_start_as_one_likes",
    ),
    "test_python_finalization_error": LeftOut(
        "lets one thread start and no other, which breaks the standard executor and not this pool",
        "fault_table::no_more_threads",
    ),
    "test_error_at_task_pickle": LeftOut(
        "what can't be pickled is raised by submit, and is the cause of a TransportError",
        "fault_table::unpicklable_argument",
    ),
    "test_exit_at_task_unpickle": LeftOut(
        "what a call raises while it is unpickled is its own error, and breaks nothing",
        "test_travelling_errors::test_system_exit_while_something_is_pickled_is_not_the_tasks_own",
    ),
    "test_error_at_task_unpickle": LeftOut(
        "likewise, its own error, which breaks nothing",
        "fault_table::ununpicklable_argument",
    ),
    "test_error_during_result_pickle_on_worker": LeftOut(
        "is the cause of a TransportError",
        "fault_table::unpicklable_result",
    ),
    "test_exit_during_result_pickle_on_worker": LeftOut(
        "likewise the cause of a TransportError",
        "test_travelling_errors::test_system_exit_while_something_is_pickled_is_not_the_tasks_own",
    ),
    "test_error_during_result_unpickle_in_result_handler": LeftOut(
        "is an error of its task alone, and breaks nothing",
        "fault_table::ununpicklable_result",
    ),
    "test_exit_during_result_unpickle_in_result_handler": LeftOut(
        "likewise an error of its task alone",
        "test_travelling_errors::test_system_exit_while_something_is_pickled_is_not_the_tasks_own",
    ),
    "test_shutdown_deadlock_pickle": LeftOut(
        "waits for the private _executor_manager_thread; and submit raises what can't be pickled",
        "test_pool_as_executor::test_shutdown_ends_although_a_call_could_not_be_pickled",
    ),
    "test_gh105829_should_not_deadlock_if_wakeup_pipe_full": LeftOut(
        "replaces private parts of the standard executor, which the pool does not have", ""
    ),
}
OF_PROCESS_EXECUTORS = {
    "test_cancel_futures": LeftOut(
        "wants some task to have begun; here all that wait for a worker to come up are cancelled",
        "test_pool_as_executor::test_shutdown_cancels_what_is_queued_in_processes",
    ),
    "test_saturation": LeftOut(
        "submits a semaphore of multiprocessing, which is raised by submit: it travels at a worker's start alone",
        "test_pool_as_executor::test_no_more_processes_than_workers",
    ),
    "test_processes_terminate": LeftOut(
        "likewise submits a semaphore of multiprocessing",
        "test_pool_as_executor::test_processes_end_with_their_pool",
    ),
    "test_shutdown_no_wait": LeftOut(
        "looks into the private _call_queue and _executor_manager_thread",
        "test_pool_as_executor::test_processes_end_with_their_pool",
    ),
}
# Suites that don't run at all.
SUITES_LEFT_OUT = {
    "test_init.FailingInitializerMixin": LeftOut(
        "looks at the private _broken, and for the standard executor's line in the log",
        "test_worker_ends::test_initializers_error_is_the_cause",
    ),
    "test_init.FailingInitializerResourcesTest": LeftOut(
        "runs those, and then looks into the private resource tracker", ""
    ),
}

TABLES = (OF_POOLS, OF_THREAD_POOLS, OF_EXECUTORS, OF_PROCESS_EXECUTORS, SUITES_LEFT_OUT)
