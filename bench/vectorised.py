"""Would a search gain by training its trials at once? torch.func against search_hyperparams.py.

    python bench/vectorised.py            # --quick: once; --jobs 1: one core

A search of 16 trials has two jobs of one thread. The same trials are then trained in one process
with two threads: stacked weights, gradients by vmap, AdamW; each has its own learning rate, weight
decay, first weights, batches and metrics. A search also starts processes, evaluates and writes
checkpoints; "whole" leaves that as it is.
"""

import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository's root

import core  # isort: skip  # noqa: F401 - before torch: it says how threads wait
import torch
from torch import Tensor
from torch.func import functional_call, grad, stack_module_state, vmap

from bench.common import Figures, parser, run, seconds
from core.base.files import parse_rows
from core.base.params import load_params
from core.data.fetching import fetch_loaders
from core.machine.devices import start
from core.machine.environment import usable_cores
from core.run.code import import_task
from core.task import Batch, Loader
from core.training.checkpoint import read_checkpoint
from core.training.state import State, make_state
from core.training.tally import MeanLosses, score

NETS: dict[str, dict[str, Any]] = {
    "images of 64x64, pooled, two linear layers": {"task": "bench.mlp"},
    "a net that does nothing": {"task": "bench.noop", "num_steps": 27, "monitor": "loss"},
}
BASE = {"num_threads": 1, "optimizer": "AdamW", "precision": "float32", "batch_size": 32}
RATES, DECAYS, SEEDS = [1e-4, 3e-4, 1e-3, 3e-3], [0.0, 0.1], [230, 231]
DECAY = "_".join(("weight", "decay"))  # one word here would be a key that the tasks of bench/ know
SPACE = {"learning_rate": RATES, f"optimizer_args.{DECAY}": DECAYS, "seed": SEEDS}


def search(folder: Path, data: Path, params: dict[str, Any], jobs: int) -> Figures:
    """Run a search in a new folder; returns its seconds, those of training by each job."""
    folder.mkdir()
    (folder / "params.json").write_text(json.dumps(params))
    (folder / "search.yaml").write_text(json.dumps({"space": SPACE}))
    given = f"--parent_dir {folder} --data_dir {data} --jobs {jobs}"
    whole = seconds(lambda: run("search_hyperparams.py", *given.split()))
    trials = [parse_rows(path.read_bytes())[0] for path in folder.glob("*/times.jsonl")]
    training = sum(row["train_seconds"] for rows in trials for row in rows) / jobs
    return {"training": training, "whole": whole}


def begin(folder: Path, data: Path) -> tuple[State, Loader]:
    """Return the state of a trial before its first step, and its loader."""
    params, _ = load_params(folder / "params.json", {})
    task, device = import_task(params), start(params)
    loaders, _ = fetch_loaders(task, ["train"], data, params, {}, device, train=True)
    return make_state(task, params, device, loaders["train"]), loaders["train"]


def adamw(weights: dict[str, Tensor], grads: dict[str, Tensor], kept: Any, chosen: Tensor) -> None:
    """Step AdamW (Loshchilov & Hutter 2019, algorithm 2) on weights (T, ...) of T nets.

    Learning rates and weight decays are `chosen` (2, T); `kept` has two moments of each weight.
    """
    beta1, beta2, eps = 0.9, 0.999, 1e-8
    kept["step"] += 1
    unbias1, unbias2 = 1 - beta1 ** kept["step"], 1 - beta2 ** kept["step"]
    for name, weight in weights.items():
        rate, decay = chosen.view(2, -1, *[1] * (weight.ndim - 1))
        mean, square = kept[name]
        mean.lerp_(grads[name], 1 - beta1)
        square.mul_(beta2).addcmul_(grads[name], grads[name], value=1 - beta2)
        scale = square.sqrt().div_(unbias2**0.5).add_(eps)
        weight.mul_(1 - rate * decay).sub_(rate / unbias1 * mean / scale)


