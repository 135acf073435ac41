from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import utils
from core.training.checkpoint import CheckpointError, commit, read_checkpoint, read_newest
from core.training.contents import plain

CONTENT = {"state_dict": {"weight": torch.arange(6.0)}, "epoch": 3}


def model_and_optimizer() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return model, optimizer


def test_checkpoints_of_the_original_calls_come_back(tmp_path: Path) -> None:
    model, optimizer = model_and_optimizer()
    state = {
        "epoch": 2,
        "state_dict": model.state_dict(),
        "optim_dict": optimizer.state_dict(),
    }
    utils.save_checkpoint(state, is_best=True, checkpoint=str(tmp_path / "run"))
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["best.pth.tar", "last.pth.tar"]

    other, other_optimizer = model_and_optimizer()
    path = str(tmp_path / "run" / "best.pth.tar")
    assert utils.load_checkpoint(path, other)["epoch"] == 2
    utils.load_checkpoint(path, other, other_optimizer)
    for name, weight in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], weight)
    step = optimizer.state_dict()["state"][0]["exp_avg"]
    assert torch.equal(other_optimizer.state_dict()["state"][0]["exp_avg"], step)


def test_plain_torch_reads_a_sealed_file_and_an_unsealed_one_is_announced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    commit(tmp_path, CONTENT, CONTENT)
    loaded = torch.load(tmp_path / "last.pt", weights_only=True)
    assert torch.equal(loaded["state_dict"]["weight"], CONTENT["state_dict"]["weight"])  # type: ignore[index]
    assert not caplog.records

    torch.save(CONTENT, tmp_path / "best.pth.tar")
    assert read_checkpoint(tmp_path / "best.pth.tar")["epoch"] == 3
    assert "unverified" in caplog.text
    torch.save(CONTENT, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="seal is missing"):
        read_checkpoint(tmp_path / "other.pt")


def test_the_previous_checkpoint_takes_the_place_of_a_damaged_one(
    tmp_path: Path,
) -> None:
    content = CONTENT | {"random_states": {}}
    commit(tmp_path, content | {"epoch": 1}, None)
    commit(tmp_path, content | {"epoch": 2}, None)
    warnings: list[str] = []
    assert read_newest(tmp_path, [])["epoch"] == 2  # type: ignore[index]
    data = bytearray((tmp_path / "last.pt").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "last.pt").write_bytes(data)
    assert read_newest(tmp_path, warnings)["epoch"] == 1  # type: ignore[index]
    assert "does not match its seal" in warnings[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.pt", "previous.pt"]


def test_the_best_weights_are_in_place_before_the_save_counts(tmp_path: Path) -> None:
    (tmp_path / "best.pt").mkdir()  # so it cannot be written
    with pytest.raises(OSError, match=r"best\.pt"):
        commit(tmp_path, CONTENT, CONTENT)
    assert not (tmp_path / "last.pt").exists()


def test_a_checkpoint_holds_plain_values_only() -> None:
    copied = plain({"a": np.float64(2.5), "b": Path("x"), "c": (np.arange(3), [None, True])})
    assert copied["a"] == 2.5
    assert type(copied["a"]) is float
    assert copied["b"] == "x"
    assert isinstance(copied["c"][0], torch.Tensor)
    assert copied["c"][0].tolist() == [0, 1, 2]
    with pytest.raises(TypeError, match=r"checkpoint\['extra'\]\[0\] is object"):
        plain({"extra": [object()]})


def test_equal_content_is_written_as_equal_bytes(tmp_path: Path) -> None:
    name = "weight"
    other = "".join(["wei", "ght"])
    commit(tmp_path, plain({"state_dict": {name: torch.ones(2)}, "best": name}), None)
    first = (tmp_path / "last.pt").read_bytes()
    commit(tmp_path, plain({"state_dict": {other: torch.ones(2)}, "best": name}), None)
    assert (tmp_path / "last.pt").read_bytes() == first


def test_weights_must_fit_in_name_shape_and_type(tmp_path: Path) -> None:
    model = nn.Linear(3, 2)
    for weights, message in [
        ({"weight": torch.zeros(2, 3)}, "bias is missing"),
        ({"weight": torch.zeros(2, 4), "bias": torch.zeros(2)}, r"weight is \(2, 4\)"),
        ({"weight": torch.zeros(2, 3).double(), "bias": torch.zeros(2)}, "float64"),
        (dict(model.state_dict()) | {"more": torch.zeros(1)}, "more is not in the net"),
    ]:
        commit(tmp_path, {"state_dict": weights}, None)
        with pytest.raises(CheckpointError, match=message):
            utils.load_checkpoint(tmp_path / "last.pt", model)


def test_a_missing_or_foreign_file_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        read_checkpoint(tmp_path / "absent.pt")
    (tmp_path / "text.pth.tar").write_text("not a checkpoint")
    with pytest.raises(CheckpointError, match="not an archive"):
        read_checkpoint(tmp_path / "text.pth.tar")
    commit(tmp_path, {"weights": 1}, None)
    with pytest.raises(CheckpointError, match="state_dict"):
        read_checkpoint(tmp_path / "last.pt")


def test_read_newest_of_an_empty_folder_is_none(tmp_path: Path) -> None:
    assert read_newest(tmp_path, []) is None
    assert plain({"a": 1}) == {"a": 1}
