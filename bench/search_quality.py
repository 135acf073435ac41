"""How good is the best trial, after how many epochs? Methods of a search on recorded curves.

    python bench/search_quality.py            # --quick: five seeds
    python bench/search_quality.py --train    # record the curves anew, about 15 minutes of a core

The 60 settings of bench/signs_curves.json are small nets for hand signs, each trained to the end
once. A search of 60 trials is played on them by the code that runs searches, one job, its record in
memory: only training is replaced by looking up a curve. A learning rate takes the curve of the
nearest one that was trained. Regret is the best accuracy of all 60 less the best seen so far.
"""

import argparse
import json
import math
import random
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # a script sees only its own folder

import numpy as np  # noqa: E402
import optuna  # noqa: E402
from optuna.storages import InMemoryStorage  # noqa: E402
from optuna.trial import TrialState  # noqa: E402

import search_hyperparams  # noqa: E402
from core.base.files import parse_rows, write_text  # noqa: E402
from core.base.params import read_params  # noqa: E402
from core.search.locks import Locks  # noqa: E402
from core.search.settings import Settings, read_settings  # noqa: E402
from core.search.study import Study  # noqa: E402

CURVES = Path(__file__).with_name("signs_curves.json")
BASE = {"optimizer": "AdamW", "num_epochs": 16, "num_threads": 1, "save_predictions": False}
CHOICES: dict[str, list[Any]] = {
    "learning_rate": [3e-4, 1e-3, 3e-3, 1e-2, 3e-2],
    "dropout_rate": [0.0, 0.3, 0.6],
    "batch_size": [16, 64],
    "num_channels": [2, 4],
}
SPACE = CHOICES | {
    "learning_rate": {"low": 3e-4, "high": 3e-2, "log": True},
    "dropout_rate": {"low": 0.0, "high": 0.6, "step": 0.3},
}
METHODS: dict[str, dict[str, Any]] = {
    "grid": {"method": "grid"},
    "random": {"method": "random"},
    "tpe": {"method": "tpe"},
    "gp": {"method": "gp"},
    "prune": {"method": "random", "prune": {"after": 1, "keep": 0.33}},
    "asha": {"method": "asha"},
    "freeze_thaw": {"method": "freeze_thaw"},
}
COLUMNS = (40, 80, 120, 160, 320, 960)  # epochs spent; all trials to the end: 960
Curves = dict[str, list[float]]
Track = list[tuple[int, float]]  # epochs spent, and the best value by then


def key(point: dict[str, Any]) -> str:
    """Return the name of the setting that a point stands for."""
    rates = CHOICES["learning_rate"]
    nearest = min(rates, key=lambda rate: abs(math.log(rate / point["learning_rate"])))
    return json.dumps({**{n: point[n] for n in CHOICES}, "learning_rate": nearest})


def record(data: str) -> None:
    """Train all settings to the end, with a grid search, and write their curves."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "params.json").write_text(json.dumps(BASE))
        (folder / "search.yaml").write_text(json.dumps({"space": CHOICES}))
        if search_hyperparams.main(["--parent_dir", scratch, "--data_dir", data]):
            raise SystemExit("a setting could not be trained")
        write_curves(folder)


def write_curves(folder: Path) -> None:
    """Write the curves of a search's finished trials."""
    lines = []
    for path in sorted(folder.glob("*/metrics.jsonl")):
        values = [round(row["val_accuracy"], 4) for row in parse_rows(path.read_bytes())[0]]
        name = key(read_params(path.parent / "params.json"))
        lines.append(f"{json.dumps(name)}: {json.dumps(values)}")
    write_text(CURVES, "{\n" + ",\n".join(lines) + "\n}\n")


def settings_of(method: str, seed: int, folder: Path) -> Settings:
    """Return the settings of a search; a grid's values stand in another order for every seed."""
    written = {"space": SPACE, "trials": 60, "seed": seed, **METHODS[method]}
    if method == "grid":
        rng, names = random.Random(seed), [*CHOICES]
        rng.shuffle(names)
        written = {"space": {n: rng.sample(CHOICES[n], len(CHOICES[n])) for n in names}}
    path = folder / "search.yaml"
    path.write_text(json.dumps(written))
    return read_settings(path, BASE)


