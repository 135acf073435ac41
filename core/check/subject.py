"""What the checks share: the task to check, its nets and loaders, and comparisons."""

import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import cycle, islice, repeat
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from core.base.errors import UserError
from core.base.params import Params, find_params_file
from core.data.fetching import fetch_loaders
from core.machine import devices
from core.machine.nested import tensors
from core.run.opening import open_run
from core.run.run import Run
from core.task import Batch, IndexBatch, Loader
from core.training.checkpoint import without_marks
from core.training.state import State, make_state

SMALL = 32  # examples a batch, so that the checks are quick


class FaultError(UserError):
    """The net or the loader is not sound; says why, and where to look."""


class NotApplicableError(UserError):
    """The check can tell nothing about this task; says why."""


class Short(Loader):
    """The first batches of every epoch of a loader."""

    ids = labels = None

    def __init__(self, loader: Loader, count: int) -> None:
        self.loader, self.count, self.kind = loader, min(count, len(loader)), loader.kind
        self.num_examples, self.train = loader.num_examples, True

    def put_on(self, device: torch.device, params: Params) -> None:
        """Do nothing: the loader is there already."""

    def __len__(self) -> int:
        """Return the number of batches."""
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
    """A task with its params and loaders, from which a check makes as many nets as it needs.

    Args:
        folder: holds the params file and nothing else; what checks write goes into it.
        data_dir: folder of the data.
        overrides: of the params file.
        train: the script train.py, whose loop is checked.
    """

    folder: Path
    data_dir: Path
    overrides: dict[str, Any]
    train: ModuleType
    seed: int = 0  # of the checks' own choices
    epochs_done: int = 0  # of the run that the params file is from
    own_loaders: dict[str, Loader] = field(init=False)  # those of the run
    loaders: dict[str, Loader] = field(init=False)  # the same with at most 32 examples a batch
    set_by_loaders: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.overrides = self.overrides | {"data_dir": str(self.data_dir)}
        run = open_run(self.folder, self.overrides)
        before = dict(run.params.dict)
        self.own_loaders = self.loaders = run.fetch_loaders()
        after = run.params.dict
        self.set_by_loaders = {n: after[n] for n in after if after[n] is not before.get(n)}
        self.kept = without_marks(run.loader_params)
        self.state = make_state(run.task, run.params, run.device, self.loaders["train"])
        self.state.model.eval()
        with torch.no_grad():
            _, labels = self.forward(self.state, self.loaders["val"].first_batch())
        self.labelled = labels is not None
        on_cpu = self.state.device.type == "cpu"
        self.exact = on_cpu or self.state.params.deterministic  # done again, steps are the same
        self.rounding = 1e-5 if on_cpu else 1e-2  # of other shapes; a GPU may use TF32
        coarse = self.state.params.precision == "bfloat16"
        self.finely: dict[str, Any] = {"precision": "float32"} if coarse else {}
        self.noise = 0.0 if self.exact else 1e-2  # of the same computation done again
        if run.params.batch_size > SMALL:
            self.overrides = self.overrides | {"batch_size": SMALL}
            self.loaders = open_run(self.folder, self.overrides).fetch_loaders()

    def excuse(self, where: str) -> None:
        """Blame a difference on the GPU, where its sums may differ from time to time."""
        if not self.exact:
            raise NotApplicableError(
                f"{where} differs, as sums on a GPU may. Try --set deterministic=true"
            )

    def lend(self, run: Run, loaders: dict[str, Loader]) -> None:
        """Let a run use loaders that are there already."""

        def fetch(splits: Any, data_dir: str, params: Params) -> dict[str, Loader]:
            params.dict.update(self.set_by_loaders)
            return loaders

        run.task = replace(run.task, fetch_dataloader=fetch)
        run.params.val_split = 0.0  # the loaders are split already

    def fetch(self, split: str, **settings: Any) -> Loader:
        """Return a loader of a split for other params, not to be trained on."""
        run = open_run(self.folder, self.overrides | settings)
        device, kept = devices.start(run.params), self.kept
        loaders, _ = fetch_loaders(
            run.task, [split], self.data_dir, run.params, kept, device, train=False
        )
        return loaders[split]

    def fresh(self, constant_rate: bool = False, **settings: Any) -> State:
        """Return the state of training before the first step; with one seed always the same."""
        settings = {"compile": False} | settings  # to compile takes longer than the checks
        if constant_rate:
            settings |= {"lr_scheduler": None, "lr_scheduler_args": {}}
        run = open_run(self.folder, self.overrides | settings)
        task = replace(run.task, labelled=self.labelled)
        if constant_rate:
            task = replace(task, make_scheduler=None)
        device = devices.start(run.params)
        run.params.dict.update(self.set_by_loaders)
        return make_state(task, run.params, device, self.loaders["train"])

    def forward(self, state: State, batch: Batch) -> tuple[Any, Any]:
        """Return outputs and labels of a batch."""
        with state.autocast():
            return state.task.forward(state.model, batch, state.params)

    def step(self, state: State, batch: Batch) -> dict[str, Tensor]:
        """Train on one batch, and return its losses."""
        step = state.task.train_step or self.train.train_step
        state.model.train()
        losses: dict[str, Tensor] = step(state, batch)
        state.step += 1
        return losses

    def steps(self, state: State, count: int, batch: Batch = None) -> list[float]:
        """Train for some steps, on one batch if it is given, and return their losses."""
        batches = cycle(self.loaders["train"].epoch(0)) if batch is None else repeat(batch)
        return [self.step(state, each)["loss"].item() for each in islice(batches, count)]

    def evaluate(self, state: State, loader: Loader) -> dict[str, float]:
        """Return loss and metrics of what a loader yields."""
        values, _ = self.train.evaluate(state.model, loader, state.task, state.params)
        return dict(values)

    def subfolder(self, name: str) -> Path:
        """Return a folder with the params file in it."""
        folder, path = self.folder / name, find_params_file(self.folder)
        folder.mkdir(exist_ok=True)
        shutil.copy(path, folder / path.name)
        return folder

    def batch_of_several(self) -> tuple[Batch, int]:
        """Return a batch of at least two examples, and their number."""
        for split in ("val", "train"):
            batch = self.loaders[split].first_batch()
            parts = [part for part in tensors(batch) if part.ndim]
            if parts and len(parts[0]) > 1 and not isinstance(batch, nn.utils.rnn.PackedSequence):
                return batch, len(parts[0])
        raise NotApplicableError("no batch of several examples that can be taken apart")


