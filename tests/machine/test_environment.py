"""What is found out about the machine: processors, quotas, precision."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.base.params import read_mapping
from core.machine import devices, environment
from core.training.checkpoint import read_checkpoint, write_checkpoint
from tests.conftest import Folder
from tests.helpers import ROOT
from tests.helpers.runs import run


def test_a_processor_without_bfloat16_is_known_by_its_flags(tmp_path: Path) -> None:
    facts = tmp_path / "cpuinfo"
    facts.write_text("flags : fpu avx2 avx512f\n")
    assert devices.lacks_bfloat16(facts)
    for flags in ("flags : avx512_bf16", "flags : amx_bf16", "Features : asimd bf16"):
        facts.write_text(flags)
        assert not devices.lacks_bfloat16(facts)
    assert not devices.lacks_bfloat16(tmp_path / "absent")


def test_a_run_keeps_the_precision_that_auto_chose(run_folder: Folder, signs: Path) -> None:
    folder = run_folder(precision="auto", num_epochs=1)
    assert run(folder, signs) == 0
    chosen = read_mapping(folder / "params.resolved.json")["params"]["precision"]
    assert chosen in ("float32", "bfloat16")
    other = "float32" if chosen == "bfloat16" else "bfloat16"
    last = read_checkpoint(folder / "last.pt")
    last["params"]["precision"] = other  # as if it had begun on another machine
    write_checkpoint(folder / "last.pt", last)
    assert run(folder, signs, "--set", "num_epochs=2") == 0
    assert read_mapping(folder / "params.resolved.json")["params"]["precision"] == other


@pytest.mark.parametrize("script", ["train", "evaluate", "predict", "check", "utils"])
def test_threads_know_how_long_to_wait_before_torch_is_imported(script: str) -> None:
    code = "import os, sys, importlib.abc\n"
    code += "class Finder(importlib.abc.MetaPathFinder):\n"
    code += "    def find_spec(self, name, path, target=None):\n"
    code += "        if name == 'torch': sys.exit(os.environ.get('GOMP_SPINCOUNT', 'not set'))\n"
    code += f"sys.meta_path.insert(0, Finder())\nimport {script}"
    environment = {n: v for n, v in os.environ.items() if n not in ("GOMP_SPINCOUNT",)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stderr.strip() == "3000"


def test_omp_num_threads_is_the_default_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3,2")
    assert environment.default_threads() == environment.default_threads(2) == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "all")
    assert environment.default_threads() == environment.usable_cores()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # torchrun sets that itself
    for name, value in (("TORCHELASTIC_RUN_ID", "x"), ("WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    assert environment.default_threads() == environment.usable_cores()


@pytest.mark.parametrize(
    ("own", "files", "quotas"),
    [
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "250000 100000"}, [2.5]),
        ("0::/elsewhere\n", {"cpu.max": "50000 100000\n"}, [0.5]),
        (
            "3:cpuset:/\n2:cpu,cpuacct:/job\n",
            {"cpu/job/cpu.cfs_quota_us": "300000\n", "cpu/job/cpu.cfs_period_us": "100000\n"},
            [3.0],
        ),
        ("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, []),
        ("", {}, []),
    ],
)
def test_quotas_of_both_versions_of_cgroups_limit_the_threads(
    tmp_path: Path, own: str, files: dict[str, str], quotas: list[float]
) -> None:
    (tmp_path / "own").write_text(own)
    for name, content in files.items():
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).write_text(content)
    assert environment.quotas(tmp_path / "root", tmp_path / "own") == quotas
