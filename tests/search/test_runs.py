"""Searches that really train: going on, repeats, pruning, failures, signals, several processes."""

import json
import signal
import subprocess
from pathlib import Path

import pytest
import yaml

import train
from search_hyperparams import launch_training_job
from tests.conftest import SMALL
from tests.helpers.processes import alive, descendants, wait_for
from tests.helpers.runs import rows
from tests.helpers.searching import LINEAR, outcomes, search, start, trials, write_search
from utils import Params

GRID = "space: {learning_rate: [1e-4, 1e-3]}"


def wait_for_two_trials(running: "subprocess.Popen[str]", folder: Path) -> list[int]:
    """Wait until two trials have finished an epoch; returns the processes of the search."""
    wait_for(lambda: running.poll() or len(list(folder.glob("*/metrics.jsonl"))) == 2)
    assert running.poll() is None
    return descendants(running.pid)


def test_a_grid_trains_one_folder_a_point_and_adds_only_what_is_new(
    tmp_path: Path, data: Path
) -> None:
    folder = write_search(tmp_path / "a space; $(echo x) 'quoted'", GRID)
    assert search(folder, data, "--jobs", "2") == 0
    assert trials(folder) == ["lr=1e-3", "lr=1e-4"]
    before = outcomes(folder)
    changed = {path: path.stat().st_mtime_ns for path in folder.glob("*/*")}
    (folder / "search.yaml").write_text("space: {learning_rate: [1e-3, 1e-2]}")
    assert search(folder, data) == 0
    assert trials(folder) == ["lr=0.01", "lr=1e-3", "lr=1e-4"]
    assert {path: path.stat().st_mtime_ns for path in changed} == changed
    assert before.items() <= outcomes(folder).items()


def test_a_grid_whose_keys_change_places_is_the_same_grid(tmp_path: Path, data: Path) -> None:
    folder = write_search(tmp_path / "s", "space: {learning_rate: [1e-3], batch_size: [12]}")
    assert search(folder, data) == 0
    (folder / "search.yaml").write_text("space: {batch_size: [12], learning_rate: [1e-3]}")
    assert search(folder, data) == 0
    assert trials(folder) == ["lr=1e-3,batch=12"]


def test_a_trial_is_a_run_that_train_goes_on_with_and_ends_as_a_cold_start_does(
    tmp_path: Path, data: Path
) -> None:
    folder = write_search(tmp_path / "s", GRID, **SMALL)
    assert search(folder, data, "--jobs", "2") == 0
    name = trials(folder)[0]
    alone = tmp_path / "alone" / name
    params = Params(folder / name / "params.json")
    assert launch_training_job(alone.parent, data, name, params) == 0
    for file in ("metrics.jsonl", "last.pt", "best.pt"):
        assert (alone / file).read_bytes() == (folder / name / file).read_bytes()
    for name in trials(folder):
        assert train.main(["--model_dir", str(folder / name), "--data_dir", str(data)]) == 0


