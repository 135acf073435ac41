"""Check and time training on NVIDIA GPUs in under eight minutes, and write docs/gpu.md.

    bash bench/gpu.sh                # --output FILE: another page
    bash bench/gpu.sh --device cpu --quick --output FILE    # a trial of the script itself

Everything runs in processes of its own, on data that are drawn. What fails, or cannot be measured
here, stands on the page with its reason; the exit code is 1 if anything failed.
"""

import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import date
from functools import partial
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository's root

from bench import gpu_parts as parts
from bench.common import ROOT, parser
from bench.gpu_parts import Here, MissedError, NotMeasuredError, Row
from core.machine.environment import usable_cores

SECONDS = 460  # for all together
Item = tuple[str, Callable[[Here], list[Row]]]
# In this order: what is checked comes before what is timed, in case time is up.
PAGE: dict[str, list[Item]] = {
    "Steps that wait for nothing": [
        (recipe, partial(parts.waiting, recipe=recipe)) for recipe in ("base_model", "ner")
    ],
    "Bits: stopped in mid-epoch, and resumed": [
        (recipe, partial(parts.bits, recipe=recipe)) for recipe in ("base_model", "ner")
    ],
    "Several processes, one on each GPU, with NCCL": [
        (f"{what.__name__}, {'in parts' if shard else 'replicas'}", partial(what, shard=shard))
        for what in (parts.exact, parts.exchange)
        for shard in (False, True)
    ],
    "Speed beside a loop written by hand": [
        (
            f"{net}{', compiled' if compiled else ''}",
            partial(parts.speed, net=net, compiled=compiled),
        )
        for compiled in (False, True)
        for net in ("signs", "resnet18")
    ],
    "CIFAR-10": [("experiments/cifar10/fast", parts.cifar10)],
}
ABOUT = {
    "Steps that wait for nothing": "`torch.cuda.set_sync_debug_mode` is `error` from the second "
    "batch of an epoch to its last one. `save_summary_steps` is so large that no step logs.",
    "Bits: stopped in mid-epoch, and resumed": "With `deterministic: true` "
    "([reproducibility.md](reproducibility.md)); compared are `" + "`, `".join(parts.FILES) + "`.",
    "Several processes, one on each GPU, with NCCL": "bench/wide. `in parts` is `shard: true`.",
    "Speed beside a loop written by hand": "Medians of epochs but the first, and of turns A B A B. "
    "Both have bfloat16, channels last, a fused AdamW and the hand signs' augmentation. The "
    "ResNet-18 gets 224x224 pixels of noise. `train.py` computes exact training metrics besides.",
    "CIFAR-10": "Seconds of epochs until the first with 94 % on the 1,000 validation images. The "
    "published figures are means of runs to 94 % on the 10,000 test images.",
}


def measured(here: Here, name: str, work: Callable[[Here], list[Row]]) -> tuple[list[Row], bool]:
    """Return the rows of an item, and whether it did not fail."""
    began = time.monotonic()
    try:
        found, well = work(here), True
    except NotMeasuredError as reason:
        found, well = [(name, f"not measured: {reason}", "")], True
    except MissedError as reason:
        found, well = [(name, f"**FAILED**: {reason}", "")], False
    except Exception as error:
        print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)
        found, well = [(name, f"**FAILED**: {gist(str(error))}", "")], False
    print(f"{time.monotonic() - began:6.1f} s  {name}: {found[-1][1]}", file=sys.stderr)
    return found, well


def gist(printed: str) -> str:
    """Return the line of what a process printed that tells most: its first error, or the last."""
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"(\[rank\d+\]: *)?[\w.]*Error\b", line)]
    return (errors[:1] or lines[-1:] or ["no message"])[0][:300]


def machine(device: str) -> str:
    """Return the GPUs, the processor, the versions of software, and the commit."""
    count = torch.cuda.device_count() if device == "cuda" else 0
    gpus = [torch.cuda.get_device_name(i) for i in range(count)]
    kinds = [f"{gpus.count(name)} x {name}" for name in dict.fromkeys(gpus)]
    versions = [f"Python {platform.python_version()}", f"torch {torch.__version__}"]
    if count:
        versions += [f"CUDA {torch.version.cuda}", f"cuDNN {torch.backends.cudnn.version()}"]
        versions += ["NCCL " + ".".join(map(str, torch.cuda.nccl.version()))]
    cores = f"{usable_cores()} cores, {platform.machine()}"
    commit = "not known"
    with suppress(OSError, subprocess.CalledProcessError):  # no git, or a copy without its folder
        command = ["git", "describe", "--always", "--dirty"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        commit = done.stdout.strip()
    return f"{', '.join(kinds) or 'no GPU'}; {cores}. {', '.join(versions)}. Commit {commit}."


def write(page: Path, here: Here, found: dict[str, list[Row]], seconds: float) -> None:
    """Write the page."""
    quick = " --quick: the figures say nothing." if here.quick else ""
    lines = ["# Training on a GPU", "", f"Written by `bash bench/gpu.sh` on {date.today()}, in "]
    lines[-1] += f"{seconds:.0f} s.{quick}"
    lines += [machine(here.device), ""]
    for title, rows in found.items():
        lines += [f"## {title}", "", ABOUT[title], "", "| what | found | wanted |", "|---|---|---|"]
        lines += [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows]
        lines += [""]
    page.write_text("\n".join(lines), encoding="utf-8")


def main() -> int:
    """Run the bench; returns the exit code."""
    arguments = parser(__doc__)
    arguments.add_argument("--output", type=Path, default=ROOT / "docs/gpu.md", metavar="FILE")
    arguments.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    args = arguments.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        print("bench/gpu.py: no GPU that torch can use; try --device cpu --quick", file=sys.stderr)
        return 1
    if args.device == "cpu" and not args.quick:
        arguments.error("--device cpu goes with --quick: it is a trial of the script itself")
    began = time.monotonic()
    gpus = torch.cuda.device_count() if args.device == "cuda" else 0
    # Two at once only where nothing is timed.
    together = 2 if args.quick and args.device == "cpu" else 1
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(together) as pool:
        here = Here(args.device, args.quick, Path(name), began + SECONDS, gpus)
        waiting = {
            title: [pool.submit(measured, here, *item) for item in items]
            for title, items in PAGE.items()
        }
        found = {title: [one.result() for one in each] for title, each in waiting.items()}
    rows = {title: [row for some, _ in each for row in some] for title, each in found.items()}
    write(args.output, here, rows, time.monotonic() - began)
    print(f"Wrote {args.output}")
    return 0 if all(well for each in found.values() for _, well in each) else 1


if __name__ == "__main__":
    sys.exit(main())
