"""Tables for a paper, the names that a comparison takes, and comparisons until they are decided."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import synthesize_results
from core.base.files import write_text
from core.results.sequential import decided, limits
from tests.helpers import ROOT
from tests.helpers.runs import run

MINIMAL = {"task": "tests.projects.minimal", "width": 16, "batch_size": 16, "num_threads": 1}
MINIMAL |= {"num_epochs": 12}
RATES = {"slow": 1e-5, "quick": 3e-2}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """Make two settings of three seeds each, and a run that is not started."""
    parent = tmp_path_factory.mktemp("runs")
    for name, rate in RATES.items():
        for seed in (1, 2, 3):
            params = MINIMAL | {"seed": seed}
            folder = parent / f"{name}_seed{seed}"
            folder.mkdir()
            write_text(folder / "params.json", json.dumps(params | {"learning_rate": rate}))
            assert run(folder, data) == 0
    (parent / "shipped").mkdir()
    shutil.copy(parent / "slow_seed1" / "params.json", parent / "shipped")
    return parent


def printed(capsys: pytest.CaptureFixture[str], parent: Path, *words: str, code: int = 0) -> str:
    """Return what synthesize_results.py prints."""
    capsys.readouterr()
    assert synthesize_results.main(["--parent_dir", str(parent), *words]) == code
    return capsys.readouterr().out


def test_the_command_prints_the_table(runs: Path) -> None:
    command = [sys.executable, "synthesize_results.py", "--parent_dir", str(runs)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [line.split()[:2] for line in done.stdout.splitlines()[:3]] == [
        ["#", "run"],
        ["1", "quick_seed{1,2,3}"],
        ["2", "slow_seed{1,2,3}"],
    ]


def test_the_columns_asked_for_stand_in_their_order_in_every_format(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = printed(capsys, runs, "--columns", "run,loss,accuracy,learning_rate")
    assert text.splitlines()[0].split() == ["#", "run", "loss", "accuracy", "learning_rate"]
    header = (runs / "results.md").read_text().splitlines()[0]
    assert header == "| run | loss | accuracy | learning\\_rate |"
    parts = [f"{name} {part}" for name in ("loss", "accuracy") for part in ("sd", "low", "high")]
    first = (runs / "results.csv").read_text().splitlines()[0].split(",")
    assert first[:4] == ["run", "loss", "accuracy", "learning_rate"]
    assert set(first[4:]) <= set(parts)
    wrong = ["--parent_dir", str(runs), "--columns", "run,acuracy"]
    assert synthesize_results.main(wrong) == 2
    assert "--columns: no column 'acuracy' (did you mean 'accuracy'?)" in capsys.readouterr().err


def test_percent_and_decimals_hold_for_mean_and_deviation(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    columns = ["--columns", "run,accuracy,accuracy 95%,loss"]
    text = printed(capsys, runs, *columns, "--percent", "--decimals", "1")
    assert "accuracy (%)" in text
    first = json.loads((runs / "results.json").read_text())["rows"][0]["metrics"]
    values = 100 * first["accuracy"], 100 * first["accuracy sd"], first["loss"], first["loss sd"]
    assert "{:.1f} ± {:.1f}".format(*values[:2]) in text
    assert "{:.1f} ± {:.1f}".format(*values[2:]) in text  # a loss is no fraction
    ends = 100 * first["accuracy low"], 100 * first["accuracy high"]
    assert "[{:.1f}, {:.1f}]".format(*ends) in text


def test_the_best_is_bold_only_if_chance_does_not_explain_its_lead(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    printed(capsys, runs, "--bold", "best", "--columns", "run,accuracy")
    best = (runs / "results.md").read_text().splitlines()[2]
    assert best.startswith("| quick")
    assert best.count("**") == 2
    for name in ("one", "other"):  # equal but for the seed, and no row of several
        shutil.copytree(runs / "quick_seed1", tmp_path / name)
    printed(capsys, tmp_path, "--bold", "best", "--columns", "run,accuracy")
    assert "**" not in (tmp_path / "results.md").read_text()


def test_what_has_no_interval_and_what_is_not_started_is_told_below_the_table(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(runs, tmp_path / "runs")
    (tmp_path / "runs" / "slow_seed2" / "predictions_val.npz").unlink()
    text = printed(capsys, tmp_path / "runs", "--params", "learning_rate")
    assert "No interval of slow_seed{1,2,3}: no predictions_val.npz" in text
    assert "Not started, and not shown: shipped" in text
    assert "\nshipped" not in text.partition("No interval")[0]


def test_the_json_holds_all_that_file_and_page_show(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = json.loads(printed(capsys, runs, "--json"))
    page = (runs / "report.html").read_text(encoding="utf-8")
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])  # type: ignore[index]
    assert found.pop("page") == data
    assert json.loads((runs / "results.json").read_text()).items() <= found.items()
    assert found["exit_code"] == 0
    assert found["luck"]["rows"] == 2
    assert found["not_started"] == ["shipped"]


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="pdflatex is not installed")
@pytest.mark.parametrize("look", [["--booktabs"], ["--booktabs", "--siunitx", "--percent"]])
def test_a_table_of_six_settings_and_three_seeds_compiles_as_it_is(
    runs: Path, tmp_path: Path, look: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for package in [option.removeprefix("--") for option in look[:2]]:
        found = subprocess.run(["kpsewhich", f"{package}.sty"], capture_output=True, check=False)
        if found.returncode:
            pytest.skip(f"LaTeX's {package} is not installed")
    many = tmp_path / "many_%"
    for i in range(3):
        for folder in sorted(path for path in runs.iterdir() if path.is_dir()):
            target = many / f"{folder.name.partition('_')[0]}&{i}_{folder.name.partition('_')[2]}"
            shutil.copytree(folder, target)
            path = target / "params.resolved.json"
            if path.exists():
                resolved = json.loads(path.read_text())
                resolved["params"]["num_epochs"] = 12 + i
                path.write_text(json.dumps(resolved))
    words = ["--bold", "best", "--caption", "Six settings, 100% of them & more", *look]
    printed(capsys, many, "--columns", "run,accuracy,loss,accuracy 95%,learning_rate", *words)
    text = (many / "results.tex").read_text(encoding="utf-8")
    assert text.count("\\\\\n") == 7
    assert "\\bottomrule" in text
    packages = "\\usepackage{booktabs}" + "\\usepackage{siunitx}" * ("--siunitx" in look)
    document = f"\\documentclass{{article}}{packages}\\begin{{document}}{text}\\end{{document}}"
    (tmp_path / "paper.tex").write_text(document, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]


@pytest.mark.parametrize("names", [("quick", "slow"), ("1", "2"), ("quick_seed2", "slow_seed1")])
def test_a_comparison_takes_settings_numbers_and_runs(
    runs: Path, names: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    found = json.loads(printed(capsys, runs, "--json", "--compare", *names))
    assert (found["a"], found["b"]) == ("quick_seed{1,2,3}", "slow_seed{1,2,3}")
    assert found["compared"]["accuracy"]["over"]["seeds and examples"]["verdict"] == "A"
    assert found["seeds"] == [3, 3]


def test_two_settings_and_two_seeds_of_one_can_be_held_against_each_other(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "params.learning_rate: 0.03 -> 1e-05" in printed(capsys, runs, "--diff", "quick", "slow")
    text = printed(capsys, runs, "--compare", "quick_seed1", "quick_seed3")
    assert text.startswith("A: quick_seed1\nB: quick_seed3\n")
    same = ["--parent_dir", str(runs), "--compare", "quick", "quick_seed{1,2,3}"]
    assert synthesize_results.main(same) == 2
    assert "is the same; want two runs or settings" in capsys.readouterr().err


def test_the_nearest_setting_is_offered(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert synthesize_results.main(["--parent_dir", str(runs), "--compare", "quik", "slow"]) == 2
    assert "did you mean 'quick'?" in capsys.readouterr().err


def test_seeds_are_trained_in_pairs_until_a_comparison_is_decided(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in RATES:
        shutil.copytree(runs / f"{name}_seed1", tmp_path / f"{name}_seed1")
    words = ["--compare", "quick_seed1", "slow_seed1", "--until_decided", "--most_seeds", "4"]
    text = printed(capsys, tmp_path, *words, "--jobs", "2")
    assert "A is better: decided after" in text
    trained = sorted(path.name for path in tmp_path.iterdir() if "-seed_" in path.name)
    assert {"quick_seed1-seed_2", "slow_seed1-seed_2"} <= set(trained)
    found = json.loads(printed(capsys, tmp_path, *words, "--json"))  # nothing is trained again
    assert found["verdict"] == "A"
    assert len(found["A"]) == len(found["B"]) == found["pairs"]


def test_a_comparison_that_is_not_decided_ends_with_3(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in (1, 2):
        shutil.copytree(runs / f"quick_seed{seed}", tmp_path / f"a_seed{seed}")
        shutil.copytree(runs / f"quick_seed{3 - seed}", tmp_path / f"b_seed{seed}")
        path = tmp_path / f"b_seed{seed}" / "params.resolved.json"
        resolved = json.loads(path.read_text())
        resolved["params"]["learning_rate"] = 0.02
        path.write_text(json.dumps(resolved))
    words = ["--compare", "a", "b", "--until_decided", "--most_seeds", "2"]
    assert "not distinguishable after 2 pairs" in printed(capsys, tmp_path, *words, code=3)


def test_peeking_after_every_pair_finds_equal_settings_different_in_at_most_5_percent() -> None:
    rng, at, most = np.random.default_rng(1), limits(20), 20

    def pairs_until(gap: float) -> np.ndarray:
        scores = rng.normal(size=(2000, 2, most)) + np.array([[gap], [0]])
        return np.array([decided(a, b, at)[0] for a, b in scores.tolist()])

    equal, apart = pairs_until(0), pairs_until(1)  # in standard deviations of a seed
    false, power = np.mean(equal > 0), np.mean(apart > 0)
    spent = np.where(apart, apart, most).mean()
    print(f"false verdicts {false:.3f}, power {power:.3f}, {spent:.1f} pairs")
    assert false <= 0.05
    assert power >= 0.8
    assert spent < 17  # a test of fixed size with this power takes 17 or 18
