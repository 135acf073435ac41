"""The pages of docs/projects: their code is that of the projects, and what they say works."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import predict
import search_hyperparams
import synthesize_results
import train
from tests.helpers import ROOT
from tests.helpers.runs import results, rows, score
from tests.projects.registry import EXAMPLES, all_projects

PAGES = sorted((ROOT / "docs" / "projects").glob("*.md"))
PAGES = [page for page in PAGES if page.stem != "README"]
SCRIPTS = {"train.py": train, "predict.py": predict}
SCRIPTS |= {
    "search_hyperparams.py": search_hyperparams,
    "synthesize_results.py": synthesize_results,
}
MORE = ("distillation", "gan")  # pages of projects that other tests use, too
# What the best epoch has to reach. A constant answer reaches an f1 of 0.73 (multilabel), and an
# accuracy of 0.59 (finetuning), 0.33 (distillation) and 0.18 (characters).
WANTED = {
    "characters": ("accuracy", 0.7),
    "detection": ("f1", 0.8),
    "distillation": ("accuracy", 0.7),
    "finetuning": ("accuracy", 0.95),
    "embeddings": ("recall_at_1", 0.8),
    "huggingface": ("accuracy", 0.9),
    "multilabel": ("f1", 0.85),
    "segmentation": ("iou", 0.7),
    "table": ("r2", 0.9),
}
# The mean as answer has an error of 0.8, an untrained net a distance of 2.
AT_MOST = {"forecasting": ("error", 0.15), "gan": ("distance", 1)}
COUNTS = {"segmentation": 1, "vae": 3, "diffusion": 8}  # of the pictures that predict.py writes


def blocks(page: Path) -> list[tuple[str, str]]:
    text = page.read_text(encoding="utf-8")
    return re.findall(r"^```(\w+)\n(.*?)^```$", text, re.S | re.M)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_code_of_a_page_is_that_of_its_project(page: Path) -> None:
    assert len(page.read_text(encoding="utf-8").splitlines()) <= 40
    shown = [text for kind, text in blocks(page) if kind == "python"]
    assert shown
    for text in shown:
        first, _, code = text.partition("\n")
        path = ROOT / first.removeprefix("# ")
        assert path.parent.name == page.stem
        assert code in path.read_text(encoding="utf-8")


def test_every_example_has_a_page_and_keeps_to_its_size() -> None:
    assert {page.stem for page in PAGES} == {*EXAMPLES, *MORE}
    listed = (ROOT / "docs" / "projects" / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"\]\((\w+)\.md\)", listed)
    for name in (*EXAMPLES, *MORE):
        assert f"({name}.md)" in listed
        for file, most in (("net.py", 60), ("data_loader.py", 40)):
            text = (ROOT / "tests" / "projects" / name / file).read_text(encoding="utf-8")
            assert len(text.splitlines()) <= most, (name, file)


def commands(text: str, folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield the script and the arguments of each command, which works in a folder of its own."""
    for line in text.splitlines():
        words = shlex.split(line)
        if words[0] == "python" and words[1] in SCRIPTS:
            yield words[1], words[2:]
        else:
            line = line.replace("python ", f"{sys.executable} ")
            more = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
            subprocess.run(["bash", "-ec", line], cwd=folder, env=more, check=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_works_as_it_says(
    page: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    project, found = all_projects()[page.stem], blocks(page)
    if project.skip:
        pytest.skip(project.skip)
    run = tmp_path / "experiments" / page.stem
    run.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    printed = ""
    for kind, text in found:
        if kind == "json":
            assert json.loads(text)["task"] == project.task
            (run / "params.json").write_text(text)
        elif kind == "yaml":
            (run / "search.yaml").write_text(text)
        elif kind == "sh":
            for script, argv in commands(text, tmp_path):
                capsys.readouterr()
                assert SCRIPTS[script].main(argv) == 0
                printed = capsys.readouterr().out
        elif kind == "text":
            wanted = re.escape(text).replace(r"\ ", r"\s+").replace(r"\.\.\.", "(.|\n)*")
            assert re.fullmatch(wanted, printed), printed
    if page.stem in WANTED:
        metric, least = WANTED[page.stem]
        assert results(run, "val_best_weights")[metric] >= least
    if page.stem in AT_MOST:
        metric, most = AT_MOST[page.stem]
        assert results(run, "val_best_weights")[metric] < most
    pictures = [*tmp_path.glob("*/*.png")]  # that predict.py wrote
    assert len(pictures) == COUNTS.get(page.stem, 0)
    bright = []  # share of bright pixels in each
    for path in pictures:
        with Image.open(path) as picture:
            assert picture.size == ((32, 32) if page.stem == "segmentation" else (64, 64))
            bright.append(float(np.mean(np.asarray(picture) > 127)))
    if page.stem in ("vae", "diffusion"):  # most show one bright disc, as no untrained net draws it
        assert np.mean([0.1 < share < 0.35 for share in bright]) > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_a_project_is_searched_and_evaluated(name: str, tmp_path: Path) -> None:
    project, parent, data = all_projects()[name], tmp_path / "search", tmp_path / "data"
    if project.skip:
        pytest.skip(project.skip)
    for folder in (parent, data):
        folder.mkdir()
    if project.make_data is not None:
        project.make_data(data)
    (parent / "params.json").write_text(json.dumps(project.all_params(num_epochs=1)))
    (parent / "search.yaml").write_text("method: grid\nspace: {learning_rate: [0.001, 0.01]}\n")
    argv = ["--parent_dir", str(parent), "--data_dir", str(data)]
    assert search_hyperparams.main(argv) == 0
    trials = sorted(path.parent for path in parent.glob("*/metrics.jsonl"))
    assert len(trials) == 2
    for trial in trials:
        assert len(rows(trial)) == 1
        assert score(trial, split="val") == results(trial, "val_best_weights")
