"""What keeps runs fast stays in place: the loop's own cost, and how many threads are used."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import train
from bench import overhead
from core.base.parsing import read_mapping
from core.machine import devices as runtime
from core.machine import environment
from core.training.checkpoint import read_checkpoint, write_checkpoint
from tests.conftest import ROOT, Folder, rows


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
    assert environment.quotas(tmp_path / "root", tmp_path / "own") == quotas


def python(program: str, *arguments: str | Path) -> str:
    """Run a program in a process of its own, where nothing has been imported; return its output."""
    words = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_run_does_not_import_the_compiler(run_folder: Folder, signs: Path) -> None:
    program = """
import sys, train
assert train.main(["--model_dir", sys.argv[1], "--data_dir", sys.argv[2]]) == 0
print(sum(name.startswith("torch._dynamo.") for name in sys.modules))
"""
    assert python(program, run_folder(), signs).split()[-1] == "0"


def test_steps_are_compiled_as_if_the_compiler_had_been_there_from_the_start() -> None:
    program = """
import sys
import torch
if sys.argv[1] == "at once":
    import torch._dynamo
from core.machine.compiler import import_when_compiling
import_when_compiling()

def losses(step_of):
    torch.manual_seed(0)
    net = torch.nn.Linear(3, 1)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1)
    def step(x):
        optimizer.zero_grad()
        loss = net(x).square().mean()
        loss.backward()
        optimizer.step()
        return loss
    step = step_of(step)
    return [step(torch.ones(2, 3)).item() for _ in range(5)]

print(losses(lambda step: step))
assert ("torch._dynamo" in sys.modules) == (sys.argv[1] == "at once")
graphs = []
def backend(graph, inputs):
    graphs.append(str(graph.code))
    return graph.forward
print(losses(lambda step: torch.compile(step, backend=backend)))
print(graphs)
"""
    assert python(program, "when used") == python(program, "at once")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's own, of 2.11
def test_a_compiled_net_trains_and_resumes(run_folder: Folder, signs: Path) -> None:
    # No dropout: compiled code draws other numbers.
    params = {"dropout_rate": 0.0, "optimizer": "SGD", "learning_rate": 1e-2}
    plain, compiled = run_folder("plain", **params), run_folder("compiled", **params, compile=True)
    for folder in (plain, compiled):
        for epochs in (1, 2):
            arguments = ["--model_dir", str(folder), "--data_dir", str(signs)]
            assert train.main([*arguments, "--set", f"num_epochs={epochs}"]) == 0
    names = [list(read_checkpoint(f / "last.pt")["state_dict"]) for f in (plain, compiled)]
    assert names[0] == names[1]
    for ours, other in zip(rows(plain), rows(compiled), strict=True):
        assert ours["train_loss"] == pytest.approx(other["train_loss"], rel=1e-2)
