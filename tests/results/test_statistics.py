"""Intervals that cover and comparisons that err as often as they say, on simulated predictions."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import synthesize_results
from core.base.errors import DataError
from core.base.examples import score, values_of_examples
from core.base.predictions import Predictions, read_predictions
from core.results.comparison import ends_of
from core.results.statistics import (
    aligned,
    interval,
    luck,
    over_both,
    over_seeds,
    resampled,
    resamples,
    widened,
)
from tests.conftest import Folder
from tests.helpers.runs import run
from tests.projects.pictures.net import metrics

DRAWS, COUNT = 2000, 500


def interval_of_mean(values: np.ndarray) -> tuple[float, float]:
    """Return the interval of a mean over examples, of values (N,)."""
    counts = counts_of(len(values))
    return interval(counts @ values / len(values), len(values))


@cache
def counts_of(count: int) -> np.ndarray:
    """Return how often each example is in each resample, (1000, N)."""
    counts = np.stack([np.bincount(each, minlength=count) for each in resamples(count)])
    return counts * 1.0  # NumPy multiplies matrices of whole numbers slowly


def simulated(right: np.ndarray) -> Predictions:
    """Predictions of three classes, right where it says so."""
    labels = np.arange(len(right)) % 3
    return Predictions(np.eye(3)[np.where(right, labels, (labels + 1) % 3)], labels)


def test_the_interval_of_an_accuracy_or_a_difference_is_that_of_its_examples_values() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.random(COUNT) < share for share in (0.8, 0.7))
    only = {"accuracy": metrics["accuracy"]}
    draws = resampled([simulated(a), simulated(b)], only)["accuracy"]
    assert interval(draws[:, 0]) == pytest.approx(interval_of_mean(a * 1.0))
    assert interval(draws[:, 0] - draws[:, 1]) == pytest.approx(interval_of_mean(a * 1.0 - b))


def test_a_95_percent_interval_covers_the_true_accuracy_in_93_to_97_percent() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(DRAWS):
        low, high = interval_of_mean((rng.random(COUNT) < 0.9) * 1.0)
        covered += low <= 0.9 <= high
    assert 0.93 <= covered / DRAWS <= 0.97


def test_twenty_widened_intervals_hold_all_together_in_about_95_percent() -> None:
    draws, looks = 400, 20
    values = (np.random.default_rng(8).random((COUNT, draws * looks)) < 0.8) * 1.0
    resampled_means = counts_of(COUNT).astype(float) @ values / COUNT  # (1000, draws * looks)
    held = np.empty((2, draws * looks), bool)
    for i, (own, mean) in enumerate(zip(resampled_means.T, values.mean(axis=0), strict=True)):
        ends = interval(own)
        for row, (low, high) in enumerate((ends, widened(ends, mean, looks, bounded=True))):
            held[row, i] = low <= 0.8 <= high
    plain, wide = held.reshape(2, draws, looks).all(axis=2).mean(axis=1)
    print(f"all {looks} hold: {100 * plain:.1f}% as they are, {100 * wide:.1f}% widened")
    assert plain < 0.5
    assert 0.91 <= wide <= 0.98  # one interval of the 20 misses in 0.25%, by the formula


@pytest.mark.slow
def test_an_interval_by_resampling_covers_as_well() -> None:
    rng = np.random.default_rng(7)
    covered, draws = 0, 1000
    for _ in range(draws):
        predictions = simulated(rng.random(COUNT) < 0.9)
        low, high = interval(resampled([predictions], {"f1": metrics["f1"]})["f1"][:, 0])
        covered += low <= 0.9 <= high  # errors go round the three of six classes that occur
    print(f"the interval of F1 covers in {covered} of {draws} draws")
    assert 0.92 <= covered / draws <= 0.98  # Monte Carlo's own error is 0.007


def test_two_equal_models_are_not_told_apart_in_about_95_percent() -> None:
    rng = np.random.default_rng(2)
    same = 0
    for _ in range(DRAWS):
        hard = rng.random(COUNT)  # what makes both fail on the same examples
        a, b = (hard + rng.random(COUNT) < 1.4 for _ in range(2))
        low, high = interval_of_mean(a * 1.0 - b)
        same += low <= 0 <= high
    assert 0.93 <= same / DRAWS <= 0.97


def test_a_difference_of_three_standard_errors_is_found_in_80_percent_or_more() -> None:
    rng = np.random.default_rng(3)
    found = 0
    gap = 3 * np.sqrt(0.2 / COUNT)  # they differ in 20% of the examples
    for _ in range(DRAWS):
        draw = rng.random(COUNT)
        low, _ = interval_of_mean(1.0 * (draw < 0.1 + gap / 2) - (draw > 0.9 + gap / 2))
        found += low > 0
    assert found / DRAWS >= 0.8


def test_a_mean_over_examples_is_recognised_and_another_metric_is_not() -> None:
    rng = np.random.default_rng(4)
    predictions = simulated(rng.random(200) < 0.7)
    values = values_of_examples(predictions, metrics["accuracy"])
    assert values is not None
    assert values.mean() == pytest.approx(score(predictions, metrics["accuracy"]))
    assert values_of_examples(predictions, metrics["f1"]) is None


def test_the_fast_way_and_resampling_give_the_same_interval() -> None:
    rng = np.random.default_rng(5)
    predictions = simulated(rng.random(400) < 0.7)
    slow = {"accuracy": lambda outputs, labels: metrics["accuracy"](outputs, labels) ** 1.0}
    squared = {"accuracy": lambda outputs, labels: metrics["accuracy"](outputs, labels) ** 2}
    fast = resampled([predictions], slow)["accuracy"]
    by_resampling = resampled([predictions], squared)["accuracy"]
    assert np.sqrt(by_resampling) == pytest.approx(fast)


def test_an_interval_of_real_numbers_is_that_of_the_normal_distribution() -> None:
    values = np.random.default_rng(6).normal(5, 2, 1000)
    error = values.std() / np.sqrt(1000)
    ends = values.mean() - 1.96 * error, values.mean() + 1.96 * error
    assert interval_of_mean(values) == pytest.approx(ends, abs=0.2 * error)


def test_a_run_without_a_mistake_does_not_get_an_interval_of_no_width() -> None:
    low, high = interval_of_mean(np.ones(100))
    assert (low, high) == (pytest.approx(0.963, abs=0.001), 1.0)  # Wilson: n / (n + 1.96**2)


@pytest.mark.slow
@pytest.mark.parametrize("spread", [0.0, 0.02, 0.05])
def test_the_interval_over_seeds_and_examples_covers_in_93_to_97_percent(spread: float) -> None:
    rng, covered, seeds, count = np.random.default_rng(8), 0, 5, 300
    for _ in range(DRAWS):
        hard = rng.normal(2.0, 0.8, count)  # what makes all fail on the same examples
        able = hard + 8 * spread * rng.normal(size=(2 * seeds, 1))  # a seed's own luck
        right = rng.random((2 * seeds, count)) < 1 / (1 + np.exp(-able))
        draws = counts_of(count) @ right.T / count
        means = over_both(draws, [range(seeds), range(seeds, 2 * seeds)])
        low, high = interval(means[:, 0] - means[:, 1])
        covered += low <= 0 <= high
    print(f"spread {spread} of seeds: covers in {covered} of {DRAWS} draws")
    assert 0.93 <= covered / DRAWS <= 0.97


def test_the_luck_of_the_best_of_many_equal_runs_is_what_it_gained_by_choice() -> None:
    rng, overrated, told = np.random.default_rng(9), list[float](), list[float]()
    for _ in range(40):
        right = (rng.random((10, 200)) < 0.8) * 1.0
        scores = right.mean(axis=1)
        overrated.append(scores.max() - 0.8)
        told.append(luck(counts_of(200) @ right.T / 200, scores))
    assert np.mean(told) == pytest.approx(np.mean(overrated), abs=0.01)


def test_sentences_are_resampled_whole(tmp_path: Path) -> None:
    labels = np.array([0, 1, -1, -1, 1, -1, 0, 0, 0, -1])
    outputs = np.eye(2)[np.maximum(labels, 0)]
    path = tmp_path / "predictions_val.npz"
    np.savez(path, outputs=outputs, labels=labels, example_ids=np.array([7, 5, 6]))
    predictions = read_predictions(path)
    assert len(predictions) == 3
    assert predictions.rows(np.array([1, 0, 1])).tolist() == [4, 5, 0, 1, 2, 3, 4, 5]
    in_order = aligned([predictions])[0]
    assert in_order.labels.tolist() == [1, -1, 0, 0, 0, -1, 0, 1, -1, -1]
    np.savez(path, outputs=outputs, labels=labels, example_ids=np.arange(4))
    with pytest.raises(DataError, match="which rows belong"):
        read_predictions(path)


def test_predictions_of_other_examples_are_not_compared() -> None:
    one, other = simulated(np.ones(6, bool)), simulated(np.ones(6, bool))
    one.ids, other.ids = np.arange(6), np.arange(6)[::-1]
    with pytest.raises(DataError, match="same examples"):
        aligned([one, other])
    with pytest.raises(DataError, match="same examples"):
        aligned([one, simulated(np.ones(9, bool))])


def test_the_permutation_test_counts_the_divisions_of_the_seeds() -> None:
    assert over_seeds([0.1, 0.2, 0.3], [0.4, 0.5, 0.6]) == pytest.approx(2 / 20)
    assert over_seeds([1, 2, 3, 4, 5], [6, 7, 8, 9, 10]) == pytest.approx(2 / 252)
    assert over_seeds([1.0, 2.0], [1.0, 2.0]) == 1


def test_runs_are_compared_over_examples_and_over_seeds(
    run_folder: Folder, signs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common: dict[str, Any] = {"task": "tests.projects.linear", "num_epochs": 1}
    for rate in (1e-2, 1e-4):
        for seed in (1, 2):
            params = common | {"learning_rate": rate, "seed": seed}
            folder = run_folder(f"rate_{rate}_seed_{seed}", **params)
            assert run(folder, signs) == 0
    capsys.readouterr()
    compared = ["rate_0.01_seed_1", "rate_0.0001_seed_2"]
    arguments = ["--parent_dir", str(tmp_path), "--compare", *compared]
    assert synthesize_results.main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "A: rate_0.01_seed_{1,2}"
    pattern = r"  over examples: [+-]\d+\.\d\d points, 95% interval \[-?\d+\.\d\d, -?\d+\.\d\d\]: "
    assert any(re.match(pattern, line) for line in lines)
    assert any("p cannot be below 0.33" in line for line in lines)
    assert any(line.startswith("  over seeds and examples: ") for line in lines)
    assert synthesize_results.main([*arguments, "--no_group"]) == 0
    assert "'Over seeds': unknown" in capsys.readouterr().out
    (tmp_path / "rate_0.01_seed_1" / "predictions_val.npz").write_bytes(b"PK")
    assert synthesize_results.main(arguments) == 1
    assert "predictions_val.npz: damaged" in capsys.readouterr().err
    assert synthesize_results.main(["--parent_dir", str(tmp_path)]) == 0
    assert "No interval of rate_0.01_seed_{1,2}: " in capsys.readouterr().out


def test_resamples_in_which_a_metric_is_undefined_decide_nothing() -> None:
    rng = np.random.default_rng(0)
    draws = rng.normal(0.5, 0.1, (1000, 2))
    holes = draws.copy()
    holes[::7, 1] = np.nan
    ends = interval(over_both(holes, [range(2)])[:, 0])
    assert ends == pytest.approx(interval(over_both(draws, [range(2)])[:, 0]), abs=0.02)
    assert luck(holes, np.array([0.5, 0.5])) == pytest.approx(
        luck(draws, np.full(2, 0.5)), abs=0.01
    )
    none = over_both(np.full((1000, 2), np.nan), [range(1), range(1, 2)])
    assert np.isnan(interval(none[:, 0])).all()
    assert ends_of(none[:, 0] - none[:, 1], "A")["verdict"] is None
