"""The table of runs: everything below a folder is in it, as what it is."""

import csv
import html
import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

import synthesize_results
from core.machine.locks import has_writer, one_writer
from core.results.tables import Column
from core.results.writing import terminal
from tests.conftest import SMALL
from tests.helpers.processes import in_progress, wait_for
from tests.helpers.runs import begin, results, rows, run, score
from tests.helpers.warm import Warm

AGREEMENT = {"monitor": "agreement", "monitor_mode": "max"}
ODD = "a_b & 50% | <i>#{x}</i> \"y\" 'z' $1 ~ ^ \\"
LINEAR = SMALL | {"task": "tests.projects.linear", "num_epochs": 2}


def write(folder: Path, name: str, content: Any) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))


def ready(folder: Path, **params: Any) -> Path:
    """Make a run that has not been started."""
    write(folder, "params.json", LINEAR | params)
    return folder


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory, data: Path, warm: Warm) -> Path:
    """Make a folder of runs in every state, and of what is no run."""
    parent = tmp_path_factory.mktemp("zoo")
    settings: dict[str, dict[str, Any]] = {
        "seed_1": {"seed": 1},
        "seed_2": {"seed": 2},
        ODD.replace("/", ""): {"seed": 3, "learning_rate": 0.01},
        "other": {
            "task": "tests.projects.kinds",
            "kind": "multilabel",
            "monitor": "agreement",
            "monitor_mode": "max",
        },
        "failed": {"optimizer": "SGD", "learning_rate": 1e38, "batch_size": 12},
    }
    for name, params in settings.items():
        folder = ready(parent / name, **params)
        assert run(folder, data) == (name == "failed")
    killed = ready(parent / "killed", num_epochs=500, seed=1)
    child = begin(warm, killed, data)
    wait_for(lambda: (killed / "metrics.jsonl").exists() and len(rows(killed)) > 1)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == 137
    cut = parent / "cut"
    shutil.copytree(parent / "seed_1", cut)
    text = (cut / "metrics.jsonl").read_text()
    (cut / "metrics.jsonl").write_text(text[:-20])
    write(parent / "original", "params.json", {"learning_rate": 1e-3, "num_epochs": 10})
    write(parent / "original", "metrics_val_best_weights.json", {"accuracy": 0.5, "loss": 1.25})
    write(parent / "null", "params.json", {"learning_rate": [1, {"a": None}], "note": {"b": 1}})
    write(parent / "null", "metrics_val_best_weights.json", {"accuracy": None, "loss": "high"})
    write(parent / "garbled", "params.json", "{")
    write(parent / "deep", "metrics.jsonl", "[" * 100_000)
    ready(parent / "waiting")
    (parent / "empty").mkdir()
    (parent / "notes.txt").write_text("not a run")
    (parent / "loop").symlink_to(parent)
    (parent / "self").symlink_to(parent / "self")
    return parent


def table(parent: Path, *arguments: str) -> dict[str, dict[str, str]]:
    """Return the cells of results.csv by run and column; without intervals, which take long."""
    quick = ["--parent_dir", str(parent), "--intervals", "0"]
    assert synthesize_results.main([*quick, *arguments]) == 0
    with (parent / "results.csv").open(newline="") as file:
        return {row["run"]: row for row in csv.DictReader(file)}


def test_everything_below_a_folder_is_one_row_as_what_it_is(zoo: Path) -> None:
    found = table(zoo)
    assert {name: row["status"] for name, row in found.items()} == {
        "seed_{1,2}": "finished",
        ODD.replace("/", ""): "finished",
        "other": "finished",
        "failed": "failed",
        "killed": "interrupted",
        "cut": "damaged",
        "original": "results only",
        "null": "results only",
        "garbled": "damaged",
        "deep": "damaged",
        "empty": "empty folder",
        "notes.txt": "not a run",
        "self": "not a run",
    }
    assert "metrics.jsonl: line 2" in found["cut"]["note"]
    assert "params.json" in found["garbled"]["note"]
    assert "loss is not finite" in found["failed"]["note"]
    assert found["original"]["accuracy"] == "0.5"
    assert found["other"]["agreement"]
    assert found["other"]["accuracy"] == ""
    assert list(found)[-3:] == ["empty", "notes.txt", "self"]


