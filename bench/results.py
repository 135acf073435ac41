"""How long the table of many runs takes, and how much memory: run folders are made up for it.

python bench/results.py --runs 10000
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
METRICS = ("accuracy", "precision", "recall", "f1", "loss")


def make_run(folder: Path, number: int, epochs: int) -> None:
    """Write what a finished run leaves, except for its checkpoints and predictions."""
    rng = np.random.default_rng(number)
    folder.mkdir()
    rates = [1e-4, 3e-4, 1e-3, 3e-3, 1e-2]
    params = json.loads((ROOT / "experiments/base_model/params.json").read_text(encoding="utf-8"))
    params |= {"learning_rate": rates[number % 5], "dropout_rate": number // 5 % 200 / 200}
    params |= {"seed": number // 1000, "num_epochs": epochs}
    (folder / "params.json").write_text(json.dumps(params, indent=4))
    recorded = {"params": params, "overrides": {}, "code": {"model/net.py": "0" * 16}}
    recorded |= {"data": {"folder": "data", "sha256": "0" * 64, "made_up": None}, "git_dirty": []}
    (folder / "params.resolved.json").write_text(json.dumps(recorded, indent=4))
    curve = rng.uniform(0.8, 0.9) - 0.7 * np.exp(-np.arange(1, epochs + 1) / 9)
    rows, times, log = [], [], ["2026-01-01 00:00:00,000:INFO: Net: 1,234,567 weights to train"]
    for epoch in range(1, epochs + 1):
        row = {"epoch": epoch, "step": 30 * epoch, "learning_rate": 1e-3 / epoch}
        for split in ("train", "val"):
            values = curve[epoch - 1] + rng.normal(0, 0.01, len(METRICS))
            row |= {f"{split}_{n}": float(v) for n, v in zip(METRICS, values, strict=True)}
        rows.append(row)
        times.append({"epoch": epoch, "train_seconds": 1.25, "seconds": 1.5, "share": 1.0})
        log.append(f"2026-01-01 00:00:00,000:INFO: Epoch {epoch}/{epochs}  train {'x' * 150}")
    log.append(f"2026-01-01 00:00:00,000:INFO: Done after {epochs} epochs.")
    best = max(rows, key=lambda row: row["val_accuracy"])
    metrics = {name: best[f"val_{name}"] for name in METRICS}
    (folder / "metrics_val_best_weights.json").write_text(json.dumps(metrics, indent=4))
    for name, lines in [("metrics.jsonl", rows), ("times.jsonl", times)]:
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "train.log").write_text("\n".join(log) + "\n")
    checkpoint = {"file": "best.pt", "epoch": best["epoch"], "step": best["step"], "sha256": "0"}
    of = {"checkpoint": checkpoint, "data": recorded["data"], "values": metrics}
    evaluations = [json.dumps({"split": split} | of) + "\n" for split in ("val", "test")]
    (folder / "evaluations.jsonl").write_text("".join(evaluations))


def main() -> None:
    """Make the folders, tabulate them, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=50)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as parent:
        for number in range(args.runs):
            make_run(Path(parent) / f"run_{number:05}", number, args.epochs)
        command = [sys.executable, str(ROOT / "synthesize_results.py"), "--parent_dir", parent]
        for grouping in ([], ["--no_group"]):
            began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([*command, *grouping], check=True, stdout=subprocess.DEVNULL)
            seconds = time.perf_counter() - began
            used = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
            sizes = {path.name: path.stat().st_size for path in Path(parent).glob("re*.*")}
            print(
                f"{args.runs} runs {' '.join(grouping)}: {seconds:.1f} s ({cpu:.1f} s of CPU), "
                f"at most {used.ru_maxrss / 1024:.0f} MiB"
            )
        print({name: f"{size / 1e6:.1f} MB" for name, size in sorted(sizes.items())})


if __name__ == "__main__":
    main()
