"""`Threads` and `assert_blocks` lose no exception and hang on no thread."""

from __future__ import annotations

import os
import threading

import pytest

from syncprims.testing import Threads, WedgeError, assert_blocks, patience


class TestThreads:
    """Running functions in threads."""

    def test_results_come_back(self) -> None:
        """Each handle has its own function's result, and both kinds of arguments are passed."""
        with Threads() as threads:
            handles = [threads.start(divmod, n, 2) for n in range(4)]
            keyword = threads.start(int, "11", base=2)
        assert [handle.result() for handle in handles] == [(0, 0), (0, 1), (1, 0), (1, 1)]
        assert keyword.result(timeout=0) == 3
        assert all(handle.done() for handle in handles)

    def test_functions_run_at_the_same_time(self) -> None:
        """Each function has its own thread, a daemon, so they can meet."""
        barrier = threading.Barrier(3)
        with Threads() as threads:
            handles = [threads.start(barrier.wait, patience()) for _ in range(3)]
            assert all(handle.thread.daemon for handle in handles)
        assert sorted(handle.result() for handle in handles) == [0, 1, 2]

    def test_all_exceptions_come_out_as_one_group(self) -> None:
        """Leaving the block raises all exceptions, in the order of the starts."""
        threads = Threads()
        threads.start(int, "one")
        threads.start(int, "2")
        threads.start(os.environ.__getitem__, "no such variable")
        with pytest.raises(ExceptionGroup, match="2 of 3 threads failed") as caught, threads:
            pass
        assert [type(error) for error in caught.value.exceptions] == [ValueError, KeyError]

    def test_exit_in_a_thread_is_not_lost(self) -> None:
        """A SystemExit is raised too, in a BaseExceptionGroup."""

        def leave() -> None:
            raise SystemExit(3)

        with pytest.raises(BaseExceptionGroup) as caught, Threads() as threads:
            threads.start(leave)
        assert not isinstance(caught.value, ExceptionGroup)
        assert isinstance(caught.value.exceptions[0], SystemExit)

    def test_exception_that_was_looked_at_is_not_raised_again(self) -> None:
        """An exception that `result` or `exception` has shown is not raised again."""
        with Threads() as threads:
            first, second = threads.start(int, "one"), threads.start(int, "two")
            with pytest.raises(ValueError, match="one"):
                first.result()
            assert isinstance(second.exception(), ValueError)
        threads.join()

    def test_join_raises_each_exception_once(self) -> None:
        """A second join has nothing left to raise."""
        threads = Threads()
        threads.start(int, "one")
        with pytest.raises(ExceptionGroup):
            threads.join()
        threads.join()

    def test_wedge_fails_with_all_stacks(self) -> None:
        """A thread that hangs is an error that shows where, with the others' failures as its cause."""
        gate = threading.Event()

        def stuck_in_here() -> None:
            gate.wait()

        threads = Threads(timeout=0.05)
        threads.start(stuck_in_here)
        threads.start(int, "one").thread.join(patience())
        with pytest.raises(WedgeError, match=r"1 of 2 threads did not end within 0\.05 s") as caught:
            threads.join()
        assert "in stuck_in_here" in caught.value.stacks
        assert "MainThread" in str(caught.value)
        assert len(caught.value.threads) == 1
        assert isinstance(caught.value.__cause__, ExceptionGroup)
        gate.set()
        threads.join(patience())

    def test_result_of_a_thread_that_hangs_is_a_wedge(self) -> None:
        """`result` has a limit, and names the thread."""
        gate = threading.Event()
        with Threads() as threads:
            handle = threads.start(gate.wait)
            with pytest.raises(WedgeError, match="did not end within 0 s"):
                handle.result(timeout=0)
            assert "running" in repr(handle)
            assert "1 of 1 running" in repr(threads)
            gate.set()
        assert handle.result()
        assert "returned" in repr(handle)

    def test_exception_of_the_block_is_the_one_that_comes_out(self) -> None:
        """The block's own exception stays the same; the exceptions of the threads are its notes."""
        gate = threading.Event()
        threads = Threads(timeout=0.05)
        threads.start(gate.wait)
        threads.start(int, "one").thread.join(patience())
        with pytest.raises(LookupError, match="mine") as caught, threads:
            raise LookupError("mine")
        first, second = caught.value.__notes__
        assert first.startswith("A thread failed too:")
        assert "invalid literal" in first
        assert "1 of 2 threads did not end" in second
        gate.set()
        threads.join(patience())

    def test_threads_that_threads_start_are_joined(self) -> None:
        """A thread may start another, and the block waits for that one as well."""
        seen: list[int] = []
        with Threads() as threads:
            threads.start(lambda: threads.start(seen.append, 1))
        assert seen == [1]

    @pytest.mark.parametrize("timeout", [-1, float("nan")])
    def test_bad_timeout_is_refused(self, timeout: float) -> None:
        """A timeout means the same as everywhere in the library."""
        with pytest.raises(ValueError, match="timeout must be"):
            Threads(timeout=timeout)


def test_patience_grows_with_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The factor multiplies every given time, and the default of ten seconds."""
    monkeypatch.setenv("SYNCPRIMS_TEST_DELAY_FACTOR", "2.5")
    assert patience() == 25
    assert patience(2) == 5
    assert Threads().timeout == 25
    monkeypatch.delenv("SYNCPRIMS_TEST_DELAY_FACTOR")
    assert patience() == 10


class TestAssertBlocks:
    """Asserting that a function waits."""

    def test_blocked_function_can_be_let_go(self) -> None:
        """The handle gives the result once the function could go on."""
        gate = threading.Event()
        blocked = assert_blocks(gate.wait)
        assert not blocked.done()
        gate.set()
        assert blocked.result() is True

    def test_until_says_when_it_is_blocked(self) -> None:
        """With `until` the function is not watched for a time, and may take a while to block."""
        gate, there = threading.Event(), threading.Event()

        def come_and_wait() -> int:
            there.set()
            return int(gate.wait(patience()))

        blocked = assert_blocks(come_and_wait, until=there.is_set)
        gate.set()
        assert blocked.result() == 1

    def test_function_that_returns_is_not_blocked(self) -> None:
        """The error says what it returned."""
        with pytest.raises(AssertionError, match="expected to block, but it returned 'done'"):
            assert_blocks(lambda: "done", look=patience())

    def test_function_that_raises_is_not_blocked(self) -> None:
        """The error has the function's own as its cause."""
        with pytest.raises(AssertionError, match="raised ValueError") as caught:
            assert_blocks(lambda: int("one"), look=patience())
        assert isinstance(caught.value.__cause__, ValueError)

    def test_function_that_returns_before_until_is_not_blocked(self) -> None:
        """`until` alone does not prove that it is blocked."""
        with pytest.raises(AssertionError, match="returned 1"):
            assert_blocks(lambda: 1, until=lambda: False)

    def test_until_that_never_comes_true_fails(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Waiting for `until` has a limit too."""
        monkeypatch.setenv("SYNCPRIMS_TEST_DELAY_FACTOR", "0.005")
        gate = threading.Event()
        with pytest.raises(AssertionError, match=r"did not come true in 0\.05 s"):
            assert_blocks(gate.wait, until=lambda: False)
        gate.set()
