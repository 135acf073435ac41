"""What keeps runs fast stays in place: the loop's own cost, and how many threads are used."""

from pathlib import Path

import pytest
import torch

import train
from bench import overhead
from core import runtime
from core.checkpoint import read_checkpoint, write_checkpoint
from core.params import read_mapping
from tests.conftest import Folder


def test_the_loop_costs_little_beside_one_written_by_hand() -> None:
    # 2.0 to 2.5 are usual: doing nothing takes 0.1 ms a step, where nets that learn take 10 or 100.
    medians = overhead.measure(steps=300, repeats=3)
    ours, by_hand = (medians[way]["microseconds a step"] for way in ("train.py", "by hand"))
    assert ours < 6 * by_hand


def test_a_processor_without_bfloat16_is_known_by_its_flags(tmp_path: Path) -> None:
    facts = tmp_path / "cpuinfo"
    facts.write_text("flags : fpu avx2 avx512f\n")
    assert runtime.lacks_bfloat16(facts)
    for flags in ("flags : avx512_bf16", "flags : amx_bf16", "Features : asimd bf16"):
        facts.write_text(flags)
        assert not runtime.lacks_bfloat16(facts)
    assert not runtime.lacks_bfloat16(tmp_path / "absent")


def test_a_run_keeps_the_precision_that_auto_chose(run_folder: Folder, signs: Path) -> None:
    folder = run_folder(precision="auto", num_epochs=1)
    arguments = ["--model_dir", str(folder), "--data_dir", str(signs)]
    assert train.main(arguments) == 0
    chosen = runtime.fastest_precision(torch.device("cpu"))
    assert read_mapping(folder / "params.resolved.json")["params"]["precision"] == chosen
    other = "float32" if chosen == "bfloat16" else "bfloat16"
    last = read_checkpoint(folder / "last.pt")
    last["params"]["precision"] = other  # as if it had begun on another machine
    write_checkpoint(folder / "last.pt", last)
    assert train.main([*arguments, "--set", "num_epochs=2"]) == 0
    assert read_mapping(folder / "params.resolved.json")["params"]["precision"] == other


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
    assert runtime.quotas(tmp_path / "root", tmp_path / "own") == quotas
