"""Strings that look like switches, numbers or null, in params files and on the command line."""

import json
from pathlib import Path
from typing import Any

import pytest

import train
from core.base.errors import UsageError
from core.base.params import load_params, parse_overrides
from core.base.parsing import parse_yaml, read_mapping
from tests.conftest import Folder


def params_of(folder: Path, text: str, overrides: tuple[str, ...] = ()) -> tuple[Any, list[str]]:
    """Load a params file of a task that has the key `bidirectional` of its own."""
    name = "params.json" if text.startswith("{") else "params.yaml"
    (folder / name).write_text(text)
    return load_params(folder / name, parse_overrides(overrides))


@pytest.mark.parametrize("word", ["no", "Off", "n", "yes", "ON", "Y", "tRUE"])
def test_an_unquoted_word_that_may_be_a_switch_is_refused(tmp_path: Path, word: str) -> None:
    message = f"'bidirectional' is '{word}', want true or false, or \"{word}\" in quotes"
    with pytest.raises(UsageError, match=message) as caught:
        params_of(tmp_path, f"task: model.ner\nbidirectional: {word}\n")
    assert "params.yaml" in str(caught.value)
    with pytest.raises(UsageError, match=message):
        params_of(tmp_path, "task: model.ner", (f"bidirectional={word}",))


def test_words_inside_lists_and_mappings_are_refused_and_keys_are_names() -> None:
    for text in ("width: [1, off]", "optimizer_args: {nesterov: no}", "a: [{b: yes}]"):
        with pytest.raises(UsageError, match="want true or false"):
            parse_yaml(text)
    assert parse_yaml("{n: 3, on: 2, no: true}") == {"n": 3, "on": 2, "no": True}


def test_null_is_not_spelt_as_in_python() -> None:
    with pytest.raises(UsageError, match="'teacher' is 'None', want null, or"):
        parse_yaml("teacher: None")
    assert parse_yaml("teacher: 'None'") == {"teacher": "None"}


@pytest.mark.parametrize(
    "text",
    [
        '{"task": "model.ner", "bidirectional": "false"}',
        '{"task": "model.ner", "bidirectional": " True "}',
        "{task: model.ner, bidirectional: 'false'}",
        '{"optimizer": "SGD", "optimizer_args": {"nesterov": "false"}}',
    ],
)
def test_the_strings_true_and_false_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    name = "params.json" if '"' in text else "params.yaml"
    (tmp_path / name).write_text(text)
    assert train.main(["--model_dir", str(tmp_path), "--data_dir", "nowhere"]) == 2
    assert "which code takes for true; write it without quotes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("no", "true or false"),
        ("None", "null"),
        *((text, "a number") for text in ("0.001", "1e-3", "1_000", "010", "0x10", "1:30")),
        *((text, "a number") for text in ("0,5", "5%", "1/3", "-inf")),
    ],
)
def test_a_string_that_may_be_a_slip_is_said(tmp_path: Path, text: str, meant: str) -> None:
    params, notes = params_of(tmp_path, json.dumps({"task": "model.ner", "min_count": text}))
    assert params.min_count == text
    assert any(f"'min_count' is the string '{text}'; if {meant} is meant" in n for n in notes)


@pytest.mark.parametrize("text", ["dates 1:30", "1.0.2", "2026-01-01", "conv3x3", "e", "_", "a,b"])
def test_other_strings_are_not_talked_about(tmp_path: Path, text: str) -> None:
    assert params_of(tmp_path, json.dumps({"task": "model.ner", "min_count": text}))[1] == []


def test_a_start_says_it_in_the_log(run_folder: Folder, tmp_path: Path) -> None:
    folder = run_folder(task="tests.projects.weighted", classes="no", num_epochs=1)
    assert train.main(["--model_dir", str(folder), "--data_dir", str(tmp_path)]) == 0
    assert "'classes' is the string 'no'; if true or false" in (folder / "train.log").read_text()


def test_no_number_of_yaml_is_another_number() -> None:
    for text in ("010", "-007", "00", "1_000", "0x10", "0o10", "1:30", "0,5"):
        assert parse_yaml(text) == text
    assert parse_yaml("[0, -0.5, 1e3, 1., +3]") == [0, -0.5, 1000.0, 1.0, 3]


def test_the_frameworks_keys_are_numbers_however_they_are_spelt(tmp_path: Path) -> None:
    params, _ = params_of(tmp_path, '{"batch_size": 6.4e1, "learning_rate": 1, "num_epochs": 2.0}')
    assert repr([params.batch_size, params.learning_rate, params.num_epochs]) == "[64, 1.0, 2]"
    for text in ('{"learning_rate": "0.001"}', '{"batch_size": 32.5}'):
        with pytest.raises(UsageError, match=r"params.json: '\w+' is .*, want a"):
            params_of(tmp_path, text)
    with pytest.raises(UsageError, match="'batch_size' is \"1_000\", want a whole number"):
        params_of(tmp_path, "batch_size: 1_000")


def test_an_override_is_of_the_type_of_the_files_value(tmp_path: Path) -> None:
    text = '{"dropout_rate": 0.8, "num_channels": 8, "task": "model"}'
    params, _ = params_of(tmp_path, text, ("dropout_rate=1", "num_channels=1.6e1"))
    assert repr([params.dropout_rate, params.num_channels]) == "[1.0, 16]"


MERGED = """
defaults: &d {learning_rate: 0.5, seed: 1}
more: &m {<<: *d, seed: 2}
<<: [*m, {grad_clip: 3}]
batch_size: 7
"""


def test_merge_keys_are_merged_and_own_keys_win(tmp_path: Path) -> None:
    params, _ = params_of(tmp_path, MERGED)
    assert (params.learning_rate, params.seed, params.batch_size) == (0.5, 2, 7)
    assert (params.grad_clip, hasattr(params, "<<")) == (3.0, False)
    with pytest.raises(UsageError, match="'seed' stands twice"):
        params_of(tmp_path, MERGED + "seed: 3\nseed: 4\n")
    assert parse_yaml("{<<: {a: {b: 1}}, a: {c: 2}}") == {"a": {"c": 2}}


def test_a_value_that_holds_itself_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("width: &w [1, *w]\n")
    with pytest.raises(UsageError, match=r"params.yaml: .*holds itself"):
        read_mapping(tmp_path / "params.yaml")


def test_a_key_that_stands_twice_in_json_is_refused_at_any_depth(tmp_path: Path) -> None:
    (tmp_path / "params.json").write_text('{"optimizer_args": {"eps": 1, "eps": 2}}')
    with pytest.raises(UsageError, match=r"params.json: key 'eps' stands twice"):
        read_mapping(tmp_path / "params.json")
