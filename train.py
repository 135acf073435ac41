"""Train the net of a params file; the same command goes on where an interrupted run stopped.

python train.py --model_dir experiments/base_model
"""

import argparse
import copy
import logging
import math
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from core.base.errors import NumericError, Stopped, reports_errors
from core.base.monitor import LossCheck, is_better, monitored
from core.base.params import Params, find_params_file, parse_overrides
from core.base.predictions import save_predictions, wants_predictions
from core.check.replay import kept_if_not_finite
from core.data import folder as data
from core.data.batches import fetch_loaders, to_device
from core.machine import devices as runtime
from core.machine import processes as distributed
from core.machine.script import common_parser
from core.machine.signals import Stop, one_writer
from core.run import messages as announce
from core.run.folder import remove_outputs, write_resolved, write_results, write_save
from core.run.log import (
    LossAverage,
    add_to_board,
    append_row,
    cut_back,
    logging_to,
    open_board,
    prefixed,
)
from core.run.run import Run, open_run, refuse
from core.task import Batch, Collected, Task, default_loss_weight
from core.training import checkpoint, shares, snapshot
from core.training import optimizers as optim
from evaluate import evaluate


@dataclass
class State:
    """What training changes; a `train_step` of a task gets it, too.

    `epoch`, `batch` and `step` count what is finished: epochs, batches of the epoch in progress,
    updates. `extra` is the task's own: tensors and plain Python, kept in checkpoints; a run that
    goes on finds the tensors on its device. A train_step may set `seen` to (outputs, labels), from
    which the training metrics are taken.
    """

    task: Task
    params: Params
    device: torch.device
    model: nn.Module
    optimizers: dict[str, torch.optim.Optimizer]
    schedulers: dict[str, Any]
    ema: AveragedModel | None = None
    epoch: int = 0
    batch: int = 0
    step: int = 0
    extra: dict[str, Any] = field(default_factory=dict)
    seen: tuple[Any, Any] | None = None
    best: dict[str, Any] | None = None  # epoch and validation metrics of the best epoch
    metrics: dict[str, float] = field(default_factory=dict)  # of the last validation
    losses: LossAverage = field(init=False)  # of the epoch in progress
    summary: Collected = field(init=False)  # likewise: what training metrics are taken from
    labelled: bool = True  # whether losses and metrics need labels
    finished: bool = False  # nothing is left to do, predictions included
    log_bytes: int = 0  # length of metrics.jsonl
    data: dict[str, Any] = field(default_factory=dict)  # its fingerprint
    loader_params: dict[str, Any] = field(default_factory=dict)  # what the loaders set on params
    per_update: bool = False  # whether schedulers step after every update
    updates_per_epoch: int = 0
    first_of_update: bool = True  # place of the current batch among those of one update
    last_of_update: bool = True
    share: float = 1.0  # of the current batch's rows, where several processes divide them
    gathered: dict[str, Any] = field(default_factory=dict)  # terms of the update in progress
    loss_check: LossCheck = field(default_factory=LossCheck)

    def __post_init__(self) -> None:
        self.begin_epoch()

    def begin_epoch(self) -> None:
        """Forget what was summed up over the last epoch."""
        self.losses = LossAverage()
        self.summary = shares.collector(self.task, labelled=self.labelled)

    @property
    def stopped_early(self) -> bool:
        """Whether the best epoch lies `early_stopping_patience` epochs back."""
        patience = self.params.early_stopping_patience
        return bool(patience and self.best and self.epoch - self.best["epoch"] >= patience)

    @property
    def schedule_steps(self) -> int:
        """How often the schedulers have been stepped."""
        if not self.per_update:
            return self.epoch
        updates = math.ceil(self.batch / self.params.grad_accumulation)  # the last may be of fewer
        return self.epoch * self.updates_per_epoch + updates

    @property
    def learning_rate(self) -> float:
        """Of the main optimizer's first group of weights."""
        optimizer = self.optimizers.get("main") or next(iter(self.optimizers.values()))
        return float(optimizer.param_groups[0]["lr"])

    def update(
        self, loss: Tensor, optimizer: str = "main", weight: Tensor | float | None = None
    ) -> None:
        """Change the weights of one optimizer by the gradient of a loss ().

        The gradients of several batches (`grad_accumulation`) and of several processes are
        averaged, each with its `weight`, the number of terms in its mean (default: every batch
        counts the same); only the last batch of an update changes the weights.
        """
        chosen = self.optimizers[optimizer]
        alone = self.first_of_update and self.last_of_update and distributed.world() == 1
        if weight is None or not self.share:  # of a share of 0 nothing may count
            weight = self.share
        if self.first_of_update:
            chosen.zero_grad()
            self.gathered[optimizer] = 0.0
        # Whether all labels are ignored is asked on a CPU only: on a GPU that would be to wait.
        # SyncBatchNorm's processes wait for each other in the backward pass, rows or not.
        takes_part = self.share or self.params.sync_batchnorm
        if takes_part and (self.device.type != "cpu" or weight > 0):
            self.loss_check.note(loss, self.step)
            if self.device.type == "cpu":
                self.check_noted()
            (loss if alone else loss * weight).backward()
            self.gathered[optimizer] = self.gathered[optimizer] + weight
        if not self.last_of_update:
            return
        weights = [w for group in chosen.param_groups for w in group["params"]]
        total = distributed.sum_gradients(weights, self.gathered[optimizer])
        weights = [w for w in weights if w.grad is not None]
        if not weights:
            return
        if not alone:
            for w in weights:
                w.grad /= total
        if self.params.grad_clip is not None:
            nn.utils.clip_grad_norm_(weights, self.params.grad_clip)
        chosen.step()

    def weight(self, batch: Batch) -> Tensor:
        """Return the number of terms () that the losses of the current batch average."""
        if not self.share:
            return torch.zeros(())
        if self.seen is None:
            return default_loss_weight(None, batch)
        return self.task.loss_weight(*self.seen)

    def check_noted(self) -> None:
        """Stop if a loss since the last call was not finite; on a GPU this waits for it."""
        if (bad := self.loss_check.first_bad()) is not None:
            raise NumericError(
                f"the loss is not finite in epoch {self.epoch + 1}, step {bad + 1}, "
                f"learning rate {self.learning_rate:g}.\n"
                "A lower learning_rate or grad_clip may help; nothing of this step was saved.\n"
                "check.py --replay runs it again, and names the first tensor that is not finite."
            )


