"""verify.py finds what was forged, and takes no honest run for forged."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import train
import verify
from core.training.chain import kept
from core.training.checkpoint import read_checkpoint
from tests.helpers import forging
from tests.helpers.runs import run, stop_at

PARAMS = {"num_epochs": 4, "keep_checkpoints": 2}


@pytest.fixture(scope="module")
def points(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return forging.write_data(tmp_path_factory.mktemp("points"))


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory, points: Path) -> Path:
    """Return the folder of an honest run, beside that of another seed; leave it as it is."""
    place = tmp_path_factory.mktemp("runs")
    forging.trained(place / "other", points, seed=5, **PARAMS)
    return forging.trained(place / "honest", points, **PARAMS)


def verdicts(
    capsys: pytest.CaptureFixture[str], folder: Path, data: Path, *more: str
) -> dict[str, str]:
    """Verify a run; returns the verdicts of the rows, and of all."""
    capsys.readouterr()
    code = verify.main([str(folder), "--data_dir", str(data), "--json", *more])
    found = json.loads(capsys.readouterr().out)
    assert found["exit_code"] == code == verify.CODES[found["verdict"]]
    return {row["what"]: row["verdict"] for row in found["rows"]} | {"all": found["verdict"]}


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(
            kind,
            id=kind.__name__,
            marks=pytest.mark.slow if kind in (forging.code, forging.other_data) else (),
        )
        for kind in forging.KINDS
    ],
)
def test_a_forged_run_is_found(
    kind: Callable[..., int],
    honest: Path,
    points: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "forged"
    shutil.copytree(honest, folder)
    more = {"code": points, "best": honest.with_name("other"), "other_data": tmp_path / "data"}
    others = [more[kind.__name__]] if kind.__name__ in more else []
    epoch = kind(folder, random.Random(3), True, *others)  # with hashes and seals made anew
    found = verdicts(capsys, folder, points, "--all")
    assert found["all"] == "differs"
    assert found["epochs 1 to 2" if epoch <= 2 else "epochs 3 to 4"] == "differs"


def test_verifying_an_honest_run_changes_nothing_in_its_folder(
    honest: Path, points: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in honest.iterdir()}
    assert verify.main([str(honest), "--data_dir", str(points), "--segments", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("epochs") for line in lines) == 1
    assert "1 stretch was not trained again: see --all" in lines
    assert max(map(len, lines[:-1])) <= 80
    assert before == {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in before}
    assert {*honest.iterdir()} == {*before}


@pytest.mark.parametrize("batch", [3, 9])
def test_a_run_that_was_stopped_is_verified_before_and_after_it_is_resumed(
    batch: int,
    points: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "params.json").write_text(json.dumps(forging.RECIPE | PARAMS))
    with monkeypatch.context() as patch:
        stop_at(patch, batch)
        assert run(folder, points) == 128 + 15
    assert {*verdicts(capsys, folder, points, "--all").values()} == {"verified"}
    assert run(folder, points, "--set", "keep_checkpoints=4") == 0
    assert {*verdicts(capsys, folder, points, "--all").values()} == {"verified"}


def test_a_change_on_the_way_cannot_be_checked_and_is_no_false_alarm(
    points: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = forging.trained(tmp_path / "run", points, num_epochs=2, keep_checkpoints=1)
    more = ("--resume", "--set", "num_epochs=4", "--set", "learning_rate=0.02")
    assert run(folder, points, *more) == 0
    found = verdicts(capsys, folder, points, "--all")
    assert found["epochs 1 to 2"] == "verified"
    assert found["epochs 3 to 4"] == found["all"] == "cannot be checked"


def test_another_build_of_torch_is_told_with_the_tolerance_that_holds(
    honest: Path, points: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "elsewhere"
    shutil.copytree(honest, folder)
    resolved = json.loads((folder / "params.resolved.json").read_text())
    resolved["versions"]["torch"] = "2.0.1"
    (folder / "params.resolved.json").write_text(json.dumps(resolved))
    path = kept(folder)[4]
    forging.reseal(path, lambda content: content["state_dict"]["hidden.bias"].mul_(1 + 2e-6))
    forging.rechain(folder)
    assert verify.main([str(folder), "--data_dir", str(points), "--all"]) == 1  # of last.pt
    told = " ".join(capsys.readouterr().out.split())
    assert "torch 2.0.1 then" in told
    assert "epochs 1 to 2 verified" in told
    assert "weights and metrics agree within 1e-05" in told


def test_without_kept_checkpoints_the_whole_run_is_one_stretch(
    points: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = forging.trained(tmp_path / "run", points, num_epochs=2, keep_checkpoints=None)
    assert not kept(folder)
    assert "chain" not in read_checkpoint(folder / "last.pt")
    assert verdicts(capsys, folder, points)["epochs 1 to 2"] == "verified"


def test_a_resumed_run_keeps_the_same_bytes(
    honest: Path, points: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(honest / "params.json", folder)
    with monkeypatch.context() as patch:
        stop_at(patch, 10)
        assert run(folder, points) == 128 + 15
    assert run(folder, points) == 0
    assert [*kept(folder)] == [2, 4]
    for path in [*kept(honest).values(), honest / "last.pt"]:
        assert (folder / path.name).read_bytes() == path.read_bytes()
    assert train.main(["--model_dir", str(folder), "--data_dir", str(points), "--overwrite",
                       "--set", "keep_checkpoints=null"]) == 0  # fmt: skip
    assert not kept(folder)
