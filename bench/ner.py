"""Speed on named entities: train.py beside a loop by hand with everything that helps.

    python bench/ner.py

Each is a process of its own, with the net, data and batch size of experiments/ner.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository's root

from bench.common import ROOT, by_hand, in_turn, parser, run, show, train
from core.base.params import Params
from model.ner.data_loader import FIRST, fetch_dataloader

# An epoch of real size: of the 4,000 that are made up by default, it ends within a second, and a
# checkpoint that is written beside it takes a share of that.
NUM_SENTENCES = 16_000


def encode(data_dir: Path, recipe: Path, path: Path) -> float:
    """Write the words and tags of train and val as arrays, for the loop written by hand.

    Returns:
        The share of the tokens in an epoch's batches that are padding.
    """
    params = Params(recipe)
    params.seed = 230
    loaders = fetch_dataloader(["train", "val"], str(data_dir), params)
    arrays = {"sizes": np.array([len(values) + FIRST for values in params.vocabulary])}
    for split, loader in loaders.items():
        arrays[f"{split}_inputs"] = loader.inputs.numpy()
        arrays[f"{split}_labels"] = loader.labels.numpy()
        arrays[f"{split}_lengths"] = np.asarray(loader.lengths)
    np.savez(path, **arrays)  # type: ignore[arg-type]
    lengths = arrays["train_lengths"]
    batches = [lengths[planned.index.numpy()] for planned in loaders["train"].plan(0)]
    return 1 - lengths.sum() / sum(part.max() * len(part) for part in batches)


def main() -> int:
    """Run the bench; returns the exit code."""
    arguments = parser(__doc__)
    arguments.add_argument("--data_dir", type=Path, help="default: made up")
    args = arguments.parse_args()
    epochs, repeats = (2, 1) if args.quick else (4, 3)
    recipe = ROOT / "experiments/ner/params.json"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data_dir = args.data_dir
        if data_dir is None:
            data_dir = folder / "entities"
            run("data/ner/prepare.py", "--output", data_dir, "--count", str(NUM_SENTENCES))
        padding = encode(data_dir, recipe, folder / "ner.npz")
        params = json.loads(recipe.read_text()) | {"num_epochs": epochs}
        loop = ROOT / "bench/by_hand/ner.py"
        ways = {
            "by hand": lambda: by_hand(loop, folder / "ner.npz", str(epochs)),
            "train.py": lambda: train(folder / "run", params, data_dir),
        }
        medians = in_turn(ways, repeats)
    show(f"named entities, {epochs} epochs", medians, "by hand")
    print(f"\npadding: {padding:.1%} of the tokens of an epoch")
    return 0


if __name__ == "__main__":
    sys.exit(main())
