"""The checks of what outputs may depend on, and of what comes from outside the run."""

import hashlib
import json
import os
import subprocess
import sys

import torch
from torch import Tensor

from core.base.params import ROOT
from core.check.subject import DoubtError, FaultError, NotApplicableError, Subject
from core.machine.nested import apply, tensors
from core.machine.nested import first_difference as difference

PATIENCE = 20.0  # seconds that another process may take
CODE = """
import json, sys
sys.path.insert(0, {root!r})
from pathlib import Path
import train
from core.check.leak_checks import fingerprints
from core.check.subject import Subject
print(fingerprints(Subject(Path({folder!r}), Path({data!r}), json.loads({overrides!r}), train)))
"""


def outputs_do_not_read_labels(subject: Subject) -> str:
    """In eval mode outputs stay the same when the labels of the batch are others."""
    batch = subject.loaders["val"].first_batch()
    if not (isinstance(batch, tuple | list) and len(batch) == 2 and subject.labelled):
        raise NotApplicableError("batches are not (inputs, labels)")
    inputs, labels = batch
    if any(x is y for x in tensors(inputs) for y in tensors(labels)):
        raise NotApplicableError("labels are the inputs")
    state = subject.fresh()
    changed = (inputs, apply(_moved, labels))
    try:
        one, other = (subject.forward(state, each)[0] for each in (batch, changed))
    except Exception as error:  # labels that were made up may not fit the task's code
        raise NotApplicableError("other labels do not fit") from error
    if difference(one, other, "outputs", subject.rounding):
        raise FaultError(
            "outputs change with the labels of the batch: in evaluation the net reads the answer. "
            "Leave teacher forcing to training: `if model.training` in forward"
        )
    return "other labels, the same outputs"


def _moved(labels: Tensor) -> Tensor:
    """Return labels of which each is that of the next example, and along a sequence, too."""
    if labels.ndim == 0:
        return labels
    moved = labels.roll(1, 0)
    return moved.roll(1, 1) if labels.ndim > 1 else moved


def outputs_do_not_see_the_future(subject: Subject) -> str:
    """Where a net predicts the next element, outputs do not change with later inputs."""
    batch = subject.loaders["val"].first_batch()
    if not (isinstance(batch, tuple | list) and len(batch) == 2):
        raise NotApplicableError("batches are not (inputs, labels)")
    x, y = batch
    fitting = isinstance(x, Tensor) and isinstance(y, Tensor) and x.shape == y.shape and x.ndim == 2
    if not (fitting and x.shape[1] > 2 and torch.equal(x[:, 1:], y[:, :-1])):
        raise NotApplicableError("labels are not the inputs moved by one")
    middle = x.shape[1] // 2
    other = x.clone()
    other[:, middle:] = x[:, middle:].roll(1, 0).flip(1)
    state = subject.fresh(precision=subject.precise)
    one, two = (subject.forward(state, (each, y))[0] for each in (x, other))
    for a, b in zip(tensors(one), tensors(two), strict=True):
        axis = next((i for i in (1, 2) if a.ndim > i and a.shape[i] == x.shape[1]), None)
        if axis is None:
            raise NotApplicableError("outputs have no axis of positions")
        past = a.narrow(axis, 0, middle), b.narrow(axis, 0, middle)
        if difference(*past, "outputs", subject.rounding):
            raise FaultError(
                "outputs change with inputs that come later: the net sees what it is to predict. "
                "Is the mask of attention causal, with -inf before softmax? Is the RNN one-way?"
            )
    return f"{middle} of {x.shape[1]} positions"


def fingerprints(subject: Subject) -> str:
    """Return a hash of the first batches of training and validation, as JSON."""
    found = {}
    for split, loader in subject.loaders.items():
        digest = hashlib.sha256()
        for part in tensors(loader.first_batch()):
            raw = part.detach().cpu().contiguous().flatten().view(torch.uint8)
            digest.update(raw.numpy().tobytes())
        found[split] = digest.hexdigest()
    return json.dumps(found)


def another_process_reads_the_same(subject: Subject) -> str:
    """Another start of Python reads the same batches: no order of a set or of a hash is in them."""
    own = json.loads(fingerprints(subject))
    overrides = json.dumps(subject.overrides, default=str)
    code = CODE.format(
        root=str(ROOT), folder=str(subject.folder), data=str(subject.data_dir), overrides=overrides
    )
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=PATIENCE,
        )
        lines = done.stdout.strip().splitlines()
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
        raise NotApplicableError("another process could not read them") from error
    other = json.loads(lines[-1])
    if wrong := [split for split in own if own[split] != other.get(split)]:
        raise FaultError(
            f"another process reads another first batch of {wrong[0]}. Does a number, as of a word "
            "or class, come from the order of a set or from hash()? Sort it"
        )
    return ", ".join(own)


def frozen_weights_are_loaded(subject: Subject) -> str:
    """Frozen weights come from somewhere: they are not random, as before anything was loaded."""
    one, other = subject.fresh(), subject.fresh(other_weights=True)
    frozen = {n: w for n, w in one.model.named_parameters() if not w.requires_grad}
    if not frozen:
        raise NotApplicableError("no weights are frozen")
    if one.task.initialize is not None:
        one.task.initialize(other.model, other.params)
    theirs = dict(other.model.named_parameters())
    drawn = [name for name, w in frozen.items() if not torch.equal(w, theirs[name])]
    if drawn:
        raise DoubtError(
            f"frozen, and random: {', '.join(drawn[:2])}. Nothing has loaded them. Do the names in "
            "the file fit? load_state_dict(..., strict=False) skips those that do not"
        )
    return f"{len(frozen)} weights"


def a_step_stays_in_train_mode(subject: Subject) -> str:
    """A train_step of the task's own leaves the net in train mode, as the next step needs it."""
    state = subject.fresh()
    if state.task.train_step is None:
        raise NotApplicableError("the default step is used")
    resting = {name for name, m in state.model.train().named_modules() if not m.training}
    subject.step(state, subject.loaders["train"].first_batch())
    names = {name for name, m in state.model.named_modules() if not m.training}
    if left := sorted(names - resting):
        raise FaultError(
            f"train_step leaves {left[0] or 'the net'} in eval mode, so dropout and batch norm are "
            "off from then on. Call model.train() after model.eval()"
        )
    return "in train mode"
