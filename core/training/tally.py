"""What is summed up over the batches of an epoch or a split: mean losses, and what metrics need."""

import copy
import math
from collections.abc import Iterable, Mapping
from itertools import zip_longest
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.base.errors import DataError, UsageError
from core.machine import processes
from core.machine.nested import apply, as_array, from_array, is_per_example, num_examples, tensors
from core.task import Task

UNJOINED = """outputs or labels of two batches do not join: {} and {}.
Define collect(outputs, labels) in net.py: it says what is kept of a batch."""
LARGEST = 256 * 2**20  # bytes of outputs and labels that are kept of a training epoch


def join(parts: list[Any]) -> Any:
    """Join what was kept of many batches along the first dimension.

    Raises:
        DataError: the shapes of two batches do not fit; the task needs a `collect` of its own.
    """
    first = parts[0]
    if is_per_example(first):
        return [item for part in parts for item in part]
    if isinstance(first, Mapping):
        return {name: join([part[name] for part in parts]) for name in first}
    if isinstance(first, tuple | list):
        if isinstance(first[0], str | int | float):
            return np.array([item for part in parts for item in part])
        return tuple(join([part[i] for part in parts]) for i in range(len(first)))
    if isinstance(first, str | int | float) and (others := [x for x in parts if x != first]):
        raise DataError(UNJOINED.format(first, others[0]))
    if not isinstance(first, Tensor):
        return first
    try:
        return torch.cat([part.detach().reshape(part.shape or (1,)) for part in parts])
    except RuntimeError:
        shapes = sorted({tuple(part.shape) for part in parts})
        raise DataError(UNJOINED.format(f"shapes {shapes[0]}", shapes[-1])) from None


def _detached(value: Any) -> Any:
    if isinstance(value, Tensor):  # as in most steps
        return value.detach()
    return apply(Tensor.detach, apply(from_array, value, (np.ndarray, np.generic)))


class MeanLosses:
    """Weighted means of named losses over many batches, kept on the device until they are read.

    Each batch's mean loss counts with its weight, the number of terms in the mean, so the result
    is the mean over all terms, whatever the sizes of the batches. It starts from the sum of
    `parts`, each what `sums` returned.
    """

    def __init__(self, parts: Iterable[Mapping[str, Any]] = ()) -> None:
        self.totals: dict[str, Tensor] = {}
        self.weights: dict[str, Tensor] = {}  # of the batches that have this loss
        for part in parts:
            of_all = part.get("weight")  # in checkpoints of before each loss had its own
            for name, total in part["totals"].items():
                weight = part["weights"][name] if of_all is None else of_all
                self.totals[name] = self.totals.get(name, 0.0) + total
                self.weights[name] = self.weights.get(name, 0.0) + weight

    def add(self, losses: Mapping[str, Tensor], weight: Tensor) -> None:
        """Take in the losses () of one batch and the number of terms () that they average."""
        device = losses["loss"].device if "loss" in losses else weight.device
        exact = torch.float32 if device.type == "mps" else torch.float64
        weight = weight.to(device, exact)
        for name, loss in losses.items():
            # A batch of ignored labels only has a loss of 0/0 and no terms: it adds nothing.
            term = torch.where(weight > 0, loss.detach().to(exact) * weight, 0.0)
            self.totals[name] = self.totals.get(name, 0.0) + term
            self.weights[name] = self.weights.get(name, 0.0) + weight

    def sums(self) -> dict[str, Any]:
        """Return the sums, as tensors ()."""
        return {"totals": self.totals, "weights": self.weights}

    def means(self) -> dict[str, float]:
        """Return the mean of every loss so far; this waits for the device."""
        return {n: float(x) / (float(self.weights[n]) or math.nan) for n, x in self.totals.items()}


