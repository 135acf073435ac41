"""Experiment trackers get every row of metrics.jsonl once, whatever stops a run."""

import json
import sqlite3
import struct
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Folder
from tests.helpers.runs import rows, run, stop_at

Points = list[tuple[int, float]]  # step and value
RECIPE = {"num_epochs": 2, "task": "tests.projects.linear", "save_summary_steps": 2}


def of_tensorboard(folder: Path, name: str) -> Points:
    """Return what TensorBoard itself reads of a scalar."""
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulators.EventAccumulator(str(folder))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name.replace("_", "/", 1))]


def wandb_records(path: Path) -> Iterator[bytes]:
    """Yield the records of a .wandb file, a log as LevelDB writes it, in blocks of 32 KiB."""
    data, place, record = path.read_bytes(), 7, b""
    while place + 7 <= len(data):
        if (left := 32768 - place % 32768) < 7:
            place += left
            continue
        length, kind = struct.unpack("<HB", data[place + 4 : place + 7])
        record += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield record
            record = b""


def of_wandb(folder: Path, name: str) -> Points:
    """Return what stands in the files that `wandb sync` uploads."""
    from wandb.proto import wandb_internal_pb2

    found: Points = []
    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        for data in wandb_records(path):
            record: Any = wandb_internal_pb2.Record()  # type: ignore[attr-defined]
            record.ParseFromString(data)
            items = record.history.item
            values = {i.key or ".".join(i.nested_key): json.loads(i.value_json) for i in items}
            if name in values:
                found.append((values["_step"], values[name]))
    return found


def of_mlflow(folder: Path, name: str) -> Points:
    """Return what MLflow's own client reads."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{folder.resolve().parent / 'mlflow.db'}")
    (experiment,) = client.search_experiments(filter_string=f"name = '{folder.parent.name}'")
    (only,) = client.search_runs([experiment.experiment_id])
    return [(each.step, each.value) for each in client.get_metric_history(only.info.run_id, name)]


def of_trackio(folder: Path, name: str) -> Points:
    """Return what stands in trackio's database."""
    (path,) = (folder.parent / "trackio").glob("*.db")
    with sqlite3.connect(path) as database:
        found = database.execute("select step, metrics from metrics order by step").fetchall()
    return [(step, values[name]) for step, text in found if name in (values := json.loads(text))]


READERS: dict[str, Callable[[Path, str], Points]] = {
    "tensorboard": of_tensorboard,
    "wandb": of_wandb,
    "mlflow": of_mlflow,
    "trackio": of_trackio,
}


@pytest.mark.filterwarnings("ignore")  # of the trackers' packages
@pytest.mark.parametrize("name", READERS)
def test_a_tracker_has_each_row_once_even_after_a_resume(
    name: str, run_folder: Folder, signs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if find_spec(name) is None:
        pytest.skip(f"the package {name} is missing")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    folder = run_folder(**RECIPE, track=[name], log_grad_norm=True)
    with monkeypatch.context() as patched:
        stop_at(patched, 5)
        assert run(folder, signs) == 128 + 15
    assert run(folder, signs) == 0
    (folder / "last.pt").unlink()  # as if it had been killed before the last save
    assert run(folder, signs) == 0
    expected = [(row["step"], pytest.approx(row["val_loss"])) for row in rows(folder)]
    assert len(expected) == 2
    assert READERS[name](folder, "val_loss") == expected
    steps = [step for step, _ in READERS[name](folder, "gradient_norm")]
    assert steps == sorted(set(steps))
    assert steps
    assert READERS[name](folder, "rate_main_0")[0][1] == pytest.approx(0.001)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_forgets_what_is_overwritten_and_shows_histograms(
    run_folder: Folder, signs: Path
) -> None:
    folder = run_folder(**RECIPE, tensorboard=True, log_histograms=True)
    assert run(folder, signs) == 0
    expected = [(row["step"], pytest.approx(row["val_loss"])) for row in rows(folder)]
    assert run(folder, signs, "--overwrite") == 0
    assert of_tensorboard(folder, "val_loss") == expected
    (file,) = folder.glob("events.out.tfevents.*")
    assert b"histo" in file.read_bytes() or file.stat().st_size > 10_000


@pytest.mark.parametrize(
    ("params", "package"), [({"tensorboard": True}, "tensorboard"), ({"track": ["wandb"]}, "wandb")]
)
def test_a_missing_package_is_named_with_its_install_line_before_training(
    params: dict[str, object],
    package: str,
    run_folder: Folder,
    signs: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = run_folder(**params)
    monkeypatch.setitem(sys.modules, package, None)
    assert run(folder, signs) == 2
    assert f"pip install {package}" in capsys.readouterr().err
    assert not (folder / "metrics.jsonl").exists()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_tracker_that_fails_does_not_end_the_run(
    run_folder: Folder, signs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter.add_scalar", full)
    folder = run_folder(**RECIPE, tensorboard=True)
    assert run(folder, signs) == 0
    assert len(rows(folder)) == 2
    told = (folder / "train.log").read_text()
    assert told.count("Note: tensorboard gets no more rows: no space left") == 1


def test_an_unknown_tracker_is_refused(
    run_folder: Folder, signs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(run_folder(track=["neptune"]), signs) == 2
    wanted = "want a list of tensorboard, wandb, mlflow or trackio"
    assert wanted in capsys.readouterr().err
