"""What the loop itself costs: steps of a net that does nothing, in train.py and written by hand.

python bench/overhead.py
python bench/overhead.py --against FOLDER    # and train.py of another checkout of this project
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository's root

import train
from bench.common import LONG, Figures, Medians, effort, in_turn, parser, show
from bench.noop.data_loader import fetch_dataloader
from bench.noop.net import Net
from core.base.params import Params

EPOCHS = 4
PARAMS = {
    "task": "bench.noop",
    "optimizer": "SGD",
    "batch_size": 32,
    "num_epochs": EPOCHS,
    "num_threads": 1,
}


def by_hand(steps: int) -> Figures:
    """Train the same net on the same data by a plain loop."""
    params = Params.of(PARAMS | {"seed": 1, "num_steps": steps}, Path("bench"))
    data = fetch_dataloader(["train"], "", params)["train"]
    net = Net(params)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    seconds = []
    for _ in range(EPOCHS):
        began = time.perf_counter()
        for index in torch.randperm(len(data.inputs)).split(params.batch_size):
            loss = F.cross_entropy(net(data.inputs[index]), data.labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        seconds.append(time.perf_counter() - began)
    return {"microseconds a step": min(seconds[1:]) / steps * 1e6}


def template(steps: int) -> Figures:
    """Train it by train.py."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "params.json").write_text(json.dumps(PARAMS | {"num_steps": steps}))
        (folder / "data").mkdir()
        train.main(["--model_dir", name, "--data_dir", str(folder / "data")])
        rows = [json.loads(line) for line in (folder / "times.jsonl").read_text().splitlines()]
    return {"microseconds a step": min(r["train_seconds"] for r in rows[1:]) / steps * 1e6}


def in_checkout(folder: Path, steps: int) -> Figures:
    """Train it by train.py of another checkout of this project, in a process of its own."""
    code = (
        "import json, torch; torch.set_num_threads(1); from bench.overhead import template\n"
        f"print(json.dumps(template({steps})))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, stdout=-1, check=True)
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def measure(
    steps: int, repeats: int, against: Path | None = None, at_most: float = LONG
) -> Medians:
    """Return the medians of all, measured in turn, on one thread."""
    torch.set_num_threads(1)
    ways = {"by hand": lambda: by_hand(steps), "train.py": lambda: template(steps)}
    if against is not None:
        here = Path(__file__).resolve().parent.parent
        ways["in its own process"] = lambda: in_checkout(here, steps)
        ways[str(against)] = lambda: in_checkout(against, steps)
    return in_turn(ways, repeats, at_most)


def main() -> int:
    """Run the bench; returns the exit code."""
    arguments = parser(__doc__, short=True)
    arguments.add_argument("--against", type=Path, metavar="FOLDER", help="another checkout")
    args = arguments.parse_args()
    steps, repeats, limit = effort(args, (500, 1, 60.0), (2000, 3, 40.0), (3000, 5, LONG))
    medians = measure(steps, repeats, args.against, limit)
    show(f"a net that does nothing, {steps} steps an epoch", medians, "by hand")
    return 0


if __name__ == "__main__":
    sys.exit(main())
