"""A score is told only if it beats the best so far by more than chance (evaluate.py --holdout)."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import evaluate
import tests.projects.minimal.net as net
from core.results.gathering import gather
from core.run.holdout import RATE, UNCHANGED, beats
from core.verify.record import Record
from tests.helpers import ROOT, forging
from tests.helpers.runs import run

COUNT = 500
POOR = {"learning_rate": 1e-6, "num_epochs": 1, "keep_checkpoints": None}
GOOD = {"learning_rate": 0.05, "num_epochs": 5, "keep_checkpoints": None}


@pytest.fixture(scope="module")
def points(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return forging.write_data(tmp_path_factory.mktemp("points"))


@pytest.fixture
def trained(tmp_path: Path, points: Path) -> Any:
    """Return a function that trains a run of the project in "runs"."""

    def train(name: str, data: Path = points, **params: Any) -> Path:
        return forging.trained(tmp_path / "runs" / name, data, **params)

    return train


def looked(capsys: pytest.CaptureFixture[str], folder: Path, *more: str) -> dict[str, Any]:
    """Evaluate a run by the ledger; returns what --json prints."""
    capsys.readouterr()
    evaluate.main(["--model_dir", str(folder), "--holdout", "--json", *more])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def right(rng: np.random.Generator, hard: np.ndarray) -> np.ndarray:
    """Return which examples a net has right, (N,), of which each is right with a probability."""
    return (rng.random(len(hard)) < hard) * 1.0


def test_a_thousand_ideas_that_change_only_the_seed_are_told_at_most_at_the_nominal_rate() -> None:
    rng, told, projects = np.random.default_rng(0), 0, 10
    for _ in range(projects):
        hard = rng.beta(0.9, 0.1, COUNT)
        best, spread = right(rng, hard), np.sqrt(2 * np.mean(hard * (1 - hard)) / COUNT)
        for luck in spread * rng.normal(size=1000):  # of the seed: a standard error
            if beats(new := right(rng, np.clip(hard + luck, 0, 1)), best):
                best, told = new, told + 1
    print(f"of 1,000 ideas {told / projects:.1f} are told on average")
    assert 0 < told <= RATE * 1000 * projects


def test_a_net_that_is_no_better_is_told_at_most_at_the_nominal_rate() -> None:
    rng, draws = np.random.default_rng(1), 4000
    told = {"accuracy": 0, "loss": 0}
    for _ in range(draws):
        hard = rng.beta(0.9, 0.1, COUNT)
        told["accuracy"] += beats(right(rng, hard), right(rng, hard))
        told["loss"] += beats(*rng.gamma(hard, size=(2, COUNT)))
    print(", ".join(f"{name}: {100 * count / draws:.2f}% told" for name, count in told.items()))
    assert max(told.values()) / draws <= RATE + 2 * np.sqrt(RATE / draws)  # Monte Carlo's own error


def test_an_improvement_of_three_standard_errors_is_told_in_80_percent_or_more() -> None:
    rng, draws, gap = np.random.default_rng(2), 2000, 3 * np.sqrt(0.2 / COUNT)
    told = {"accuracy": 0, "loss": 0}
    for _ in range(draws):
        draw, same = rng.random(COUNT), np.zeros(COUNT)  # they differ in 20% of the examples
        told["accuracy"] += beats(1.0 * (draw < 0.1 + gap / 2) - (draw > 0.9 + gap / 2), same)
        told["loss"] += beats(rng.normal(3 / np.sqrt(COUNT), 1, COUNT), same)
    print(", ".join(f"{name}: {100 * count / draws:.1f}% told" for name, count in told.items()))
    assert min(told.values()) / draws >= 0.8


def test_few_examples_that_differ_are_no_evidence_and_worse_is_never_told() -> None:
    best = np.zeros(10_000)
    four, forty = best.copy(), best.copy()
    four[:4] = forty[:40] = 1
    assert not beats(four, best)  # by chance alone one in 16
    assert beats(forty, best)
    assert not beats(best, forty)
    assert not beats(best, best)


def test_a_score_is_told_only_if_it_beats_the_best_of_the_project(
    trained: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    first = looked(capsys, trained("a", **POOR))
    assert first["verdict"] == "the best so far"
    second = looked(capsys, trained("b", **GOOD))
    assert second["verdict"] == "the best so far"
    assert second["metrics"]["accuracy"] > first["metrics"]["accuracy"]
    folder = trained("c", seed=7, **GOOD)
    files = {path.name for path in folder.iterdir()}
    assert looked(capsys, folder) == {
        "exit_code": 0,
        "folder": str(folder),
        "metrics": {},
        "verdict": UNCHANGED,
    }
    assert {path.name for path in folder.iterdir()} - files == {"evaluate.log"}
    assert evaluate.main(["--model_dir", str(folder), "--holdout"]) == 0
    assert capsys.readouterr().out == f"{UNCHANGED}\n"
    assert "accuracy" not in (folder / "evaluate.log").read_text()
    looks = [row for row in rows(folder / "evaluations.jsonl") if row["split"] == "test"]
    assert [row["holdout"] for row in looks] == [UNCHANGED] * 2
    assert not any("values" in row for row in looks)
    assert [*Record(folder).evaluations()] == ["val"]  # verify.py has nothing to repeat
    ledger = rows(folder.parent / "holdout_test.jsonl")
    assert [(row["run"], row["told"], "score" in row) for row in ledger] == [
        ("a", True, True),
        ("b", True, True),
        ("c", False, False),
        ("c", False, False),
    ]
    assert ledger[1]["score"] == second["metrics"]["accuracy"]
    again = looked(capsys, folder.with_name("b"))  # its score is known
    assert again["metrics"] == second["metrics"]
    found = gather(folder.parent, "test")
    assert [(each.name, each.test_looks, bool(each.metrics)) for each in found] == [
        ("a", 1, True),
        ("b", 2, True),
        ("c", 2, False),
    ]


def test_other_data_begin_a_line_of_their_own(
    trained: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = forging.write_data(tmp_path / "other", seed=1)
    assert looked(capsys, trained("a", **GOOD))["verdict"] == "the best so far"
    capsys.readouterr()
    assert evaluate.main(["--model_dir", str(trained("b", other, **POOR)), "--holdout"]) == 0
    assert "holdout_test.jsonl begins anew, for other data" in capsys.readouterr().err
    assert looked(capsys, trained("c", **(POOR | {"seed": 3})))["verdict"] == UNCHANGED


def test_what_cannot_be_compared_is_refused_and_not_told(
    trained: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked(capsys, trained("a", **POOR))
    found = looked(capsys, trained("b", monitor="loss", **GOOD))
    assert found["exit_code"] == 2
    assert "was judged by accuracy, b would be by loss" in found["error"]
    folder = trained("c", **GOOD)
    assert looked(capsys, folder.with_name("b"), "--set", "monitor=accuracy")["exit_code"] == 0
    monkeypatch.setitem(net.metrics, "accuracy", lambda outputs, labels: 1.0)
    found = looked(capsys, folder)
    assert found["exit_code"] == 2
    assert "the metric's code has changed since" in found["error"]
    assert not list(folder.glob("*test*"))


def test_a_metric_that_is_no_mean_is_judged_by_the_losses_of_the_examples(
    trained: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(net.metrics, "accuracy", lambda outputs, labels: float(np.std(outputs)))
    first = looked(capsys, trained("a", **POOR))
    second = looked(capsys, trained("b", **GOOD))
    ledger = rows(Path(first["folder"]).parent / "holdout_test.jsonl")
    assert [(row["metric"], row["told"]) for row in ledger] == [("loss", True)] * 2
    for row, found in zip(ledger, (first, second), strict=True):
        assert row["score"] == pytest.approx(found["metrics"]["loss"], abs=1e-6)


def test_a_task_without_any_mean_over_examples_gets_a_clear_error(
    tmp_path: Path, no_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    params = {"task": "tests.projects.embeddings", "width": 8, "margin": 0.2, "num_epochs": 1}
    (folder / "params.json").write_text(json.dumps(params | {"monitor": "recall_at_1"}))
    assert run(folder, no_data) == 0
    found = looked(capsys, folder, "--split", "val")
    assert found["exit_code"] == 1
    assert "neither recall_at_1 nor loss is a mean over examples" in found["error"]
    assert not (tmp_path / "holdout_val.jsonl").exists()


MANY = """\
import sys
from pathlib import Path
import numpy as np
from core.run.holdout import Look, enter
rng, name = np.random.default_rng(int(sys.argv[2])), sys.argv[2]
for i in range(15):
    values = rng.normal(rng.random(), 1, 200)
    look = Look(name, f"{name} {i}", "0" * 64, "accuracy", "", True, values, np.arange(200))
    enter(Path(sys.argv[1]), "test", look)
"""


@pytest.mark.slow
def test_many_processes_share_one_ledger(tmp_path: Path) -> None:
    command = [sys.executable, "-c", MANY, str(tmp_path)]
    jobs = [subprocess.Popen([*command, str(number)], cwd=ROOT) for number in range(3)]
    assert [job.wait() for job in jobs] == [0] * 3
    ledger = rows(tmp_path / "holdout_test.jsonl")
    scores = [row["score"] for row in ledger if row["told"]]
    assert len(ledger) == 45
    assert 1 < len(scores) < 45
    assert scores == sorted(scores)  # each beats the one before, whoever entered it


def test_a_best_that_is_gone_or_damaged_is_not_taken_for_none(
    trained: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = trained("a", **GOOD)
    looked(capsys, folder)
    (best,) = folder.parent.glob("holdout_test_*.npz")
    best.write_bytes(b"damaged")
    assert "the best so far cannot be read" in looked(capsys, folder)["error"]
    best.unlink()
    assert "the best so far cannot be read" in looked(capsys, folder)["error"]