def test_seeds_of_a_setting_are_one_row_with_mean_and_deviation(zoo: Path) -> None:
    row, alone = table(zoo)["seed_{1,2}"], table(zoo, "--no_group")
    values = [float(alone[name]["accuracy"]) for name in ("seed_1", "seed_2")]
    assert row["n"] == "2"
    assert float(row["accuracy"]) == pytest.approx(sum(values) / 2)
    assert float(row["accuracy sd"]) == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    assert alone["seed_1"]["seed"] == "1"
    assert "n" not in alone["seed_1"]


def test_runs_that_differ_in_a_named_key_are_averaged(zoo: Path, tmp_path: Path) -> None:
    for name, dropped in (("a", 0.1), ("b", 0.2)):
        for number in (1, 2):
            folder = tmp_path / f"{name}_{number}"
            shutil.copytree(zoo / f"seed_{number}", folder)
            resolved = json.loads((folder / "params.resolved.json").read_text())
            for params in (resolved, resolved.get("params", {})):
                if "learning_rate" in params:
                    params["learning_rate"] = dropped
            (folder / "params.resolved.json").write_text(json.dumps(resolved))
    assert len(table(tmp_path)) == 2  # of two seeds each
    (row,) = table(tmp_path, "--average_over", "learning_rate").values()
    values = [results(zoo / f"seed_{i}", "val_best_weights")["accuracy"] for i in (1, 2)]
    assert row["n"] == "4"
    assert float(row["accuracy"]) == pytest.approx(sum(values) / 2)


def test_a_key_to_average_over_that_no_run_has_is_named(
    zoo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["--parent_dir", str(zoo), "--average_over", "learning_rates"]
    assert synthesize_results.main(argv) == 2
    told = "--average_over: no run has a param 'learning_rates' (did you mean 'learning_rate'?)"
    assert told in capsys.readouterr().err


def test_the_same_seed_twice_is_not_two_seeds(zoo: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        shutil.copytree(zoo / "seed_1", tmp_path / name)
    found = table(tmp_path)
    assert list(found) == ["a", "b"]
    assert found["b"]["note"] == "same seed as a"


def test_a_run_in_progress_is_said_to_be_running_and_is_not_disturbed(zoo: Path) -> None:
    folder = zoo / "seed_2"
    with in_progress(folder):
        assert has_writer(folder)
        assert table(zoo)["seed_2"]["status"] == "running"
    assert not has_writer(folder)
    with one_writer(folder):
        pass


def test_numbers_agree_in_all_formats_to_the_digits_shown(
    zoo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = table(zoo)
    printed = capsys.readouterr().out.splitlines()[: len(found) + 1]
    documents = json.loads((zoo / "results.json").read_text())["rows"]
    header, _, *lines = (zoo / "results.md").read_text().splitlines()
    columns = [name.strip() for name in header.split("|")]
    tex = (zoo / "results.tex").read_text().splitlines()[4:-2]
    page = (zoo / "report.html").read_text()
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])  # type: ignore[index]
    column = [c["name"] for c in data["columns"]].index("accuracy")
    all_rows = zip(printed[1:], found.values(), documents, lines, tex, data["rows"], strict=True)
    compared = 0
    for text, row, document, line, latex, embedded in all_rows:
        if row["accuracy"] not in ("", "nan"):
            shown = re.split(r"(?<!\\)\|", line)[columns.index("accuracy")].strip()
            mean, _, deviation = shown.partition(" ± ")
            digit = 10.0 ** -len(mean.partition(".")[2])
            assert float(row["accuracy"]) == pytest.approx(float(mean), abs=digit / 2)
            if deviation:
                assert float(row["accuracy sd"]) == pytest.approx(float(deviation), abs=digit / 2)
                assert len(deviation) == len(mean)
            assert document["metrics"]["accuracy"] == float(row["accuracy"])
            assert embedded["cells"][column] == shown
            assert f" {shown} " in text
            assert f"| {shown} |" in line
            assert f"& {shown.replace('±', '$' + chr(92) + 'pm$')} &" in latex
            compared += 1
    assert compared >= 4


def test_markdown_renders_and_shows_odd_names_as_they_are(zoo: Path) -> None:
    markdown = pytest.importorskip("markdown")
    table(zoo)
    rendered = markdown.markdown((zoo / "results.md").read_text(), extensions=["tables"])
    cells = re.findall(r"<td[^>]*>(.*?)</td>", rendered)
    assert ODD.replace("/", "") in [html.unescape(cell) for cell in cells]
    counts = {row.count("<td") for row in rendered.split("<tr>")[2:]}
    assert len(counts) == 1


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="pdflatex is not installed")
def test_latex_compiles(zoo: Path, tmp_path: Path) -> None:
    table(zoo)
    text = (zoo / "results.tex").read_text(encoding="utf-8")
    document = f"\\documentclass{{article}}\\begin{{document}}{text}\\end{{document}}"
    (tmp_path / "paper.tex").write_text(document, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]


