"""The checks of what repeats itself: evaluations, batch sizes, seeds, other starts of a run."""

import json
import os
import random
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from itertools import count
from signal import SIGTERM
from typing import Any

import torch

from core.base.errors import Stopped
from core.base.params import ROOT, find_params_file
from core.check.examples import bytes_of
from core.check.subject import FaultError, NotApplicableError, Short, Subject
from core.machine.nested import first_difference
from core.reading.misfits import CONTRAST
from core.run.opening import ending, open_run
from core.task import Loader
from core.training.checkpoint import read_checkpoint

PATIENCE = 20.0  # seconds that another process may take
CODE = """
import json, sys
sys.path.insert(0, {root!r})
from pathlib import Path
import train
from core.check.run_checks import hashes
from core.check.subject import Subject
print(hashes(Subject(Path({folder!r}), Path({data!r}), json.loads({overrides!r}), train)))
"""


def saved_weights_are_the_whole_net(subject: Subject) -> None:
    """A net made with other random numbers gives the old one's outputs with its saved weights."""
    trained, loaded = subject.trained(), subject.fresh(other_weights=True)
    loaded.model.load_state_dict(trained.model.state_dict())
    batch = subject.loaders["val"].first_batch()
    one, other = (subject.forward(state, batch)[0] for state in (trained, loaded))
    if first_difference(one, other, "outputs", subject.noise):
        told = "the loaded net gives other outputs. Is there state beside parameters and buffers?"
        raise FaultError(f"{told} register_buffer keeps a tensor, nn.ModuleList a list of layers")


def evaluation_repeats_itself(subject: Subject) -> str:
    """Two evaluations give the same numbers, whatever the seed of what is drawn meanwhile."""
    state, loader = subject.fresh(), Short(subject.loaders["val"], 8)
    one = subject.evaluate(state, loader)
    state.params.seed += 1
    other = subject.evaluate(state, loader)
    if where := first_difference(one, other, "evaluation", subject.noise):
        raise FaultError(f"{where} differs. Does the net or the loader draw random numbers?")
    return f"{len(loader)} batches"


def batch_size_changes_no_number(subject: Subject) -> str:
    """Loss and metrics of 64 validation examples are the same in batches of 1, 16 and 64."""
    state, first = subject.fresh(precision=subject.precise), dict[str, float]()
    for size in (1, 16, 64):
        loader = subject.fetch("val", batch_size=size)
        if len(loader) != -(-loader.num_examples // size):
            raise NotApplicableError("the loader does not obey batch_size")
        values = subject.evaluate(state, Short(loader, 64 // size))
        if not first:
            state.params.seed += 1
            if first_difference(subject.evaluate(state, Short(loader, 64)), values, ""):
                raise NotApplicableError("evaluation draws random numbers, batch by batch")
            state.params.seed -= 1
        if CONTRAST in subject.misfits:
            values = {name: x for name, x in values.items() if name in state.task.metrics}
        first = first or values
        if where := first_difference(values, first, "val", subject.rounding):
            name = where.rpartition(", ")[2]
            told = f"{name} is {first[name]:.6g} for batch_size 1, {values[name]:.6g} for {size}"
            raise FaultError(f"{told}. Does loss_weight count the terms of the loss's mean?")
    return f"{min(64, loader.num_examples)} examples"


def the_same_seed_gives_the_same_steps(subject: Subject) -> str:
    """Two nets made and trained alike for five steps have the same weights, to the bit."""
    one, other = (subject.trained().model.state_dict() for _ in range(2))
    if where := first_difference(one, other, "weights"):
        raise subject.unequal(f"{where} differs. Are numbers drawn from a generator of its own?")
    return "5 steps"


def a_resumed_run_ends_bit_equal(subject: Subject) -> str:
    """Two short epochs of the run, stopped at random and resumed, end as without the stop."""
    counts = {"train": max(6, 2 * subject.params.grad_accumulation), "val": 2}
    loaders: dict[str, Loader] = {n: Short(subject.loaders[n], c) for n, c in counts.items()}

    def start(name: str, stop_at: int = 0) -> int:
        """Run until it asks for the n-th time whether a signal has come; returns how often."""
        folder = subject.folder / name
        folder.mkdir(exist_ok=True)
        shutil.copy(find_params_file(subject.folder), folder)
        run = open_run(folder, subject.overrides | {"num_epochs": 2})
        run.task = replace(run.task, fetch_dataloader=lambda *args: loaders)
        run.params.dict.update(subject.set_by_loaders, val_split=0.0)  # split already
        asked = count(1)

        def agree(sent: int, due: int, pace: int) -> list[int]:
            subject.check_time()
            return [SIGTERM if next(asked) == stop_at else sent, due, 1]  # ask every time

        run.stop.agree = agree
        torch.compiler.reset()  # what an earlier run has compiled
        with suppress(Stopped), ending(run):
            subject.train.train_to_the_end(run)
        return next(asked) - 1

    last = [subject.folder / name / "last.pt" for name in ("whole", "stopped")]
    # After the first step, and before the last ones: else nothing is left to be resumed.
    start("stopped", random.Random(subject.seed).randrange(2, max(3, start("whole") * 3 // 4)))
    stopped = read_checkpoint(last[1])
    start("stopped")
    whole, resumed = map(read_checkpoint, last)
    at = f"stopped after step {stopped['step']} of {whole['step']} (--seed {subject.seed})"
    if where := first_difference(resumed, whole, "last.pt"):
        hint = "Is there state that is no parameter, no buffer and not in state.extra?"
        raise subject.unequal(f"{where} differs, {at}. {hint}")
    return at


def hashes(subject: Subject) -> str:
    """Return hashes of the first batches of training and validation, as JSON."""
    first = {split: bytes_of(loader.first_batch()) for split, loader in subject.loaders.items()}
    return json.dumps({split: sha256(b"".join(each)).hexdigest() for split, each in first.items()})


def another_process_reads_the_same(subject: Subject) -> str:
    """Another start of Python reads the same batches: no order of a set or of a hash is in them."""
    overrides = json.dumps(subject.overrides, default=str)
    places = {"root": str(ROOT), "folder": str(subject.folder), "data": str(subject.data_dir)}
    command = [sys.executable, "-c", CODE.format(**places, overrides=overrides)]
    env = os.environ | {"PYTHONHASHSEED": "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"}
    how: Any = {"env": env, "stderr": subprocess.DEVNULL, "timeout": PATIENCE}
    try:
        printed = subprocess.check_output(command, text=True, **how)
    except subprocess.SubprocessError as error:
        raise NotApplicableError("another process could not read them") from error
    own, other = json.loads(hashes(subject)), json.loads(printed.splitlines()[-1])
    if wrong := [split for split in own if own[split] != other.get(split)]:
        raise FaultError(
            f"another process reads another first batch of {wrong[0]}. Does a number, as of a word "
            "or class, come from the order of a set or from hash()? Sort it"
        )
    return ", ".join(own)
