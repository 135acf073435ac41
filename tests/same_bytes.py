"""Does the working tree still train to the bytes of an earlier commit? For changes that move code.

    python tests/same_bytes.py REV

Trains every project of tests/projects with both trees, the new one stopped once on the way, and
some of them with two processes; then compares checkpoints, rows, results and predictions. The exit
code is 1 if any byte differs.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FILES = ["last.pt", "best.pt", "metrics.jsonl", "predictions_val.npz"]
FILES += ["metrics_val_best_weights.json", "metrics_val_last_weights.json"]
COMMON = {"batch_size": 8, "num_epochs": 4, "learning_rate": 0.02, "checkpoint_minutes": 0}
COMMON |= {"num_threads": 1, "seed": 3}
PROJECTS: dict[str, dict[str, Any]] = {
    "distillation": {"lr_scheduler": "StepLR", "lr_scheduler_args": {"step_size": 2}},
    "gan": {"width": 8, "monitor": "distance", "monitor_mode": "min", "grad_accumulation": 2},
    "multitask": {"monitor": "size_error", "monitor_mode": "min", "ema_decay": 0.9},
    "masked": {"monitor": "streamed", "monitor_mode": "min"},
    "regression": {"monitor": "error", "monitor_mode": "min", "depth": 2, "grad_clip": 0.5},
    "weighted": {"class_weights": True, "lr_scheduler": "OneCycleLR", "val_split": 0.2},
    "unlabelled": {"grad_accumulation": 3},
}
TOGETHER = ("distillation", "multitask", "masked", "unlabelled")  # with two processes, too
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def start(tree: Path, folder: Path, data: Path, processes: int) -> "subprocess.Popen[bytes]":
    """Start train.py of a tree."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    command = [sys.executable, *(launcher if processes > 1 else []), "train.py"]
    arguments = ["--model_dir", str(folder), "--data_dir", str(data)]
    with (folder / "printed.txt").open("ab") as printed:
        return subprocess.Popen(
            [*command, *arguments], cwd=tree, env=ENVIRONMENT, stdout=printed, stderr=printed
        )


def stop_on_the_way(tree: Path, folder: Path, data: Path, processes: int) -> None:
    """Start a run, and ask it to stop when it has saved twice."""
    process = start(tree, folder, data, processes)
    while process.poll() is None and not (folder / "previous.pt").exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    process.wait()


def differing(old: Path, work: Path, name: str, processes: int) -> list[str]:
    """Train a project with both trees; returns what differs."""
    folders = {}
    for side, tree in (("old", old), ("new", ROOT)):
        folder = folders[side] = work / f"{name}-{processes}" / side
        folder.mkdir(parents=True)
        task = f"tests.projects.{name}"
        (folder / "params.json").write_text(json.dumps({"task": task} | COMMON | PROJECTS[name]))
        if side == "new":
            stop_on_the_way(tree, folder, work / "data", processes)
        if start(tree, folder, work / "data", processes).wait():
            end = (folder / "printed.txt").read_text().splitlines()[-1:]
            return [f"the {side} tree ends with an error: {' '.join(end)}"]
    there = [file for file in FILES if (folders["old"] / file).exists()]
    pairs = ((folders[side] / file for side in folders) for file in there)
    same = [one.read_bytes() == other.read_bytes() for one, other in pairs]
    return [file for file, equal in zip(there, same, strict=True) if not equal]


def main() -> int:
    """Run the script; returns the exit code."""
    faults = 0
    with tempfile.TemporaryDirectory() as temporary:
        work, old = Path(temporary), Path(temporary) / "tree"
        (work / "data").mkdir()
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--detach", str(old), sys.argv[1]], check=True)
        try:
            for name in PROJECTS:
                for processes in (1, 2) if name in TOGETHER else (1,):
                    found = differing(old, work, name, processes)
                    print(f"{name}, {processes} processes: {', '.join(found) or 'same bytes'}")
                    faults += len(found)
        finally:
            subprocess.run([*git, "remove", "--force", str(old)], check=True)
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
