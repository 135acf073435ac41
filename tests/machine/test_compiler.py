"""The compiler is there when it is used, and costs nothing when it is not."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from core.training.checkpoint import read_checkpoint
from tests.conftest import Folder
from tests.helpers import ROOT
from tests.helpers.runs import rows, run


def start(program: str, *arguments: str | Path) -> "subprocess.Popen[str]":
    """Start a program in a process of its own, where nothing has been imported."""
    words = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(words, cwd=ROOT, stdout=-1, stderr=-1, text=True)


def printed(process: "subprocess.Popen[str]") -> str:
    """Return what a process prints until it ends."""
    out, faults = process.communicate()
    assert process.returncode == 0, faults
    return out


def test_two_runs_in_a_process_import_neither_the_compiler_nor_divided_tensors(
    run_folder: Folder, signs: Path
) -> None:
    program = """
import sys, train
data, *folders = sys.argv[1:]
assert [train.main(["--model_dir", each, "--data_dir", data]) for each in folders] == [0, 0]
slow = ("torch._dynamo.", "torch.distributed.tensor.", "sympy.")
print(sum(name.startswith(slow) for name in sys.modules))
"""
    folders = [run_folder(name, num_epochs=1) for name in ("first", "second")]
    assert printed(start(program, signs, *folders)).split()[-1] == "0"


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
    when_used, at_once = (start(program, which) for which in ("when used", "at once"))
    assert printed(when_used) == printed(at_once)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's own, of 2.11
def test_a_compiled_net_trains_and_resumes(run_folder: Folder, signs: Path) -> None:
    # No dropout: compiled code draws other numbers.
    params = {"dropout_rate": 0.0, "optimizer": "SGD", "learning_rate": 1e-2}
    plain, compiled = run_folder("plain", **params), run_folder("compiled", **params, compile=True)
    for folder in (plain, compiled):
        for epochs in (1, 2):
            assert run(folder, signs, "--set", f"num_epochs={epochs}") == 0
    names = [list(read_checkpoint(f / "last.pt")["state_dict"]) for f in (plain, compiled)]
    assert names[0] == names[1]
    for ours, other in zip(rows(plain), rows(compiled), strict=True):
        assert ours["train_loss"] == pytest.approx(other["train_loss"], rel=1e-2)
