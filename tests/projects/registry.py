"""Every project that the contract tests train (tests/system/test_contract.py).

A task joins with a file tests/tasks/<name>/project.py that defines PROJECT, or PROJECTS by name.
"""

import importlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import write_signs
from tests.helpers import ROOT
from tests.projects.prepare import SIZES
from tests.projects.shards import data_loader as shards

COMMON = {"batch_size": 8, "num_epochs": 2, "learning_rate": 0.02, "num_threads": 1}
COMMON |= {"checkpoint_minutes": 0, "save_summary_steps": 1}  # a save and a log line every step


@dataclass(frozen=True)
class Project:
    """A task, and what trains it within a second or two.

    Args:
        task: the package, as in a params file.
        params: the params file, on top of COMMON.
        make_data: writes tiny data into a folder; None if the task makes up its own.
        waived: what cannot hold, by the name of the check or contract test, with the reason.
        together: more params, with which several processes train to the numbers of one; None if
            that is not to be tested, as of nets with batch norm or dropout.
        skip: why the project cannot be trained here; "" if it can.
        slow: whether the contract tests belong to those that take minutes.
    """

    task: str
    params: dict[str, Any] = field(default_factory=dict)
    make_data: Callable[[Path], object] | None = None
    waived: dict[str, str] = field(default_factory=dict)
    together: dict[str, Any] | None = None
    skip: str = ""
    slow: bool = False

    def all_params(self, **more: Any) -> dict[str, Any]:
        """Return the content of the params file, with more params on top."""
        return {"task": self.task} | COMMON | self.params | more


@dataclass(frozen=True)
class Trained:
    """A project with the folders of a finished run and of its data."""

    name: str
    project: Project
    folder: Path
    data: Path

    def another(self, folder: Path, **params: Any) -> Path:
        """Make the folder of another run of the project."""
        folder.mkdir()
        (folder / "params.json").write_text(json.dumps(self.project.all_params(**params)))
        return folder

    def skip_if_waived(self, what: str) -> None:
        """Skip the test if the project says that it cannot hold."""
        if reason := self.project.waived.get(what):
            pytest.skip(reason)


def pictures(folder: Path) -> None:
    write_signs(folder, {"train": 24, "val": 12, "test": 8})


def kind(name: str, **more: Any) -> Project:
    """Return a project of tests.projects.kinds."""
    params = {"kind": name, "batch_size": 4, "monitor": "agreement", "monitor_mode": "max"}
    return Project("tests.projects.kinds", params, **more)


OWN = {
    "pictures": Project(
        "tests.projects.pictures",
        {"num_channels": 2, "dropout_rate": 0.2, "learning_rate": 0.01},
        pictures,
    ),
    "linear": Project("tests.projects.linear", {}, pictures),
    "original": Project(
        "tests.projects.original",
        {"num_channels": 2, "dropout_rate": 0.2},
        pictures,
        waived={"the same on another device": "the stand-in for a device knows no index of Python"},
    ),
    "minimal": Project("tests.projects.minimal", {"width": 8}),
    "distillation": Project("tests.projects.distillation", {"width": 16, "teacher": None}),
    "gan": Project(
        "tests.projects.gan",
        {"width": 8, "monitor": "distance", "monitor_mode": "min"},
        together={"task": "tests.projects.gan_still"},
    ),
    "graphs": Project("tests.projects.graphs", {"monitor": "error"}),
    "multitask": Project(
        "tests.projects.multitask", {"monitor": "size_error", "monitor_mode": "min"}, together={}
    ),
    "masked": Project(
        "tests.projects.masked",
        {"monitor": "streamed", "monitor_mode": "min"},
        together={"grad_accumulation": 2},
    ),
    "regression": Project(
        "tests.projects.regression", {"monitor": "error", "monitor_mode": "min", "depth": 2}
    ),
    "weighted": Project("tests.projects.weighted", {"class_weights": True}),
    "shards": Project(
        "tests.projects.shards",
        {"width": 8, "dropout_rate": 0.2, "shuffle_window": 2, "num_workers": 0},
        partial(shards.write, sizes=SIZES),
    ),
    "tuned": Project("tests.projects.tuned", {"smoothing": 0.1}, together={"grad_accumulation": 2}),
    "unlabelled": Project("tests.projects.unlabelled", together={}),
    "autoencoder": kind("autoencoder"),
    "cache_writer": kind("cache_writer"),
    "drawing": kind("drawing"),
    "ignored": kind(
        "ignored",
        together={"batch_size": 2, "grad_accumulation": 3},
        waived={"the same on another device": "a batch without labels is passed over on CPUs only"},
    ),
    "label_sets": kind("multilabel"),
    "namedtuple": kind("namedtuple"),
    "numpy_params": kind("numpy_params"),
    "pixels": kind("segmentation", together={"batch_size": 7, "num_workers": 1}),
}


# The projects of docs/projects, each with the params that make it small.
EXAMPLES: dict[str, dict[str, Any]] = {
    "finetuning": {"layers": [1, 1, 1, 1], "pretrained": None, "body_rate": 0.1},
    "segmentation": {"width": 4, "monitor": "iou"},
    "detection": {"width": 16, "monitor": "f1", "optimizer": "SGD"},
    "characters": {"length": 32, "width": 16, "heads": 2, "depth": 1}
    | {"sample_length": 20, "temperature": 0.5, "batch_size": 16},
    "vae": {"width": 16, "latent": 2, "pictures": 48, "batch_size": 16},
    "diffusion": {"width": 8, "steps": 10, "pictures": 48, "batch_size": 16},
    "embeddings": {"width": 16, "margin": 0.5, "monitor": "recall_at_1"},
    "huggingface": {"width": 16, "depth": 1, "length": 16, "dropout": 0.1, "pretrained": None},
    "table": {"width": 16, "monitor": "r2"},
    "multilabel": {"width": 8, "threshold": 0.5, "monitor": "f1"},
    "forecasting": {"width": 8, "history": 12, "horizon": 3, "monitor": "error"},
    "folds": {"width": 8, "fold": 0, "folds": 5},
}

ROUNDING = "the key biases of BERT have no gradient but rounding, and Adam makes steps of it"
WAIVED = {"huggingface": {"the same on another device": ROUNDING}}


def example(name: str, **params: Any) -> Project:
    """Return a project that docs/projects has a page of."""
    if name == "huggingface" and find_spec("transformers") is None:
        return Project(f"tests.projects.{name}", params, skip="the package transformers is missing")
    module = importlib.import_module(f"tests.projects.{name}.data_loader")
    write = getattr(module, "write", None)
    make_data = write and partial(write, sizes=SIZES)
    waived = WAIVED.get(name, {})
    return Project(f"tests.projects.{name}", params, make_data, waived, slow=True)


FEW = ["pictures", "gan", "masked", "tuned"]  # with which `make test` runs what takes seconds


@cache
def all_projects() -> dict[str, Project]:
    """Return the projects of the tests and those of the tasks: tests/tasks/ner is "task_ner"."""
    assert not OWN.keys() & EXAMPLES.keys()
    found = dict(OWN) | {name: example(name, **params) for name, params in EXAMPLES.items()}
    for path in sorted((ROOT / "tests" / "tasks").glob("*/project.py")):
        name = path.parent.name
        module = importlib.import_module(f"tests.tasks.{name}.project")
        more = module.PROJECTS if hasattr(module, "PROJECTS") else {name: module.PROJECT}
        found |= {f"task_{each}": project for each, project in more.items()}
    return found
