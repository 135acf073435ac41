"""The checks of the loaders and the data, and of a run's speed."""

import copy
import math
import time
import warnings
from datetime import timedelta
from itertools import combinations, islice
from pathlib import Path
from statistics import median_high
from typing import Any

import torch

from core.base.errors import plural
from core.check.examples import bytes_of, inputs_of, length_of, own_numbers
from core.check.subject import DoubtError, FaultError, NotApplicableError, Short, Subject
from core.data.dataloaders import ExactLoader
from core.data.known import known_ids
from core.data.records import Records
from core.data.records_hashes import read_all
from core.machine.devices import peak_memory_mb
from core.machine.nested import first_difference, tensors
from core.task import Loader

MOST, FEWER = 50_000, 3000  # examples of a split that are looked at one by one; their lengths
FEW = 0.05  # of the smaller split: so many sequences of words may be equal by chance
LONGER = 100  # times the median length
SECONDS, READING = 3.0, 20.0  # of training that are timed; of reading a split at most


def the_same_order_twice(subject: Subject) -> str:
    """An epoch yields the same batches whenever it is asked for, also from the middle on."""
    told = []
    for split, own in subject.own_loaders.items():
        loader, before = Short(own, 8), torch.get_rng_state()
        first, half = list(loader.epoch(0)), len(loader) // 2
        again = [*Short(own, half).epoch(0), *loader.epoch(0, half)]
        if where := first_difference(first, again, f"{split}, batch"):
            hint = "Is there randomness beside (seed, epoch), or a counter?"
            if isinstance(own, ExactLoader):
                one = copy.deepcopy(own.examples[0, 0])
                if first_difference(one, own.examples[0, 0], "example"):
                    hint = "An example is new each time. Does __getitem__ change what it keeps?"
            raise FaultError(f"{where} differs. {hint}")
        if not torch.equal(before, torch.get_rng_state()):
            raise FaultError(f"the loader of {split} draws from torch's global generator")
        same = first_difference(first, list(loader.epoch(1)), split) is None
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
            vars(other.inner).update(num_workers=workers, prefetch_factor=workers or None)
            with warnings.catch_warnings(action="ignore"):  # torch's own, if there is but one core
                found.append(list(Short(other, 4).epoch(0)))
        if where := first_difference(found[0], found[1], f"{split}, batch"):
            raise FaultError(f"{where} differs. Does the dataset keep a state of its own?")
        told.append(f"{split} {len(found[0])} batches")
    if not told:
        raise NotApplicableError("examples come from memory or a stream")
    return ", ".join(told)


def every_example_can_be_read(subject: Subject) -> str:
    """Examples of training and validation are read one by one, and their numbers are finite."""
    told, shards = [], dict[Path, Records]()
    for split, loader in subject.own_loaders.items():
        count, end = 0, time.perf_counter() + READING
        for name, inputs in islice(inputs_of(loader), MOST):
            if not all(part.isfinite().all() for part in tensors(inputs)):
                raise FaultError(f"{split}, example {name}: inputs hold NaN or infinity")
            count += 1
            if time.perf_counter() > end:
                break
        told.append(f"{split} {count} of {loader.num_examples} examples")
        if isinstance(loader, ExactLoader) and isinstance(loader.whole, Records):
            shards[loader.whole.path] = loader.whole  # of both splits, where val is a part of train
    return ", ".join([*told, *map(_every_byte, shards.values())])


def _every_byte(records: Records) -> str:
    """Read all shards, however long that takes, and hold them against the hashes beside them."""
    hashed, faults = read_all(records)
    if faults:
        raise FaultError(f"{len(faults)} of {len(records)} records are damaged: {faults[0]}")
    return f"every byte of {len(records)} records, {hashed} with the hash of when they were packed"


