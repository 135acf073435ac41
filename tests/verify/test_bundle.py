"""bundle.py puts a run into one file, with which another machine evaluates and verifies it."""

import hashlib
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import bundle
import evaluate
from tests.helpers import forging

LINKED = ("bin", "lib", "include", "pyvenv.cfg")
VALIDATE = """
import json, sys
from importlib.resources import files
import rdflib.plugins.parsers.jsonld as parser
import rdflib.plugins.shared.jsonld.util as util
import rdflib.plugins.shared.jsonld.context as context

own = json.loads(files("rocrate").joinpath("data/ro-crate.jsonld").read_text())
read = context.source_to_json
def local(source, *args, **named):  # the context of RO-Crate, without a network
    return (own, None) if "w3id.org/ro/crate" in str(source) else read(source, *args, **named)
context.source_to_json = util.source_to_json = parser.source_to_json = local
from rocrate_validator import models, services

found = services.validate(services.ValidationSettings(
    rocrate_uri=sys.argv[1], profile_identifier="process-run-crate",
    requirement_severity=models.Severity.REQUIRED))
print(json.dumps([issue.message for issue in found.get_issues()]))
"""


@pytest.fixture(scope="module")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Return the folders of a run and of its data, and its bundle."""
    place = tmp_path_factory.mktemp("bundled")
    data = forging.write_data(place / "points")
    run = forging.trained(place / "run", data, num_epochs=3)
    where = ["--model_dir", str(run), "--data_dir", str(data)]
    assert evaluate.main([*where, "--split", "test"]) == 0
    target = place / "run.zip"
    assert bundle.main([str(run), "--data_dir", str(data), "--output", str(target)]) == 0
    return run, data, target


def ids(value: Any) -> Iterator[str]:
    """Yield the names of all entities that a value refers to."""
    if isinstance(value, dict):
        yield from [value["@id"]] if value.keys() == {"@id"} else ()
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from ids(item)


def test_the_provenance_names_every_file_with_its_hash(bundled: tuple[Path, Path, Path]) -> None:
    with zipfile.ZipFile(bundled[2]) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    graph = json.loads(files.pop("ro-crate-metadata.json"))["@graph"]
    entities = {entity["@id"]: entity for entity in graph}
    for name, content in files.items():
        assert entities[name]["sha256"] == hashlib.sha256(content).hexdigest()
    assert {*ids([*entities["./"].values(), *entities["#training"].values()])} <= {
        *entities,
        "http://schema.org/CompletedActionStatus",
    }
    wanted = {"params.json", "params.resolved.json", "metrics.jsonl", "best.pt"}
    wanted |= {"predictions_test.npz", "evaluations.jsonl", "metrics_test_best.json"}
    assert wanted <= {name.removeprefix("run/") for name in files}
    assert files["tests/projects/minimal/net.py"] == Path(forging.net.__file__).read_bytes()
    lock = files["environment.lock.txt"].decode()
    version = re.escape(torch.__version__.partition("+")[0])
    assert re.search(rf"^torch=={version}\S*( --hash=\S+)?  # files-sha256:\w{{64}}$", lock, re.M)


def test_the_model_card_holds_results_with_their_intervals(
    bundled: tuple[Path, Path, Path],
) -> None:
    hub = pytest.importorskip("huggingface_hub")
    with zipfile.ZipFile(bundled[2]) as archive:
        card = hub.ModelCard(archive.read("MODEL_CARD.md").decode())
    found = {(each.dataset_split, each.metric_type): each for each in card.data.eval_results}
    of_test = json.loads((bundled[0] / "metrics_test_best.json").read_text())
    accuracy = found["test", "accuracy"]
    assert accuracy.metric_value == of_test["accuracy"]
    low, high = accuracy.metric_args["interval_95"]
    assert low <= accuracy.metric_value <= high
    assert found["test", "loss"].metric_value == of_test["loss"]


def test_a_run_whose_code_has_changed_is_not_bundled(
    bundled: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, data, _ = bundled
    path = run / "params.resolved.json"
    before = path.read_text()
    resolved = json.loads(before)
    resolved["code"]["tests/projects/minimal/net.py"] = "0" * 16
    path.write_text(json.dumps(resolved))
    target = tmp_path / "run.zip"
    try:
        assert bundle.main([str(run), "--data_dir", str(data), "--output", str(target)]) == 2
    finally:
        path.write_text(before)
    assert "minimal/net.py is not what was trained with" in capsys.readouterr().err
    assert not target.exists()


@pytest.mark.slow
def test_the_commands_of_the_bundle_evaluate_and_verify_in_a_fresh_folder(
    bundled: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    run, data, target = bundled
    for name in LINKED:
        (tmp_path / "venv").mkdir(exist_ok=True)
        (tmp_path / "venv" / name).symlink_to(Path(sys.prefix) / name)
    fresh = tmp_path / "fresh"
    with zipfile.ZipFile(target) as archive:
        archive.extractall(fresh)
    readme = (fresh / "README.md").read_text()
    commands = [line.strip() for line in readme.splitlines() if line.startswith("    python ")]
    assert [command.split()[1] for command in commands] == ["evaluate.py", "verify.py"]
    environment = {name: v for name, v in os.environ.items() if name != "PYTHONPATH"}
    environment["PATH"] = f"{tmp_path / 'venv' / 'bin'}:{environment['PATH']}"
    printed = []
    for command in commands:
        words = command.replace("DATA", str(data)).split()
        done = subprocess.run(words, cwd=fresh, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        printed.append(done.stdout)
    assert "epochs 1 to 3       verified" in printed[1]
    assert printed[1].endswith("run: verified\n")
    scores = [(each / "metrics_test_best.json").read_text() for each in (run, fresh / "run")]
    assert scores[0] == scores[1]


@pytest.mark.slow
def test_the_provenance_is_a_valid_process_run_crate(
    bundled: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    pytest.importorskip("rocrate_validator")
    with zipfile.ZipFile(bundled[2]) as archive:
        archive.extractall(tmp_path)
    command = [sys.executable, "-c", VALIDATE, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    issues = json.loads(done.stdout.splitlines()[-1])
    no_network = "/ro/crate/1.1/context"  # which the validator fetches, too
    assert [each for each in issues if no_network not in each] == []
