"""Code that was written for the CS230 template runs unchanged."""

from pathlib import Path

import pytest

from tests.conftest import Folder
from tests.helpers.runs import results, run, score


@pytest.mark.parametrize("workers", [0, 2])
def test_a_net_and_a_loader_of_the_template_run_unchanged(
    run_folder: Folder, signs: Path, workers: int
) -> None:
    folder = run_folder(task="tests.projects.original", num_workers=workers)
    assert run(folder, signs) == 0
    assert "shuffled every epoch (seed 230)" in (folder / "train.log").read_text()
    best = score(folder, split="val")
    assert best == results(folder, "val_best_weights")
    assert best.keys() == {"accuracy", "loss"}


def test_workers_do_not_change_the_result_of_a_run(run_folder: Folder, signs: Path) -> None:
    folders = [run_folder(f"{n}", task="tests.projects.original", num_workers=n) for n in (0, 2)]
    for folder in folders:
        assert run(folder, signs) == 0
    for name in ("last.pt", "metrics.jsonl"):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()
