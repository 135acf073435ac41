import sys
from pathlib import Path

import pytest

from tests.conftest import Folder
from tests.helpers.runs import rows, run


def points(folder: Path, name: str) -> list[tuple[int, float]]:
    """What TensorBoard itself reads of a scalar: steps and values."""
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulators.EventAccumulator(str(folder))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_shows_the_rows_of_metrics_jsonl_each_once_even_after_a_resume(
    run_folder: Folder, signs: Path
) -> None:
    folder = run_folder(num_epochs=2, tensorboard=True, task="tests.projects.linear")
    assert run(folder, signs) == 0
    (folder / "last.pt").unlink()  # as if it had been killed before the last save
    assert run(folder, signs) == 0
    expected = [(row["step"], pytest.approx(row["val_loss"])) for row in rows(folder)]
    assert points(folder, "val/loss") == expected
    assert run(folder, signs, "--overwrite") == 0
    assert points(folder, "val/loss") == expected
    assert len(list(folder.glob("events.out.tfevents.*"))) == 1


def test_a_missing_tensorboard_is_named_with_its_install_line_before_training(
    run_folder: Folder,
    signs: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = run_folder(tensorboard=True)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    assert run(folder, signs) == 2
    assert "pip install tensorboard" in capsys.readouterr().err
    assert not (folder / "metrics.jsonl").exists()
