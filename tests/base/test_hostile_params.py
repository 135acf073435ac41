"""Params files that are damaged, huge, tangled or of no effect: an error or a note, at once."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

import check
import evaluate
import search_hyperparams
import synthesize_results
import train
from core.base.errors import UsageError
from core.base.keys import DEFAULTS, KEYS
from core.base.params import Params, check_names
from core.base.parsing import parse_yaml, read_mapping
from core.search.settings import read_settings
from core.task import load_task
from core.training.optimizers import make_optimizers
from core.training.schedule import make_schedule
from core.training.state import State

NOOP = {"task": "bench.noop", "num_steps": 4, "num_epochs": 1, "num_threads": 1}
BOMB = "a0: &a0 [1, 1]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))
MERGED = "a0: &a0 {x: 1}\n"
MERGED += "".join(f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}\n" for i in range(1, 40))


def failure(capsys: pytest.CaptureFixture[str], folder: Path, *more: str) -> str:
    """Train, which has to be refused; returns what is said."""
    assert train.main(["--model_dir", str(folder), "--data_dir", str(folder), *more]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) <= 5
    assert len(said) < 500
    return said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f'{{"batch_size": {"9" * 5000}}}', "'batch_size' is infinite or too large"),
        (f'{{"batch_size": {10**30}}}', "'batch_size' is infinite or too large"),
        (f'{{"learning_rate": {10**400}}}', "'learning_rate' is infinite or too large"),
        ('{"num_epochs": 1e300}', "want at most 2147483647"),
        ('{"num_channels": [1, -1e999]}', "'num_channels' is infinite or too large"),
        ('{"num_threads": 1000000}', "of at most 1024"),
        ('{"num_workers": 1000000}', "of at most 256"),
        ('{"a": ' + "[" * 20_000 + "]" * 20_000 + "}", "nested too deeply"),
        ('{"a": ' + '{"b": ' * 300 + "1" + "}" * 301, "nested too deeply"),
        ("a: " + "[" * 3000 + "]" * 3000, "nested too deeply"),
        (f"batch_size: {'9' * 5000}", "'batch_size' is infinite or too large"),
        (BOMB, "more than 20 aliases"),
        (MERGED, "more than 20 aliases"),
        ("seed: 1\nwidth: !!set {a, b}", "line 2: found !!set, want a plain value"),
        ("width: !!timestamp 2020-01-01", "line 1: found !!timestamp"),
        ("width: !!bool maybe", "found !!bool"),
        ("width: !!str [1]", "found !!str"),
        ("width: !own 3", "found !own"),
    ],
)
def test_a_file_that_would_blow_up_is_refused_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    name = "params.json" if text.startswith("{") else "params.yaml"
    (tmp_path / name).write_text(text)
    said = failure(capsys, tmp_path)
    assert message in said
    assert str(tmp_path / name) in said


def test_the_largest_numbers_and_some_aliases_are_read() -> None:
    assert parse_yaml("[999999999999999999, -99999999999999999, 1e300]")[0] == 10**18 - 1
    assert parse_yaml("{a: &a [1, 2], b: *a, c: {<<: {d: *a}}}")["c"] == {"d": [1, 2]}


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_pipe_or_a_folder_in_place_of_the_file_is_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], make: Any
) -> None:
    make(tmp_path / "params.json")
    assert f"{tmp_path / 'params.json'}: not a file" in failure(capsys, tmp_path)


def test_a_search_for_a_billion_points_is_refused(tmp_path: Path) -> None:
    text = "method: random\ntrials: 1000000000\nspace: {learning_rate: {low: 0.1, high: 1}}\n"
    (tmp_path / "search.yaml").write_text(text)
    with pytest.raises(UsageError, match=r"'trials' is 1000000000, want .* at most 100000"):
        read_settings(tmp_path / "search.yaml", {"task": "bench.noop"})


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("lr=0.1", "nothing reads 'lr': set 'learning_rate'"),
        ("weight_decay=0.1", "nothing reads 'weight_decay': set 'optimizer_args'"),
        ("momentum=0.9", "set 'optimizer_args'"),
        ("betas=[0.9, 0.99]", "set 'optimizer_args'"),
        ("gamma=0.5", "set 'lr_scheduler_args'"),
    ],
)
def test_a_setting_without_effect_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], setting: str, message: str
) -> None:
    (tmp_path / "params.json").write_text(json.dumps(NOOP))
    assert message in failure(capsys, tmp_path, "--set", setting)


def test_an_empty_data_dir_is_refused_by_every_script(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "params.json").write_text(json.dumps(NOOP))
    where = ["--model_dir", str(tmp_path), "--data_dir", str(tmp_path)]
    assert train.main(where) == 0
    for script in (train, evaluate, check):
        assert script.main([*where[:3], ""]) == 2, script
        assert '"", want a string' in capsys.readouterr().err
    assert search_hyperparams.main(["--parent_dir", str(tmp_path), "--data_dir", ""]) == 2


def test_a_word_of_the_code_is_not_taken_for_a_key() -> None:
    beside = {"dropout_rate": 0.5}  # the net has `self.dropout`
    for task in ("model", "model.ner"):
        with pytest.raises(UsageError, match=r"'dropout' .did you mean 'dropout_rate'"):
            check_names({"dropout": 0.9}, task, "--set", beside)
    with pytest.raises(UsageError, match=r"'channels' .did you mean 'num_channels'"):
        check_names({"channels": 4}, "model", "--set", {"num_channels": 8})
    assert not check_names({"dropout_rate": 0.9, "rotate": 5}, "model", "--set", beside)


def test_arguments_of_no_scheduler_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "params.json").write_text(json.dumps(NOOP | {"lr_scheduler_args": {"gamma": 0.5}}))
    assert train.main(["--model_dir", str(tmp_path), "--data_dir", str(tmp_path)]) == 0
    assert "'lr_scheduler_args' has no effect: 'lr_scheduler' is null" in caplog.text


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("optimizer", "Adamm"),
        ("optimizer_args", {"betas": [3, 4]}),
        ("lr_scheduler", "StepLRR"),
        ("monitor", "accuracyy"),
        ("monitor", "another"),
        ("device", "mps"),
        ("sync_batchnorm", True),
    ],
)
def test_every_error_on_a_key_names_the_file_or_the_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str, value: Any
) -> None:
    path = tmp_path / "params.json"
    path.write_text(json.dumps(NOOP | {"device": "cpu", key: value}))
    assert f"error: {path}: {key!r}" in failure(capsys, tmp_path)
    path.write_text(json.dumps(NOOP | {"device": "cpu"}))
    setting = f"{key}={json.dumps(value)}"
    assert f"error: --set: {key!r}" in failure(capsys, tmp_path, "--set", setting)


@pytest.mark.parametrize("optimizer", ["SparseAdam", "Adam"])
def test_an_optimizer_that_cannot_take_the_gradients_is_an_error_on_its_key(optimizer: str) -> None:
    net = torch.nn.Embedding(3, 2, sparse=optimizer == "Adam")
    params = Params.of(DEFAULTS | {"optimizer": optimizer}, "params.json")
    task = load_task("bench.noop")
    optimizers = make_optimizers(task, net, params)
    schedule = make_schedule(task, optimizers, params, 1)
    state = State(task, params, torch.device("cpu"), net, optimizers, schedule)
    with pytest.raises(UsageError, match=f"'optimizer': {optimizer} does not support"):
        state.update(net(torch.tensor([1])).sum())


def test_values_are_spelled_as_in_the_file() -> None:
    for value, spelled in ((True, "true"), (None, "null"), ([None, False], r"\[null, false\]")):
        with pytest.raises(UsageError, match=f"'batch_size' is {spelled}, want a whole number"):
            KEYS["batch_size"].check(value, "params.json")


DAMAGED = ["", "[]", "\x00", '{"overrides": 3}', '{"params": 3, "code": [1], "data": 5}']
DAMAGED += ['{"code_changed": {"a": 1}, "overrides": []}', '{"code": "x", "restore_file": 7}']


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_record_of_a_run_stops_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "params.json").write_text(json.dumps(NOOP))
    where = ["--model_dir", str(tmp_path), "--data_dir", str(tmp_path)]
    record = tmp_path / "params.resolved.json"
    record.write_text(text)
    assert train.main(where) == 0
    record.write_text(text)
    assert train.main([*where, "--set", "num_epochs=2"]) == 0
    assert isinstance(read_mapping(record)["code_changed"], list)
    record.write_text(text)
    assert evaluate.main([*where, "--split", "val"]) == 0
    assert synthesize_results.main(["--parent_dir", str(tmp_path)]) == 0
