"""train.py and evaluate.py as they are called, on small data."""

import json
import math
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import evaluate
import train
from core.base.errors import NumericError
from core.base.monitor import is_better
from core.base.params import Params
from core.machine.environment import usable_cores
from core.training.checkpoint import read_checkpoint
from core.training.schedule import Schedule, make_schedule
from tests.conftest import Folder, rows, write_signs

ROOT = Path(__file__).resolve().parent.parent


def run(folder: Path, data: Path, *more: str) -> int:
    return train.main(["--model_dir", str(folder), "--data_dir", str(data), *more])


def check(folder: Path, *more: str) -> dict[str, float]:
    """Evaluate the best checkpoint, and return the metrics written."""
    assert evaluate.main(["--model_dir", str(folder), *more]) == 0
    split = more[more.index("--split") + 1] if "--split" in more else "test"
    return json.loads((folder / f"metrics_{split}_best.json").read_text())


def weights(folder: Path, name: str = "last.pt") -> dict[str, torch.Tensor]:
    return read_checkpoint(folder / name)["state_dict"]


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_writes_what_it_promises_and_evaluation_repeats_it(
    run_folder: Folder, signs: Path
) -> None:
    folder = run_folder(learning_rate=0.01)
    assert run(folder, signs) == 0
    log = (folder / "train.log").read_text()
    for part in ("48 examples", "20 examples", "weights to train", "chance 1.792", "Best:"):
        assert part in log
    first, second = rows(folder)
    assert (first["epoch"], first["step"], second["epoch"], second["step"]) == (1, 3, 2, 6)
    assert {"train_loss", "train_accuracy", "val_loss", "val_f1", "learning_rate"} <= first.keys()

    best = json.loads((folder / "metrics_val_best_weights.json").read_text())
    last = json.loads((folder / "metrics_val_last_weights.json").read_text())
    assert last == {name[4:]: value for name, value in second.items() if name.startswith("val_")}
    assert best["accuracy"] == max(first["val_accuracy"], second["val_accuracy"])
    repeated = check(folder, "--split", "val")
    assert repeated == best

    resolved = json.loads((folder / "params.resolved.json").read_text())
    assert resolved["params"]["optimizer"] == "Adam"
    assert resolved["versions"]["torch"] == torch.__version__
    assert len(resolved["data"]["sha256"]) == 64


def test_accuracy_is_hits_over_examples_and_no_number_depends_on_the_batch_size(
    run_folder: Folder, signs: Path
) -> None:
    folder = run_folder(learning_rate=0.01)
    run(folder, signs)
    whole = check(folder, "--set", "batch_size=32", "--save_predictions")
    saved = np.load(folder / "predictions_test.npz")
    hits = int((saved["outputs"].argmax(axis=1) == saved["labels"]).sum())
    assert whole["accuracy"] == hits / 40
    assert sorted(saved["ids"]) == sorted(p.name for p in (signs / "test_signs").iterdir())
    for size in (1, 7, 40, 100):
        part = check(folder, "--set", f"batch_size={size}")
        assert part.keys() == whole.keys()
        for name, value in part.items():
            assert value == pytest.approx(whole[name], abs=1e-6)


def test_the_loss_of_a_split_is_the_mean_over_its_examples(run_folder: Folder, signs: Path) -> None:
    folder = run_folder()
    run(folder, signs)
    value = check(folder, "--save_predictions", "--set", "batch_size=7")["loss"]
    saved = np.load(folder / "predictions_test.npz")
    logits = torch.from_numpy(saved["outputs"]).double()
    labels = torch.from_numpy(saved["labels"])
    expected = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.1)
    assert value == pytest.approx(expected.item(), abs=1e-6)


def test_one_image_more_than_full_batches_does_not_crash_batch_norm(
    run_folder: Folder, tmp_path: Path
) -> None:
    data = write_signs(tmp_path / "data", {"train": 33, "val": 6})
    assert run(run_folder(batch_size=16), data) == 0