def play(method: str, seed: int, curves: Curves, most: int) -> Track:
    """Play a search; returns the best value after every epoch that was trained, `most` at least."""
    track: Track = [(0, -math.inf)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        settings, locks = settings_of(method, seed, folder), Locks(folder / "lock")
        study = Study(InMemoryStorage(), "search", locks, settings, {"accuracy": True})
        done: dict[int, int] = {}
        while track[-1][0] < most and (claim := study.claim()) is not None:
            values, pruned = curves[key(claim.point)], False
            for epoch in range(done.get(claim.number, 0) + 1, (claim.goal or len(values)) + 1):
                track.append((track[-1][0] + 1, max(track[-1][1], values[epoch - 1])))
                done[claim.number] = epoch
                if settings.prune and epoch < len(values):
                    pruned = study.note(claim, values[:epoch], True)
                if pruned:
                    break
            if pruned:
                study.end(claim, TrialState.PRUNED)
                continue
            study.note(claim, values[: done[claim.number]])
            if done[claim.number] < len(values):
                study.pause(claim)
            else:
                study.end(claim, TrialState.COMPLETE, [max(values)])
    return track


def one_epoch_first(seed: int, curves: Curves) -> Track:
    """One epoch of each of 60 random settings, then the best 6 of them to the end."""
    names = random.Random(seed).choices([*curves], k=60)
    track: Track = [(0, -math.inf)]
    order = [(name, 0, 1) for name in names]
    best = sorted(names, key=lambda name: -curves[name][0])[:6]
    for name, begin, end in order + [(name, 1, 16) for name in best]:
        for value in curves[name][begin:end]:
            track.append((track[-1][0] + 1, max(track[-1][1], value)))
    return track


def after(track: Track, epochs: int) -> float:
    """Return the best value after so many epochs, or at the end of a search that took fewer."""
    return track[min(epochs, len(track) - 1)][1]


def interval(values: Sequence[float]) -> str:
    """Return the median, with its 95% interval from 2,000 bootstrap samples."""
    rng = np.random.default_rng(0)
    samples = rng.choice(np.asarray(values), (2000, len(values)))
    low, high = np.quantile(np.median(samples, axis=1), [0.025, 0.975])
    return f"{100 * statistics.median(values):.1f} ({100 * low:.1f} to {100 * high:.1f})"


def main() -> None:
    """Run the bench."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", action="store_true", help="record the curves anew")
    parser.add_argument("--data_dir", default=str(ROOT / "data" / "64x64_SIGNS"))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--methods", nargs="*", default=[*METHODS, "one epoch first"])
    args = parser.parse_args()
    if args.train:
        record(args.data_dir)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    curves: Curves = json.loads(CURVES.read_text(encoding="utf-8"))
    top = max(max(values) for values in curves.values())
    print(f"60 settings, the best accuracy is {top:.4f}; medians of regret in percentage points")
    print("| method | " + " | ".join(f"{n} epochs" for n in COLUMNS) + " | epochs in all |")
    print("|---|" + "---|" * (len(COLUMNS) + 1))
    for method in args.methods:
        tracks = []
        for seed in range(5 if args.quick else 50):
            if method == "one epoch first":
                tracks.append(one_epoch_first(seed, curves))
            else:
                # A Gaussian process takes most of a second for each point.
                tracks.append(play(method, seed, curves, 320 if method == "gp" else 960))
        cells = []
        for epochs in COLUMNS:
            told = any(track[-1][0] >= epochs or method != "gp" for track in tracks)
            regrets = [top - after(track, epochs) for track in tracks]
            cells.append(interval(regrets) if told else "")
        whole = statistics.median(track[-1][0] for track in tracks)
        print(f"| {method} | {' | '.join(cells)} | {whole:.0f} |", flush=True)


if __name__ == "__main__":
    main()