def train_step(state: State, batch: Batch) -> dict[str, Tensor]:
    """Forward, backward, step: what happens with a batch if the task defines no step of its own."""
    with runtime.autocast(state.params, state.device):
        outputs, labels = state.task.forward(state.model, batch, state.params)
        losses = state.task.losses(outputs, labels)
    state.update(losses["loss"], weight=state.task.loss_weight(outputs, labels))
    state.seen = outputs, labels
    return losses


def train(state: State, loader: Any, run: Run) -> dict[str, float]:
    """Train for one epoch, or what is left of it.

    Returns:
        The mean of every loss over the epoch's steps as they were taken, and the metrics pooled
        over the batches at every `save_summary_steps`.
    """
    params, step = state.params, state.task.train_step or train_step
    if state.batch == 0:
        state.begin_epoch()
    state.model.train()
    batches = shares.of_batches(loader, state.epoch, state.batch)
    quiet = None if distributed.first() else True  # None: shown on a terminal only
    name, total = f"epoch {state.epoch + 1}", len(loader)
    with tqdm(batches, name, total, leave=False, disable=quiet, initial=state.batch) as bar:
        for batch, state.share in bar:
            batch = to_device(batch, state.device, params)
            state.first_of_update = state.batch % params.grad_accumulation == 0
            done = state.batch + 1
            state.last_of_update = done % params.grad_accumulation == 0 or done == total
            with kept_if_not_finite(state, run, batch):
                losses = step(state, batch)

            if state.last_of_update:
                state.step += 1
                if state.ema is not None:
                    optim.update_averages(state.ema, state.model)
                if state.per_update:
                    optim.step_after_update(state.schedulers.values())
            state.losses.add(losses, state.weight(batch))
            if state.batch % params.save_summary_steps == 0:
                state.check_noted()
                if state.seen is not None and state.share:
                    state.summary.add(*state.seen)
            if not bar.disable and (state.device.type == "cpu" or state.batch % 50 == 0):
                bar.set_postfix(loss=f"{state.losses.means()['loss']:.3f}", refresh=False)
            state.seen = None
            state.batch += 1
            if state.last_of_update:
                run.writer.check()
                if run.stop.check(run.checkpoint_is_due()):
                    save(state, run)
    state.check_noted()
    return shares.summed(state.losses).means() | state.summary.metrics()