class Tally:
    """Losses and metrics over many batches, of one process or of several together.

    Outputs stay on the device until they are asked for, so that adding a batch does not wait for
    it. Of several processes rank 0 gets what all have collected, in the order of one process.

    Args:
        task: says what is kept of a batch, and which metrics there are.
        keep_bytes: of outputs and labels that are kept even if no metric needs the whole split;
            larger ones are not kept at all. Streamed metrics see each batch as it comes.
        batches: number of batches, of which at most 256 MB are collected: where they are larger,
            evenly spaced ones. None: all are.
    """

    def __init__(self, task: Task, keep_bytes: float = 0, batches: int | None = None) -> None:
        self.task, self.world_size, self.batches = task, processes.world_size(), batches
        streamed = {n: m for n, m in task.metrics.items() if hasattr(m, "compute")}
        # Each a copy of its own: an object may stand under two names, or serve two splits.
        self.streamed = {name: copy.deepcopy(metric) for name, metric in streamed.items()}
        self.limit = math.inf if len(streamed) < len(task.metrics) else keep_bytes
        self.size, self.shapes = 0, set[Any]()  # bytes and shapes so far, where there is a limit
        self.complete = True  # nothing was left out because it was too large, or does not join
        self.seen, self.stride = 0, 1  # batches so far, of which every `stride`-th is collected
        self.losses = MeanLosses()
        self.kept: list[tuple[Any, Any]] = []  # outputs and labels of each batch
        self.waiting: list[tuple[Any, Any]] = []  # of several processes: what rank 0 has not yet
        self.scored = False
        self.sizes: list[tuple[int, int]] = []  # examples and rows of each batch
        self.exchanged = 0  # of them
        for metric in self.streamed.values():
            metric.reset()

    def collect(self, outputs: Any, labels: Any) -> None:
        """Keep of a batch's outputs and labels what the task's `collect` says."""
        self.seen += 1
        if (self.seen - 1) % self.stride:
            return
        pair = tuple(map(_detached, self.task.collect(outputs, labels)))
        if self.seen == 1 and self.batches is not None and self.limit:
            size = self.batches * sum(part.nbytes for part in tensors(pair))
            self.stride = max(1, math.ceil(size / LARGEST))
        if self.batches is None:
            examples = num_examples(labels) or num_examples(outputs) or 0
            self.sizes.append((examples, num_examples(pair[0]) or 0))
        if self.world_size > 1:
            self.waiting.append(pair)
        else:
            self._take_in(*pair)

    def _take_in(self, outputs: Any, labels: Any) -> None:
        if labels is not None or not self.task.labelled:
            self.scored = True
            for metric in self.streamed.values():
                metric.update(outputs, labels)
        if self.limit < math.inf:
            parts = tensors((outputs, labels))
            self.size += sum(part.nbytes for part in parts)
            self.shapes.add(frozenset(part.shape[1:] for part in parts))
        if self.size <= self.limit and len(self.shapes) < 2:
            self.kept.append((outputs, labels))
        else:
            self.kept, self.complete = [], False

    def exchange(self) -> None:
        """Hand over to rank 0 what the processes have collected."""
        waiting, self.waiting = apply(lambda x: x.detach().cpu(), self.waiting), []
        new = processes.gathered(self.sizes[self.exchanged :])
        self.sizes[self.exchanged :] = [s for turn in zip_longest(*new) for s in turn if s]
        self.exchanged = len(self.sizes)
        for turn in zip_longest(*processes.gathered(waiting)):
            for pair in turn:
                if pair is not None:
                    self._take_in(*pair)

    def collected(self) -> list[tuple[Any, Any]]:
        """Return what `restore` takes, for a checkpoint in mid-epoch."""
        return [*self.kept, *self.waiting]

    def restore(
        self, losses: MeanLosses, pairs: list[tuple[Any, Any]], seen: int, stride: int
    ) -> None:
        """Go on from the losses and the collected outputs of a checkpoint in mid-epoch."""
        self.losses, self.seen, self.stride = losses, seen, stride
        if self.world_size > 1:
            self.waiting, pairs = pairs, []
        for pair in pairs:
            self._take_in(*pair)

    @property
    def nbytes(self) -> int:
        """Size of all outputs and labels that are kept."""
        return sum(part.nbytes for part in tensors(self.kept))

    def row_counts(self) -> np.ndarray | None:
        """Return how many rows each example has, (N,); None if batches do not tell."""
        if not self.sizes or any(not n or rows % n for n, rows in self.sizes):
            return None
        return np.concatenate([np.full(n, rows // n) for n, rows in self.sizes])

    def arrays(self) -> tuple[Any, Any]:
        """Return outputs and labels of all batches as NumPy arrays, or tuples, dicts of them."""
        parts: Any = [*zip(*self.kept, strict=True)] or [(None,), (None,)]
        return apply(as_array, join(parts[0])), apply(as_array, join(parts[1]))

    def means(self) -> dict[str, float]:
        """Return the mean of every loss, of all processes together."""
        if self.world_size == 1:
            return self.losses.means()
        parts = processes.gathered(apply(lambda x: x.cpu(), self.losses.sums()))
        return processes.on_main(lambda: MeanLosses(parts).means())()

    def metrics(self) -> dict[str, float]:
        """Return every metric of all that was collected; {} if there was nothing to score."""
        if self.world_size > 1:
            self.exchange()
        return processes.on_main(self._metrics)()

    def _metrics(self) -> dict[str, float]:
        if not self.scored:
            return {}
        found = {}
        for name, metric in self.task.metrics.items():
            streamed = self.streamed.get(name)
            value = streamed.compute() if streamed else metric(*self.arrays())  # it may change them
            try:
                found[name] = float(value)
            except (TypeError, ValueError, RuntimeError):
                shape = f" of shape {tuple(value.shape)}" if hasattr(value, "shape") else ""
                kind = f"{type(value).__name__}{shape}"
                raise UsageError(f"metric {name!r} gives a {kind}, want one number") from None
        return found


def score(task: Task, outputs: Any, labels: Any) -> dict[str, float]:
    """Return every metric of outputs and labels, as if they were those of a whole split."""
    tally = Tally(task)
    tally._take_in(*task.collect(outputs, labels))
    return tally._metrics()
