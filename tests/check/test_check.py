"""check.py finds what is wrong with a net or a loader, and only that."""

import functools
import json
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

import check
import train
from core.check.checks import CHECKS
from core.check.subject import DoubtError, FaultError, NotApplicableError, Subject
from tests.conftest import Folder
from tests.projects.embeddings import net
from tests.projects.own_step import net as own_step
from tests.projects.segmentation import net as segmentation

UNSOUND = {"task": "tests.projects.unsound", "batch_size": 8, "learning_rate": 0.05}

FAULTS = {
    "an order that changes": ("the loader yields the same batches twice", "train, batch"),
    "a transform that counts": ("the loader yields the same batches twice", "randomness"),
    "a dataset that counts": ("worker processes change no batch", "a state of its own"),
    "an unreadable file": ("every example can be read", "017.pt"),
    "inputs that are not finite": ("every example can be read", "train, example 7"),
    "an example in two splits": ("splits share no example", "1 input is in train and in val"),
    "labels that begin at 1": ("labels are of one kind in all splits", "val: label 3"),
    "a class that is not in training": ("labels are of one kind in all splits", "class 2"),
    "large outputs": ("the first loss is near chance", "chance is 1.1"),
    "a layer left out": ("a gradient reaches every weight", "left_out.bias, left_out.weight"),
    "a detached layer": ("a gradient reaches every weight", "body.bias, body.weight"),
    "an optimizer of a part": ("a gradient reaches every weight", "body.bias.* never changes"),
    "outputs that are no scores": ("a gradient reaches every weight", "not finite"),
    "inputs not used": ("the net learns one batch by heart", "labels not fit"),
    "a norm over the batch": ("no output depends on other examples", "normalised"),
    "rows mixed by a view": ("no output depends on other examples", "differ by"),
    "rows merged by a view": ("no output depends on other examples", "view or reshape"),
    "a squeeze": ("a last batch of one is evaluated", "squeeze"),
    "a plain attribute": ("saved weights are the whole net", "register_buffer"),
    "dropout in eval mode": ("evaluation repeats itself", "random numbers"),
    "a loss that is a sum": ("the batch size changes no number", "loss is"),
    "randomness of its own": ("the same seed gives the same steps", "differs"),
    "softmax before cross-entropy": ("outputs have the range of the loss", "Remove softmax"),
    "relu on the scores": ("outputs have the range of the loss", "Remove ReLU or sigmoid"),
    "sigmoid on the scores": ("outputs have the range of the loss", "Remove ReLU or sigmoid"),
    "layers in a list": ("every weight is a parameter", r"hidden\[0\] is not .* nn.ModuleList"),
    "layers in a dict": ("every weight is a parameter", r"hidden\['a'\] is not .* nn.ModuleDict"),
    "a tensor that is no parameter": ("every weight is a parameter", "weight .* nn.Parameter"),
    "weights made anew": ("saved weights are the whole net", "register_buffer"),
    "a frozen part in train mode": ("frozen parts are in eval mode", r"norm \(BatchNorm1d\)"),
    "a momentum of Keras": ("batch norm averages over batches", "norm: with momentum 0.99"),
    "a metric over the wrong axis": ("metrics know a right answer", "accuracy is"),
    "a metric of counts": ("metrics know a right answer", "accuracy is 0 for right answers"),
    "sorted examples": ("training examples are mixed", "shuffle=True"),
    "labels from 1 in all splits": ("every class has examples", "count from 1"),
    "classes in another order": ("labels go with inputs", "mean different things"),
    "labels of val shifted by a row": ("labels go with inputs", "labels of val do not go"),
    "labels of train shifted by a row": ("labels go with inputs", "labels of train do not go"),
    "a validation sampler with replacement": ("validation shows each example once", "repeat an"),
    "validation is not scaled": ("splits are on one scale", "inputs of val lie between -"),
    "the label among the inputs": ("no input is the label", "column 2"),
    "a layer whose gradient vanishes": ("a gradient reaches every weight", "It vanishes"),
    "a loss of scrambled scores": ("a right answer has the lowest loss", "by movedim"),
    "a keep probability": ("dropout keeps enough", "p is 0.95.* Was 0.05 meant"),
    "first weights all 0.1": ("units differ", "all 8 units of body have the same weights"),
    "first weights all 0": ("units differ", "have the same weights"),
    "folders of other names": ("splits number their classes alike", "class 1 is dog in train"),
}
# Of the project `planted`, by kind of task.
PLANTED = {
    ("numbers", "relu on numbers below 0"): (
        "outputs have the range of the loss",
        "but labels are",
    ),
    ("numbers", "softmax of yes or no"): ("outputs have the range of the loss", "Use sigmoid"),
    ("numbers", "sigmoid of yes or no"): ("outputs have the range of the loss", "Remove sigmoid"),
    ("numbers", "a window that holds its label"): ("no input is the label", "column 3"),
    ("numbers", "tanh of large numbers"): (
        "the net learns one batch by heart",
        "mean of the labels as answer",
    ),
    ("numbers", "sorted numbers"): ("training examples are mixed", "sorted"),
    ("pictures", "pictures that are flipped"): ("splits share no picture", "0 of val is like 5"),
    ("pictures", "pictures that are resized"): ("splits share no picture", "0 of val is like 5"),
    ("pictures", "a flip that changes the class"): ("flips keep classes", "looks like class 1"),
    ("pictures", "pictures that are reshaped"): ("pixels are in place", r"permute\(2, 0, 1\)"),
    ("numbers", "pos_weight upside down of yes or no"): (
        "rare labels weigh no less",
        "to miss 'no' of label .* times as much as to miss 'yes'",
    ),
    ("sequences", "class weights upside down"): (
        "rare labels weigh no less",
        "to miss class 0, .* costs 6.3 times as much as to miss class 1",
    ),
    ("numbers", "labels that are read in evaluation"): (
        "no output reads the labels",
        "teacher",
    ),
    ("letters", "an RNN that goes both ways"): ("no output sees the future", "Is the RNN one-way"),
    ("sequences", "words numbered by a set"): ("another process reads the same", "order of a set"),
    ("sequences", "an example of odd length"): ("no example is far longer than others", "700 long"),
    ("sequences", "a mean over padding"): ("padding changes no output", "read padding"),
}