def train_at_once(begun: list[tuple[State, Loader]], epochs: int) -> dict[str, Tensor]:
    """Train T nets without buffers for some epochs; returns their weights, each (T, ...)."""
    states, loaders = zip(*begun, strict=True)
    task, net = states[0].task, states[0].model
    stacked, _ = stack_module_state([state.model for state in states])
    weights = {name: weight.detach().clone() for name, weight in stacked.items()}
    kept: Any = {name: torch.zeros(2, *weight.shape) for name, weight in weights.items()}
    kept["step"] = 0
    decays = [state.params.optimizer_args.get(DECAY, 0.01) for state in states]  # torch's default
    chosen = torch.tensor([[state.learning_rate for state in states], decays])

    def loss_of(own: dict[str, Tensor], batch: Batch) -> tuple[Tensor, tuple[Tensor, Any]]:
        outputs = functional_call(net, own, batch[0])
        return (loss := task.losses(outputs, batch[1])["loss"]), (loss, outputs)

    gradients = vmap(grad(loss_of, has_aux=True))
    for epoch in range(epochs):
        losses, seen = MeanLosses(), []
        for batches in zip(*(ld.load(epoch, ld.plan(epoch)) for ld in loaders), strict=True):
            inputs, labels = map(torch.stack, zip(*batches, strict=True))  # (T, B, ...), (T, B)
            grads, (loss, outputs) = gradients(weights, (inputs, labels))
            adamw(weights, grads, kept, chosen)
            losses.add({"loss": loss}, torch.tensor(labels.shape[1]))
            seen.append((outputs, labels))
        outputs, labels = (torch.cat(part, 1) for part in zip(*seen, strict=True))  # (T, N, ...)
        _ = [score(task, *own) for own in zip(outputs, labels, strict=True)]
    return weights


def compare(params: dict[str, Any], jobs: int, scratch: Path) -> tuple[Figures, Figures, float]:
    """Return the seconds of both ways, and the largest difference between weights in the end."""
    folder, data = Path(tempfile.mkdtemp(dir=scratch)) / "search", scratch / "data"
    one_by_one = search(folder, data, params, jobs)
    trials = sorted(path.parent for path in folder.glob("*/last.pt"))
    begun, made = [begin(trial, data) for trial in trials], dict[str, Tensor]()
    torch.set_num_threads(jobs)
    took = seconds(lambda: made.update(train_at_once(begun, params["num_epochs"])))
    whole = one_by_one["whole"] - one_by_one["training"] + took
    worst = 0.0
    for i, trial in enumerate(trials):
        for name, weight in read_checkpoint(trial / "last.pt")["state_dict"].items():
            worst = max(worst, float((made[name][i] - weight).abs().max()))
    return one_by_one, {"training": took, "whole": whole}, worst


def main() -> None:
    """Run the bench."""
    arguments = parser(__doc__)
    arguments.add_argument("--jobs", type=int, default=2, help="and as many threads at once")
    arguments.add_argument("--epochs", type=int, default=8, help="of 27 steps")
    args = arguments.parse_args()
    print(f"{usable_cores()} cores, load {os.getloadavg()[0]:.1f} before; {args.epochs} epochs")
    with tempfile.TemporaryDirectory() as name:
        run("data/signs/prepare.py", "--output", Path(name, "data"))
        for title, params in NETS.items():
            params = BASE | params | {"num_epochs": args.epochs}
            turns = [compare(params, args.jobs, Path(name)) for _ in range(1 if args.quick else 5)]
            print(f"{title}: weights differ by at most {max(turn[2] for turn in turns):.1e}")
            for key in ("training", "whole"):
                pairs = [(one_by_one[key], at_once[key]) for one_by_one, at_once, _ in turns]
                single, vectorised = map(statistics.median, zip(*pairs, strict=True))
                ratio = statistics.median(a / b for a, b in pairs)
                print(f"  {key}: {single:.2f} s, at once {vectorised:.2f} s, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
