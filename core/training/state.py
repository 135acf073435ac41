"""The state of training: what changes from batch to batch, and the update of the weights."""

import logging
import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice, tee
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from core.base.errors import DataError, NumericError, UsageError
from core.base.monitor import is_better, monitored
from core.base.params import Params
from core.data.batches import rows_of_stream
from core.data.order import check_same_order
from core.machine import processes
from core.machine.devices import Autocast, autocast_for, is_lazy, place_net
from core.reading.outputs import Reading, first_outputs
from core.task import Batch, IndexBatch, Loader, Task, default_loss_weight
from core.training import engines
from core.training.averages import WeightAverage
from core.training.first_weights import initialize
from core.training.optimizers import make_optimizers, weights_of
from core.training.schedule import Schedule, make_schedule
from core.training.tally import Tally

UNREAD = Reading()  # before the first batch


@dataclass
class State:
    """What training changes; a `train_step` of a task gets it, too.

    `epoch`, `batch` and `step` count what is finished: epochs, batches of the epoch in progress,
    updates. `extra` is the task's own: tensors and plain Python, kept in checkpoints; a resumed run
    finds the tensors on its device. A train_step may set `seen` to (outputs, labels), from which
    the training metrics are computed.
    """

    task: Task
    params: Params
    device: torch.device
    model: nn.Module
    optimizers: dict[str, Optimizer]
    schedule: Schedule
    average: WeightAverage | None = None  # of the weights
    epoch: int = 0
    batch: int = 0
    step: int = 0
    extra: dict[str, Any] = field(default_factory=dict)
    seen: tuple[Any, Any] | None = None
    best: dict[str, Any] | None = None  # epoch and validation metrics of the best epoch
    metrics: dict[str, float] = field(default_factory=dict)  # of the last validation
    reading: Reading = UNREAD  # what outputs and labels mean

    def __post_init__(self) -> None:
        self.autocast: Autocast = autocast_for(self.params, self.device)
        self.alone = processes.world_size() == 1
        self.loader = self.stream = cast(Any, None)  # what is trained on; where a stream goes on
        # Of the update in progress, which several batches may make (`grad_accumulation`):
        self.update_begins = self.update_ended = True  # with the current batch
        self.grad_norm: Tensor | None = None  # of the last update, if anything needed it
        self.terms: dict[tuple[str, ...], Tensor | float] = {}  # so far, by optimizers
        self.engines: dict[tuple[int, ...], engines.Engine] = {}  # of several processes
        # Of the current batch:
        self.fraction = 1.0  # of its rows, where several processes divide them
        self.weights: list[Tensor | float] = []  # that `update` was given
        self.bad_step: Tensor | None = None  # (): the first step with a bad loss, or -1
        self.last_rate = math.nan  # learning rate at the end of the last epoch
        self.begin_epoch()

    def begin_epoch(self, batches: int | None = None) -> None:
        """Forget what was summed up over the last epoch."""
        self.tally = Tally(self.task, math.inf if self.task.metrics else 0, batches)

    def adopt(self, reading: Reading) -> None:
        """Let the task's defaults go by what outputs and labels mean."""
        self.reading, self.task = reading, reading.apply(self.task)
        self.tally.task = self.task

    @property
    def net(self) -> nn.Module:
        """The net that is validated and kept: that of the averaged weights if there are any."""
        return self.model if self.average is None else self.average.module

    @property
    def stopped_early(self) -> bool:
        """Whether the best epoch lies `early_stopping_patience` epochs back."""
        patience = self.params.early_stopping_patience
        return bool(patience and self.best and self.epoch - self.best["epoch"] >= patience)

    @property
    def learning_rate(self) -> float:
        """Learning rate of the main optimizer's first parameter group."""
        optimizer = self.optimizers.get("main") or next(iter(self.optimizers.values()))
        return float(optimizer.param_groups[0]["lr"])

    def batches(self, loader: Loader) -> Generator[Batch]:
        """Yield the batches left of the epoch; of several processes each gets its rows of them."""
        self.loader = loader
        if self.stream is not None:
            self.loader.begin, self.stream = self.stream, None
        if self.batch == 0:
            self.begin_epoch(len(loader))
        begun, total, accumulation = self.batch, len(loader), self.params.grad_accumulation
        plan: Iterator[IndexBatch] = islice(loader.plan(self.epoch), self.batch, None)
        if not self.alone:
            check_same_order(order := list(plan))
            who = processes.rank(), processes.world_size()
            plan = (planned.of_process(*who) for planned in order)
        ahead, plan = tee(plan)
        for batch, planned in zip(loader.load(self.epoch, ahead), plan, strict=False):
            if planned.index is None and not self.alone:
                batch, planned = rows_of_stream(batch, planned)
            self.update_begins = self.batch % accumulation == 0
            self.update_ended = (self.batch + 1) % accumulation == 0 or self.batch + 1 == total
            self.current, self.fraction = batch, planned.fraction
            self.weights, self.seen = [], None
            yield batch
        if self.batch < total:
            raise DataError(f"the loader had {self.batch} batches, its length says {total}")
        self.check_losses()
        if not engines.is_sharded(self.model):
            processes.check_same_weights(self.model)
        elif not self.engines and self.batch > begun:
            raise UsageError("with 'shard' a train_step may change weights by state.update alone")
        processes.broadcast_modules(self.model, self.average)  # buffers, as those of batch norm

    def update(
        self,
        loss: Tensor,
        optimizer: str | Sequence[str] | None = None,
        weight: Tensor | float | None = None,
    ) -> None:
        """Change the weights of one optimizer, or of several, by the gradient of a loss ().

        The gradients of several batches (`grad_accumulation`) and of several processes are
        averaged, each with its `weight`, the number of terms in its mean (default: every batch
        counts the same); only the last batch of an update changes the weights. The default
        `optimizer` is "main"; of a task without a train_step it is all that there are.
        """
        names = self.usual_names if optimizer is None else self._names(optimizer)
        chosen, on_cpu = [self.optimizers[name] for name in names], self.device.type == "cpu"
        single = self.update_begins and self.update_ended and self.alone
        if weight is not None:
            self.weights.append(weight)
        if weight is None or not self.fraction:  # of a fraction of 0 nothing may count
            weight = self.fraction
        if self.update_begins:
            for each in chosen:
                each.zero_grad()
            self.terms[names] = 0.0
        # Whether all labels are ignored is asked on a CPU only: on a GPU that would be to wait.
        # SyncBatchNorm's processes wait for each other in the backward pass, rows or not.
        counts = (self.fraction or self.params.sync_batchnorm) and not (on_cpu and weight <= 0)
        if counts:
            if on_cpu and not math.isfinite(loss.detach().item()):
                raise self._not_finite(self.step)
            if not on_cpu:
                self._remember_if_not_finite(loss)
        if not self.alone:
            own = weights_of(*chosen)
            key = tuple(map(id, own))  # of weights that the engine keeps
            if key not in self.engines:
                self.engines[key] = engines.make_engine(self.model, own)
            terms = weight if counts else None
            total = self.engines[key].backward(loss, terms, self.update_ended)
            self.terms[names] = 0.0 if total is None else total
        elif counts:
            # A loss of one optimizer may reach the weights of another, whose gradients it leaves.
            reached = None if len(self.optimizers) == len(chosen) else weights_of(*chosen)
            (loss if single else loss * weight).backward(inputs=reached)
            self.terms[names] = self.terms[names] + weight
        if self.update_ended:
            wanted = self.params.grad_clip is not None or self.params.log_grad_norm
            if not single or wanted:
                self._average_and_clip(weights_of(*chosen), None if single else self.terms[names])
            try:
                for each in chosen:
                    each.step()
            except RuntimeError as error:  # "SparseAdam does not support dense gradients, ..."
                if "does not support" in str(error) and "gradients" in str(error):
                    raise UsageError(f"'optimizer': {error}") from None
                raise

    @cached_property
    def usual_names(self) -> tuple[str, ...]:
        """Names of the optimizers that `update` is asked for if it is not told."""
        alone = "main" in self.optimizers or self.task.train_step is not None
        return self._names("main" if alone else [*self.optimizers])

    def _names(self, optimizer: str | Sequence[str]) -> tuple[str, ...]:
        """Return the names of the optimizers that `update` is asked for."""
        names = (optimizer,) if isinstance(optimizer, str) else tuple(optimizer)
        if wrong := [name for name in names if name not in self.optimizers]:
            told = f"there is no optimizer {wrong[0]!r}, only {', '.join(self.optimizers)}"
            raise UsageError(f"state.update: {told}")
        return names

    def _average_and_clip(self, weights: list[Tensor], terms: Tensor | float | None) -> None:
        """Divide the gradients by the number of terms, unless it is None, and clip them."""
        if terms is not None:
            for w in weights:
                if w.grad is not None:
                    w.grad /= terms
        if self.params.grad_clip is not None:
            self.grad_norm = nn.utils.clip_grad_norm_(weights, self.params.grad_clip)
        elif self.params.log_grad_norm:
            grads = [w.grad for w in weights if w.grad is not None]
            self.grad_norm = nn.utils.get_total_norm(grads)
        if self.grad_norm is not None and engines.is_sharded(self.model):
            self.grad_norm = self.grad_norm.full_tensor()  # type: ignore[attr-defined]

    def end_batch(self, losses: dict[str, Tensor]) -> None:
        """Count a batch and its losses (); nothing here waits for a GPU."""
        if not isinstance(losses, Mapping) or not all(map(torch.is_tensor, losses.values())):
            raise UsageError("train_step of net.py must return a dict of named losses, each ()")
        if self.update_ended:
            self.step += 1
            if self.average is not None:
                self.average.update(self.model)
            for scheduler in self.schedule.per_update:
                scheduler.step()
        if not self.fraction:
            weight = torch.zeros(())
        elif len(self.weights) == 1 and isinstance(self.weights[0], Tensor):
            weight = self.weights[0]
        elif self.seen is not None:
            weight = self.task.loss_weight(*self.seen)
        else:
            weight = default_loss_weight(None, self.current)
        self.tally.losses.add(losses, weight)
        if self.seen is not None and self.fraction and self.task.metrics:
            self.tally.collect(*self.seen)
        if self.batch % self.params.save_summary_steps == 0:
            self.check_losses()
        self.batch += 1

    def _remember_if_not_finite(self, loss: Tensor) -> None:
        """Note on the GPU whether a loss is finite; `check_losses` asks for it later."""
        here, before = torch.where(loss.detach().isfinite(), -1, self.step), self.bad_step
        self.bad_step = here if before is None else torch.where(before < 0, here, before)

    def check_losses(self) -> None:
        """Stop if a loss since the last call was not finite; on a GPU this waits for it."""
        bad, self.bad_step = -1 if self.bad_step is None else int(self.bad_step), None
        if bad >= 0:
            raise self._not_finite(bad)

    def _not_finite(self, step: int) -> NumericError:
        return NumericError(
            f"the loss is not finite in epoch {self.epoch + 1}, step {step + 1}, "
            f"learning rate {self.learning_rate:g}.\n"
            "A lower learning_rate or grad_clip may help; nothing of this step was saved.\n"
            "check.py --replay runs it again, and names the first tensor that is not finite."
        )

    def end_epoch(self) -> bool:
        """Count an epoch that was validated, step the schedule; tell whether it is the best."""
        self.epoch, self.batch = self.epoch + 1, 0
        if self.tally.stride > 1 and self.epoch == 1:
            told = "Note: training metrics use one batch in %d: all outputs need over 256 MB"
            logging.warning(told, self.tally.stride)
        self.begin_epoch()  # a checkpoint needs nothing of the last one
        name, more = monitored(self.params.dict, self.task.metrics)
        value, self.last_rate = self.metrics[name], self.learning_rate
        self.schedule.end_epoch(value)
        best = self.best["metrics"].get(name, math.nan) if self.best else math.nan
        if is_best := is_better(value, best, more):
            self.best = {"epoch": self.epoch, "metrics": self.metrics}
        return is_best


def make_state(
    task: Task, params: Params, device: torch.device, train_loader: Loader, new: bool = True
) -> State:
    """Make net, optimizers and schedule, in this order, as the params say.

    A `new` run gets the first weights of its task; others get those of a checkpoint later.
    """
    first = next(iter(train_loader.plan(0)))
    if processes.world_size() > 1 and not isinstance(first.index, Tensor | list | None):
        raise DataError("several processes can share a DataLoader that has a batch size only")
    model = place_net(task.Net(params), params, device)
    if is_lazy(model):
        first_outputs(task, model, train_loader, params)  # gives lazy layers their shapes
    if new:
        initialize(task, model, params)
    processes.broadcast_modules(model, weights=True)
    average = None if params.ema_decay is None else WeightAverage(model, params.ema_decay)
    if params.shard and processes.world_size() > 1:
        for net in (model, *([] if average is None else [average.module])):
            engines.shard(task, net, device)
    optimizers = make_optimizers(task, model, params)
    schedule = make_schedule(task, optimizers, params, len(train_loader))
    return State(task, params, device, model, optimizers, schedule, average)
