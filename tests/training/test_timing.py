"""What `auto` stands for is measured when a run begins, and nothing else changes by it."""

import json
from pathlib import Path

import pytest

from core.base.params import read_mapping
from tests.conftest import Folder
from tests.helpers.runs import assert_same, run
from tests.helpers.torchrun import train_two
from tests.helpers.warm import Warm
from tests.projects.registry import all_projects

SLUGGISH = {"task": "tests.projects.sluggish", "num_epochs": 1, "num_threads": 1}


def resolved(folder: Path) -> dict[str, object]:
    """Return the params that were in force."""
    return read_mapping(folder / "params.resolved.json")["params"]


@pytest.mark.parametrize(("slow", "fast"), [("float32", "bfloat16"), ("bfloat16", "float32")])
def test_auto_takes_the_faster_precision_and_trains_as_if_it_had_been_set(
    run_folder: Folder, signs: Path, slow: str, fast: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = run_folder("auto", precision="auto", slow=slow, dropout_rate=0.3, **SLUGGISH)
    assert run(folder, signs) == 0
    assert resolved(folder)["precision"] == fast
    assert f"precision: auto is {fast} (a pass takes: float32 " in caplog.text
    pinned = run_folder("pinned", precision=fast, slow=slow, dropout_rate=0.3, **SLUGGISH)
    assert run(pinned, signs) == 0
    for name in ("last.pt", "best.pt", "metrics.jsonl"):
        assert (folder / name).read_bytes() == (pinned / name).read_bytes()


def test_a_run_that_goes_on_measures_nothing(
    run_folder: Folder, signs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = run_folder(
        precision="auto", channels_last="auto", slow="float32", **SLUGGISH | {"num_threads": "auto"}
    )
    assert run(folder, signs) == 0
    assert caplog.text.count("auto is") == 3
    chosen = resolved(folder)
    assert type(chosen["num_threads"]) is int
    assert type(chosen["channels_last"]) is bool
    assert run(folder, signs, "--set", "num_epochs=2") == 0
    assert caplog.text.count("auto is") == 3
    assert resolved(folder) | {"num_epochs": 1} == chosen


def test_bfloat16_that_takes_twice_as_long_is_told(
    run_folder: Folder, signs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = run_folder(precision="bfloat16", slow="bfloat16", **SLUGGISH)
    assert run(folder, signs) == 0
    assert "times as long here as float32" in caplog.text


def test_a_step_of_the_tasks_own_is_measured_on_a_second_state(
    run_folder: Folder, signs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    values = all_projects()["gan"].all_params(num_epochs=1, num_threads=1)
    folder = run_folder("auto", **values | {"precision": "auto"})
    assert run(folder, signs) == 0
    chosen = resolved(folder)["precision"]
    assert f"precision: auto is {chosen} (a pass takes: float32 " in caplog.text
    pinned = run_folder("pinned", **values | {"precision": chosen})
    assert run(pinned, signs) == 0
    for name in ("last.pt", "best.pt", "metrics.jsonl"):
        assert (folder / name).read_bytes() == (pinned / name).read_bytes()


@pytest.mark.parametrize(("slow", "fast"), [("float32", "bfloat16"), ("bfloat16", "float32")])
def test_two_processes_take_what_is_faster_for_the_first(
    warm: Warm, run_folder: Folder, signs: Path, slow: str, fast: str
) -> None:
    folder = run_folder("auto", precision="auto", slow=slow, **SLUGGISH)
    code, printed = train_two(warm, folder, signs)
    assert code == 0, printed
    assert resolved(folder)["precision"] == fast
    assert printed.count("precision: auto is") == 1
    pinned = run_folder("pinned", precision=fast, slow=slow, **SLUGGISH)
    assert train_two(warm, pinned, signs)[0] == 0
    assert_same(folder, pinned)


def test_what_takes_twice_the_time_of_another_choice_is_told_after_the_first_epoch(
    run_folder: Folder,
    signs: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = SLUGGISH | {"num_epochs": 2, "precision": "float32"}
    quiet = run_folder("quiet", **values, slow="float32", dropout_rate=0.3)
    assert run(quiet, signs) == 0
    assert "times as long here as" not in caplog.text  # of a short run nothing is measured
    monkeypatch.setattr("core.training.timing.BRIEF", 0.0)
    monkeypatch.setattr("core.training.timing.MANY", 1)
    folder = run_folder("told", **values, slow="float32", dropout_rate=0.3)
    assert run(folder, signs) == 0
    assert caplog.text.count("Note: precision float32 takes ") == 1
    assert "times as long here as bfloat16" in caplog.text
    assert (folder / "last.pt").read_bytes() == (quiet / "last.pt").read_bytes()
    fast = run_folder("fast", **values, slow="bfloat16")
    assert run(fast, signs) == 0
    assert caplog.text.count("Note: precision") == 1


def test_a_run_that_was_killed_before_its_first_checkpoint_keeps_what_was_measured(
    run_folder: Folder, signs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = run_folder(precision="auto", slow="float32", **SLUGGISH)
    assert run(folder, signs) == 0
    for path in folder.glob("*.pt"):
        path.unlink()
    params = json.loads((folder / "params.json").read_text())
    (folder / "params.json").write_text(json.dumps(params | {"slow": "bfloat16"}))
    assert run(folder, signs) == 0
    assert caplog.text.count("auto is") == 1
    assert resolved(folder)["precision"] == "bfloat16"
    assert run(folder, signs, "--overwrite") == 0
    assert resolved(folder)["precision"] == "float32"


@pytest.mark.parametrize(("threads", "told"), [(2, 1), (1, 0)])
def test_a_machine_that_becomes_busy_is_told_and_changes_nothing(
    run_folder: Folder,
    signs: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    threads: int,
    told: int,
) -> None:
    monkeypatch.setattr("core.training.timing.BRIEF", 0.25)
    values = SLUGGISH | {"num_epochs": 6, "num_threads": threads, "slow": "none"}
    busy = run_folder("busy", **values, busy_after=11, dropout_rate=0.3)
    quiet = run_folder("quiet", **values, dropout_rate=0.3)
    assert run(busy, signs) == run(quiet, signs) == 0
    assert caplog.text.count("This machine is busy: 2 threads take") == told
    assert (busy / "metrics.jsonl").read_bytes() == (quiet / "metrics.jsonl").read_bytes()