def train_and_evaluate(state: State, train_loader: Any, val_loader: Any, run: Run) -> None:
    """Train until `num_epochs` are done, with a validation and a checkpoint after every epoch."""
    task, params = state.task, state.params
    run.stop.training = True  # from here on a signal waits for the end of a step
    board = (
        open_board(run.folder, state.step) if params.tensorboard and distributed.first() else None
    )
    while state.epoch < params.num_epochs and not state.stopped_early:
        began, done_before = time.perf_counter(), state.batch
        train_metrics = train(state, train_loader, run)
        seconds = time.perf_counter() - began
        learning_rate = state.learning_rate
        net = snapshot.averaged_or_own(state)
        distributed.check_same(state.model)
        distributed.share(state.model, state.ema)
        state.metrics, _ = evaluate(
            net, val_loader, task, params, labelled=state.labelled, watch=run.stop.watch
        )
        share = 1 - done_before / len(train_loader)
        state.epoch, state.batch = state.epoch + 1, 0
        name, _ = monitored(params, state.metrics)
        value = state.metrics[name]
        optim.step_after_epoch(state.schedulers.values(), value, state.per_update)
        is_best = is_better(params, state.metrics, state.best["metrics"] if state.best else {})
        if is_best:
            state.best = {"epoch": state.epoch, "metrics": state.metrics}
        row = {"epoch": state.epoch, "step": state.step, "learning_rate": learning_rate}
        row |= prefixed("train", train_metrics) | prefixed("val", state.metrics)
        if distributed.first():
            state.log_bytes = append_row(run.folder / "metrics.jsonl", row)
        if board is not None:
            add_to_board(board, row)
        save(state, run, is_best)

        timing = {"train_seconds": seconds, "seconds": time.perf_counter() - began, "share": share}
        announce.epoch(state, run, train_metrics, timing, train_loader.num_examples, is_best)


def save(state: State, run: Run, is_best: bool = False) -> None:
    """Take a checkpoint; it is written in the background, after the one before it."""
    state.check_noted()
    processes = distributed.gathered(snapshot.of_process(state))
    if not distributed.first():
        return
    run.writer.wait()
    last = snapshot.take(state, run, processes)
    best = snapshot.take_best(state, run, last) if is_best else None
    run.writer.begin(write_save, run.folder, last, best)
    run.saved_at = time.monotonic()


def finish(state: State, val_loader: Any, run: Run) -> None:
    """Write the best weights' predictions on the validation split, and note that all is done."""
    path = run.folder / "best.pt"
    run.writer.wait()
    if state.params.save_predictions and state.best is not None:
        net = copy.deepcopy(snapshot.averaged_or_own(state))
        best = distributed.by_first(checkpoint.read_checkpoint)(path)
        checkpoint.load_weights(net, best["state_dict"], path)
        _, collected = evaluate(
            net, val_loader, state.task, state.params, True, state.labelled, run.stop.watch
        )
        if distributed.first() and wants_predictions(state.params, collected):
            save_predictions(run.folder / "predictions_val.npz", collected, val_loader.ids)
    state.finished = True
    (run.folder / "nonfinite.pt").unlink(missing_ok=True)  # of an earlier start
    save(state, run)
    run.writer.wait()


