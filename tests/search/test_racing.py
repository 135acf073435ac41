"""Further seeds are trained of possible winners only, and several objectives have a front."""

import json
import random
import signal
from pathlib import Path

import pytest

from core.search.racing import contenders, front, least_difference, pooled
from tests.helpers.processes import wait_for
from tests.helpers.searching import outcomes, search, start, trials, write_search

SMALL = {"task": "tests.projects.pictures", "dropout_rate": 0.1, "num_channels": 2}
RATES = "space: {learning_rate: [1e-2, 1e-3, 1e-8, 1e-9]}"


def race(heights: dict[int, float], noise: float, repeats: int, seed: int = 0) -> dict[int, int]:
    """Play a race; returns how many seeds each trial had."""
    rng = random.Random(seed)
    scores = {number: [[rng.gauss(height, noise)]] for number, height in heights.items()}
    while True:
        alive = contenders(scores, repeats, True)
        due = [number for number in alive if len(scores[number]) < repeats]
        if not due:
            return {number: len(values) for number, values in scores.items()}
        fewest = min(len(scores[number]) for number in due)
        number = rng.choice([n for n in due if len(scores[n]) == fewest])
        scores[number].append([rng.gauss(heights[number], noise)])


def test_half_of_the_trials_get_a_second_seed_and_then_those_that_may_be_the_best() -> None:
    seeds = race({0: 0.5, 1: 0.9, 2: 0.901, 3: 0.1, 4: 0.85, 5: 0.3, 6: 0.84}, 0.002, 5)
    assert seeds == {0: 1, 1: 5, 2: 5, 3: 1, 4: 2, 5: 1, 6: 2}


def test_the_order_in_which_seeds_end_changes_no_contender() -> None:
    rng = random.Random(1)
    table = {n: [[rng.gauss(n / 20, 0.1)] for _ in range(4)] for n in range(12)}
    found = []
    for order in range(5):
        rng, scores = random.Random(order), {n: table[n][:1] for n in table}
        while due := [n for n in contenders(scores, 4, True) if len(scores[n]) < 4]:
            fewest = min(len(scores[n]) for n in due)
            number = rng.choice([n for n in due if len(scores[n]) == fewest])
            scores[number] = table[number][: len(scores[number]) + 1]
        found.append(scores)
    assert all(scores == found[0] for scores in found)


def test_the_best_trial_is_left_out_after_its_second_seed_in_at_most_5_percent() -> None:
    left_out = 0
    for seed in range(400):
        # Equal trials: the first is as good as any, and has no luck of its own.
        rng = random.Random(seed)
        scores = {n: [[rng.gauss(0, 1)] for _ in range(2)] for n in range(6)}
        one_seed = contenders({n: values[:1] for n, values in scores.items()}, 3, True)
        left_out += 0 in one_seed and 0 not in contenders(scores, 3, True)
    assert left_out <= 20


def test_everyone_gets_all_seeds_without_a_race() -> None:
    assert contenders({0: [[0.9]], 1: [[0.1]], 2: [[0.2]]}, 3, False) == [0, 1, 2]


def test_a_difference_is_that_of_students_t() -> None:
    spread, freedom = pooled([[1.0, 3.0], [2.0, 2.0, 5.0], [7.0]])
    assert (spread, freedom) == (pytest.approx((8 / 3) ** 0.5), 3)
    # t of 3 degrees of freedom at 97.5%: 3.182 (tables).
    assert least_difference(1.0, 3, (2, 2)) == pytest.approx(3.182, abs=1e-3)


def test_the_front_holds_what_nothing_beats_in_everything() -> None:
    points = {0: [1.0, 1.0], 1: [2.0, 0.0], 2: [0.5, 0.5], 3: [1.0, 1.0], 4: [2.0, -1.0]}
    assert front(points) == [0, 1, 3]


def test_a_search_trains_further_seeds_of_contenders_and_names_the_runner_up(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_search(tmp_path / "s", f"repeats: 3\n{RATES}", seed=7, monitor="loss")
    assert search(folder, data, "--jobs", "2") == 0
    said = capsys.readouterr().out
    names = trials(folder)
    firsts = [name for name in names if name.endswith("seed_7")]
    assert len(firsts) == 4
    assert {name.partition("-seed")[0] for name in names if name.endswith("seed_8")} == {
        "lr=0.01",
        "lr=1e-3",
    }
    assert "#0 seed=8 lr=.01" in said
    assert "The best point and the runner-up" in said
    assert "over 3 seeds" in said
    assert "Seeds of the points: 2 with 1" in said
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*/last.pt")}
    assert search(folder, data) == 0  # nothing is left to do
    assert before == {path: path.stat().st_mtime_ns for path in folder.glob("*/last.pt")}


def test_a_race_that_is_killed_trains_the_same_seeds(tmp_path: Path, data: Path) -> None:
    text = "repeats: 2\nspace: {learning_rate: [1e-3, 1e-9, 1e-8]}"
    quiet = write_search(tmp_path / "quiet", text)
    assert search(quiet, data) == 0
    folder = write_search(tmp_path / "killed", text)
    running = start(folder, data)
    wait_for(lambda: running.poll() is not None or any(folder.glob("*seed_231/last.pt")))
    assert running.poll() is None
    running.send_signal(signal.SIGKILL)
    running.communicate()
    assert search(folder, data, "--jobs", "2") == 0
    assert outcomes(folder).keys() == outcomes(quiet).keys()
    metrics = [{n: b for n, b in outcomes(f).items() if "params" not in n} for f in (quiet, folder)]
    assert metrics[0] == metrics[1]


def test_several_objectives_are_searched_for_their_front(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "method: tpe\ntrials: 4\nobjectives: [accuracy, seconds, parameters]\n"
    text += "space: {num_channels: {low: 1, high: 8}}"
    folder = write_search(
        tmp_path / "s", text, task="tests.projects.pictures", dropout_rate=0.1, num_channels=2
    )
    assert search(folder, data) == 0
    said = capsys.readouterr().out
    assert "Pareto front" in said
    assert "points (accuracy, seconds, parameters):" in said
    assert (folder / "pareto.png").read_bytes().startswith(b"\x89PNG")
    counts = [json.loads(p.read_text())["parameters"] for p in folder.glob("*/status.json")]
    assert str(min(counts)) in said.partition("Pareto front")[2]  # nothing is smaller


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("objectives: [accuracy]", "want a list of two or three"),
        ("objectives: [acuracy, seconds]", "did you mean 'accuracy'?"),
        ("objectives: [seconds, accuracy]", 'the first is "seconds", want a metric'),
        ("objectives: [accuracy, seconds]\nprune: {after: 1}", "'prune' does not go with several"),
        (
            "objectives: [accuracy, seconds]\nmethod: asha\ntrials: 3",
            "does not go with method asha",
        ),
        ("race: 1", "'race' is 1, want true or false"),
    ],
)
def test_objectives_that_cannot_be_are_refused(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    folder = write_search(tmp_path / "s", f"{text}\n{RATES}")
    assert search(folder, data) == 2
    assert message in capsys.readouterr().err
