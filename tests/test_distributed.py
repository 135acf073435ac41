"""Several processes under torchrun give what one gives, and end as one does."""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import evaluate
import search_hyperparams
import train
from core.machine.nested import tensors
from core.training.checkpoint import read_checkpoint
from tests.conftest import ROOT, SMALL, Folder, rows, write_signs
from tests.test_survival import RECIPE, assert_same

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
LONG = RECIPE | {"num_epochs": 10}
PATIENCE = 120  # seconds after which a test calls it a hang

LINEAR: dict[str, Any] = {"task": "tests.linear", "batch_size": 8, "num_epochs": 4}
LINEAR |= {"learning_rate": 0.01, "save_summary_steps": 1, "optimizer": "SGD"}
EXACT = LINEAR | {"precision": "float64"}
KINDS = EXACT | {"task": "tests.kinds", "monitor": "agreement", "batch_size": 7}
NER = {"task": "model.ner", "embedding_dim": 8, "feature_dim": 4, "lstm_hidden_dim": 8}
NER |= {"num_layers": 1, "bidirectional": True, "dropout_rate": 0.0, "min_count": 1}
# 24 steps each (but ner: 44), the last batch of an epoch smaller than the others: params, data.
CASES: dict[str, tuple[dict[str, Any], str]] = {
    "momentum": (EXACT | {"optimizer_args": {"momentum": 0.9}}, "signs"),
    "single": (LINEAR, "signs"),
    "single_adam": (LINEAR | {"optimizer": "Adam"}, "signs"),
    "adamw_clip_ema": (EXACT | {"optimizer": "AdamW", "grad_clip": 0.5, "ema_decay": 0.9}, "signs"),
    "accumulated": (EXACT | {"grad_accumulation": 4, "grad_clip": 0.3}, "signs"),
    "rows_for_some": (EXACT | {"batch_size": 2, "num_epochs": 1}, "signs"),
    "a_row_for_one": (EXACT | {"batch_size": 1, "num_epochs": 1}, "signs"),
    "one_example": (EXACT, "one"),
    "ner": (EXACT | NER | {"affix_length": 1, "batch_size": 64, "num_epochs": 1}, "ner"),
    "data_loader": (KINDS | {"kind": "segmentation", "num_workers": 1, "num_epochs": 1}, "one"),
    "ignored_labels": (KINDS | {"kind": "ignored", "batch_size": 2, "grad_accumulation": 3}, "one"),
    "dicts_and_masks": (EXACT | {"task": "tests.projects.masked", "grad_accumulation": 2}, "one"),
    "two_outputs": (EXACT | {"task": "tests.projects.multitask"}, "one"),
    "no_labels": (EXACT | {"task": "tests.projects.unlabelled"}, "one"),
}


def torchrun(count: int, script: Path, *arguments: object, options: tuple[str, ...] = ()) -> Any:
    """Start `count` processes of a script; what they print goes to a pipe."""
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={count}"]
    command += [*(options or ["--standalone"]), str(script), *map(str, arguments)]
    return subprocess.Popen(
        command,
        env=ENVIRONMENT,
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def ended(process: Any) -> tuple[int, str]:
    """Wait for a process; returns its exit code and what it printed."""
    try:
        printed = process.communicate(timeout=PATIENCE)[0]
    except subprocess.TimeoutExpired:
        process.terminate()
        pytest.fail(f"it hangs: {process.communicate()[0][-2000:]}")
    return process.returncode, printed


def children(agent: int) -> dict[int, int]:
    """Return the processes that an agent has started: rank -> number."""
    found: dict[int, int] = {}
    for number in Path(f"/proc/{agent}/task/{agent}/children").read_text().split():
        with suppress(OSError):  # it has just ended
            words = Path(f"/proc/{number}/environ").read_bytes().split(b"\0")
            ranks = [int(word[5:]) for word in words if word.startswith(b"RANK=")]
            found |= {rank: int(number) for rank in ranks}
    return found


def trained(folder: Path, count: int, runs: dict[str, tuple[dict[str, Any], Path]]) -> Path:
    """Train many runs with `count` processes; each has a folder of its name in `folder`."""
    jobs = []
    for name, (params, data) in runs.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "params.json").write_text(json.dumps({"num_threads": 1} | params))
        jobs.append(["--model_dir", str(folder / name), "--data_dir", str(data)])
    if count == 1:
        assert [train.main(argv) for argv in jobs] == [0] * len(jobs)
        return folder
    (folder / "jobs.json").write_text(json.dumps(jobs))
    code, printed = ended(torchrun(count, ROOT / "tests/many.py", folder / "jobs.json"))
    assert code == 0, printed[-3000:]
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """The cases trained by 1, 2 and 3 processes: folders of their folders."""
    base = tmp_path_factory.mktemp("distributed")
    write_signs(base / "signs", {"train": 45, "val": 20})
    write_signs(base / "one", {"train": 1, "val": 1})
    command = [sys.executable, "data/ner/prepare.py", "--output", str(base / "ner")]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    runs = {name: (params, base / data) for name, (params, data) in CASES.items()}
    again = {name: (SMALL | LONG, base / "signs") for name in ("recipe", "recipe_again")}
    return {
        count: trained(base / str(count), count, runs | (again if count == 2 else {}))
        for count in (1, 2, 3)
    }


