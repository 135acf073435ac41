"""Answers of a task's own `predict`: plain values, texts and files."""

import json
from pathlib import Path

import pytest
from PIL import Image

import predict
from tests.conftest import Folder
from tests.helpers.runs import answers, run
from tests.projects.registry import OWN


@pytest.fixture
def trained(run_folder: Folder, no_data: Path) -> Path:
    """Return the folder of a run whose data are gone."""
    folder = run_folder(**OWN["tuned"].all_params(num_epochs=1, answers="dict"))
    assert run(folder, no_data) == 0
    no_data.rmdir()
    return folder


def test_answers_are_plain_values_and_files(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out" / "of"
    inputs = ["a prompt, or so", "pictures/cat.jpg", "other/cat.jpg"]
    found = answers(capsys, trained, *inputs, "--output", out)
    assert [each["name"] for each in found] == inputs
    for each in found:
        assert each["name of class"] in ("low", "middle", "high")
        assert sum(each["chances"]) == pytest.approx(1)
        with Image.open(each["mask.png"]) as picture:
            assert picture.size == (3, 2)
    names = ["a_prompt_or_so.mask.png", "cat-2.mask.png", "cat.mask.png"]
    assert sorted(path.name for path in out.iterdir()) == names


def test_a_text_or_a_file_may_be_the_whole_answer(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["--model_dir", str(trained), "xy", "--set", "answers=text"]
    assert predict.main(argv) == 0
    line = capsys.readouterr().out.splitlines()[0]
    assert line.split() in (["xy", "low"], ["xy", "middle"], ["xy", "high"])
    found = answers(capsys, trained, "xy", "--output", tmp_path, "--set", "answers=file")
    assert found == [{"name": "xy", "png": str(tmp_path / "xy.png")}]


def test_what_is_drawn_repeats_itself_and_differs_between_batches(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = ("a", "bb", "c", "dd", "--set", "answers=noise", "--batch_size", "2")
    found = answers(capsys, trained, *inputs)
    assert answers(capsys, trained, *inputs) == found
    assert len({each["drawn"] for each in found}) == 4
    assert answers(capsys, trained, *inputs, "--set", "seed=7") != found


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("dict", "answers hold files (mask.png): say where with --output DIR"),
        ("too few", "predict of tests.projects.tuned.net gives 1 answers for 2 inputs"),
        ("an object", "an answer holds a Net"),
    ],
)
def test_answers_that_cannot_be_told_are_an_error(
    trained: Path, capsys: pytest.CaptureFixture[str], answer: str, told: str
) -> None:
    argv = ["--model_dir", str(trained), "--set", f"answers={answer}", "xy", "xyz"]
    assert predict.main(argv) == 2
    assert told in capsys.readouterr().err


def test_the_export_documents_the_answers(
    run_folder: Folder, no_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_folder(**OWN["tuned"].all_params(num_epochs=1))
    assert run(folder, no_data) == 0
    assert predict.main(["--model_dir", str(folder), "--export", str(tmp_path / "net.pt2")]) == 0
    assert "def predict(" in json.loads((tmp_path / "net.json").read_text())["predict"]
