"""Processes that a task starts itself end as they would without the framework."""

import multiprocessing
import os
import signal
import time

import pytest

from core.machine.signals import Stop


def wait_for_ever() -> None:
    time.sleep(60)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_forked_process_ends_by_a_signal(number: int, capfd: pytest.CaptureFixture[str]) -> None:
    stop = Stop()
    stop.training = True
    with stop.handling_signals():
        process = multiprocessing.get_context("fork").Process(target=wait_for_ever, daemon=True)
        process.start()
        assert process.pid is not None
        time.sleep(0.2)
        os.kill(process.pid, number)
        process.join(10)
        assert process.exitcode not in (None, 0)
        assert stop.requested == 0
    capfd.readouterr()


def test_a_pool_of_a_task_is_closed_without_a_word(capfd: pytest.CaptureFixture[str]) -> None:
    stop = Stop()
    stop.training = True
    with stop.handling_signals(), multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(abs, [-1, 2]) == [1, 2]
    assert capfd.readouterr().err == ""


def test_a_signal_right_after_a_fork_ends_the_new_process() -> None:
    stop = Stop()
    stop.training = True
    with stop.handling_signals():
        for _ in range(20):
            if (number := os.fork()) == 0:
                time.sleep(5)
                os._exit(0)
            os.kill(number, signal.SIGTERM)
            assert os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]) == -signal.SIGTERM
    assert stop.requested == 0
