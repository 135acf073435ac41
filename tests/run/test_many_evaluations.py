"""Evaluating every run once (evaluate.py --parent_dir); telling that a metric's code changed."""

import json
import shutil
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import evaluate
import tests.projects.minimal.net as net
from core.run import code
from core.run.code import hash_scores
from core.task import Task
from tests.helpers import forging
from tests.helpers.runs import results

NET = """\
import numpy as np
CLASSES = 3
def hits(outputs, labels):
    return (outputs.argmax(1) == labels) / CLASSES  # each
def accuracy(outputs, labels):
    return max(hits(o, l).mean() for o, l in [(outputs, labels)])
def loss_fn(outputs, labels):
    return ((outputs - labels) ** 2).mean()
class Net: ...
metrics = {"accuracy": accuracy}
"""


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Return a folder of two finished runs, one of them deeper."""
    data = forging.write_data(tmp_path / "data")
    forging.trained(tmp_path / "runs" / "a", data, num_epochs=2, keep_checkpoints=None)
    (tmp_path / "runs" / "deep").mkdir()
    shutil.copytree(tmp_path / "runs" / "a", tmp_path / "runs" / "deep" / "b")
    return tmp_path / "runs"


def states(
    capsys: pytest.CaptureFixture[str], parent: Path, *more: str
) -> tuple[int, dict[str, Any]]:
    """Evaluate all runs below a folder; returns the exit code and the runs by name."""
    capsys.readouterr()
    code = evaluate.main(["--parent_dir", str(parent), "--json", *more])
    found = json.loads(capsys.readouterr().out)
    assert found["exit_code"] == code
    return code, {Path(run["folder"]).name: run for run in found["runs"]}


def test_every_finished_run_is_evaluated_once_and_a_line_tells_of_each(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (runs / "planned").mkdir()
    (runs / "planned" / "params.json").write_text("{}")
    capsys.readouterr()
    assert evaluate.main(["--parent_dir", str(runs)]) == 0
    printed = capsys.readouterr()
    score = results(runs / "a", "test_best")["accuracy"]
    first, second = printed.out.splitlines()
    assert first.startswith(f"{runs / 'a'}: accuracy: {score:.4g}, loss: ")
    assert second.startswith(f"{runs / 'deep' / 'b'}: accuracy: {score:.4g}, loss: ")
    assert printed.err == ""
    code, found = states(capsys, runs)
    assert (code, {name: run["state"] for name, run in found.items()}) == (
        0,
        {"a": "skipped", "b": "skipped"},
    )


def test_a_run_is_evaluated_again_if_best_pt_data_or_the_metrics_code_is_another(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [run["state"] for run in states(capsys, runs)[1].values()] == ["evaluated"] * 2
    shutil.copy(runs / "a" / "last.pt", runs / "a" / "best.pt")
    found = states(capsys, runs)[1]
    assert [found[name]["state"] for name in "ab"] == ["evaluated", "skipped"]
    (runs.parent / "data" / "more.txt").write_text("new")
    assert [run["state"] for run in states(capsys, runs)[1].values()] == ["evaluated"] * 2
    monkeypatch.setitem(net.metrics, "accuracy", lambda outputs, labels: 0.5)
    assert [run["state"] for run in states(capsys, runs)[1].values()] == ["evaluated"] * 2
    assert [run["state"] for run in states(capsys, runs)[1].values()] == ["skipped"] * 2


def test_a_run_that_fails_does_not_stop_the_others(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (runs / "a" / "best.pt").write_bytes(b"damaged")
    code, found = states(capsys, runs)
    assert code == 1
    assert [found[name]["state"] for name in "ab"] == ["failed", "evaluated"]
    assert "best.pt" in found["a"]["error"]
    assert (
        found["b"]["metrics"]["accuracy"] == results(runs / "deep" / "b", "test_best")["accuracy"]
    )


def test_with_the_ledger_one_of_two_equal_runs_is_told(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.move(runs / "deep" / "b", runs / "b")
    forging.reseal(runs / "b" / "best.pt", lambda content: content.update(note="another file"))
    found = states(capsys, runs, "--holdout")[1]
    verdicts = [found[name]["verdict"] for name in "ab"]
    assert verdicts == ["the best so far", "no significant change"]
    assert found["b"]["metrics"] == {}
    assert [run["state"] for run in states(capsys, runs, "--holdout")[1].values()] == [
        "skipped"
    ] * 2


def test_a_folder_without_finished_runs_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate.main(["--parent_dir", str(tmp_path)]) == 2
    assert "found none" in capsys.readouterr().err


def test_a_metric_whose_code_has_changed_is_told(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = ["--model_dir", str(runs / "a")]
    told = "the metric's code has changed since the evaluation of epoch"
    assert evaluate.main(argv) == evaluate.main(argv) == 0
    assert told not in capsys.readouterr().err
    monkeypatch.setitem(
        net.metrics, "accuracy", lambda outputs, labels: float(np.mean(outputs.argmax(1) >= labels))
    )
    assert evaluate.main(argv) == 0
    assert told in (err := capsys.readouterr().err)
    assert err.partition(told)[2].splitlines()[0].endswith(": accuracy")
    assert evaluate.main([*argv, "--split", "val"]) == 0  # of another split
    assert told not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("  # each", "", ()),
        ("class Net: ...", "class Net:\n    width = 8", ()),
        ("argmax(1) ==", "argmax(1) >=", ("accuracy",)),  # in what the metric calls
        ("CLASSES = 3", "CLASSES = 4", ("accuracy",)),
        ("** 2", "** 4", ("loss",)),
    ],
)
def test_the_hash_of_a_metric_is_that_of_the_code_that_it_runs(
    old: str, new: str, changed: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code, "ROOT", tmp_path)
    found: list[dict[str, str]] = []
    for text in (NET, NET.replace(old, new)):
        path = tmp_path / f"version_{len(found)}.py"
        path.write_text(text)
        spec = spec_from_file_location("net_of_a_task", path)
        assert spec is not None and spec.loader is not None
        module: Any = module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "net_of_a_task", module)
        spec.loader.exec_module(module)
        task = Task("birds", module.Net, module.loss_fn, module.metrics, dict)
        found.append(hash_scores(task))
    assert NET.replace(old, new) != NET
    assert tuple(name for name in found[0] if found[0][name] != found[1][name]) == changed
