"""The checks of the loaders and the data, and of a run's cost, as in core/check/net_checks.py."""

import copy
import hashlib
import math
import operator
import time
import warnings
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from core.base.classification import IGNORED
from core.base.errors import DataError, UserError
from core.check.subject import FaultError, NotApplicableError, Short, Subject, first_difference
from core.data.batches import Batches
from core.data.dataloaders import ExactLoader, known_ids
from core.machine.devices import peak_memory_mb
from core.machine.nested import apply, tensors
from core.machine.random_states import cpu_states
from core.run.baseline import count_classes
from core.task import Loader, is_integer

MOST = 50_000  # examples of a split that are looked at one by one
SECONDS, READING = 3.0, 20.0  # of training that are timed; of reading a split at most


def the_same_order_twice(subject: Subject) -> str:
    """An epoch yields the same batches whenever it is asked for, also from the middle."""
    told = []
    for split, loader in subject.own_loaders.items():
        before = cpu_states()
        first, second = (list(Short(loader, 8).epoch(0)) for _ in range(2))
        if where := first_difference(first, second, f"{split}, batch"):
            raise FaultError(f"{where} differs. Is there randomness beside (seed, epoch)?")
        middle = list(Short(loader, 8).epoch(0, len(first) // 2))
        if where := first_difference(first[len(first) // 2 :], middle, f"{split}, later batch"):
            raise FaultError(f"{where} differs when the epoch is begun in the middle")
        if not torch.equal(before[0], cpu_states()[0]):
            raise FaultError(f"{split}: draws from torch's global generator")
        other = list(Short(loader, 8).epoch(1))
        same = first_difference(first, other, "") is None
        told.append(f"{split} {'alike in all epochs' if same else 'new in every epoch'}")
    return ", ".join(told)


def workers_change_nothing(subject: Subject) -> str:
    """With two worker processes a DataLoader yields what it yields without any."""
    told = []
    for split, loader in subject.own_loaders.items():
        if not isinstance(loader, ExactLoader):
            continue
        found = []
        for workers in (0, 2):
            other = copy.copy(loader)
            other.inner = copy.copy(loader.inner)
            other.inner.num_workers = workers
            other.inner.prefetch_factor = 2 if workers else None
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch's own, if there is but one core
                found.append(list(Short(other, 4).epoch(0)))
        if where := first_difference(found[0], found[1], f"{split}, batch"):
            raise FaultError(f"{where} differs. Does the dataset keep a state of its own?")
        told.append(f"{split} {len(found[0])} batches")
    if not told:
        raise NotApplicableError("examples come from memory or a stream")
    return ", ".join(told)


def examples_of(loader: Loader) -> Iterator[tuple[Any, Any, Any]]:
    """Yield name, inputs and labels of the examples, as far as a loader shows them one by one."""
    if isinstance(loader, Batches):
        lengths = loader.lengths
        for i in range(min(loader.num_examples, MOST)):
            cut = (slice(i, i + 1),) if lengths is None else (slice(i, i + 1), slice(lengths[i]))
            row = apply(operator.itemgetter(cut), (loader.inputs, loader.labels))
            yield (loader.names or range(loader.num_examples))[i], *row
    elif isinstance(loader, ExactLoader):
        dataset = loader.loader.dataset
        names = known_ids(dataset)
        for i in range(min(len(names), MOST)):
            try:
                item = loader.examples[0, i]
            except UserError:
                raise
            except Exception as error:
                raise DataError(f"{names[i]}: {type(error).__name__}: {error}") from error
            pair = isinstance(item, tuple | list) and len(item) == 2
            yield names[i], *(item if pair else (item, None))
    else:
        raise NotApplicableError("a stream does not show its examples one by one")


def every_example_can_be_read(subject: Subject) -> str:
    """Examples of training and validation are read one by one, and their numbers are finite."""
    told = []
    for split, loader in subject.own_loaders.items():
        count, began = 0, time.perf_counter()
        for name, inputs, _ in examples_of(loader):
            count += 1
            if time.perf_counter() - began > READING:
                break
            for part in tensors(inputs):
                if part.is_floating_point() and not part.isfinite().all():
                    raise FaultError(f"{split}, example {name}: inputs hold NaN or infinity")
        told.append(f"{split} {count} of {loader.num_examples} examples")
    return ", ".join(told)


def digest(inputs: Any) -> bytes:
    """Return a hash of the inputs of an example."""
    found = hashlib.blake2b(digest_size=12)
    for part in tensors(inputs):
        found.update(f"{tuple(part.shape)}{part.dtype}".encode())
        found.update(part.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.digest() if tensors(inputs) else repr(inputs).encode()


def hashes(loader: Loader) -> dict[bytes, Any]:
    """Return the names of the examples by the hash of their files, or else of their inputs."""
    if isinstance(loader, ExactLoader):
        names = known_ids(loader.loader.dataset)
        if all(isinstance(name, str | Path) and Path(name).is_file() for name in names[:MOST]):
            return {
                hashlib.blake2b(Path(name).read_bytes()).digest(): name for name in names[:MOST]
            }
        if digest(loader.examples[0, 0]) != digest(loader.examples[1, 0]):
            raise NotApplicableError(
                "training examples are changed at random, and the dataset has no `filenames`"
            )
    return {digest(inputs): name for name, inputs, _ in examples_of(loader)}


def splits_share_no_example(subject: Subject) -> str:
    """No example of a split is found in another one; of the test split only the inputs are read."""
    loaders, without = dict(subject.own_loaders), ""
    try:
        loaders["test"] = subject.fetch("test")
    except Exception as error:  # a task may have no test split, and say so in its own way
        without = f"; without test ({str(error).partition(chr(10))[0]})"
    found = {split: hashes(loader) for split, loader in loaders.items()}
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        shared = found.get(one, {}).keys() & found.get(other, {}).keys()
        if shared:
            names = [f"{found[one][h]} = {found[other][h]}" for h in sorted(shared)[:2]]
            raise FaultError(
                f"{len(shared)} inputs are in {one} and in {other}: {'; '.join(names)}. "
                "Scores on them tell what was learned by heart"
            )
    return ", ".join(f"{name} {len(each)}" for name, each in found.items()) + without


def labels_are_of_one_kind(subject: Subject) -> str:
    """Labels are numbers of the net's classes, and about as frequent in validation as in training.

    The distance of two distributions is half the sum of the differences of their shares (total
    variation). It counts as a shift above 0.15, if more than four deviations from what chance gives
    (chi-squared, made normal as by Wilson and Hilferty 1931).
    """
    state, counts = subject.fresh(), {}
    state.model.eval()
    with torch.no_grad():
        outputs, labels = subject.forward(state, subject.own_loaders["val"].first_batch())
    classes = count_classes(outputs, labels)
    if classes is None:
        raise NotApplicableError("outputs are not scores of classes that integer labels name")
    for split, loader in subject.own_loaders.items():
        found = label_numbers(loader).long().flatten()
        counted = found[(found != IGNORED[0]) & (found != IGNORED[1])].cpu()
        if len(wrong := counted[(counted < 0) | (counted >= classes)]):
            raise FaultError(f"{split}: label {int(wrong[0])}, the net scores 0 to {classes - 1}")
        counts[split] = torch.bincount(counted, minlength=classes).double()
    train, val = counts["train"], counts["val"]
    if len(unseen := torch.nonzero((train == 0) & (val > 0)).flatten()):
        raise FaultError(f"class {int(unseen[0])} is in the validation split, but not in training")
    shares = train / train.sum(), val / val.sum()
    distance = float((shares[0] - shares[1]).abs().sum() / 2)
    expected = ((train + val) / (train + val).sum())[:, None] * torch.stack(
        [train.sum(), val.sum()]
    )
    squares = (torch.stack([train, val], dim=1) - expected) ** 2 / expected.clamp(min=1e-9)
    freedom = max(int((train + val > 0).sum()) - 1, 1)
    part = 2 / (9 * freedom)
    deviations = (float(squares.sum() / freedom) ** (1 / 3) - 1 + part) / part**0.5
    k = int((shares[0] - shares[1]).abs().argmax())
    told = f"class {k}: {shares[0][k]:.0%} of train, {shares[1][k]:.0%} of val"
    if distance > 0.15 and deviations > 4:
        raise FaultError(f"{told}. Were the splits drawn at random?")
    return f"{classes} classes; the largest difference is {told}"


def label_numbers(loader: Loader) -> Tensor:
    """Return the integer labels of a split, from its loader or from its first 1,000 batches."""
    known = getattr(loader, "labels", None)
    if is_integer(known):
        return known  # type: ignore[return-value]
    parts = []
    for batch in islice(loader.epoch(0), 1000):
        if not (isinstance(batch, tuple | list) and len(batch) == 2 and is_integer(batch[1])):
            raise NotApplicableError("batches are not (inputs, integer labels)")
        parts.append(batch[1].flatten())
    return torch.cat(parts)


def measure(subject: Subject) -> str:
    """Train for some seconds, and say how fast, how long for the data, and what is left to do."""
    state, loader, val = (
        subject.fresh(compile=subject.state.params.compile),
        subject.own_loaders["train"],
        Short(subject.own_loaders["val"], 4),
    )
    batches, done, waiting, began = loader.epoch(0), 0, 0.0, 0.0
    while done < 4 or time.perf_counter() - began < SECONDS:
        if done == 2:  # the first ones are slow
            waiting, began = 0.0, time.perf_counter()
        asked = time.perf_counter()
        if (batch := next(batches, None)) is None:
            batches = loader.epoch(1 + done // len(loader))
            continue
        waiting += time.perf_counter() - asked
        subject.step(state, batch)
        done += 1
    on_gpu = state.device.type == "cuda"
    if on_gpu:
        torch.cuda.synchronize()
    seconds, done = time.perf_counter() - began, done - 2
    began = time.perf_counter()
    subject.evaluate(state, val)
    val_seconds = (time.perf_counter() - began) * len(subject.own_loaders["val"]) / len(val)
    epochs = max(state.params.num_epochs - subject.epochs_done, 0)
    left = epochs * (seconds / done * len(loader) + val_seconds)
    memory = torch.cuda.max_memory_allocated() / 1e6 if on_gpu else peak_memory_mb()
    rate = done / seconds * (loader.num_examples or math.nan) / len(loader)
    hint = ". More num_workers, or utils.Batches?" if waiting > 0.3 * seconds else ""
    return (
        f"{rate:.0f} examples/s, {waiting / seconds:.0%} of the time waiting for data{hint}, "
        f"peak memory {memory or math.nan:.0f} MB, {duration(left)} for {epochs} epochs"
    )


def duration(seconds: float) -> str:
    """Return seconds as "1 h 5 min", "5 min 3 s" or "12 s"."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"
