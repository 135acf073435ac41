"""predict.py: new inputs through the best checkpoint, and the exported net."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import evaluate
import model.data_loader as task
import predict
import train
import utils
from core.training.checkpoint import read_checkpoint
from tests.conftest import Folder


@pytest.fixture
def trained(run_folder: Folder, signs: Path) -> Path:
    """A run on hand signs."""
    folder = run_folder(batch_size=20)
    assert train.main(["--model_dir", str(folder), "--data_dir", str(signs)]) == 0
    return folder


def answers(
    capsys: pytest.CaptureFixture[str], *argv: str | Path, code: int = 0
) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert predict.main(["--model_dir", *map(str, argv), "--jsonl"]) == code
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_folder_is_predicted_as_evaluation_does(
    trained: Path, signs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate.main(["--model_dir", str(trained), "--save_predictions"]) == 0
    known = np.load(trained / "predictions_test.npz")
    outputs = dict(zip(known["ids"].tolist(), torch.tensor(known["outputs"]), strict=True))
    found = answers(capsys, trained, signs / "test_signs", "--top", "6", "--batch_size", "7")
    assert [Path(each["name"]).name for each in found] == sorted(outputs)
    for each in found:
        expected = outputs[Path(each["name"]).name].softmax(0)
        chances = {top["class"]: top["probability"] for top in each["top"]}
        assert [chances[str(k)] for k in range(6)] == pytest.approx(expected.tolist(), abs=1e-5)
        assert each["class"] == str(int(expected.argmax()))


def test_an_image_of_another_size_and_mode_is_converted(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("L", (300, 200), 140).save(tmp_path / "grey.png")
    (found,) = answers(capsys, trained, tmp_path / "grey.png")
    assert found["class"] in {"0", "1", "2", "3", "4", "5"}


def test_what_cannot_be_read_is_named_and_the_rest_is_predicted(
    trained: Path, signs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = sorted((signs / "test_signs").iterdir())[0]
    (tmp_path / "broken.jpg").write_bytes(good.read_bytes()[:200])
    argv = ["--model_dir", str(trained), str(tmp_path / "broken.jpg"), str(good), "missing.jpg"]
    capsys.readouterr()
    assert predict.main(argv) == 1
    printed = capsys.readouterr()
    assert printed.out.count("\n") == 1
    assert good.name in printed.out
    assert "broken.jpg: " in printed.err
    assert "missing.jpg: no such file" in printed.err


def entities(run_folder: Folder, tmp_path: Path) -> tuple[Path, Path]:
    """Train a tagger; its folder and that of its data."""
    make = pytest.importorskip("data.ner.prepare", reason="the example task has been removed")
    data = tmp_path / "entities"
    assert make.main(["--output", str(data), "--count", "60"]) == 0
    sizes = {"embedding_dim": 8, "feature_dim": 4, "lstm_hidden_dim": 8, "num_layers": 1}
    spelling = {"min_count": 1, "affix_length": 2, "bidirectional": True, "learning_rate": 0.02}
    folder = run_folder("tagger", task="model.ner", **sizes, **spelling)
    assert train.main(["--model_dir", str(folder), "--data_dir", str(data)]) == 0
    return folder, data


def test_lines_of_text_get_the_tags_that_evaluation_gives_them(
    run_folder: Folder,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, data = entities(run_folder, tmp_path)
    argv = ["--model_dir", str(folder), "--save_predictions", "--set", "batch_size=1"]
    assert evaluate.main(argv) == 0
    from model.ner.data_loader import tag_names

    known = np.load(folder / "predictions_test.npz")
    counted = known["labels"] >= 0
    expected = known["outputs"][counted].argmax(axis=1)
    lines = (data / "test" / "sentences.txt").read_text().splitlines()
    order = known["example_ids"].tolist()
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join([*lines, "", ""])))
    found = answers(capsys, folder, "-")
    assert [each["words"] for each in found] == [line.split() for line in lines]
    tags = [tag for i in order for tag in found[i]["tags"]]
    names = tag_names(read_checkpoint(folder / "best.pt")["loader_params"]["entity_types"])
    assert tags == [names[k] for k in expected]


def test_unknown_words_are_tagged_too(
    run_folder: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = entities(run_folder, tmp_path)
    (tmp_path / "new.txt").write_text("Qwrtz visited Xyzzyland .\n\nno\n", encoding="utf-8")
    found = answers(capsys, folder, tmp_path / "new.txt")
    assert [each["words"] for each in found] == [["Qwrtz", "visited", "Xyzzyland", "."], ["no"]]
    assert all(len(each["tags"]) == len(each["words"]) for each in found)


def test_the_exported_net_gives_the_nets_own_outputs(
    trained: Path, signs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "model.pt2"
    assert predict.main(["--model_dir", str(trained), "--export", str(target)]) == 0
    assert "inputs (batch, 3, 64, 64); on 1, 2 and 7 examples" in capsys.readouterr().out
    net = torch.export.load(target).module()
    picture = sorted((signs / "test_signs").iterdir())[0]
    (found,) = answers(capsys, trained, picture, "--top", "6")
    params = utils.Params(trained / "params.json")
    ((_, image),) = task.read_inputs([str(picture)], params)
    chances = net(image.unsqueeze(0)).detach().softmax(1)[0]
    for each in found["top"]:
        assert each["probability"] == pytest.approx(float(chances[int(each["class"])]), abs=1e-5)


def test_the_export_of_an_lstm_is_fixed_to_the_longest_sentence_but_to_no_batch_size(
    run_folder: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, data = entities(run_folder, tmp_path)
    target = tmp_path / "tagger.pt2"
    assert predict.main(["--model_dir", str(folder), "--export", str(target)]) == 0
    lines = (data / "val" / "sentences.txt").read_text().splitlines()
    longest = 1 + max(len(line.split()) for line in lines)
    assert f"inputs (batch, {longest}, 6)" in capsys.readouterr().out


def test_a_net_that_cannot_be_exported_is_an_error_without_a_file(
    run_folder: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_folder(task="tests.unsound", fault="branches on a value", batch_size=4)
    assert train.main(["--model_dir", str(folder), "--data_dir", str(tmp_path)]) == 0
    argv = ["--model_dir", str(folder), "--data_dir", str(tmp_path)]
    assert predict.main([*argv, "--export", str(tmp_path / "model.pt2")]) == 1
    assert "torch.export cannot trace tests.unsound's net" in capsys.readouterr().err
    assert not (tmp_path / "model.pt2").exists()


def test_a_task_without_read_inputs_is_told_what_to_add(
    run_folder: Folder, signs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_folder(task="tests.linear", num_epochs=1)
    assert train.main(["--model_dir", str(folder), "--data_dir", str(signs)]) == 0
    assert predict.main(["--model_dir", str(folder), str(signs)]) == 2
    assert "read_inputs(sources: list[str], params)" in capsys.readouterr().err