def lengths_are_alike(subject: Subject) -> str:
    """No example is a hundred times longer than most: its whole batch would be padded to it."""
    told = []
    for split, loader in subject.own_loaders.items():
        shown = islice(inputs_of(loader), FEWER)
        lengths = {name: length for name, inputs in shown if (length := length_of(inputs))}
        if len(lengths) < 3:
            continue
        middle, name = median_high(lengths.values()), max(lengths, key=lambda each: lengths[each])
        if lengths[name] > LONGER * middle:
            raise FaultError(
                f"{split}, example {name}: {lengths[name]:,} long, most are about {middle:,}. "
                "Is a separator missing in the data? Cut it off or leave it out"
            )
        told.append(f"{split} up to {lengths[name]}")
    if not told:
        raise NotApplicableError("examples have no length")
    return ", ".join(told)


def names_by_hash(loader: Loader) -> dict[int, Any]:
    """Return the names of the examples by the hash of their files, or else of their inputs."""
    if isinstance(loader, ExactLoader):
        all_names = known_ids(loader.loader.dataset)
        names = [all_names[i] for i in own_numbers(loader)[:MOST]]
        if all(isinstance(name, str | Path) and Path(name).is_file() for name in names):
            return {hash(Path(name).read_bytes()): name for name in names}
        if first_difference(loader.examples[0, 0], loader.examples[1, 0], "example"):
            raise NotApplicableError("training examples change at random and have no `filenames`")
    shown = islice(inputs_of(loader), MOST)
    return {hash(bytes_of(inputs) or repr(inputs)): name for name, inputs in shown}


def _are_words(loader: Loader) -> bool:
    """Tell whether inputs are whole numbers, as those of words and letters."""
    _, inputs = next(inputs_of(loader))
    parts = tensors(inputs)
    return bool(parts) and not any(part.is_floating_point() for part in parts) and parts[0].ndim < 3


def splits_share_no_example(subject: Subject) -> str:
    """No example of a split is found in another one; of the test split only the inputs are read."""
    found = {split: names_by_hash(loader) for split, loader in subject.splits().items()}
    for one, other in combinations(found, 2):
        if shared := [key for key in found[one] if key in found[other]]:
            named = "; ".join(f"{found[one][key]} = {found[other][key]}" for key in shared[:2])
            inputs = plural(len(shared), "input is", "inputs are")
            told = f"{inputs} in {one} and in {other}: {named}"
            smaller = min(len(found[one]), len(found[other]))
            if _are_words(subject.own_loaders["train"]) and len(shared) <= FEW * smaller:
                raise DoubtError(f"{told}. Short sequences may be equal by chance")
            raise FaultError(told)
    return ", ".join(f"{name} {len(each)}" for name, each in found.items()) + subject.without_test


def measure(subject: Subject) -> str:
    """Train for some seconds, and say how fast, how long for the data, and what is left to do."""
    state = subject.fresh(compile=subject.params.compile)
    batches, (train, val) = subject.batches(subject.own_loaders), subject.own_loaders.values()
    asked, came = list[float](), list[float]()  # when each batch was asked for, and when it came
    while len(asked) < 4 or asked[-1] - asked[2] < SECONDS:
        asked.append(time.perf_counter())
        batch = next(batches)
        came.append(time.perf_counter())
        subject.step(state, batch)
    memory = peak_memory_mb() or math.nan
    if state.device.type == "cuda":
        torch.cuda.synchronize()
        memory = torch.cuda.max_memory_allocated() / 1e6
    ended, few = time.perf_counter(), Short(val, 4)
    subject.evaluate(state, few)
    val_seconds = (time.perf_counter() - ended) * len(val) / len(few)
    seconds = ended - asked[2]  # the first two steps are slow
    train_seconds = seconds / len(asked[2:]) * len(train)
    rate, waiting = train.num_examples / train_seconds, (sum(came[2:]) - sum(asked[2:])) / seconds
    hint = ". More num_workers, or utils.Batches?" if waiting > 0.3 else ""
    epochs = max(state.params.num_epochs - subject.epochs_done, 0) or state.params.num_epochs
    left = timedelta(seconds=round(epochs * (train_seconds + val_seconds)))
    told = f"{rate:.0f} examples/s, {waiting:.0%} of the time waiting for data{hint}"
    return f"{told}, peak memory {memory:.0f} MB, {left} for {epochs} epochs"
