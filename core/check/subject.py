"""What the checks share: the task to check, its nets and loaders, and a comparison."""

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain, count, islice
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from core.base.errors import UserError
from core.base.params import Params
from core.data.batches import Batches
from core.data.fetching import fetch_loaders
from core.machine import devices
from core.machine.random_states import seed_cpu, seeded
from core.reading.misfits import misfits
from core.reading.outputs import read_batch
from core.run.opening import open_run
from core.task import Batch, IndexBatch, Loader, counted
from core.training.state import State, make_state

SMALL = 32  # examples a batch, so that the checks are quick


class FaultError(UserError):
    """The net or the loader is not sound; says why, and where to look."""


class DoubtError(UserError):
    """What looks wrong may be sound; says what to look at."""


class NotApplicableError(UserError):
    """The check cannot be made on this task; says why."""


class Short(Loader):
    """The first batches of every epoch of a loader."""

    ids = labels = None

    def __init__(self, loader: Loader, count: int) -> None:
        self.loader, self.count = loader, min(count, len(loader))
        self.kind, self.num_examples = loader.kind, loader.num_examples

    def put_on(self, device: torch.device, params: Params) -> None:
        """Do nothing: the loader is there already."""

    def __len__(self) -> int:
        return self.count

    def first_batch(self) -> Batch:
        """Return the first batch of epoch 0."""
        return self.loader.first_batch()

    def plan(self, epoch: int) -> Iterator[IndexBatch]:
        """Return the first batches of an epoch's plan."""
        return islice(self.loader.plan(epoch), self.count)

    def load(self, epoch: int, part: Iterable[IndexBatch]) -> Iterator[Batch]:
        """Yield the batches of a part of the plan."""
        return self.loader.load(epoch, part)