def test_a_killed_run_ends_as_if_it_had_not_been(run_folder: Folder, signs: Path) -> None:
    recipe = {
        "num_epochs": 60,
        "optimizer": "AdamW",
        "ema_decay": 0.9,
        "lr_scheduler": "OneCycleLR",
        "grad_accumulation": 2,
    }
    whole, killed = run_folder("whole", **recipe), run_folder("killed", **recipe)
    run(whole, signs)
    command = [sys.executable, "train.py", "--model_dir", str(killed), "--data_dir", str(signs)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    while not (killed / "metrics.jsonl").exists() or len(rows(killed)) < 5:
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert len(rows(killed)) < 60
    assert run(killed, signs) == 0
    for name in ("last.pt", "best.pt", "metrics.jsonl", "metrics_val_best_weights.json"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name


def test_the_same_command_says_that_a_complete_run_is_complete(
    run_folder: Folder, signs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = run_folder()
    run(folder, signs)
    before = (folder / "last.pt").read_bytes(), (folder / "metrics.jsonl").read_bytes()
    assert run(folder, signs) == 0
    assert "complete" in caplog.text
    assert before == ((folder / "last.pt").read_bytes(), (folder / "metrics.jsonl").read_bytes())


def test_results_that_a_kill_left_unwritten_are_written_by_the_next_start(
    run_folder: Folder, signs: Path
) -> None:
    folder = run_folder(task="tests.linear", optimizer="SGD", num_epochs=1)
    run(folder, signs)
    paths = [folder / f"metrics_val_{which}_weights.json" for which in ("last", "best")]
    before = [path.read_bytes() for path in paths]
    too_fast = ["--resume", "--set", "num_epochs=2", "--set", "learning_rate=1e38"]
    for more, code in ([], 0), (too_fast, 1):  # complete; goes on, but fails before the next save
        for path in paths:
            path.unlink()
        assert run(folder, signs, *more) == code
        assert [path.read_bytes() for path in paths] == before


def test_rows_that_no_checkpoint_knows_of_are_cut_off(run_folder: Folder, signs: Path) -> None:
    folder = run_folder(task="tests.linear", num_epochs=1)
    run(folder, signs)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 2, "step": 6}\n{"epo')
    assert run(folder, signs, "--set", "num_epochs=3") == 0
    assert [row["epoch"] for row in rows(folder)] == [1, 2, 3]
    assert all("val_loss" in row for row in rows(folder))


@pytest.mark.skipif(usable_cores() < 2, reason="needs two cores")
def test_a_run_goes_on_with_the_number_of_threads_it_began_with(
    run_folder: Folder, signs: Path
) -> None:
    folder = run_folder(task="tests.linear", num_threads=None, num_epochs=1)
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        assert run(folder, signs) == 0
    finally:
        os.sched_setaffinity(0, cores)
    assert run(folder, signs, "--set", "num_epochs=2") == 0
    assert len(rows(folder)) == 2
    assert read_checkpoint(folder / "last.pt")["params"]["num_threads"] == 1


def test_changed_params_are_refused_resumed_or_overwritten(
    run_folder: Folder, signs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_folder(lr_scheduler="StepLR", lr_scheduler_args={"step_size": 1})
    run(folder, signs)
    (folder / "mine.txt").write_text("not an output")
    assert run(folder, signs, "--set", "dropout_rate=0.1") == 2
    assert "dropout_rate: 0.3 -> 0.1" in capsys.readouterr().err
    assert (
        run(folder, signs, "--set", "learning_rate=0.5", "--set", "num_epochs=3", "--resume") == 0
    )
    assert [row["epoch"] for row in rows(folder)] == [1, 2, 3]
    assert rows(folder)[-1]["learning_rate"] == pytest.approx(0.5 * 0.1**2)
    assert run(folder, signs) == 0  # the overrides are kept
    assert run(folder, signs, "--set", "num_epochs=2") == 2
    assert "3 epochs are done" in capsys.readouterr().err
    assert run(folder, signs, "--overwrite") == 0
    assert [row["epoch"] for row in rows(folder)] == [1, 2]
    assert (folder / "mine.txt").exists()


def test_changed_data_are_refused(
    run_folder: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_signs(tmp_path / "data", {"train": 12, "val": 6})
    folder = run_folder()
    run(folder, data)
    shutil.copy(data / "val_signs" / "0_IMG_0000.jpg", data / "val_signs" / "0_IMG_0001.jpg")
    assert run(folder, data) == 2
    assert "data" in capsys.readouterr().err
    assert run(folder, data, "--set", "num_epochs=3", "--resume") == 0


def test_fine_tuning_starts_from_the_weights_of_a_checkpoint(
    run_folder: Folder, signs: Path
) -> None:
    first, second = run_folder("first"), run_folder("second", learning_rate=1e-30)
    run(first, signs)
    assert run(second, signs, "--restore_file", str(first / "best.pt")) == 0
    assert torch.allclose(
        weights(first, "best.pt")["conv1.weight"], weights(second)["conv1.weight"]
    )
    assert run(second, signs) == 0  # complete: nothing is restored again


@pytest.mark.parametrize("accumulation", [2, 3])
def test_accumulated_batches_step_as_one_batch(
    run_folder: Folder, signs: Path, accumulation: int
) -> None:
    # Batch norm sees its batches, so it is kept out by a net without: see the task `tests.linear`.
    common = {"task": "tests.linear", "precision": "float64", "num_epochs": 1, "optimizer": "SGD"}
    large = run_folder("large", batch_size=20 * accumulation, **common)
    small = run_folder("small", batch_size=20, grad_accumulation=accumulation, **common)
    run(large, signs)
    run(small, signs)
    for name, weight in weights(large).items():
        assert torch.allclose(weights(small)[name], weight, rtol=1e-12, atol=0), name
    assert rows(large)[0]["step"] == rows(small)[0]["step"]


def test_clipping_bounds_the_change_of_the_weights(run_folder: Folder, signs: Path) -> None:
    folder = run_folder(
        task="tests.linear", optimizer="SGD", learning_rate=1.0, grad_clip=1e-3, num_epochs=1
    )
    run(folder, signs)
    start = torch.cat([weight.flatten() for weight in initial_weights(folder).values()])
    end = torch.cat([weight.flatten() for weight in weights(folder).values()])
    steps = rows(folder)[0]["step"]
    assert 0 < (end - start).norm() <= steps * 1e-3 * 1.0001


def initial_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Return the weights a run in `folder` began with."""
    from core.base.params import load_params
    from core.machine.random_states import seed_everything
    from tests.linear.net import Net

    params, _ = load_params(folder / "params.json", {})
    seed_everything(params.seed)
    return Net(params).state_dict()


def test_averaged_weights_are_what_is_validated_and_kept(run_folder: Folder, signs: Path) -> None:
    folder = run_folder(task="tests.linear", ema_decay=0.5, num_epochs=1, batch_size=24)
    run(folder, signs)
    last = read_checkpoint(folder / "last.pt")
    assert equal(
        weights(folder, "best.pt"),
        {name[7:]: value for name, value in last["ema_dict"].items() if name.startswith("module.")},
    )
    assert not equal(weights(folder), weights(folder, "best.pt"))
    assert int(last["ema_dict"]["n_averaged"]) == 2
    values = json.loads((folder / "metrics_val_best_weights.json").read_text())
    assert check(folder, "--split", "val") == values


def test_averaged_weights_are_kept_with_the_newest_statistics_of_batch_norm(
    run_folder: Folder, signs: Path
) -> None:
    folder = run_folder(ema_decay=0.5, num_epochs=1)
    run(folder, signs)
    best, last = weights(folder, "best.pt"), weights(folder)
    statistics = [name for name in last if "running_" in name or "num_batches" in name]
    assert statistics
    assert all(torch.equal(best[name], last[name]) for name in statistics)
    assert not equal(best, last)


def test_early_stopping_ends_a_run_that_no_longer_improves(run_folder: Folder, signs: Path) -> None:
    folder = run_folder(learning_rate=1e-30, num_epochs=9, early_stopping_patience=2)
    run(folder, signs)
    assert len(rows(folder)) < 9
    best = max(range(len(rows(folder))), key=lambda i: rows(folder)[i]["val_accuracy"])
    assert len(rows(folder)) == best + 1 + 2
    assert run(folder, signs) == 0
    assert len(rows(folder)) == best + 1 + 2


def test_ties_keep_the_earlier_best(run_folder: Folder, signs: Path) -> None:
    folder = run_folder(task="tests.linear", learning_rate=1e-30, num_epochs=3)
    run(folder, signs)
    assert read_checkpoint(folder / "best.pt")["epoch"] == 1


def test_a_net_that_learns_nothing_is_called_out(
    run_folder: Folder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = write_signs(tmp_path / "data", {"train": 48, "val": 12})
    for path in sorted((data / "val_signs").iterdir()):  # labels that do not fit the pictures
        wrong = (int(path.name[0]) + 3) % 6
        path.rename(path.with_name(f"{wrong}_IMG_{path.stem[-4:]}x.jpg"))
    run(run_folder(task="tests.linear", num_epochs=5, learning_rate=0.1), data)
    assert "LEARNED NOTHING USEFUL" in caplog.text


def test_a_class_without_training_examples_is_named(
    run_folder: Folder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = write_signs(tmp_path / "data", {"train": 12, "val": 12})
    for path in (data / "train_signs").glob("4_*"):
        path.unlink()
    assert run(run_folder(), data) == 0
    assert "class 4 is in the validation split, but not in training" in caplog.text


@pytest.mark.parametrize("more", [False, True])
def test_nan_is_never_better(more: bool) -> None:
    nan = math.nan
    assert not is_better(nan, nan, more)
    assert not is_better(nan, 1.0, more)
    assert is_better(1.0, nan, more)
    assert is_better(2.0, 1.0, more) == more
    assert not is_better(1.0, 1.0, more)


def test_a_loss_that_is_not_finite_stops_before_the_update(
    run_folder: Folder, signs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_folder(
        task="tests.linear", optimizer="SGD", learning_rate=1e38, num_epochs=5, batch_size=48
    )
    assert run(folder, signs) == 1
    said = capsys.readouterr().err
    assert "not finite in epoch" in said
    assert "learning rate 1e+38" in said
    for path in folder.glob("*.pt"):
        assert all(value.isfinite().all() for value in weights(folder, path.name).values())


def test_a_loss_that_is_not_finite_leaves_the_weights_as_they_were() -> None:
    from core.task import load_task

    params = Params.of({"grad_clip": None, "precision": "float32"}, "params.json")
    model = torch.nn.Linear(3, 1)
    optimizers: dict[str, torch.optim.Optimizer]
    optimizers = {"main": torch.optim.SGD(model.parameters(), 0.1)}
    device, before = torch.device("cpu"), [weight.clone() for weight in model.parameters()]
    schedule = Schedule({}, False, 1)
    state = train.State(load_task("tests.linear"), params, device, model, optimizers, schedule)
    with pytest.raises(NumericError):
        state.update(model(torch.tensor([[1.0, 2.0, math.inf]])).sum())
    assert all(torch.equal(*pair) for pair in zip(before, model.parameters(), strict=True))


def test_one_cycle_fills_in_its_length_and_ends_with_the_run(
    run_folder: Folder, signs: Path
) -> None:
    folder = run_folder(lr_scheduler="OneCycleLR", learning_rate=0.1)
    assert run(folder, signs) == 0
    assert read_checkpoint(folder / "last.pt")["scheduler_dicts"]["main"]["total_steps"] == 6
    assert run(folder, signs, "--set", "num_epochs=3") == 2  # another length is another schedule
    assert run(folder, signs, "--set", "num_epochs=3", "--resume") == 0


def test_plateau_and_cosine_step_once_an_epoch(run_folder: Folder, signs: Path) -> None:
    plateau = run_folder(
        "plateau", lr_scheduler="ReduceLROnPlateau", lr_scheduler_args={"patience": 0}, num_epochs=3
    )
    cosine = run_folder("cosine", lr_scheduler="CosineAnnealingLR", learning_rate=1.0, num_epochs=3)
    assert run(plateau, signs) == 0
    assert run(cosine, signs) == 0
    expected = [(1 + math.cos(math.pi * epoch / 3)) / 2 for epoch in range(3)]
    assert [row["learning_rate"] for row in rows(cosine)] == pytest.approx(expected)


@pytest.mark.parametrize(
    "setting", ["precision=bfloat16", "precision=float64", "channels_last=true", "seed=0"]
)
def test_settings_of_the_machine_room_train_and_evaluate(
    run_folder: Folder, signs: Path, setting: str
) -> None:
    folder = run_folder(num_epochs=1)
    assert run(folder, signs, "--set", setting) == 0
    assert check(folder, "--split", "val") == json.loads(
        (folder / "metrics_val_best_weights.json").read_text()
    )


def test_seeds_decide_the_run(run_folder: Folder, signs: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(run_folder(name, seed=seed, num_epochs=1), signs)
    a, b, c = (run_folder(f"{name}2").parent / name for name in "abc")
    assert (a / "last.pt").read_bytes() == (b / "last.pt").read_bytes()
    assert (a / "metrics.jsonl").read_bytes() != (c / "metrics.jsonl").read_bytes()


def test_the_params_of_the_checkpoint_rule_in_evaluation(run_folder: Folder, signs: Path) -> None:
    folder = run_folder()
    run(folder, signs)
    before = check(folder)
    (folder / "params.json").write_text('{"num_channels": 5, "dropout_rate": 0.9}')
    assert check(folder) == before


def test_missing_data_and_checkpoints_are_clear_errors(
    run_folder: Folder, signs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_folder()
    assert run(folder, Path("nowhere")) == 1
    assert "nowhere" in capsys.readouterr().err
    assert evaluate.main(["--model_dir", str(folder)]) == 1
    assert "best" in capsys.readouterr().err
    run(folder, signs)
    assert evaluate.main(["--model_dir", str(folder), "--split", "tset"]) == 1
    assert "tset" in capsys.readouterr().err


def test_help_is_printed_without_an_error() -> None:
    for script in (train, evaluate):
        with pytest.raises(SystemExit) as stop:
            script.main(["--help"])
        assert stop.value.code == 0


@pytest.mark.parametrize(
    "setting", ["batch_size=12", "optimizer=Adam", "optimizer_args={weight_decay: 0.1}", "seed=1"]
)
def test_a_resumed_schedule_stands_where_it_would_have_stood(
    run_folder: Folder, signs: Path, setting: str
) -> None:
    folder = run_folder(
        task="tests.linear", optimizer="SGD", lr_scheduler="StepLR", learning_rate=1.0
    )
    (folder / "params.json").write_text(
        json.dumps(
            json.loads((folder / "params.json").read_text())
            | {"lr_scheduler_args": {"step_size": 1}}
        )
    )
    assert run(folder, signs) == 0
    assert run(folder, signs, "--resume", "--set", "num_epochs=4", "--set", setting) == 0
    rates = [row["learning_rate"] for row in rows(folder)]
    assert rates == pytest.approx([1, 0.1, 0.01, 0.001])


def test_a_longer_cosine_goes_on_where_the_longer_one_stands(
    run_folder: Folder, signs: Path
) -> None:
    folder = run_folder(task="tests.linear", lr_scheduler="CosineAnnealingLR", learning_rate=1.0)
    assert run(folder, signs) == 0
    assert run(folder, signs, "--resume", "--set", "num_epochs=4") == 0
    rates = [row["learning_rate"] for row in rows(folder)]
    assert rates[2:] == pytest.approx([(1 + math.cos(math.pi * epoch / 4)) / 2 for epoch in (2, 3)])


def test_one_cycle_is_resumed_with_another_batch_size(run_folder: Folder, signs: Path) -> None:
    folder = run_folder(task="tests.linear", lr_scheduler="OneCycleLR", batch_size=8)
    assert run(folder, signs) == 0
    more = ["--resume", "--set", "num_epochs=3", "--set", "batch_size=48"]
    assert run(folder, signs, *more) == 0


@pytest.mark.parametrize(
    ("metrics", "params", "mode"),
    [
        (["accuracy"], {}, "max"),
        (["error"], {}, "min"),  # the loss is monitored
        (["error"], {"monitor": "error", "monitor_mode": "min"}, "min"),
        (["accuracy"], {"monitor": "loss"}, "min"),
    ],
)
def test_plateau_waits_in_the_direction_of_the_monitored_metric(
    run_folder: Folder, metrics: list[str], params: dict[str, str], mode: str
) -> None:
    from dataclasses import replace

    from core.base.params import load_params
    from core.task import load_task

    folder = run_folder(task="tests.linear", lr_scheduler="ReduceLROnPlateau", **params)
    task = replace(load_task("tests.linear"), metrics=dict.fromkeys(metrics))
    loaded, _ = load_params(folder / "params.json", {})
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1)
    assert make_schedule(task, {"main": optimizer}, loaded, 1).schedulers["main"].mode == mode


def test_a_checkpoint_of_the_original_needs_no_num_threads(run_folder: Folder, signs: Path) -> None:
    from tests.linear.net import Net

    folder = run_folder(task="tests.linear")
    (folder / "params.json").write_text('{"task": "tests.linear"}')
    weights = Net(None).state_dict()  # type: ignore[arg-type]
    torch.save({"epoch": 3, "state_dict": weights, "optim_dict": {}}, folder / "best.pth.tar")
    check(folder, "--data_dir", str(signs))


@pytest.mark.parametrize(
    "wrong",
    [
        ["--set", "optimizer=Adm"],
        ["--set", "monitor=accuracyy"],
        ["--data_dir", "nowhere"],
        ["--restore_file", "nonsense"],
        ["--restore_file", "best"],
    ],
)
def test_overwrite_removes_nothing_if_the_run_cannot_start(
    run_folder: Folder, signs: Path, wrong: list[str]
) -> None:
    folder = run_folder(task="tests.linear", num_epochs=1)
    assert run(folder, signs) == 0
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert run(folder, signs, "--overwrite", *wrong) != 0
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}
