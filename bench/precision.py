"""Does bfloat16 cost accuracy? Validation accuracy of hand signs, both precisions, five seeds each.

python bench/precision.py --data_dir data/64x64_SIGNS
"""

import json
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository's root

from bench.common import ROOT, parser, train

PRECISIONS = ("float32", "bfloat16")


def accuracies(params: dict[str, object], data_dir: Path, folder: Path) -> tuple[float, float]:
    """Return the validation accuracy of the best and of the last epoch of a run."""
    train(folder, params, data_dir)
    files = (folder / f"metrics_val_{which}_weights.json" for which in ("best", "last"))
    best, last = (json.loads(file.read_text())["accuracy"] for file in files)
    return best, last


def main() -> int:
    """Run the bench; returns the exit code."""
    arguments = parser(__doc__)
    arguments.add_argument("--data_dir", type=Path, default=ROOT / "data/64x64_SIGNS")
    args = arguments.parse_args()
    params = json.loads((ROOT / "experiments/base_model/params.json").read_text())
    params |= {"num_epochs": 1} if args.quick else {}
    found: dict[str, list[tuple[float, float]]] = {precision: [] for precision in PRECISIONS}
    with tempfile.TemporaryDirectory() as name:
        for seed in range(1 if args.quick else 5):
            for precision in PRECISIONS:
                changed = params | {"seed": seed, "precision": precision}
                found[precision].append(accuracies(changed, args.data_dir, Path(name)))
                print(f"seed {seed}, {precision}: {found[precision][-1]}", file=sys.stderr)
    print("validation accuracy of the best epoch (of the last), seed by seed")
    for precision, pairs in found.items():
        cells = "  ".join(f"{best:.4f} ({last:.4f})" for best, last in pairs)
        means = [statistics.mean(values) for values in zip(*pairs, strict=True)]
        print(f"{precision:<10}{cells}   mean {means[0]:.4f} ({means[1]:.4f})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