@dataclass
class Subject:
    """A task with its params and loaders, from which a check makes as many nets as it needs."""

    folder: Path  # holds the params file and nothing else; what checks write goes into it
    data_dir: Path
    overrides: dict[str, Any]  # of the params file
    train: ModuleType  # the script train.py, whose loop is checked
    seed: int = 0  # of the checks' own choices
    epochs_done: int = 0  # of the run that the params file is from
    until, seconds = math.inf, math.inf  # when the check in progress has to end; its time
    without_test = ""  # why there is no test split

    def __post_init__(self) -> None:
        self.overrides = self.overrides | {"data_dir": str(self.data_dir)}
        self.overrides |= {"track": [], "tensorboard": False}
        run = open_run(self.folder, self.overrides)
        self.task, self.params, before = run.task, run.params, dict(run.params.dict)
        self.own_loaders = self.loaders = run.fetch_loaders()
        self.set_by_loaders = {n: v for n, v in run.params.dict.items() if v is not before.get(n)}
        state = make_state(run.task, run.params, run.device, self.loaders["train"])
        outputs, labels = self.forward(state, self.loaders["val"].first_batch())
        self.reading, self.labelled = read_batch(run.task, outputs, labels), labels is not None
        read = self.reading.apply(run.task)
        self.misfits = misfits(read, self.reading, outputs, labels)
        on_cpu, precision = run.device.type == "cpu", run.params.precision
        self.noise = 0.0 if on_cpu or run.params.deterministic else 1e-2  # of repeated sums
        self.rounding = 1e-5 if on_cpu else 1e-2  # between batch sizes; a GPU may use TF32
        self.precise = "float32" if precision == "bfloat16" else precision
        if run.params.batch_size > SMALL:
            self.overrides = self.overrides | {"batch_size": SMALL}
            self.loaders = open_run(self.folder, self.overrides).fetch_loaders()

    def splits(self) -> dict[str, Loader]:
        """Return the loaders of training, validation and, where there is one, the test split."""
        found = dict(self.own_loaders)
        try:
            found["test"] = self.fetch("test")
        except Exception as error:  # a task may have no test split, and say so in its own way
            self.without_test = f"; without test ({str(error).partition(chr(10))[0]})"
        return found

    def batch_of(self, loader: Loader, index: list[int]) -> Batch:
        """Return the batch of some examples of a loader."""
        chosen: Any = torch.tensor(index) if isinstance(loader, Batches) else index
        return next(iter(loader.load(0, [IndexBatch(0, chosen)])))

    def fetch(self, split: str, **settings: Any) -> Loader:
        """Return a loader of a split for other params, not to be trained on."""
        run = open_run(self.folder, self.overrides | settings)
        settled = run.params, self.set_by_loaders, devices.start(run.params)
        return fetch_loaders(run.task, [split], self.data_dir, *settled, train=False)[0][split]

    def fresh(
        self, constant_rate: bool = False, other_weights: bool = False, **settings: Any
    ) -> State:
        """Return the state before the first step, the same every time; by default not compiled.

        With `other_weights` the net is made with other random numbers.
        """
        run = open_run(self.folder, self.overrides | {"compile": False} | settings)
        task, device = self.reading.apply(run.task), devices.start(run.params)
        run.params.dict.update(self.set_by_loaders)
        if other_weights:
            seed_cpu(run.params.seed + 1)
        if constant_rate:
            task, run.params.lr_scheduler = replace(task, make_scheduler=None), None
        state = make_state(task, run.params, device, self.loaders["train"], not other_weights)
        state.reading = self.reading
        return state

    def batches(self, loaders: Mapping[str, Loader]) -> Iterator[Batch]:
        """Yield training batches without end: those of epoch 0, of epoch 1, and so on."""
        return chain.from_iterable(map(loaders["train"].epoch, count()))

    def step(self, state: State, batch: Batch) -> dict[str, Tensor]:
        """Train on one batch, and return its losses."""
        self.check_time()
        state.model.train()
        losses: dict[str, Tensor] = (state.task.train_step or self.train.train_step)(state, batch)
        state.step += 1
        return losses

    def trained(self) -> State:
        """Return the state of training after five steps."""
        state = self.fresh()
        for batch in islice(self.batches(self.loaders), 5):
            self.step(state, batch)
        return state

    @torch.no_grad()
    def forward(self, state: State, batch: Batch) -> tuple[Any, Any]:
        """Return outputs and labels of a batch, in eval mode; a net may draw, from the seed."""
        self.check_time()
        state.model.eval()
        with seeded(state.params.seed, device=state.device), state.autocast():
            return state.task.forward(state.model, batch, state.params)

    def first_answers(self) -> tuple[State, Any, Any]:
        """Return a state before the first step, and its outputs and labels of val's first batch."""
        state = self.fresh()
        return state, *self.forward(state, self.loaders["val"].first_batch())

    def evaluate(self, state: State, loader: Loader) -> dict[str, float]:
        """Return losses and metrics of what a loader yields."""
        return dict(self.train.evaluate(state.model, loader, state.task, state.params)[0])

    def num_classes(self) -> int:
        """Return K, where outputs are scores of the classes of integer labels."""
        if self.reading.num_classes is None:
            raise NotApplicableError("outputs are not scores of classes that integer labels name")
        return self.reading.num_classes

    def classes(self, outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the classes (M,) that outputs name and those of labels, but for ignored ones."""
        found = outputs.argmax(self.reading.class_axis).flatten().cpu()
        labels = labels.flatten().cpu()
        kept = counted(labels, self.reading.ignored)
        return found[kept], labels[kept]

    def check_time(self) -> None:
        """Raise NotApplicableError if the check in progress has had its time."""
        if time.monotonic() > self.until:
            raise NotApplicableError(f"not finished in its {self.seconds:.0f} seconds")

    def unequal(self, told: str) -> UserError:
        """Return the error for steps that do not repeat themselves; on a GPU they need not."""
        if not self.noise:
            return FaultError(told)
        return NotApplicableError(f"{told} Sums on a GPU may differ: try --set deterministic=true")
