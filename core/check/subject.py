"""What the checks of check.py share: a task on trial, its nets and loaders, and comparisons."""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import cycle, islice, repeat
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from core.base.errors import UserError
from core.base.params import find_params_file
from core.data.batches import fetch_loaders, to_device
from core.machine import devices as runtime
from core.machine.nested import tensors
from core.run.run import open_run

SMALL = 32  # examples a batch, so that the checks are quick


class FaultError(UserError):
    """The net or the loader is not sound; says why, and where to look."""


class NotApplicableError(UserError):
    """The check can tell nothing about this task; says why."""


class Short:
    """The first batches of every epoch of a loader, with the interface of `Batches`."""

    ids = labels = None

    def __init__(self, loader: Any, count: int) -> None:
        self.loader, self.count, self.kind = loader, min(count, len(loader)), loader.kind
        self.num_examples, self.first_batch = loader.num_examples, loader.first_batch

    def __len__(self) -> int:
        return self.count

    def epoch(self, number: int, start: int = 0) -> Iterator[Any]:
        """Yield the batches of one epoch, from the batch number `start` on."""
        return islice(self.loader.epoch(number, start), max(self.count - start, 0))


@dataclass
class Trial:
    """A task with its params and loaders, from which a check makes as many nets as it needs.

    Args:
        folder: holds the params file and nothing else; what checks write goes into it.
        data_dir: folder of the data.
        overrides: of the params file.
        train: the script train.py, whose loop is on trial.
    """

    folder: Path
    data_dir: Path
    overrides: dict[str, Any]
    train: ModuleType
    seed: int = 0  # of the checks' own choices
    epochs_done: int = 0  # of the run that the params file is from
    own_loaders: dict[str, Any] = field(init=False)  # those of the run
    loaders: dict[str, Any] = field(init=False)  # the same with at most 32 examples a batch
    set_by_loaders: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        run = open_run(self.folder, self.overrides)
        before = dict(run.params.dict)
        self.state, self.own_loaders = self.train.build(run, self.data_dir)
        self.loaders, after = self.own_loaders, run.params.dict
        self.set_by_loaders = {n: after[n] for n in after if after[n] is not before.get(n)}
        self.state.model.eval()
        with torch.no_grad():
            self.labelled = (
                self.forward(self.state, self.loaders["val"].first_batch())[1] is not None
            )
        on_cpu = self.state.device.type == "cpu"
        self.exact = on_cpu or self.state.params.deterministic  # done again, steps are the same
        self.rounding = 1e-5 if on_cpu else 1e-2  # of other shapes; a GPU may use TF32
        coarse = self.state.params.precision == "bfloat16"
        self.finely: dict[str, Any] = {"precision": "float32"} if coarse else {}
        self.noise = 0.0 if self.exact else 1e-2  # of the same computation done again
        if run.params.batch_size > SMALL:
            self.overrides = self.overrides | {"batch_size": SMALL}
            run = open_run(self.folder, self.overrides)
            _, self.loaders = self.train.build(run, self.data_dir)

    def excuse(self, where: str) -> None:
        """Blame a difference on the GPU, where its sums may differ from time to time."""
        if not self.exact:
            raise NotApplicableError(
                f"{where} differs, as sums on a GPU may. Try --set deterministic=true"
            )

    def lend(self, run: Any, loaders: dict[str, Any]) -> None:
        """Let a run use loaders that are there already."""

        def fetch(splits: Any, data_dir: str, params: Any) -> dict[str, Any]:
            params.dict.update(self.set_by_loaders)
            return loaders

        run.task = replace(run.task, fetch_dataloader=fetch)
        run.params.val_split = 0.0  # the loaders are split already

    def fetch(self, split: str, **settings: Any) -> Any:
        """Return a loader of a split for other params, not to be trained on."""
        run, kept = open_run(self.folder, self.overrides | settings), self.state.loader_params
        device = runtime.start(run.params)
        task, params = run.task, run.params
        loaders, _ = fetch_loaders(task, [split], self.data_dir, params, kept, device, train=False)
        return loaders[split]

    def fresh(self, constant_rate: bool = False, **settings: Any) -> Any:
        """Return the state of training before the first step; with one seed always the same."""
        settings = {"compile": False} | settings  # to compile takes longer than the checks
        if constant_rate:
            settings |= {"lr_scheduler": None, "lr_scheduler_args": {}}
        run = open_run(self.folder, self.overrides | settings)
        self.lend(run, self.loaders)
        if constant_rate:
            run.task = replace(run.task, make_scheduler=None)
        state, _ = self.train.build(run, self.data_dir)
        state.labelled = self.labelled
        return state

    def forward(self, state: Any, batch: Any) -> tuple[Any, Any]:
        """Return outputs and labels of a batch."""
        batch = to_device(batch, state.device, state.params)
        with runtime.autocast(state.params, state.device):
            return state.task.forward(state.model, batch, state.params)

    def step(self, state: Any, batch: Any) -> dict[str, Tensor]:
        """Train on one batch, and return its losses."""
        step = state.task.train_step or self.train.train_step
        state.model.train()
        losses: dict[str, Tensor] = step(state, to_device(batch, state.device, state.params))
        state.step += 1
        return losses

    def steps(self, state: Any, count: int, batch: Any = None) -> list[float]:
        """Train for some steps, on one batch if it is given, and return their losses."""
        batches = cycle(self.loaders["train"].epoch(0)) if batch is None else repeat(batch)
        return [self.step(state, each)["loss"].item() for each in islice(batches, count)]

    def evaluate(self, state: Any, loader: Any) -> dict[str, float]:
        """Return loss and metrics of what a loader yields."""
        task, params = state.task, state.params
        values, _ = self.train.evaluate(state.model, loader, task, params, False, self.labelled)
        return dict(values)

    def subfolder(self, name: str) -> Path:
        """Return a folder with the params file in it."""
        folder, path = self.folder / name, find_params_file(self.folder)
        folder.mkdir(exist_ok=True)
        shutil.copy(path, folder / path.name)
        return folder

    def batch_of_several(self) -> tuple[Any, int]:
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
        tolerance: by how much tensors may differ, as a share of their largest value.
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
