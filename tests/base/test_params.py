import json
import pickle
from pathlib import Path

import pytest

import train
from core.base.errors import UsageError
from core.base.keys import KEYS, schema, table
from core.base.params import Params, load_params, parse_overrides
from core.base.parsing import parse_yaml, read_mapping
from tests.helpers import ROOT

# Whose package has no misspelt key among its words, as tests/ has.
TASK = "bench.noop"


def failure(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """Run train.py on a mistake of the user's, and return what it says."""
    assert train.main(list(argv)) == 2
    message = capsys.readouterr().err
    assert len(message.splitlines()) <= 5
    assert "Traceback" not in message
    return message


def test_params_keep_the_interface_of_the_original_template(tmp_path: Path) -> None:
    path = tmp_path / "params.json"
    path.write_text('{"learning_rate": 0.1}')
    params = Params(path)
    params.batch_size = 7
    params.dict["width"] = 3
    params.save(tmp_path / "saved.json")
    assert json.loads((tmp_path / "saved.json").read_text()) == {
        "learning_rate": 0.1,
        "batch_size": 7,
        "width": 3,
    }
    params.learning_rate = 5
    params.update(path)
    assert (params.learning_rate, params.width) == (0.1, 3)
    assert pickle.loads(pickle.dumps(params)).dict == params.dict


def test_a_missing_key_names_the_file_and_the_nearest_key() -> None:
    params = Params.of({"learning_rate": 1}, "runs/params.json")
    with pytest.raises(UsageError, match=r"runs/params.json: no key 'lerning_rate'.*learning_rate"):
        _ = params.lerning_rate
    assert getattr(params, "absent", 3) == 3


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("5", 5),
        ("'no'", "no"),
        ("true", True),
        ("2026-01-01", "2026-01-01"),
        ("0x10", "0x10"),
        ("[1, .5]", [1, 0.5]),
        ("null", None),
        ("1:30", "1:30"),
        ("-1.5E+2", -150.0),
    ],
)
def test_yaml_scalars_are_read_as_people_mean_them(text: str, value: object) -> None:
    assert parse_yaml(text) == value
    assert type(parse_yaml(text)) is type(value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("params.json", "", "empty"),
        ("params.json", "[1]", "found list"),
        ("params.json", '{"seed": 1, "seed": 2}', "'seed' stands twice"),
        ("params.json", '{"learning_rate": NaN}', "learning_rate"),
        ("params.json", '{"width": 1e999}', "finite"),
        ("params.json", '{"seed": 1', "line 1"),
        ("params.json", '{"save": 1}', "'save'"),
        ("params.json", '{"batch_size": "32"}', "'batch_size' is \"32\", want a whole number"),
        ("params.json", '{"batch_size": true}', "'batch_size' is true"),
        ("params.json", '{"batch_size": 0}', "of at least 1"),
        ("params.json", '{"learning_rate": 0}', "above 0"),
        ("params.json", '{"ema_decay": 1.0}', "below 1"),
        ("params.json", '{"precision": "half"}', "float32, bfloat16, float64 or auto"),
        ("params.json", '{"optimizer": "Adamm"}', "did you mean 'Adam'"),
        ("params.json", '{"optimizer_args": {"betaz": 1}}', "did you mean 'betas'"),
        ("params.json", '{"optimizer_args": {"lr": 1}}', "learning_rate"),
        ("params.json", '{"lr_scheduler": "OneCycle"}', "did you mean 'OneCycleLR'"),
        ("params.json", '{"monitor": "acuracy"}', "did you mean 'accuracy'"),
        ("params.json", '{"task": "bench.nothing"}', "no bench/nothing/net.py"),
        ("params.json", '{"task": "../bench"}', "dotted name"),
        ("params.json", '{"lerning_rate": 0.5}', "did you mean 'learning_rate'"),
        ("params.json", '{"num_stps": 8}', "did you mean 'num_steps'"),
        ("params.yaml", "seed: 1\nseed: 2", "'seed' stands twice"),
        ("params.yaml", "learning_rate: .nan", "finite"),
        ("params.yaml", "learning_rate: [", "line 1"),
        ("params.yaml", "channels_last: no", "'channels_last' is 'no', want true or false"),
    ],
)
def test_a_wrong_params_file_stops_before_data_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text)
    task = [] if "task" in text else ["--set", f"task={TASK}"]
    said = failure(capsys, "--model_dir", str(tmp_path), "--data_dir", "nowhere", *task)
    assert message in said
    assert name in said or "'" in said
    assert not (tmp_path / "train.log").exists()


def test_folders_without_one_params_file_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no such folder" in failure(capsys, "--model_dir", str(tmp_path / "absent"))
    assert "neither" in failure(capsys, "--model_dir", str(tmp_path))
    (tmp_path / "params.json").write_text("{}")
    (tmp_path / "params.yaml").write_text("{}")
    assert "both" in failure(capsys, "--model_dir", str(tmp_path))


def test_overrides_are_checked_like_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "params.json").write_text(json.dumps({"task": TASK, "learning_rate": 0.1}))
    folder = str(tmp_path)
    assert "did you mean" in failure(capsys, "--model_dir", folder, "--set", "lerning_rate=1")
    assert "want key=value" in failure(capsys, "--model_dir", folder, "--set", "learning_rate")
    assert "--set: 'seed'" in failure(capsys, "--model_dir", folder, "--set", "seed=a")
    assert parse_overrides(["learning_rate=1e-3", "lr_scheduler_args={gamma: 0.5}"]) == {
        "learning_rate": 0.001,
        "lr_scheduler_args": {"gamma": 0.5},
    }


def test_defaults_pass_their_own_checks() -> None:
    for key in KEYS.values():
        assert key.check(key.default, "here") == key.default


def test_json_and_yaml_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"learning_rate": 1e-3, "name": "no", "list": [1, 2.0]}')
    (tmp_path / "a.yaml").write_text('learning_rate: 1e-3\nname: "no"\nlist: [1, 2.0]\n')
    assert read_mapping(tmp_path / "a.json") == read_mapping(tmp_path / "a.yaml")


def test_the_readme_holds_the_table_of_keys() -> None:
    assert table() in (ROOT / "docs" / "params.md").read_text(encoding="utf-8")


def test_a_dotted_key_changes_one_key_of_a_mapping(tmp_path: Path) -> None:
    path = tmp_path / "params.json"
    path.write_text('{"optimizer_args": {"weight_decay": 0.1, "eps": 1e-6}}')
    params, _ = load_params(path, parse_overrides(["optimizer_args.weight_decay=0.5"]))
    assert params.optimizer_args == {"weight_decay": 0.5, "eps": 1e-6}
    params, _ = load_params(path, parse_overrides(["lr_scheduler_args.gamma=0.5"]))
    assert params.lr_scheduler_args == {"gamma": 0.5}
    with pytest.raises(
        UsageError, match=r"'optimizer\.lr', but 'optimizer' is \"Adam\", no mapping"
    ):
        load_params(path, parse_overrides(["optimizer.lr=1"]))


def test_the_schema_is_that_of_the_keys(tmp_path: Path) -> None:
    assert (ROOT / "docs" / "params.schema.json").read_text(encoding="utf-8") == schema()
    path = tmp_path / "params.json"
    path.write_text('{"$schema": "../../docs/params.schema.json", "seed": 3}')
    params, warnings = load_params(path, {})
    assert (params.seed, warnings) == (3, [])
    assert "$schema" not in params.dict