def difference(one: list[torch.Tensor], other: list[torch.Tensor]) -> float:
    """Return the largest difference of a weight, relative to the largest of its tensor."""
    pairs = [(x, y) for x, y in zip(one, other, strict=True) if x.is_floating_point()]
    return max((float((x - y).abs().max() / x.abs().max().clamp(1e-30)) for x, y in pairs))


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("case", CASES)
def test_several_processes_give_the_weights_and_numbers_of_one(
    folders: dict[int, Path], case: str, count: int
) -> None:
    exact = CASES[case][0].get("precision") == "float64"
    alone, together = (folders[n] / case for n in (1, count))
    one, other = (read_checkpoint(folder / "last.pt") for folder in (alone, together))
    assert other["processes"] == count
    for name in ("state_dict", "ema_dict"):
        if one[name] is not None:
            weights = tensors(one[name]), tensors(other[name])
            assert difference(*weights) < (1e-14 if exact else 1e-6)
    for mine, theirs in zip(rows(alone), rows(together), strict=True):
        assert theirs == pytest.approx(mine, rel=1e-12 if exact else 1e-6, nan_ok=True)
    saved = [np.load(folder / "predictions_val.npz") for folder in (alone, together)]
    for name in saved[0]:
        if saved[0][name].dtype.kind == "f":
            np.testing.assert_allclose(saved[1][name], saved[0][name], 0, 1e-12 if exact else 1e-5)
        else:
            assert (saved[1][name] == saved[0][name]).all()


def test_two_runs_with_as_many_processes_are_byte_identical(folders: dict[int, Path]) -> None:
    assert_same(folders[2] / "recipe", folders[2] / "recipe_again")


def test_other_numbers_of_processes_go_on_with_a_run(
    folders: dict[int, Path], run_folder: Folder
) -> None:
    params, whole = CASES["adamw_clip_ema"][0], folders[1] / "adamw_clip_ema"
    folder, signs = run_folder(**params | {"num_threads": 1}), whole.parent.parent / "signs"
    argv = ["--model_dir", str(folder), "--data_dir", str(signs), "--set"]
    for count, epochs in ((1, 1), (3, 3), (1, 4)):
        if count == 1:
            assert train.main([*argv, f"num_epochs={epochs}"]) == 0
        else:
            more = [*argv, f"num_epochs={epochs}"]
            code, printed = ended(torchrun(count, ROOT / "train.py", *more))
            assert code == 0, printed
    one, other = (read_checkpoint(path / "last.pt") for path in (whole, folder))
    assert difference(tensors(one["state_dict"]), tensors(other["state_dict"])) < 1e-14
    assert rows(folder)[-1] == pytest.approx(rows(whole)[-1], rel=1e-12)


def begin(folder: Path, data: Path, *options: str) -> Any:
    """Start two processes that train a run; they leave their exit codes beside it."""
    jobs = folder / "jobs.json"
    jobs.write_text(json.dumps([["--model_dir", str(folder), "--data_dir", str(data)]]))
    return torchrun(2, ROOT / "tests/many.py", jobs, options=options)


def wait_for_save(folder: Path, agent: Any, since: int = 0) -> None:
    """Wait until a run has written another checkpoint, or has ended."""
    last, began = folder / "last.pt", time.monotonic()
    while agent.poll() is None and not (last.exists() and last.stat().st_mtime_ns > since):
        assert time.monotonic() - began < 60, "it hangs"
        time.sleep(0.02)


def kill_at_random(folder: Path, data: Path, whole: Path, kills: int, draw: random.Random) -> int:
    """Kill processes of one torchrun at random times; returns how many kills there were."""
    agent = begin(folder, data, "--standalone", f"--max-restarts={kills}")
    done, saved = 0, 0
    while done < kills:
        if draw.random() < 0.8:  # else while they start
            wait_for_save(folder, agent, saved)
        time.sleep(draw.uniform(0, 1))
        if agent.poll() is not None:
            break
        if len(found := children(agent.pid)) == 2:
            with suppress(ProcessLookupError):
                os.kill(found[draw.randrange(2)], signal.SIGKILL)
                done += 1
            while set(found.values()) & set(children(agent.pid).values()):
                time.sleep(0.02)
        saved = (folder / "last.pt").stat().st_mtime_ns if (folder / "last.pt").exists() else 0
    code, printed = ended(agent)
    assert code == 0, printed[-3000:]
    assert_same(folder, whole)
    return done


