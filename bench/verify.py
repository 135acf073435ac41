"""How many forged runs verify.py finds, and whether it takes an honest one for forged.

    python bench/verify.py

Seven kinds of forgery in turn, half of them with hashes and seals made anew; every stretch is
trained again. The honest runs are stopped and killed at random times, and resumed.
"""

import contextlib
import io
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository's root

import verify
from bench.common import parser
from tests.helpers import forging
from tests.helpers.runs import begin
from tests.helpers.warm import Warm

HONEST: list[dict[str, Any]] = [
    {},
    {"optimizer": "AdamW", "lr_scheduler": "OneCycleLR", "ema_decay": 0.9},
    {"val_split": 0.25, "grad_accumulation": 3, "grad_clip": 0.5},
    {"early_stopping_patience": 1, "keep_checkpoints": 9},
    {"keep_checkpoints": None, "checkpoint_minutes": 0},
]


def verdict(folder: Path, data: Path, *more: str) -> dict[str, Any]:
    """Verify a run; returns the exit code and the rows."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        verify.main([str(folder), "--data_dir", str(data), "--json", *more])
    found: dict[str, Any] = json.loads(printed.getvalue())
    return found


def differing(found: dict[str, Any]) -> list[str]:
    """Return what differs, of what was verified."""
    return [row["what"] for row in found["rows"] if row["verdict"] == "differs"]


def forge(number: int, folder: Path, honest: Path, data: Path, draw: random.Random) -> str:
    """Make a forged copy of a run; returns the kind of forgery."""
    kind = forging.KINDS[number % len(forging.KINDS)]
    shutil.copytree(honest, folder)
    other = {"code": data, "best": honest.with_name("other")}
    other["other_data"] = folder.with_name(f"{folder.name}-data")
    deep = number // len(forging.KINDS) % 2 == 1
    kind(folder, draw, deep, *([other[kind.__name__]] if kind.__name__ in other else []))
    return kind.__name__


def interrupted(warm: Warm, number: int, folder: Path, data: Path, draw: random.Random) -> int:
    """Train an honest run that is stopped or killed 0 to 3 times; returns how often it was."""
    folder.mkdir()
    params = forging.RECIPE | {"checkpoint_minutes": 0} | HONEST[number % len(HONEST)]
    (folder / "params.json").write_text(json.dumps(params))
    times = 0
    for _ in range(number % 4):
        child = begin(warm, folder, data, slow=0.003)
        time.sleep(draw.uniform(0.1, 0.8))
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, draw.choice([signal.SIGKILL, signal.SIGTERM]))
        times += child.wait() != 0
    assert begin(warm, folder, data).wait() == 0
    return times


def main() -> int:
    """Run the bench; returns the exit code."""
    args = parser(__doc__).parse_args()
    forged, honest = (7, 2) if args.quick else (100, 20)
    draw, found, faults, times = random.Random(0), Counter[str](), 0, 0
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        data, run = forging.write_data(place / "data"), place / "run"
        forging.trained(run, data)
        forging.trained(place / "other", data, seed=5)
        for number in range(forged):
            folder = place / f"forged{number}"
            kind = forge(number, folder, run, data, draw)
            wrong = differing(verdict(folder, data, "--all"))
            found[kind] += bool(wrong)
            if not wrong:
                print(f"not found: {kind} of {folder.name}", file=sys.stderr)
            shutil.rmtree(folder)
        warm = Warm()
        for number in range(honest):
            folder = place / f"honest{number}"
            times += interrupted(warm, number, folder, data, draw)
            rows = verdict(folder, data, "--all")
            faults += rows["exit_code"] != 0
            if rows["exit_code"]:
                print(f"false alarm: {rows}", file=sys.stderr)
        warm.close()
    print(f"found {found.total()} of {forged} forged runs: {dict(found)}")
    print(f"{faults} false alarms on {honest} honest runs, stopped or killed {times} times")
    return int(faults > 0 or found.total() < forged)


if __name__ == "__main__":
    sys.exit(main())
