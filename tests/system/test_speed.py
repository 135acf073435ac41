"""The loop stays fast."""

import subprocess
import sys
import time

import pytest

from bench import common, overhead


def test_the_loop_costs_little_beside_one_written_by_hand() -> None:
    # 2.0 to 2.5 are usual: doing nothing takes 0.1 ms a step, where nets that learn take 10 or 100.
    medians = overhead.measure(steps=300, repeats=3)
    ours, by_hand = (medians[way]["microseconds a step"] for way in ("train.py", "by hand"))
    assert ours < 6 * by_hand


def test_no_ratio_is_given_beside_a_busy_process(capsys: pytest.CaptureFixture[str]) -> None:
    ways = {name: lambda: {"seconds": common.seconds(lambda: time.sleep(0.3))} for name in "ab"}
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        medians = common.in_turn(ways, 2)
    finally:
        busy.kill()
        busy.wait()
    common.show("sleeping", medians, "a")
    said = capsys.readouterr().out
    assert "NOT QUIET: no ratios" in said
    assert "(1." not in said
    assert "(0." not in said


def test_turns_go_on_until_no_single_one_decides_the_median() -> None:
    values = iter([1.0, 2.0, 1.0, 1.0, 1.01, 1.0, 1.0])
    medians = common.in_turn({"a": lambda: {"examples/s": next(values)}}, 2)
    assert (medians.turns, medians["a"]["examples/s"]) == (4, 1.0)
    assert medians.moves <= 0.03


def test_a_process_that_takes_too_long_is_ended() -> None:
    began = time.monotonic()
    with pytest.raises(RuntimeError, match="ended after 1 s"):
        common.run("-c", "import time; time.sleep(60)", at_most=1)
    assert time.monotonic() - began < 10


def test_no_turn_begins_that_would_end_too_late() -> None:
    ways = {"a": lambda: {"seconds": common.seconds(lambda: time.sleep(0.2))}}
    assert common.in_turn(ways, 50, at_most=0.7).turns in (1, 2, 3)