def test_every_point_is_trained_with_several_seeds_and_the_mean_is_judged(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_search(tmp_path / "s", f"repeats: 3\nrace: false\n{GRID}", seed=7, num_epochs=2)
    assert search(folder, data, "--jobs", "2") == 0
    names = [f"lr={rate}-seed_{s}" for rate in ("1e-3", "1e-4") for s in (7, 8, 9)]
    assert trials(folder) == names
    best = [max(row["val_accuracy"] for row in rows(folder / name)) for name in names]
    means = sorted((sum(best[:3]) / 3, sum(best[3:]) / 3), reverse=True)
    said = capsys.readouterr().out
    assert f"  {means[0]:.4f} ± " in said
    assert f"  {means[1]:.4f} ± " in said


def test_a_bad_trial_is_stopped_early_and_the_search_says_so(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "prune: {after: 2, keep: 0.5}\nspace: {learning_rate: [1e-1, 1e-9, 1e-8]}"
    folder = write_search(tmp_path / "s", text, num_epochs=4, monitor="loss")
    assert search(folder, data) == 0
    assert "1 of 3 trials complete, 2 pruned" in capsys.readouterr().out
    assert len(rows(folder / "lr=0.1")) == 4
    assert len(rows(folder / "lr=1e-9")) >= 2
    assert search(folder, data) == 0  # nothing is left to do


def test_a_failed_trial_is_told_with_its_last_lines_and_does_not_stop_the_others(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_search(tmp_path / "s", "space: {learning_rate: [1e38, 1e-3]}")
    assert search(folder, data) == 1
    said = capsys.readouterr().out
    assert "1 of 2 trials complete, 1 failed" in said
    assert "the loss is not finite in epoch 1" in said
    assert search(folder, data) == 1  # it is not run again
    assert "lr=1e38/console.log" not in capsys.readouterr().out
    assert search(folder, data, "--retry_failed") == 1
    assert "lr=1e38/console.log" in capsys.readouterr().out


def test_a_trial_whose_metric_was_never_a_number_is_a_failed_one(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "space: {learning_rate: [1e38, 1e-3]}"  # one step an epoch: the first loss is finite
    folder = write_search(tmp_path / "s", text, monitor="loss", batch_size=36)
    assert search(folder, data) == 1
    said = capsys.readouterr().out
    assert "1 of 2 trials complete, 1 failed" in said
    assert "no epoch had a validation loss that is a finite number" in said


def test_a_trial_is_not_pruned_after_its_last_epoch(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "prune: {after: 1, keep: 0.5}\nspace: {learning_rate: [1e-1, 1e-9, 1e-8]}"
    assert search(write_search(tmp_path / "s", text, monitor="loss"), data) == 0
    assert "3 of 3 trials complete" in capsys.readouterr().out


def test_a_folder_that_was_renamed_keeps_its_record_and_yaml_may_have_numbers_for_keys(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_search(tmp_path / "s", GRID)
    (folder / "params.json").unlink()
    content = yaml.safe_dump(LINEAR | {"params": {0: 1.0, 1: 2.0}})
    (folder / "params.yaml").write_text(content)
    assert search(folder, data) == 0
    renamed = folder.rename(tmp_path / "other")
    capsys.readouterr()
    assert search(renamed, data, "--report") == 0
    assert "2 of 2 trials complete" in capsys.readouterr().out


def test_a_gpu_that_is_not_there_is_told_instead_of_training_on_the_cpu(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_search(tmp_path / "s", "space: {learning_rate: [1e-3]}")
    assert search(folder, data, "--gpus", "99") == 1
    assert "there is no GPU '99' on this machine" in capsys.readouterr().out


def test_a_search_whose_first_three_trials_fail_stops_and_says_why(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_search(tmp_path / "s", "space: {learning_rate: [1e-1, 1e-2, 1e-3, 1e-4]}")
    assert search(folder, tmp_path / "none") == 1
    said = capsys.readouterr()
    assert "the first three trials all failed" in said.err
    assert said.out.count("no such folder of data") == 3
    assert search(folder, data, "--retry_failed") == 0
    assert len(trials(folder)) == 4


def test_base_params_that_changed_are_refused_and_machine_keys_may_change(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_search(tmp_path / "s", GRID)
    assert search(folder, data) == 0
    write_search(folder, GRID, num_epochs=2)
    assert search(folder, data) == 2
    assert "'num_epochs' changed since the search began" in capsys.readouterr().err
    write_search(folder, GRID, grad_clip=None)
    assert search(folder, data) == 2
    assert "'grad_clip' changed since the search began" in capsys.readouterr().err
    write_search(folder, GRID, checkpoint_minutes=1.0)
    assert search(folder, data) == 0


@pytest.mark.parametrize("asked", [{}, {"num_threads": "auto"}])
def test_the_share_of_threads_stays_as_it_was_when_a_trial_was_made(
    tmp_path: Path, data: Path, asked: dict[str, str]
) -> None:
    folder = write_search(tmp_path / "s", GRID)
    params = {name: value for name, value in LINEAR.items() if name != "num_threads"}
    (folder / "params.json").write_text(json.dumps(params | asked))
    name = "learning_rate_0.0001"  # as earlier versions named it
    (folder / name).mkdir()
    trial = params | {"num_threads": 3, "learning_rate": 1e-4}
    (folder / name / "params.json").write_text(json.dumps(trial))
    assert search(folder, data, "--jobs", "1000") == 0
    threads = [Params(folder / n / "params.json").num_threads for n in trials(folder)]
    assert trials(folder) == [name, "lr=1e-3"]
    assert threads == [3, 1]


def test_a_report_needs_no_training_and_a_lost_record_only_looks_at_the_folders(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_search(
        tmp_path / "s", "method: random\ntrials: 3\nspace: {learning_rate: [1, 2, 3]}"
    )
    assert search(folder, data) == 0
    before, said = outcomes(folder), capsys.readouterr().out
    assert search(folder, data, "--report") == 0
    assert capsys.readouterr().out in said
    (folder / "search.journal").unlink()
    assert search(folder, data) == 0
    assert outcomes(folder) == before
    assert "3 of 3 trials complete" in capsys.readouterr().out


def test_a_record_cut_short_goes_on_and_a_damaged_one_is_named(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_search(tmp_path / "s", GRID)
    assert search(folder, data) == 0
    record = folder / "search.journal"
    content = record.read_bytes()
    record.write_bytes(content[: len(content) // 2])
    assert search(folder, data) == 0
    assert "2 of 2 trials complete" in capsys.readouterr().out
    for damage in (b"5\n", b"{}\n", b"\x00\xff\n", b'{"op_code": 99, "worker_id": "a"}\n'):
        record.write_bytes(content + damage)
        assert search(folder, data, "--report") == 1
        assert "search.journal: damaged" in capsys.readouterr().err


def test_a_signal_lets_the_trials_save_and_the_same_command_goes_on(
    tmp_path: Path, data: Path
) -> None:
    slow = {"num_epochs": 80, "checkpoint_minutes": None}
    folder = write_search(tmp_path / "s", GRID, **slow)
    with start(folder, data, "--jobs", "2") as running:
        family = wait_for_two_trials(running, folder)
        running.send_signal(signal.SIGTERM)
        assert running.wait(60) == 143
    wait_for(lambda: not any(map(alive, family)), every=0.02)
    done = {path: len(path.read_text().splitlines()) for path in folder.glob("*/metrics.jsonl")}
    assert all(0 < count < 80 for count in done.values())
    assert all((path.parent / "last.pt").exists() for path in done)
    assert search(folder, data, "--jobs", "2") == 0
    assert all("resumes from here" in (path.parent / "train.log").read_text() for path in done)


def test_children_die_with_a_search_that_is_killed(tmp_path: Path, data: Path) -> None:
    folder = write_search(tmp_path / "s", GRID, num_epochs=100_000)
    with start(folder, data, "--jobs", "2") as running:
        family = wait_for_two_trials(running, folder)
        running.kill()
    wait_for(lambda: not any(map(alive, family)), every=0.02)


def test_a_job_of_the_original_call_is_a_run_like_any_other(tmp_path: Path, signs: Path) -> None:
    params = Params.of(SMALL | {"num_epochs": 1}, "base")
    assert launch_training_job(str(tmp_path), str(signs), "job 'one'", params) == 0
    assert len(rows(tmp_path / "job 'one'")) == 1
