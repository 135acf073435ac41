"""What bench/gpu.py starts in processes of its own, each for one thing; prints a line of JSON.

python bench/gpu_inside.py waiting|stopping|speed|overlap ...
"""

import json
import os
import signal
import statistics
import sys
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository's root

import train
from bench import common
from bench.by_hand import signs as hand_written
from bench.hurried import Hurried
from bench.pictures.net import Net
from core.base.params import Params
from core.machine import processes
from core.run.opening import open_run
from core.run.run import Run
from core.task import Loader
from core.training.state import State, make_state

Interval = tuple[float, float]  # begin and end, in one unit
# What a profile shows on a GPU beside kernels: copies, and the marks that libraries set.
OTHERS = ("Memcpy", "Memset", "nccl:", "FSDP::", "Optimizer.", "ProfilerStep", "## ")


def waiting(folder: str, data: str) -> dict[str, Any]:
    """Train for two epochs, the second without a wait; returns how many steps that were."""
    run = open_run(Path(folder), {"data_dir": data})
    loaders = run.fetch_loaders()
    state = make_state(run.task, run.params, run.device, loaders["train"], run.new)
    run.resume(state, loaders)
    train.train(state, loaders["train"], run)  # libraries make their handles in their first calls
    state.epoch, state.batch, before = 1, 0, state.step
    train.train(state, Hurried(loaders["train"], sys.maxsize), run)
    run.writer.close()
    return {"steps": state.step - before - 1}


def stopping(*argv: str) -> dict[str, Any]:
    """Run train.py, and send it SIGTERM in the middle of the second epoch."""
    end_batch = State.end_batch

    def ending(state: State, losses: dict[str, Any]) -> None:
        end_batch(state, losses)
        if state.epoch == 1 and state.batch == len(state.loader) // 2:
            os.kill(os.getpid(), signal.SIGTERM)

    State.end_batch = ending  # type: ignore[method-assign, assignment]
    return {"code": int(train.main(argv))}


def speed(settings: str) -> dict[str, Any]:
    """Train the same pictures by hand and by train.py, in turn; returns the images a second."""
    asked = json.loads(settings)
    params, folder, data = asked["params"], Path(asked["folder"]), Path(asked["data"])

    def forget() -> None:
        if params["compile"]:  # else a net of the same class may be taken for the one before
            torch._dynamo.reset()

    def by_hand() -> common.Figures:
        forget()
        net, bfloat16 = Net(Params.of(params, folder)), params["precision"] == "bfloat16"
        size, device, compiled = params["batch_size"], params["device"], params["compile"]
        found = hand_written.main(
            str(data / "images.npz"),
            params["num_epochs"],
            bfloat16,
            size,
            device,
            net,
            compiled,
            params["repeat"],
        )
        return {"images/s": statistics.median(found["rates"][1:])}

    def template() -> common.Figures:
        forget()
        argv = ["--model_dir", str(folder), "--data_dir", str(data), "--overwrite"]
        if train.main(argv) != 0:
            raise SystemExit("train.py failed")
        rows = [json.loads(line) for line in (folder / "times.jsonl").read_text().splitlines()]
        return {"images/s": statistics.median(r["examples_per_second"] for r in rows[1:])}

    ways = {"by hand": by_hand, "train.py": template}
    with redirect_stdout(sys.stderr):
        found = common.in_turn(ways, asked["turns"], asked["seconds"])
    rates = {name: figures["images/s"] for name, figures in found.items()}
    return {"rates": rates, "turns": found.turns, "moves": found.moves, "others": found.others}


def union(intervals: Iterable[Interval]) -> list[Interval]:
    """Return intervals as ones that do not touch, in order."""
    found: list[Interval] = []
    for begin, end in sorted(intervals):
        if found and begin <= found[-1][1]:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((begin, end))
    return found


def share_inside(inner: Iterable[Interval], outer: Iterable[Interval]) -> float:
    """Return which share of the time of some intervals lies inside of others."""
    inner, outer = union(inner), union(outer)
    both = sum(max(0.0, min(b, d) - max(a, c)) for a, b in inner for c, d in outer)
    return both / sum(end - begin for begin, end in inner)


def overlap(note: str, *argv: str) -> NoReturn:
    """Run train.py, and note which share of the NCCL kernels' time lies inside other kernels.

    Taken from what torch.profiler sees of rank 0's second epoch. Copies are no kernels.
    """
    original = train.train
    # With torch 2.11 the end of the state's engine sometimes waited for ever after a profile; so it
    # is kept until the process is left without clean-up.
    kept: list[State] = []

    def watched(state: State, loader: Loader, run: Run) -> dict[str, float]:
        kept[:] = [state]
        if state.epoch != 1 or not processes.is_main():
            return original(state, loader, run)
        on_gpu = state.device.type == "cuda"
        with profile(
            activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]
        ) as profiler:
            found = original(state, loader, run)
            if on_gpu:
                torch.cuda.synchronize()
        kernels: dict[bool, list[Interval]] = {True: [], False: []}
        for event in profiler.events() or []:
            marked = getattr(event, "is_user_annotation", False) or event.name.startswith(OTHERS)
            if event.device_type == DeviceType.CUDA and not marked:
                span = event.time_range.start, event.time_range.end
                kernels[event.name.startswith("nccl")].append(span)
        lists = {"nccl": kernels[True], "compute": kernels[False]}
        spans = {name: sum(e - b for b, e in union(one)) / 1e6 for name, one in lists.items()}
        inside = share_inside(kernels[True], kernels[False]) if kernels[True] else None
        Path(note).write_text(json.dumps({"share": inside} | spans))
        return found

    train.train = watched
    code = int(train.main(argv))
    print(json.dumps({"code": code}))
    processes.leave(code)


def main(argv: Sequence[str]) -> int:
    """Do what the first word names with the others; returns the exit code."""
    work = {f.__name__: f for f in (waiting, stopping, speed, overlap)}[argv[0]]
    found = work(*argv[1:])
    print(json.dumps(found))
    return int(found.get("code", 0))


if __name__ == "__main__":
    processes.leave(main(sys.argv[1:]))
