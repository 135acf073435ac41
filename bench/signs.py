"""Speed on hand signs: train.py, a loop by hand with everything that helps, and a usual one.

    python bench/signs.py
    python bench/signs.py --device cuda --batch_size 512

Each is a process of its own, with the net and data of experiments/base_model.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository's root

from bench.common import LONG, ROOT, by_hand, effort, in_turn, parser, run, show, train
from core.data.images import read_images
from model.data_loader import IMAGE_SIZE, list_examples


def decode(data_dir: Path, path: Path) -> None:
    """Write the images and labels of train and val as arrays, for the loop written by hand."""
    arrays = {}
    for split in ("train", "val"):
        paths, labels = list_examples(data_dir / f"{split}_signs")
        arrays[f"{split}_images"] = read_images(paths, IMAGE_SIZE).numpy()
        arrays[f"{split}_labels"] = labels.numpy()
    np.savez(path, **arrays)  # type: ignore[arg-type]


def main() -> int:
    """Run the bench; returns the exit code."""
    arguments = parser(__doc__, short=True)
    arguments.add_argument("--data_dir", type=Path, help="default: data/64x64_SIGNS, or made up")
    arguments.add_argument("--precision", default="bfloat16", help="or float32")
    arguments.add_argument("--batch_size", type=int, default=32)
    arguments.add_argument("--device", default="cpu", help="or cuda")
    args = arguments.parse_args()
    epochs, repeats, limit = effort(args, (2, 1, 60.0), (3, 2, 85.0), (10, 3, LONG))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data_dir = args.data_dir or ROOT / "data/64x64_SIGNS"
        if not data_dir.exists():
            data_dir = folder / "signs"
            run("data/signs/prepare.py", "--output", data_dir)
        decode(data_dir, folder / "signs.npz")
        params = json.loads((ROOT / "experiments/base_model/params.json").read_text())
        params |= {"num_epochs": epochs, "precision": args.precision}
        params |= {"batch_size": args.batch_size, "device": args.device}
        size = str(args.batch_size)
        loop, usual = ROOT / "bench/by_hand/signs.py", ROOT / "bench/by_hand/signs_from_files.py"
        ways = {
            "by hand": lambda: by_hand(
                loop, folder / "signs.npz", str(epochs), args.precision, size, args.device
            ),
            "train.py": lambda: train(folder / "run", params, data_dir),
            "usual, float32": lambda: by_hand(usual, data_dir, str(epochs), size, args.device, "4"),
        }
        medians = in_turn(ways, repeats, limit)
    title = f"hand signs, {epochs} epochs, {args.precision}, batches of {args.batch_size}"
    device = torch.cuda.get_device_name() if args.device == "cuda" else args.device
    show(f"{title}, {device}", medians, "by hand")
    ours, other = medians["train.py"], medians["usual, float32"]
    print("\ntrain.py against the usual loop:" if medians.quiet else "")
    for key in ours if medians.quiet else ():
        print(f"  {key:<24}{ours[key] / other[key]:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