def first_difference(a: Any, b: Any, where: str, tolerance: float = 0.0) -> str | None:
    """Say where two nested values first differ; None if they are equal, NaN being equal to NaN.

    Args:
        a: tensors and plain Python values in dicts, lists and tuples.
        b: the like.
        where: what they are called.
        tolerance: by how much tensors may differ, as a fraction of their largest value.
    """
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        if missing := sorted(map(str, a.keys() ^ b.keys())):
            return f"{where}: only one has {missing[0]}"
        found = (first_difference(a[n], b[n], f"{where}, {n}", tolerance) for n in a)
    elif isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        pairs = enumerate(zip(a, b, strict=True))
        found = (first_difference(x, y, f"{where}, {i}", tolerance) for i, (x, y) in pairs)
    elif isinstance(a, Tensor) and isinstance(b, Tensor):
        same = a.shape == b.shape and a.dtype == b.dtype
        if same and torch.equal(a, b):
            return None
        if not same or not (a.is_floating_point() or a.is_complex()):
            return where
        atol = tolerance * float(b.detach().abs().max())
        return None if torch.allclose(a, b, 0.0, atol, equal_nan=True) else where
    elif isinstance(a, float) and isinstance(b, float) and abs(a - b) <= tolerance * max(1, abs(b)):
        return None
    else:
        return None if a == b or (a != a and b != b) else where
    return next((each for each in found if each is not None), None)