def test_rows_are_sorted_by_any_column_the_best_first(zoo: Path) -> None:
    values = [float(row["loss"]) for row in table(zoo, "--sort", "loss").values() if row["loss"]]
    assert values == sorted(values)
    reverse = table(zoo, "--sort", "accuracy", "--reverse").values()
    values = [float(row["accuracy"]) for row in reverse if row["accuracy"]]
    assert values == sorted(values)
    assert [*table(zoo, "--sort", "run")][:3] == [ODD.replace("/", ""), "cut", "deep"]


def test_a_column_or_a_run_that_is_not_there_is_an_error_with_the_nearest_name(
    zoo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, message in [
        (["--sort", "acuracy"], "did you mean 'accuracy'"),
        (["--params", "learning_rat"], "did you mean 'learning_rate'"),
        (["--diff", "seed_1", "seed_9"], "did you mean 'seed_"),
        (["--compare", "seed_1", "nothing"], "no such run"),
    ]:
        assert synthesize_results.main(["--parent_dir", str(zoo), *arguments]) == 2
        assert message in capsys.readouterr().err
    assert synthesize_results.main(["--parent_dir", str(zoo / "empty")]) == 2


def test_the_params_that_differ_are_columns_or_those_asked_for(zoo: Path) -> None:
    row = table(zoo)["seed_{1,2}"]
    assert {"learning_rate", "task"} <= row.keys()
    assert not {"dropout_rate", "num_threads", "device", "seed"} & row.keys()
    assert {"dropout_rate", "num_threads", "seed"} <= table(zoo, "--params", "all")["cut"].keys()
    row = table(zoo, "--params", "dropout_rate, seed")["seed_{1,2}"]
    assert (row["dropout_rate"], row["seed"]) == ("0.3", "1, 2")


def test_the_test_split_is_shown_when_asked_for_and_its_looks_are_counted(
    tmp_path: Path, signs: Path
) -> None:
    folder = ready(tmp_path / "run")
    assert run(folder, signs) == 0
    for _ in range(2):
        score(folder)
    row = table(tmp_path, "--split", "test")["run"]
    assert float(row["accuracy"]) == results(folder, "test_best")["accuracy"]
    assert row["test looks"] == "2"
    assert row["epochs"] == "2"
    assert row["weights"] == str(3 * 8 * 8 * 6 + 6)


def test_a_folder_that_is_a_run_itself_is_in_its_own_table(zoo: Path) -> None:
    assert table(zoo / "seed_1")["."]["status"] == "finished"


def test_two_runs_differ_in_what_was_recorded_and_part_at_an_epoch(
    zoo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert synthesize_results.main(["--parent_dir", str(zoo), "--diff", "seed_1", "seed_2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[3:5] == ["params.seed: 1 -> 2", ""]
    first = rows(zoo / "seed_1")[0]
    assert lines[5].startswith(
        f"The metrics first differ in epoch 1, step {first['step']}: train_loss"
    )
    synthesize_results.main(["--parent_dir", str(zoo), "--diff", "seed_1", "seed_1"])
    assert "the same, to the bit, in the 2 epochs" in capsys.readouterr().out


def test_a_narrow_terminal_keeps_the_run_and_the_metric() -> None:
    columns = [
        Column("#", ["1", "2"]),
        Column("run", ["a" * 70 + "_1", "b"]),
        Column("status", ["finished", "finished"]),
        Column("accuracy", [0.5, 0.25], ["0.5", "0.25"], "metrics"),
        Column("note", ["long " * 20, ""]),
    ]
    header, first, *_, missing = terminal(columns, 80).splitlines()
    assert header.split() == ["#", "run", "accuracy"]
    assert first.endswith("0.5")
    assert first.split()[1].endswith("_1")
    assert "..." in first
    assert len(first) <= 80
    assert missing == "(not shown, too wide: status, note)"
