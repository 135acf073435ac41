"""Runs of the tagger: what they learn, predict and show."""

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import evaluate
import predict
from core.training.checkpoint import read_checkpoint
from model.ner.data_loader import tag_names
from model.ner.reading import read_split
from tests.conftest import Folder
from tests.helpers import ROOT
from tests.helpers.runs import answers, rows, run, score
from tests.tasks.ner.helpers import TINY, Tagged, tagged, write_split


def test_a_run_learns_shows_the_trivial_answer_and_lists_no_words(
    run_folder: Folder, sentences: Path
) -> None:
    folder = run_folder(**TINY, num_epochs=13)
    assert run(folder, sentences) == 0
    log = (folder / "train.log").read_text()
    assert re.search(r"most frequent class: val accuracy: 0\.\d+, .*f1: 0$", log, re.MULTILINE)
    assert rows(folder)[-1]["val_f1"] > 0.4
    resolved = json.loads((folder / "params.resolved.json").read_text())
    for text in (log, json.dumps(resolved["params"])):
        assert "Tarn" not in text
        assert len(text) < 5000


def test_a_type_of_another_split_is_a_class_of_its_own(
    run_folder: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_split(tmp_path, "train", tagged("Ann/B-per sings/O", "Bob/B-per hums/O"))
    write_split(tmp_path, "val", tagged("Rome/B-geo sings/O", "Ann/B-per hums/O"))
    write_split(tmp_path, "test", tagged("May/B-tim ends/O", "Ann/B-per hums/O"))
    folder = run_folder(**TINY)
    assert run(folder, tmp_path) == 0
    assert "class 1 is in the validation split, but not in training" in capsys.readouterr().err
    assert score(folder, "--data_dir", str(tmp_path))["recall"] <= 0.5
    write_split(tmp_path, "test", tagged("Ann/B-per hums/O", "Ann/B-per hit/O Mars/B-body"))
    argv = ["--model_dir", str(folder), "--data_dir", str(tmp_path)]
    assert evaluate.main(argv) == 1
    message = capsys.readouterr().err
    assert f"{tmp_path}/test/labels.txt, line 2: tag 'B-body'" in message
    assert "geo, per, tim" in message
    for path in (tmp_path / "test").iterdir():
        path.unlink()
    (tmp_path / "test").rmdir()
    (tmp_path / "test.conll").write_text("Ann B-per\n\nhit O\nMars B-body\n")
    assert evaluate.main(argv) == 1
    assert "test.conll, sentence from line 3: tag 'B-body'" in capsys.readouterr().err


def test_what_a_checkpoint_predicts_stays_whatever_becomes_of_the_training_data(
    run_folder: Folder, sentences: Path, tmp_path: Path
) -> None:
    folder, changed = run_folder(**TINY, num_epochs=3), tmp_path / "changed"
    assert run(folder, sentences) == 0
    before = score(folder, "--data_dir", str(sentences), "--save_predictions")
    outputs = np.load(folder / "predictions_test.npz")["outputs"]
    write_split(changed, "train", tagged("Other/B-new words/O and/O Types/I-more"))
    write_split(changed, "test", [(s.words, s.tags) for s in read_split(sentences, "test")])
    assert score(folder, "--data_dir", str(changed), "--save_predictions") == before
    assert np.array_equal(np.load(folder / "predictions_test.npz")["outputs"], outputs)


def sentences_of_the_original() -> Iterator[Tagged]:
    """Yield sentences as in the layout that the CS230 template ships."""
    yield from tagged("They/O met/O in/O Hyde/B-geo Park/I-geo ./O", "Mr./B-per Nour/I-per left/O")


def test_the_shipped_recipe_is_read_and_runs(run_folder: Folder, tmp_path: Path) -> None:
    recipe = json.loads((ROOT / "experiments/ner/params.json").read_text())
    for split in ("train", "val"):
        write_split(tmp_path, split, list(sentences_of_the_original()))
    folder = run_folder()
    (folder / "params.json").write_text(json.dumps(recipe | {"num_threads": 1}))
    assert run(folder, tmp_path, "--set", "num_epochs=1") == 0
    assert "nothing in model/ reads" not in (folder / "train.log").read_text()


@pytest.fixture
def tagger(run_folder: Folder, sentences: Path) -> Path:
    """Return the folder of a run."""
    folder = run_folder(**TINY)
    assert run(folder, sentences) == 0
    return folder


def test_lines_of_text_get_the_tags_that_evaluation_gives_them(
    tagger: Path,
    sentences: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    score(tagger, "--save_predictions", "--set", "batch_size=1")
    known = np.load(tagger / "predictions_test.npz")
    counted = known["labels"] >= 0
    expected = known["outputs"][counted].argmax(axis=1)
    lines = (sentences / "test" / "sentences.txt").read_text().splitlines()
    order = known["example_ids"].tolist()
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join([*lines, "", ""])))
    found = answers(capsys, tagger, "-")
    assert [each["words"] for each in found] == [line.split() for line in lines]
    tags = [tag for i in order for tag in found[i]["tags"]]
    names = tag_names(read_checkpoint(tagger / "best.pt")["loader_params"]["entity_types"])
    assert tags == [names[k] for k in expected]


def test_unknown_words_are_tagged_too(
    tagger: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "new.txt").write_text("Qwrtz visited Xyzzyland .\n\nno\n", encoding="utf-8")
    found = answers(capsys, tagger, tmp_path / "new.txt")
    assert [each["words"] for each in found] == [["Qwrtz", "visited", "Xyzzyland", "."], ["no"]]
    assert all(len(each["tags"]) == len(each["words"]) for each in found)


def test_the_export_of_an_lstm_is_fixed_to_the_longest_sentence_but_to_no_batch_size(
    tagger: Path, sentences: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "tagger.pt2"
    assert predict.main(["--model_dir", str(tagger), "--export", str(target)]) == 0
    lines = (sentences / "val" / "sentences.txt").read_text().splitlines()
    longest = 1 + max(len(line.split()) for line in lines)
    assert f"inputs (batch, {longest}, 6)" in capsys.readouterr().out


def test_an_evaluation_reports_whole_entities_by_type(
    tagger: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    found = score(tagger, "--split", "val", split="val")
    table = capsys.readouterr().out.partition("entity  ")[2].splitlines()[1:]
    present = [int(line.split()[-1]) for line in table]
    right = sum(float(line.split()[2]) * n for line, n in zip(table, present, strict=True))
    assert right / sum(present) == pytest.approx(found["recall"], abs=0.01)
