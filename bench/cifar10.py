"""Speed on CIFAR-10: train.py beside a loop by hand with everything that helps.

    python bench/cifar10.py

Each is a process of its own, with net and batch size of experiments/cifar10/convnet_module, on
6,000 images: made up, because what they show does not change how long a step takes.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository's root

from bench.common import ROOT, by_hand, in_turn, parser, run, show, train
from model.cifar10.data_loader import read_split

NUM_IMAGES = 6000


def main() -> int:
    """Run the bench; returns the exit code."""
    args = parser(__doc__).parse_args()
    epochs, repeats = (2, 1) if args.quick else (4, 4)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data_dir = folder / "cifar10"
        run("data/cifar10/prepare.py", "--output", data_dir, "--count", str(NUM_IMAGES))
        arrays: dict[str, np.ndarray] = {}
        for split in ("train", "val"):
            images, labels, _ = read_split(data_dir, split)
            arrays |= {f"{split}_images": images.numpy(), f"{split}_labels": labels.numpy()}
        np.savez(folder / "images.npz", **arrays)  # type: ignore[arg-type]
        recipe = ROOT / "experiments/cifar10/convnet_module/params.json"
        params = json.loads(recipe.read_text()) | {"num_epochs": epochs}
        loop = ROOT / "bench/by_hand/cifar10.py"
        ways = {
            "by hand": lambda: by_hand(loop, folder / "images.npz", str(epochs)),
            "train.py": lambda: train(folder / "run", params, data_dir),
        }
        medians = in_turn(ways, repeats)
    show(f"CIFAR-10, ConvNet, {epochs} epochs", medians, "by hand")
    return 0


if __name__ == "__main__":
    sys.exit(main())
