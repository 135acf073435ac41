"""predict.py: new inputs through the best checkpoint, and the exported net."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import predict
import utils
from tests.conftest import Folder
from tests.helpers.runs import answers, run, score
from tests.projects.pictures.data_loader import read_inputs


@pytest.fixture
def trained(run_folder: Folder, signs: Path) -> Path:
    """Return the folder of a run."""
    folder = run_folder(batch_size=20)
    assert run(folder, signs) == 0
    return folder


def test_a_folder_is_predicted_as_evaluation_does(
    trained: Path, signs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    score(trained, "--save_predictions")
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


def test_the_exported_net_gives_the_nets_own_outputs(
    trained: Path, signs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "model.pt2"
    assert predict.main(["--model_dir", str(trained), "--export", str(target)]) == 0
    said = capsys.readouterr().out
    assert "inputs (batch, 3, 16, 16); model.json describes them. On 1, 2 and 7 examples" in said
    facts = json.loads((tmp_path / "model.json").read_text())
    assert facts["inputs"] == [{"shape": ["batch", 3, 16, 16], "type": "float32"}]
    assert facts["outputs"] == [{"shape": ["batch", 6], "type": "float32"}]
    net = torch.export.load(target).module()
    picture = sorted((signs / "test_signs").iterdir())[0]
    (found,) = answers(capsys, trained, picture, "--top", "6")
    params = utils.Params(trained / "params.json")
    ((_, image),) = read_inputs([str(picture)], params)
    chances = net(image.unsqueeze(0)).detach().softmax(1)[0]
    for each in found["top"]:
        assert each["probability"] == pytest.approx(float(chances[int(each["class"])]), abs=1e-5)


def test_a_net_that_cannot_be_exported_is_an_error_without_a_file(
    run_folder: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_folder(task="tests.projects.unsound", fault="branches on a value", batch_size=4)
    assert run(folder, tmp_path) == 0
    argv = ["--model_dir", str(folder), "--data_dir", str(tmp_path)]
    assert predict.main([*argv, "--export", str(tmp_path / "model.pt2")]) == 1
    assert "torch.export cannot trace tests.projects.unsound's net" in capsys.readouterr().err
    assert not (tmp_path / "model.pt2").exists()


def test_a_task_without_read_inputs_is_told_what_to_add(
    run_folder: Folder, signs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_folder(task="tests.projects.linear", num_epochs=1)
    assert run(folder, signs) == 0
    assert predict.main(["--model_dir", str(folder), str(signs)]) == 2
    assert "read_inputs(sources: list[str], params)" in capsys.readouterr().err
