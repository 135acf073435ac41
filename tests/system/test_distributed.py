"""Several processes under torchrun give what one gives, and end as one does."""

import json
import os
import random
import shutil
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import evaluate
import search_hyperparams
from core.machine.nested import tensors
from core.training.checkpoint import read_checkpoint
from tests.conftest import SMALL, Folder, write_signs
from tests.helpers.processes import wait_for
from tests.helpers.runs import RECIPE, assert_same, rows, run
from tests.helpers.torchrun import (
    MANY,
    Job,
    begin_two,
    ended,
    processes_of,
    torchrun,
    train_all,
    train_two,
    wait_for_save,
)
from tests.helpers.warm import Warm
from tests.projects.registry import all_projects

LONG = RECIPE | {"num_epochs": 4}

LINEAR: dict[str, Any] = {"task": "tests.projects.linear", "batch_size": 8, "num_epochs": 4}
LINEAR |= {"learning_rate": 0.01, "save_summary_steps": 1, "optimizer": "SGD"}
EXACT = LINEAR | {"precision": "float64"}
TOGETHER = {name: one for name, one in all_projects().items() if one.together is not None}
# Up to 45 steps each, the last batch of an epoch smaller than the others.
CASES: dict[str, dict[str, Any]] = {
    "momentum": EXACT | {"optimizer_args": {"momentum": 0.9}},
    "single": LINEAR,
    "single_adam": LINEAR | {"optimizer": "Adam"},
    "adamw_clip_ema": EXACT | {"optimizer": "AdamW", "grad_clip": 0.5, "ema_decay": 0.9},
    "accumulated": EXACT | {"grad_accumulation": 4, "grad_clip": 0.3},
    "rows_for_some": EXACT | {"batch_size": 2, "num_epochs": 1},
    "a_row_for_one": EXACT | {"batch_size": 1, "num_epochs": 1},
    "one_example": EXACT,
    # In some updates all labels are ignored.
    "ignored_longer": TOGETHER["ignored"].all_params(
        precision="float64", optimizer="SGD", batch_size=2, grad_accumulation=3, num_epochs=6
    ),
    "stream": {"task": "tests.projects.kinds", "kind": "stateful", "precision": "float64"}
    | {"batch_size": 5, "num_epochs": 2, "optimizer": "SGD", "monitor": "loss"},
    # Workers of all processes divide it, so batches are others: the whole epoch is one update.
    "by_worker": {"task": "tests.projects.kinds", "kind": "by_worker", "precision": "float64"}
    | {"batch_size": 7, "num_epochs": 3, "optimizer": "SGD", "monitor": "loss"}
    | {"num_workers": 2, "grad_accumulation": 99},
    **{
        name: one.all_params(precision="float64", optimizer="SGD", **(one.together or {}))
        for name, one in TOGETHER.items()
    },
}
# Weights in parts; runs that are started again have as many processes, or others.
SHARDED = [*("single_adam", "adamw_clip_ema", "accumulated", "rows_for_some", "a_row_for_one")]
SHARDED += [*("gan", "multitask", "ignored_longer", "masked", "task_ner")]
OF_THREE = ["stream", "by_worker", "adamw_clip_ema", "rows_for_some", "a_row_for_one"]
OF_THREE += ["one_example", "pixels"]
CHECKPOINTS = ("last.pt", "previous.pt")
STOPPING = EXACT | {"task": "tests.projects.kinds", "kind": "stopping_in_evaluation"}
STOPPING |= {"monitor": "agreement", "monitor_mode": "max", "batch_size": 4, "num_epochs": 2}


