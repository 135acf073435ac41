"""The code that trains is the code that the files hold, also in a process that lives long."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import ROOT
from tests.helpers.runs import rows

NET = """\
from torch import nn
from shapes.sizes import WIDTH
def Net(params):
    return nn.Sequential(nn.Linear(3, WIDTH), nn.Linear(WIDTH, 1))
def loss_fn(outputs, labels):
    return SCALE * ((outputs - labels) ** 2).mean()
SCALE = 1.0
metrics = {"constant": lambda outputs, labels: 1.0}
"""
DATA = """\
import torch
from utils import Batches
def fetch_dataloader(splits, data_dir, params):
    x = torch.linspace(-1, 1, 24).view(8, 3)
    y = x.sum(1, keepdim=True)
    return {split: Batches(x, y, batch_size=params.batch_size) for split in splits}
"""
PARAMS = {"task": "shapes.flat", "num_epochs": 1, "batch_size": 8, "num_threads": 1}


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Return a copy of the project with a task `shapes.flat` that uses `shapes/sizes.py`."""
    clone = tmp_path / "clone"
    shutil.copytree(ROOT / "core", clone / "core", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("train.py", "evaluate.py", "predict.py", "check.py", "utils.py"):
        shutil.copy(ROOT / name, clone)
    (clone / "shapes" / "flat").mkdir(parents=True)
    (clone / "shapes" / "flat" / "net.py").write_text(NET)
    (clone / "shapes" / "flat" / "data_loader.py").write_text(DATA)
    (clone / "shapes" / "sizes.py").write_text("WIDTH = 4\n")
    (tmp_path / "data").mkdir()
    for name in "abc":
        (tmp_path / name).mkdir()
        (tmp_path / name / "params.json").write_text(json.dumps(PARAMS))
    return clone


NOTEBOOK = """\
import json, os, sys
from pathlib import Path
clone = Path(os.getcwd())
sys.path.insert(0, str(clone))
def edit(name, old, new):
    path = clone / name
    before = path.stat()
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # within the same tick
def run(script, name, *more):
    return script.main(["--model_dir", f"../{name}", "--data_dir", "../data", *more])
"""


def notebook(clone: Path, code: str) -> str:
    """Run cells in one process, as a notebook does; returns what it prints and says."""
    text = NOTEBOOK + textwrap.dedent(code)
    environment = dict(os.environ)
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(
        [sys.executable, "-c", text],
        cwd=clone, text=True, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


def first_loss(folder: Path) -> float:
    return float(rows(folder)[0]["train_loss"])


def parameters(folder: Path) -> int:
    return int(json.loads((folder / "status.json").read_text())["parameters"])


def code_of(folder: Path) -> Any:
    return json.loads((folder / "params.resolved.json").read_text())["code"]


def hash_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def test_an_edited_net_is_the_one_that_trains_and_is_recorded(clone: Path) -> None:
    notebook(
        clone,
        """
        import train
        run(train, "a")
        edit("shapes/flat/net.py", "SCALE = 1.0", "SCALE = 4.0")
        run(train, "b")
        from shapes.flat import net
        net.SCALE = 9.0  # a module stays where nothing was edited
        run(train, "c")
        """,
    )
    a, b, c = (clone.parent / name for name in "abc")
    assert first_loss(b) == pytest.approx(4 * first_loss(a))
    assert first_loss(c) == pytest.approx(9 * first_loss(a))
    assert code_of(b)["shapes/flat/net.py"] == hash_of(clone / "shapes/flat/net.py")
    assert code_of(a)["shapes/flat/net.py"] != code_of(b)["shapes/flat/net.py"]


@pytest.mark.slow
def test_an_edited_module_that_the_net_imports_is_imported_anew(clone: Path) -> None:
    said = notebook(
        clone,
        """
        import train
        run(train, "a")
        edit("shapes/sizes.py", "WIDTH = 4", "WIDTH = 8")
        run(train, "b")
        edit("shapes/sizes.py", "WIDTH = 8", "WIDTH = 4")
        run(train, "a", "--set", "num_epochs=2")
        edit("shapes/sizes.py", "WIDTH", "DEPTH = WIDTH")
        run(train, "a", "--set", "num_epochs=3")
        """,
    )
    a, b = clone.parent / "a", clone.parent / "b"
    assert (parameters(a), parameters(b)) == (4 * 4 + 5, 8 * 4 + 9)
    assert code_of(a)["shapes/sizes.py"] != code_of(b)["shapes/sizes.py"]
    assert said.count("shapes/sizes.py has changed since the last start") == 1


@pytest.mark.slow
def test_every_script_takes_the_edited_code(clone: Path) -> None:
    said = notebook(
        clone,
        """
        import check, evaluate, train
        run(train, "a")
        edit("shapes/flat/net.py", "labels: 1.0", "labels: 2.0")
        run(evaluate, "a", "--split", "val")
        edit("shapes/flat/net.py", "SCALE = 1.0", "SCALE = None")
        assert run(check, "a") == 1
        """,
    )
    found = json.loads((clone.parent / "a" / "metrics_val_best.json").read_text())
    assert found["constant"] == 2.0
    assert "NoneType" in said


@pytest.mark.slow
def test_what_was_imported_before_the_framework_is_imported_anew(clone: Path) -> None:
    notebook(
        clone,
        """
        from shapes.flat import data_loader, net
        edit("shapes/flat/net.py", "SCALE = 1.0", "SCALE = 4.0")
        import train
        run(train, "b")
        """,
    )
    notebook(clone, 'import train; run(train, "a")')
    assert first_loss(clone.parent / "b") == first_loss(clone.parent / "a")


def test_an_edit_of_the_framework_needs_a_new_process(clone: Path) -> None:
    names = ["core/training/state.py", "train.py", "utils.py"]
    said = notebook(
        clone,
        f"""
        import train
        assert run(train, "a") == 0
        for name in {names}:
            before = Path(name).read_text()
            Path(name).write_text(before + "# edited")
            assert run(train, "b") == 2
            Path(name).write_text(before)
        assert not Path("../b/train.log").exists()
        assert run(train, "b") == 0
        """,
    )
    for name in names:
        message = f"{name}: edited since Python imported it; start Python anew"
        assert any(line.startswith("error: ") and message in line for line in said.splitlines())


@pytest.mark.slow
def test_an_edit_within_a_second_is_not_hidden_by_compiled_code(clone: Path) -> None:
    edit = 'edit("shapes/flat/net.py", "SCALE = 1.0", "SCALE = 4.0")'
    notebook(clone, f'import train; run(train, "a"); {edit}')
    notebook(clone, 'import train; run(train, "b")')
    a, b = clone.parent / "a", clone.parent / "b"
    assert first_loss(b) == pytest.approx(4 * first_loss(a))


@pytest.mark.parametrize("with_net", [True, False])
def test_another_package_of_the_tasks_name_is_refused(clone: Path, with_net: bool) -> None:
    other = clone.parent / "other"
    shutil.copytree(clone / "shapes", other / "shapes")
    (other / "shapes" / "__init__.py").touch()
    if not with_net:
        shutil.rmtree(other / "shapes" / "flat")
    said = notebook(
        clone,
        f"""
        sys.path.insert(0, {str(other)!r})
        import train
        assert run(train, "a") == 2
        """,
    )
    message = said.splitlines()
    assert "Rename one of the two packages" in message[-1]
    assert str(clone / "shapes" / "flat" / "net.py") in message[-2]
    assert str(other) in message[-2]


@pytest.mark.slow
def test_code_edited_after_a_complete_run_is_said(clone: Path) -> None:
    printed = notebook(
        clone,
        """
        import train, evaluate
        assert run(train, "a") == 0
        edit("shapes/flat/net.py", "SCALE = 1.0", "SCALE = 2.0")
        assert run(train, "a") == 0
        assert run(evaluate, "a", "--split", "val") == 0
        """,
    )
    assert "Note: changed since it was trained: shapes/flat/net.py" in printed
    assert "Note: shapes/flat/net.py has changed since the last start of training" in printed