# What check.py as a whole tells first, where it is another check that sees the same cause.
FIRST = {
    "a dataset that counts": "the loader yields the same batches twice",
    "inputs not used": "a gradient reaches every weight",
    "a norm over the batch": "a last batch of one is evaluated",
    "rows merged by a view": "evaluation repeats itself",
    "a loss that is a sum": "outputs fit labels",
}


@pytest.fixture
def subject(run_folder: Folder, no_data: Path) -> Callable[..., Subject]:
    """Return a function that makes what is checked."""

    def make(seed: int = 0, **params: Any) -> Subject:
        return Subject(run_folder(**UNSOUND | params), no_data, {}, train, seed)

    return make


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(subject: Callable[..., Subject], fault: str) -> None:
    what, told = FAULTS[fault]
    with pytest.raises(Exception, match=told):
        CHECKS[what](subject(fault=fault))


@pytest.mark.parametrize(("kind", "fault"), PLANTED)
def test_a_fault_of_another_kind_of_task_is_found(
    planted: Callable[..., Path], no_data: Path, kind: str, fault: str
) -> None:
    what, told = PLANTED[kind, fault]
    with pytest.raises(FaultError, match=told):
        CHECKS[what](Subject(planted(kind, fault), no_data, {}, train))


@pytest.mark.slow
@pytest.mark.parametrize("fault", [*FAULTS, *PLANTED])
def test_a_fault_is_told_first_and_once(
    fault: Any,
    run_folder: Folder,
    planted: Callable[..., Path],
    no_data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delitem(CHECKS, "speed")
    own = isinstance(fault, str)
    folder = run_folder(**UNSOUND, fault=fault) if own else planted(*fault)
    assert check.main(["--model_dir", str(folder), "--data_dir", str(no_data), "--json"]) == 1
    rows = json.loads(capsys.readouterr().out)["checks"]
    failed = [row["check"] for row in rows if row["verdict"] == "FAIL"]
    assert failed == [FIRST.get(fault, (FAULTS if own else PLANTED)[fault][0])]


def test_a_rate_that_is_far_too_high_is_found(subject: Callable[..., Subject]) -> None:
    params = {"task": "tests.projects.minimal", "width": 8, "optimizer": "SGD"}
    with pytest.raises(FaultError, match=r"the loss jumps from .* Lower learning_rate"):
        CHECKS["the net learns one batch by heart"](subject(fault="", learning_rate=5.0, **params))


def test_a_schedule_that_ends_early_is_found(subject: Callable[..., Subject]) -> None:
    schedule = {"lr_scheduler": "ExponentialLR", "lr_scheduler_args": {"gamma": 0.1}}
    with pytest.raises(FaultError, match=r"after epoch 5 of 20 the rate is .* counts epochs"):
        CHECKS["the learning rate lasts"](subject(fault="", num_epochs=20, **schedule))


def test_a_metric_of_numbers_that_is_taken_the_wrong_way_is_found(
    run_folder: Folder, no_data: Path
) -> None:
    params = {"task": "tests.projects.planted", "kind": "numbers", "fault": ""}
    folder = run_folder(**params, monitor="error", monitor_mode="max")
    with pytest.raises(FaultError, match=r"error is 0 for right answers .* Is monitor_mode the"):
        CHECKS["metrics know a right answer"](Subject(folder, no_data, {}, train))


def test_a_validation_split_whose_labels_are_all_ignored_is_doubted(
    subject: Callable[..., Subject],
) -> None:
    params = {"task": "tests.projects.kinds", "kind": "ignored_val", "monitor": "loss"}
    with pytest.raises(DoubtError, match=r"loss is NaN before training. Are all labels of val ign"):
        CHECKS["what is learned holds in validation"](subject(fault="", **params))


DOUBTS = {
    "a class that the loss ignores": ("outputs fit labels", "which the loss ignores"),
    "splits not drawn at random": ("labels are of one kind in all splits", "93% of val"),
    "a frozen part that nothing loaded": ("frozen weights are loaded", "strict=False"),
    "validation is augmented": ("validation is not augmented", "Augment those of training only"),
    "labels of all splits shifted by a row": (
        "what is learned holds in validation",
        "Do inputs and labels belong together",
    ),
}


@pytest.mark.parametrize("fault", DOUBTS)
def test_what_may_be_sound_is_a_warning(
    subject: Callable[..., Subject], fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.check.split_checks.LEARNING", 2.0)
    what, told = DOUBTS[fault]
    with pytest.raises(DoubtError, match=told):
        CHECKS[what](subject(fault=fault))


def test_a_sentence_in_two_splits_is_a_warning(planted: Callable[..., Path], no_data: Path) -> None:
    folder = planted("sequences", "a sentence in two splits")
    with pytest.raises(DoubtError, match=r"1 input is in train and in val.* equal by chance"):
        CHECKS["splits share no example"](Subject(folder, no_data, {}, train))


def test_a_mean_over_padding_of_one_length_is_a_warning(
    planted: Callable[..., Path], no_data: Path
) -> None:
    folder = planted("sequences", "the last column of padding")
    with pytest.raises(DoubtError, match=r"change if its padding \(0\) is cut off"):
        CHECKS["padding changes no output"](Subject(folder, no_data, {}, train))


@pytest.mark.parametrize("sign", [1, -1])
def test_vectors_that_are_pushed_apart_are_found(
    sign: int, run_folder: Folder, no_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = net.loss_fn
    monkeypatch.setattr(net, "loss_fn", lambda o, y, params: sign * own(o, y, params))
    params = {"task": "tests.projects.embeddings", "width": 16, "margin": 0.5}
    folder = run_folder(**params, monitor="recall_at_1", batch_size=32, learning_rate=0.01)
    made = Subject(folder, no_data, {}, train)
    if sign == 1:
        assert CHECKS["vectors of a class are near"](made)
    else:
        with pytest.raises(FaultError, match="Is the sign of the loss wrong"):
            CHECKS["vectors of a class are near"](made)


@pytest.mark.parametrize("both", [False, True])
def test_masks_that_are_not_flipped_with_their_pictures_are_found(
    both: bool, run_folder: Folder, no_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run_folder(task="tests.projects.segmentation", width=4, monitor="iou")
    made = Subject(folder, no_data, {}, train)
    loader = made.loaders["train"]
    own = loader.load

    def load(epoch: int, part: Any) -> Any:
        for number, (x, y) in enumerate(own(epoch, part)):
            chosen = torch.Generator().manual_seed(100 * epoch + number)
            turned = torch.rand(len(x), generator=chosen) < 0.5
            x = torch.where(turned[:, None, None, None], x.flip(3), x)
            yield x, torch.where(turned[:, None, None], y.flip(2), y) if both else y

    monkeypatch.setattr(loader, "load", load)
    error, told = (NotApplicableError, "together") if both else (FaultError, "not their masks")
    with pytest.raises(error, match=told):
        CHECKS["flips keep classes"](made)


def test_pixels_that_the_loss_ignores_are_a_warning(
    run_folder: Folder, no_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss = functools.partial(cross_entropy, ignore_index=0)
    monkeypatch.setattr(segmentation, "loss_fn", lambda outputs, labels: loss(outputs, labels))
    folder = run_folder(task="tests.projects.segmentation", width=4, monitor="iou")
    with pytest.raises(DoubtError, match="of the labels are 0, which the loss ignores"):
        CHECKS["outputs fit labels"](Subject(folder, no_data, {}, train))


def test_a_metric_that_rounds_logits_is_found(run_folder: Folder, no_data: Path) -> None:
    params = {"task": "tests.projects.planted", "kind": "numbers", "monitor": "rounded"}
    folder = run_folder(**params, fault="sound of yes or no", monitor_mode="max")
    with pytest.raises(FaultError, match="Does it take logits for probabilities"):
        CHECKS["metrics know a right answer"](Subject(folder, no_data, {}, train))


@pytest.mark.parametrize("ends", ["train", "eval"])
def test_a_step_that_leaves_the_net_in_eval_mode_is_found(
    ends: str, run_folder: Folder, no_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = own_step.train_step

    def step(state: Any, batch: Any) -> Any:
        losses = own(state, batch)
        state.model.train(ends == "train")
        return losses

    monkeypatch.setattr(own_step, "train_step", step)
    made = Subject(run_folder(task="tests.projects.own_step"), no_data, {}, train)
    if ends == "train":
        assert CHECKS["a step stays in train mode"](made)
    else:
        with pytest.raises(FaultError, match=r"Call model.train\(\)"):
            CHECKS["a step stays in train mode"](made)


def test_one_cause_is_one_failure(
    planted: Callable[..., Path], no_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["--model_dir", str(planted("pictures", "a crash of the loss"))]
    assert check.main([*argv, "--data_dir", str(no_data), "--json"]) == 1
    rows = json.loads(capsys.readouterr().out)["checks"]
    (failed,) = [row for row in rows if row["verdict"] == "FAIL"]
    told = r"your loss_fn, tests/projects/planted/net.py:\d+: RuntimeError: .*; outputs \(8, 2\)"
    assert re.match(told, failed["message"])
    assert [row["check"] for row in rows[1:]] == list(CHECKS)
    assert sum(row["verdict"] == "not reached" for row in rows) > 5


@pytest.fixture
def planted(run_folder: Folder) -> Callable[..., Path]:
    """Return a function that makes the folder of a task with a planted fault."""
    params = {"task": "tests.projects.planted", "batch_size": 8, "learning_rate": 0.01}
    return lambda kind, fault: run_folder(kind=kind, fault=fault, monitor="loss", **params)


@pytest.mark.parametrize(
    ("task", "told"), [("no_update", "call state.update"), ("no_zero_grad", "Call zero_grad")]
)
def test_a_step_that_does_not_update_once_is_found(
    run_folder: Folder, no_data: Path, task: str, told: str
) -> None:
    folder = run_folder(task=f"tests.projects.{task}", batch_size=8)
    subject = Subject(folder, no_data, {}, train)
    with pytest.raises(FaultError, match=told):
        CHECKS["a step updates once"](subject)


@pytest.mark.parametrize("fault", ["a plain attribute", "randomness of its own"])
def test_a_resumed_run_that_differs_is_found(subject: Callable[..., Subject], fault: str) -> None:
    with pytest.raises(FaultError, match=r"state_dict, .* differs, stopped after step"):
        CHECKS["a stopped and resumed run ends bit-equal"](subject(fault=fault, seed=3))


def test_a_fused_optimizer_of_channels_last_weights_goes_on_bit_equal(
    run_folder: Folder, signs: Path
) -> None:
    fused = {"momentum": 0.9, "fused": True}
    folder = run_folder(optimizer="SGD", optimizer_args=fused, channels_last=True, batch_size=8)
    each = Subject(folder, signs, {}, train, seed=3)
    assert "stopped after step" in str(CHECKS["a stopped and resumed run ends bit-equal"](each))


def test_a_run_without_labels_that_is_stopped_in_mid_epoch_keeps_its_metrics(
    subject: Callable[..., Subject],
) -> None:
    params = {"task": "tests.projects.kinds", "kind": "autoencoder", "batch_size": 2}
    each = subject(seed=584, monitor="loss", **params)
    told = CHECKS["a stopped and resumed run ends bit-equal"](each)
    assert re.match(r"stopped after step ([1-5]|[7-9]|1[01]) of 12 ", str(told))


def test_a_sound_project_passes_and_its_folder_is_left_alone(
    run_folder: Folder,
    no_data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("core.check.data_checks.SECONDS", 0.2)
    folder = run_folder(**UNSOUND, fault="")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert check.main(["--model_dir", str(folder), "--data_dir", str(no_data)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(CHECKS)
    assert "FAIL" not in {line[:4] for line in lines}
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


SOUND = ["files", "one example to validate on", "a frozen part at rest"]
SOUND += ["log_softmax before cross-entropy", "samplers of one dataset"]


@pytest.mark.parametrize("fault", SOUND)
def test_what_is_no_fault_passes(subject: Callable[..., Subject], fault: str) -> None:
    each = subject(fault=fault)
    for what, made in CHECKS.items():
        if what not in ("speed", "another process reads the same"):  # which take seconds
            with suppress(NotApplicableError, DoubtError):
                made(each)


def test_a_complete_run_is_said_to_be_complete(
    run_folder: Folder, no_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_folder(**UNSOUND, fault="")
    argv = ["--model_dir", str(folder), "--data_dir", str(no_data)]
    assert train.main([*argv, "--set", "num_epochs=2"]) == 0
    capsys.readouterr()
    assert check.main([*argv, "--find_lr"]) == 0
    told = "note: the run is complete after 2 epochs; a new start of it is checked"
    assert told in capsys.readouterr().out


def test_the_loaders_of_the_template_are_checked_too(run_folder: Folder, signs: Path) -> None:
    one = Subject(run_folder(task="tests.projects.original"), signs, {}, train)
    for what in ("the batch size changes no number", "splits share no example"):
        assert CHECKS[what](one) is not None


def test_a_crash_of_the_net_is_a_failure_told_in_one_line(
    run_folder: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_folder(**UNSOUND, fault="a crash")
    assert check.main(["--model_dir", str(folder), "--data_dir", str(tmp_path)]) == 1
    printed = capsys.readouterr()
    told = r"FAIL  loaders and net are built: your forward, tests/projects/unsound/net.py:\d+: "
    assert re.fullmatch(told + r"RuntimeError: a fault of the task; x \(8, 4\)\n", printed.out)
    assert printed.err == ""


def test_a_failed_check_ends_with_exit_code_1_and_says_what_was_not_reached(
    run_folder: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_folder(**UNSOUND, fault="an unreadable file")
    argv = ["--model_dir", str(folder), "--data_dir", str(tmp_path), "--set", "num_epochs=1"]
    assert check.main(argv) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("Not reached, because of what failed: the loader yields")
    assert any("017.pt" in line for line in lines if line.startswith("FAIL"))


def test_an_unreadable_picture_is_named(
    run_folder: Folder, signs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "signs"
    shutil.copytree(signs, data)
    (data / "val_signs" / "1_IMG_0001.jpg").write_bytes(b"no picture")
    assert check.main(["--model_dir", str(run_folder()), "--data_dir", str(data)]) == 1
    assert "1_IMG_0001.jpg: not an image" in capsys.readouterr().out


def test_find_lr_draws_the_loss_and_suggests_a_rate(
    run_folder: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_folder(**UNSOUND, fault="")
    argv = ["--model_dir", str(folder), "--data_dir", str(tmp_path), "--find_lr"]
    assert check.main(argv) == 0
    assert (folder / "find_lr.png").read_bytes().startswith(b"\x89PNG")
    rate = float(capsys.readouterr().out.partition("Suggestion: learning_rate ")[2].split(",")[0])
    assert 1e-4 < rate < 1


def test_a_fault_of_the_params_names_the_users_own_file(
    run_folder: Folder, signs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_folder()
    (folder / "params.json").write_text('{"task": "tests.projects.pictures"}')
    assert check.main(["--model_dir", str(folder), "--data_dir", str(signs)]) == 1
    line = f"FAIL  loaders and net are built: {folder}/params.json: no key 'num_channels'\n"
    assert capsys.readouterr().out.endswith(line)