@pytest.fixture(scope="module")
def folders(warm: Warm, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Return folders of runs: those that 1, 2 and 3 processes have trained."""
    base = tmp_path_factory.mktemp("distributed")
    write_signs(base / "signs", {"train": 45, "val": 20})
    write_signs(base / "one_example", {"train": 1, "val": 1})
    for name in (*TOGETHER, "quiet", "stopped"):
        (base / name).mkdir()
        if name in TOGETHER and (make_data := TOGETHER[name].make_data) is not None:
            make_data(base / name)
    (base / "stopped" / ".stop0").touch()

    def data(name: str) -> Path:
        return base / name if (base / name).exists() else base / "signs"

    jobs = {name: (name, params, data(name)) for name, params in CASES.items()}
    begun = {epochs: CASES["adamw_clip_ema"] | {"num_epochs": epochs} for epochs in (1, 3)}
    train_all(warm, base / "1", 1, [*jobs.values(), ("begun", begun[1], data("begun"))])
    shutil.copytree(base / "1" / "begun", base / "3" / "begun_in_parts")
    three = [*(jobs[name] for name in OF_THREE), in_parts(("begun", begun[3], data("begun")))]
    two = [(name, SMALL | LONG, data(name)) for name in ("recipe", "recipe_again")]
    two += [in_parts(jobs[name]) for name in SHARDED]
    two += [in_parts(("recipe", SMALL | LONG, data("recipe")))]
    two += [saved_in_parts(("recipe", SMALL | LONG, data("recipe")))]
    two += [saved_in_parts(("begun", begun[1], data("begun")))]
    two += [(name, STOPPING, base / name) for name in ("quiet", "stopped", "stopped")]
    three += [in_parts(jobs[name]) for name in OF_THREE if name in SHARDED]
    train_all(warm, base / "2", 2, [*jobs.values(), *two])
    shutil.copytree(base / "2" / "begun_saved_in_parts", base / "3" / "begun_saved_in_parts")
    three += [saved_in_parts(("begun", begun[3], data("begun")))]
    return {1: base / "1", 2: base / "2", 3: train_all(warm, base / "3", 3, three)}


def in_parts(job: Job) -> Job:
    """Return the same run with weights that are divided among the processes."""
    name, params, data = job
    return f"{name}_in_parts", params | {"shard": True}, data


def saved_in_parts(job: Job) -> Job:
    """Return the same run, whose checkpoints are in parts, too."""
    name, params, data = in_parts(job)
    return name.replace("in_parts", "saved_in_parts"), params | {"shard_checkpoints": True}, data


def difference(one: list[torch.Tensor], other: list[torch.Tensor]) -> float:
    """Return the largest difference of a weight, relative to the largest of its tensor."""
    pairs = [(x, y) for x, y in zip(one, other, strict=True) if x.is_floating_point()]
    return max((float((x - y).abs().max() / x.abs().max().clamp(1e-30)) for x, y in pairs))


@pytest.mark.parametrize(
    ("case", "count", "kind"),
    [
        *((case, 2, "") for case in CASES),
        *((case, 3, "") for case in OF_THREE),
        *((case, 2, "_in_parts") for case in SHARDED),
        *((case, 3, "_in_parts") for case in OF_THREE if case in SHARDED),
    ],
)
def test_several_processes_give_the_weights_and_numbers_of_one(
    folders: dict[int, Path], case: str, count: int, kind: str
) -> None:
    exact = CASES[case].get("precision") == "float64"
    alone, together = folders[1] / case, folders[count] / f"{case}{kind}"
    one, other = (read_checkpoint(folder / "last.pt") for folder in (alone, together))
    assert other["processes"] == count
    for name in ("state_dict", "ema_dict"):
        if one[name] is not None:
            weights = tensors(one[name]), tensors(other[name])
            assert difference(*weights) < (1e-14 if exact else 1e-6)
    for mine, theirs in zip(rows(alone), rows(together), strict=True):
        assert theirs == pytest.approx(mine, rel=1e-12 if exact else 1e-6, nan_ok=True)
    saved = [dict(np.load(folder / "predictions_val.npz")) for folder in (alone, together)]
    if case == "by_worker":
        assert f"; {count} processes divide it" in (together / "train.log").read_text()
        saved = [{name: np.sort(kept[name], 0) for name in ("outputs", "labels")} for kept in saved]
    for name in saved[0].keys() - {"checkpoint"}:  # a hash, of weights that differ in the last bits
        if saved[0][name].dtype.kind == "f":
            np.testing.assert_allclose(saved[1][name], saved[0][name], 0, 1e-12 if exact else 1e-5)
        else:
            assert (saved[1][name] == saved[0][name]).all()


def test_two_runs_with_as_many_processes_are_byte_identical(folders: dict[int, Path]) -> None:
    assert_same(folders[2] / "recipe", folders[2] / "recipe_again")


def test_a_checkpoint_in_parts_holds_what_a_whole_one_does(
    folders: dict[int, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    whole, parts = folders[2] / "recipe_in_parts", folders[2] / "recipe_saved_in_parts"
    assert rows(parts) == rows(whole)
    best = (read_checkpoint(folder / "best.pt")["state_dict"] for folder in (whole, parts))
    assert difference(*map(tensors, best)) == 0
    numbers = [read_checkpoint(parts / name)["parts"]["number"] for name in CHECKPOINTS]
    assert sorted(os.listdir(parts / "last.dcp")) == sorted(map(str, numbers))
    last = read_checkpoint(parts / "last.pt")
    assert not any(last["state_dict"][name].numel() for name in ("conv1.weight", "fc1.weight"))
    assert (
        evaluate.main(["--model_dir", str(parts), "--split", "val", "--restore_file", "last"]) == 1
    )
    assert "the weights of last.pt lie in last.dcp" in capsys.readouterr().err


def test_a_damaged_part_is_found_and_the_save_before_it_taken(
    folders: dict[int, Path], warm: Warm, tmp_path: Path
) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(folders[2] / "recipe_saved_in_parts", folder)
    number = read_checkpoint(folder / "last.pt")["parts"]["number"]
    part = folder / f"last.dcp/{number}/__1_0.distcp"
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content)
    code, printed = train_two(warm, folder, folders[2].parent / "signs")
    assert code == 0 and "is missing or damaged; resuming from previous.pt" in printed


@pytest.mark.parametrize("kind", ["begun_in_parts", "begun_saved_in_parts"])
def test_other_numbers_of_processes_go_on_with_a_run(folders: dict[int, Path], kind: str) -> None:
    folder, whole = folders[3] / kind, folders[1] / "adamw_clip_ema"
    assert run(folder, folder.parent.parent / "signs", "--set", "num_epochs=4") == 0
    one, other = (read_checkpoint(path / "last.pt") for path in (whole, folder))
    assert difference(tensors(one["state_dict"]), tensors(other["state_dict"])) < 1e-14
    assert rows(folder)[-1] == pytest.approx(rows(whole)[-1], rel=1e-12)


def test_a_stop_in_evaluation_forgets_nothing_of_the_epoch(folders: dict[int, Path]) -> None:
    assert (folders[2] / "codes.1").read_text().split()[-3:] == ["0", "143", "0"]
    assert rows(folders[2] / "stopped") == rows(folders[2] / "quiet")


def kill_at_random(folder: Path, data: Path, whole: Path, kills: int, draw: random.Random) -> int:
    """Kill processes of one torchrun at random times; returns how many kills there were."""
    agent = begin_two(folder, data, "--standalone", f"--max-restarts={kills}")
    done, saved = 0, 0
    while done < kills:
        if draw.random() < 0.8:  # else while they start
            wait_for_save(folder, agent, saved)
        time.sleep(draw.uniform(0, 0.3))
        if agent.poll() is not None:
            break
        if len(found := processes_of(agent.pid)) == 2:
            with suppress(ProcessLookupError):
                os.kill(found[draw.randrange(2)], signal.SIGKILL)
                done += 1
            wait_for(lambda: not set(found.values()) & set(processes_of(agent.pid).values()))
        saved = (folder / "last.pt").stat().st_mtime_ns if (folder / "last.pt").exists() else 0
    code, printed = ended(agent)
    assert code == 0, printed[-3000:]
    assert_same(folder, whole)
    return done


@pytest.mark.parametrize(
    "kind", ["", pytest.param("_in_parts", marks=pytest.mark.slow), "_saved_in_parts"]
)
def test_a_killed_process_changes_no_bit(
    kind: str, folders: dict[int, Path], run_folder: Folder
) -> None:
    keys = {"shard": bool(kind), "shard_checkpoints": "saved" in kind}
    folder, whole = run_folder(**LONG, **keys), folders[2] / f"recipe{kind}"
    assert kill_at_random(folder, whole.parent.parent / "signs", whole, 1, random.Random(1)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["", "_in_parts", "_saved_in_parts"])
def test_thirty_kills_of_processes_change_no_bit(
    kind: str, folders: dict[int, Path], run_folder: Folder
) -> None:
    draw, whole, done = random.Random(2), folders[2] / f"recipe{kind}", 0
    while done < 30:
        keys = {"shard": bool(kind), "shard_checkpoints": "saved" in kind}
        folder = run_folder(f"killed{done}", **LONG, **keys)
        done += kill_at_random(folder, whole.parent.parent / "signs", whole, 3, draw)
        shutil.rmtree(folder)


def test_a_signal_to_the_agent_saves_and_the_same_command_goes_on(
    folders: dict[int, Path], run_folder: Folder
) -> None:
    folder, whole = run_folder(**LONG), folders[2] / "recipe"
    signs = whole.parent.parent / "signs"
    agent = begin_two(folder, signs)
    wait_for_save(folder, agent)
    began = time.monotonic()
    agent.terminate()
    code, printed = ended(agent)
    assert time.monotonic() - began < 30
    assert code == 1, printed
    assert [(folder / f"codes.{rank}").read_text() for rank in (0, 1)] == ["143\n"] * 2
    assert "Stopped by SIGTERM" in printed
    code, printed = ended(begin_two(folder, signs))
    assert code == 0, printed
    assert "Resuming after" in printed
    assert_same(folder, whole)


@pytest.mark.slow
def test_two_agents_train_as_two_processes_of_one(
    folders: dict[int, Path], run_folder: Folder
) -> None:
    folder, whole = run_folder(**LONG), folders[2] / "recipe"
    jobs = folder / "jobs.json"
    signs = whole.parent.parent / "signs"
    jobs.write_text(json.dumps([["--model_dir", str(folder), "--data_dir", str(signs)]]))
    with socket.socket() as free:
        free.bind(("localhost", 0))
        place = f"localhost:{free.getsockname()[1]}"
    options = ("--nnodes=2", "--rdzv-backend=c10d", f"--rdzv-endpoint={place}", "--rdzv-id=1")
    agents = [torchrun(1, MANY, jobs, options=options) for _ in range(2)]
    for code, printed in map(ended, agents):
        assert code == 0, printed
    assert_same(folder, whole)


@pytest.mark.parametrize(
    ("params", "told"),
    [
        (
            {"task": "tests.projects.kinds", "kind": "failing_alone"},
            "RuntimeError: a fault of process 1",
        ),
        pytest.param(
            {"task": "tests.projects.kinds", "kind": "failing"},
            "RuntimeError: a fault of the task",
            marks=pytest.mark.slow,
        ),
        pytest.param({"task": "tests.projects.linear"}, "no such folder", marks=pytest.mark.slow),
    ],
)
def test_a_fault_ends_all_processes_and_is_told_once(
    run_folder: Folder, tmp_path: Path, params: dict[str, str], told: str
) -> None:
    folder = run_folder(**params | {"monitor": "loss"})
    began = time.monotonic()
    code, printed = ended(begin_two(folder, tmp_path))
    assert code == 1
    assert printed.count(told) == 1, printed
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("keys", [[], ["shard"], ["shard", "shard_checkpoints"]])
@pytest.mark.parametrize(
    ("kind", "told"),
    [("failing_alone", "RuntimeError: a fault of process 1"), ("without_room", "File too large")],
)
def test_a_fault_of_one_process_hangs_no_other(
    kind: str, told: str, keys: list[str], warm: Warm, run_folder: Folder, tmp_path: Path
) -> None:
    more = dict.fromkeys(keys, True)
    folder = run_folder(task="tests.projects.kinds", kind=kind, monitor="loss", **more)
    code, printed = train_two(warm, folder, tmp_path)
    assert code != 0
    assert printed.count(told) == 1, printed


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"kind": "scalar"}, "'shard' cannot divide scale of shape (): want (1,)"),
        ({"kind": "foreign"}, "blocks(model) of net.py must return modules inside of the model"),
    ],
)
def test_what_cannot_be_in_parts_is_told(
    params: dict[str, Any], told: str, warm: Warm, run_folder: Folder, tmp_path: Path
) -> None:
    params = {"task": "tests.projects.kinds", "monitor": "loss", "shard": True} | params
    code, printed = train_two(warm, run_folder(**params), tmp_path)
    assert code == 2
    assert printed.count(told) == 1, printed


@pytest.mark.parametrize("other", [{"optimizer": "Adafactor"}, {"compile": True}])
def test_what_does_not_go_with_parts_is_refused(
    other: dict[str, Any], run_folder: Folder, signs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(run_folder(**LINEAR | {"shard": True} | other), signs) == 2
    assert "'shard' is true, which does not go with" in capsys.readouterr().err


def test_one_process_says_that_it_divides_nothing(run_folder: Folder, signs: Path) -> None:
    folder = run_folder(**LINEAR | {"shard": True, "num_epochs": 1})
    assert run(folder, signs) == 0
    assert "'shard' has no effect: this is the only process" in (folder / "train.log").read_text()


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("shard", [False, True])
def test_a_signal_to_one_process_stops_all_and_forgets_nothing(
    rank: int, shard: bool, warm: Warm, run_folder: Folder, tmp_path: Path
) -> None:
    params = STOPPING | {"kind": "stopping_alone", "shard": shard}
    folder, whole = run_folder("stopped", **params), run_folder("whole", **params)
    (data := tmp_path / "data").mkdir()
    assert train_two(warm, whole, data)[0] == 0
    (data / f".stop{rank}").touch()
    codes = [train_two(warm, folder, data)[0] for _ in range(2)]
    assert codes == [143, 0]
    assert (folder / "codes.1").read_text().split() == ["143", "0"]
    assert_same(folder, whole)


@pytest.mark.parametrize("shard", [False, True])
def test_a_step_that_changes_weights_by_itself_is_told_once(
    shard: bool, warm: Warm, run_folder: Folder, tmp_path: Path
) -> None:
    folder = run_folder(task="tests.projects.own_step", shard=shard)
    code, printed = train_two(warm, folder, tmp_path)
    assert code == 2
    assert printed.count("weights by state.update alone") == 1


def test_scripts_of_one_process_refuse_to_be_several(
    run_folder: Folder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "2", "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    folder = run_folder()
    assert evaluate.main(["--model_dir", str(folder)]) == 2
    assert search_hyperparams.main(["--parent_dir", str(folder)]) == 2
    assert capsys.readouterr().err.count("without torchrun") == 2


def test_synced_batch_norm_needs_gpus(
    run_folder: Folder, signs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_folder(sync_batchnorm=True, device="cpu")
    assert run(folder, signs) == 2
    assert "'sync_batchnorm'" in capsys.readouterr().err


BY_RANK = {"task": "tests.projects.by_rank", "num_epochs": 1, "num_threads": 1}


@pytest.mark.parametrize(
    ("differs", "told"),
    [("order", "different orders of examples"), ("examples", "read different examples of 'train'")],
)
def test_loaders_that_differ_between_processes_are_told(
    differs: str, told: str, warm: Warm, tmp_path: Path
) -> None:
    (tmp_path / "params.json").write_text(json.dumps(BY_RANK | {"differs": differs}))
    code, printed = train_two(warm, tmp_path, tmp_path)
    assert code == 2
    assert printed.count(told) == 1


def test_streams_that_differ_between_processes_are_told(
    warm: Warm, run_folder: Folder, tmp_path: Path
) -> None:
    folder = run_folder(task="tests.projects.kinds", kind="divided", monitor="loss")
    code, printed = train_two(warm, folder, tmp_path)
    assert code == 2
    assert printed.count("the processes read different examples of a stream") == 1


def test_processes_with_distributed_samplers_train_on_all_examples(
    warm: Warm, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        params = BY_RANK | {"differs": "sampler", "precision": "float64"}
        (tmp_path / name / "params.json").write_text(json.dumps(params))
    assert run(tmp_path / "one", tmp_path) == 0
    code, printed = train_two(warm, tmp_path / "two", tmp_path)
    assert code == 0 and "30 examples in 4 batches" in printed
    one, two = (rows(tmp_path / name)[0] for name in ("one", "two"))
    assert two == pytest.approx(one, rel=1e-12)