def test_a_killed_process_changes_no_bit(folders: dict[int, Path], run_folder: Folder) -> None:
    folder, whole = run_folder(**LONG), folders[2] / "recipe"
    assert kill_at_random(folder, whole.parent.parent / "signs", whole, 1, random.Random(0)) == 1


@pytest.mark.slow
def test_thirty_kills_of_processes_change_no_bit(
    folders: dict[int, Path], run_folder: Folder
) -> None:
    draw, whole, done = random.Random(1), folders[2] / "recipe", 0
    while done < 30:
        folder = run_folder(f"killed{done}", **LONG)
        done += kill_at_random(folder, whole.parent.parent / "signs", whole, 3, draw)
        shutil.rmtree(folder)


def test_a_signal_to_the_agent_saves_and_the_same_command_goes_on(
    folders: dict[int, Path], run_folder: Folder
) -> None:
    folder, whole = run_folder(**LONG), folders[2] / "recipe"
    signs = whole.parent.parent / "signs"
    agent = begin(folder, signs)
    wait_for_save(folder, agent)
    began = time.monotonic()
    agent.terminate()
    code, printed = ended(agent)
    assert time.monotonic() - began < 30
    assert code == 1, printed
    assert [(folder / f"codes.{rank}").read_text() for rank in (0, 1)] == ["143\n"] * 2
    assert "Stopped by SIGTERM" in printed
    code, printed = ended(begin(folder, signs))
    assert code == 0, printed
    assert "Going on after" in printed
    assert_same(folder, whole)


def test_a_stop_in_evaluation_forgets_nothing_of_the_epoch(
    run_folder: Folder, tmp_path: Path
) -> None:
    params = KINDS | {"batch_size": 4, "num_epochs": 2, "num_threads": 1}
    params |= {"kind": "stopping_in_evaluation"}
    jobs = []
    for name, starts in (("whole", 1), ("run", 2)):
        run_folder(name, **params)
        data = tmp_path / f"data of {name}"
        data.mkdir()
        jobs += [["--model_dir", str(tmp_path / name), "--data_dir", str(data)]] * starts
    (data / ".stop0").touch()
    (tmp_path / "jobs.json").write_text(json.dumps(jobs))
    code, printed = ended(torchrun(2, ROOT / "tests/many.py", tmp_path / "jobs.json"))
    assert code == 0, printed
    assert (tmp_path / "codes.1").read_text() == "0\n143\n0\n"
    assert rows(tmp_path / "run") == rows(tmp_path / "whole")


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
    agents = [torchrun(1, ROOT / "tests/many.py", jobs, options=options) for _ in range(2)]
    for code, printed in map(ended, agents):
        assert code == 0, printed
    assert_same(folder, whole)


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ({"task": "tests.kinds", "kind": "failing_alone"}, "RuntimeError: a fault of process 1"),
        ({"task": "tests.projects.own_step"}, "weights by state.update alone"),
        pytest.param(
            {"task": "tests.kinds", "kind": "failing"},
            "RuntimeError: a fault of the task",
            marks=pytest.mark.slow,
        ),
        pytest.param({"task": "tests.linear"}, "no such folder", marks=pytest.mark.slow),
    ],
)
def test_a_fault_ends_all_processes_and_is_told_once(
    run_folder: Folder, tmp_path: Path, kind: dict[str, str], told: str
) -> None:
    folder = run_folder(**kind | {"monitor": "loss"})
    began = time.monotonic()
    code, printed = ended(begin(folder, tmp_path))
    assert code == 1
    assert printed.count(told) == 1, printed
    assert time.monotonic() - began < 60


def test_scripts_of_one_process_refuse_to_be_several(
    run_folder: Folder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "2", "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    assert evaluate.main(["--model_dir", str(run_folder())]) == 2
    assert search_hyperparams.main(["--parent_dir", "experiments/learning_rate"]) == 2
    assert capsys.readouterr().err.count("without torchrun") == 2


def test_synced_batch_norm_needs_gpus(
    run_folder: Folder, signs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_folder(sync_batchnorm=True, device="cpu")
    assert train.main(["--model_dir", str(folder), "--data_dir", str(signs)]) == 2
    assert "'sync_batchnorm'" in capsys.readouterr().err