def build(run: Run, data_dir: Path) -> tuple[State, dict[str, Any]]:
    """Make loaders, net, optimizers and schedulers, in this order, as the params say."""
    params, task = run.params, run.task
    device = runtime.start(params)
    kept = (run.checkpoint or run.restored or {}).get("loader_params", {})
    with distributed.one_before_the_others():
        loaders, from_loaders = fetch_loaders(
            task, ["train", "val"], data_dir, params, kept, device, train=True
        )
    model = runtime.place(task.Net(params), params, device)
    optimizers = optim.make_optimizers(task, model, params)
    updates_per_epoch = math.ceil(len(loaders["train"]) / params.grad_accumulation)
    state = State(
        task=task,
        params=params,
        device=device,
        model=model,
        optimizers=optimizers,
        schedulers=optim.make_schedulers(task, optimizers, params, updates_per_epoch),
        loader_params=from_loaders,
        per_update=optim.steps_per_update(params, task),
        updates_per_epoch=updates_per_epoch,
    )
    if params.ema_decay is not None:
        average = get_ema_multi_avg_fn(params.ema_decay)
        state.ema = AveragedModel(model, multi_avg_fn=average)
    return state, loaders


def begin(state: State, run: Run) -> None:
    """Put the state where the run stopped, or load the weights that it is to start from."""
    distributed.share(state.model, state.ema, weights=True)
    runtime.seed_apart(state.params.seed)
    if run.checkpoint is not None:
        snapshot.put_back(state, run)
    elif run.restored is not None:
        snapshot.start_from(state, run)


def begin_folder(state: State, run: Run, data_dir: Path, overwrite: bool) -> None:
    """Bring the files of the run's folder to where the state is."""
    if run.checkpoint is not None:
        write_results(run.folder, run.checkpoint)
    cut_back(run.folder / "metrics.jsonl", state.log_bytes)
    if overwrite:
        remove_outputs(run.folder)
    write_resolved(run, data_dir, state.data)


@distributed.by_first
def get_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = common_parser(__doc__)
    parser.add_argument("--restore_file", help="start from the weights of this checkpoint")
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on with changed params or data")
    again.add_argument("--overwrite", action="store_true", help="remove the run's outputs first")
    return parser.parse_args(argv)


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns the exit code."""
    stop = Stop()
    with stop.handling_signals(), distributed.started():
        args = get_args(argv)
        overrides = parse_overrides(args.settings)
        if args.data_dir is not None:
            overrides["data_dir"] = args.data_dir
        find_params_file(args.model_dir)
        with one_writer(args.model_dir):
            run = open_run(
                args.model_dir,
                overrides,
                resume=args.resume,
                overwrite=args.overwrite,
                restore_file=args.restore_file,
            )
            run.stop = stop
            data_dir = data.find_data_dir(run.params, run.task)
            log = logging_to(run.folder / "train.log")
            with log if distributed.first() else nullcontext():
                return see_to_the_end(run, data_dir, args)


def see_to_the_end(run: Run, data_dir: Path, args: argparse.Namespace) -> int:
    """Begin or go on with a run, and train until it is complete or a signal stops it.

    Returns:
        The exit code.
    """
    state, loaders = (None, {}) if run.complete else build(run, data_dir)
    fingerprint = data.fingerprint(data_dir, run.folder)  # a loader may have written there
    if run.data_changed(fingerprint) and not args.resume:
        refuse(run.folder, [f"the data in {data_dir}"])
    if state is None:
        if distributed.first():
            write_results(run.folder, run.checkpoint or {})
        announce.overrides(run)
        if run.changed:
            changed = ", ".join(run.changed)
            logging.warning("Note: not trained with the new %s; --overwrite starts anew.", changed)
        logging.info("%s: complete, nothing to do.", run.folder)
        return 0
    state.data = fingerprint
    begin(state, run)
    if distributed.first():
        begin_folder(state, run, data_dir, args.overwrite)
    announce.start(state, run, loaders, data_dir)
    trivial = announce.trivial_answers(state, loaders)
    try:
        train_and_evaluate(state, loaders["train"], loaders["val"], run)
        announce.end(state, run, trivial)
        finish(state, loaders["val"], run)
    except Stopped as stopped:
        save(state, run)
        run.writer.wait()
        logging.info("Stopped by %s; the same command goes on from here.", stopped)
        return stopped.exit_code
    finally:
        run.writer.close()
    return 0


if __name__ == "__main__":
    distributed.leave(main())
