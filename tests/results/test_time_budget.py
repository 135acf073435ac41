"""Metrics that take their time: an interval within the budget, or a word on why there is none."""

import json
import time
from pathlib import Path

import numpy as np
import pytest

import synthesize_results
import train
from bench.noop import net
from core.base.predictions import Predictions
from core.results.statistics import resampled


def slow(outputs: np.ndarray, labels: np.ndarray) -> float:
    """The largest output: no mean of single examples, and a call takes 20 ms."""
    time.sleep(0.02)
    return float(outputs.max())


def accuracy(outputs: np.ndarray, labels: np.ndarray) -> float:
    return float(np.mean(outputs.argmax(axis=1) == labels))


@pytest.fixture
def predictions() -> Predictions:
    rng = np.random.default_rng(0)
    return Predictions(rng.normal(size=(300, 3)), rng.integers(3, size=300))


def test_a_slow_metric_takes_no_interval_from_the_others(predictions: Predictions) -> None:
    began = time.monotonic()
    found = resampled([predictions], {"slow": slow, "accuracy": accuracy}, seconds=2)
    assert time.monotonic() - began < 2
    assert set(found) == {"accuracy"}
    alone = resampled([predictions], {"accuracy": accuracy})
    assert np.array_equal(found["accuracy"], alone["accuracy"])


def test_metrics_share_the_time(predictions: Predictions) -> None:
    def quick(outputs: np.ndarray, labels: np.ndarray) -> float:
        time.sleep(0.001)
        return float(outputs.max())

    three = {"a": quick, "b": quick, "c": quick}
    began = time.monotonic()
    found = resampled([predictions], three, seconds=2.5)
    assert 1 <= len(found) < 3
    assert time.monotonic() - began < 8
    assert all(np.isfinite(draws).all() for draws in found.values())


def test_the_table_and_a_comparison_say_which_metric_is_too_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    params = {"task": "bench.noop", "num_steps": 4, "num_epochs": 1, "num_threads": 1}
    monkeypatch.setitem(net.metrics, "slow", slow)
    for name, rate in (("a", 0.1), ("b", 0.2)):
        (tmp_path / name).mkdir()
        text = json.dumps(params | {"learning_rate": rate, "num_weights": 0})
        (tmp_path / name / "params.json").write_text(text)
        where = ["--model_dir", str(tmp_path / name), "--data_dir", str(tmp_path)]
        assert train.main(where) == 0
    began = time.monotonic()
    argv = ["--parent_dir", str(tmp_path), "--seconds", "5"]
    assert synthesize_results.main(argv) == 0
    assert synthesize_results.main([*argv, "--compare", "a", "b"]) == 0
    assert time.monotonic() - began < 15
    table, comparison = capsys.readouterr().out.split("A: a")
    told = "No interval of a, b: slow: 1,000 calls of the metric take too long"
    assert told in table or told.replace("a, b", "b, a") in table
    assert "accuracy: 1,000" not in table
    assert "slow: A" in comparison
    assert "over examples: 1,000 calls of the metric take too long (--seconds)" in comparison
    assert "points, 95% interval" in comparison
