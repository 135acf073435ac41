"""What could fail after the last epoch does not, or is said before the first."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

import train
from core.base.errors import DataError
from core.base.params import Params
from core.data.batches import Batches
from core.data.fetching import exact
from core.task import Task
from core.training.tally import Tally
from evaluate import evaluate

PARAMS = {"task": "tests.projects.weighted", "num_threads": 1, "num_epochs": 2}


def run(folder: Path, *more: str) -> int:
    return train.main(["--model_dir", str(folder), "--data_dir", str(folder), *more])


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"PK" + bytes(99))])
def test_a_best_checkpoint_that_is_gone_is_said_at_the_start_and_found_anew(
    damage: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "params.json").write_text(json.dumps(PARAMS))
    assert run(tmp_path) == 0
    damage(tmp_path / "best.pt")
    (tmp_path / "params.json").write_text(json.dumps(PARAMS | {"num_epochs": 3}))
    caplog.clear()
    assert run(tmp_path, "--resume") == 0
    told = caplog.text.index("the best epoch is looked for from here on")
    assert told < caplog.text.index("Epoch 3/3")
    assert json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])["epoch"] == 3
    assert (tmp_path / "best.pt").exists()


class Named(Dataset[Any]):
    filenames = ("a", "b")

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Any:
        return torch.zeros(1), 0


def test_as_many_filenames_as_examples_are_wanted() -> None:
    with pytest.raises(DataError, match="2 filenames for 3 examples"):
        exact(DataLoader(Named()), 1)


def task(metrics: dict[str, Any]) -> Task:
    return Task("wide", lambda params: nn.Identity(), lambda x, y: x.mean(), metrics, dict)


@pytest.mark.parametrize("wanted", [0, 1000, 1e9])
def test_outputs_are_kept_up_to_what_is_wanted(
    wanted: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    largest, take_in = [0], Tally._take_in

    def watched(self: Tally, outputs: Any, labels: Any) -> None:
        take_in(self, outputs, labels)
        largest.append(sum(part.nbytes for part, _ in self.kept))

    monkeypatch.setattr(Tally, "_take_in", watched)
    loader = Batches(torch.zeros(100, 10), torch.zeros(100), batch_size=10)
    params = Params.of({"precision": "float32", "seed": 1}, Path("params.json"))
    _, tally = evaluate(nn.Linear(10, 10), loader, task({}), params, wanted)
    assert max(largest) <= max(wanted, 0)
    assert tally.complete == (wanted == 1e9)
    assert tally.nbytes == (100 * 10 * 4 + 100 * 4 if tally.complete else 0)


def test_a_metric_of_the_whole_split_gets_it_whatever_is_wanted() -> None:
    loader = Batches(torch.zeros(100, 10), torch.zeros(100), batch_size=10)
    params = Params.of({"precision": "float32", "seed": 1}, Path("params.json"))
    values, _ = evaluate(nn.Linear(10, 10), loader, task({"n": lambda x, y: len(y)}), params)
    assert values["n"] == 100
