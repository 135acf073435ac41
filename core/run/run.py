"""One start of a run: what it resumes from, when it saves, what it leaves in its folder."""

import logging
import math
import os
import statistics
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from core.base.errors import plural
from core.base.files import append_row, checkpoint_hash, finite_or_none
from core.base.keys import deciding
from core.base.monitor import monitored
from core.base.params import Params
from core.data.fetching import fetch_loaders
from core.data.folder import find_data_dir, fingerprint
from core.machine import devices, processes
from core.machine.nested import apply
from core.machine.random_states import mixed_seed, seed_everything
from core.machine.signals import Stop
from core.reading.outputs import Reading
from core.run import folder as files
from core.run import messages
from core.run.baseline import look
from core.run.kept_outputs import save_predictions, wants_predictions
from core.run.progress import BAR, Bar, hidden_bar
from core.run.trackers import Trackers, wanted
from core.run.writer import Writer, write
from core.task import Batch, Loader, Task
from core.training import contents, snapshot
from core.training.engines import wholes
from core.training.parts import Parts, in_parts
from core.training.state import State
from core.training.tally import Tally
from core.training.timing import Pace, choose


@dataclass
class Run:
    """One start of a run.

    `params` are the file's, defaults and overrides, to which a loader may add its own; `in_force`
    are those before it does. `before` is what the last checkpoint says of the run, None for a new
    one. `changed` names the keys with new values, which `--resume` allows.
    """

    folder: Path
    task: Task
    params: Params
    in_force: dict[str, Any]
    overrides: dict[str, Any]
    notes: list[str]
    restore_file: str | None
    before: dict[str, Any] | None
    content: dict[str, Any] | None  # of the checkpoint to go on or start from; until `resume`
    loader_params: dict[str, Any]  # what the loaders set on params
    changed: dict[str, tuple[Any, Any]]
    code_changed: list[str]
    may_change: bool  # --resume
    overwrite: bool

    def __post_init__(self) -> None:
        self.asked = deciding(self.in_force)
        self.data_dir = find_data_dir(self.params, self.task)
        self.is_main = processes.is_main()
        self.new = self.before is None and self.restore_file is None  # no weights to go on from
        self.stop, self.writer, self.parts = Stop(), Writer(), Parts(self.folder)
        self.state: State | None = None  # from `resume` on
        self.baseline: dict[str, float] = {}
        self.trackers: Trackers | None = None
        self.log_bytes, self.saved_at = 0, time.monotonic()  # length of metrics.jsonl
        self.epoch_seconds, self.pace, self.finished = list[float](), Pace(), False

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do: every epoch is done, or it stopped early."""
        if self.before is None or not self.before["finished"]:
            return False
        stopped = self.before["stopped_early"] and not self.changed
        return stopped or self.before["epoch"] >= self.params.num_epochs

    def tell_complete(self) -> int:
        """Say that nothing is left to do; returns the exit code."""
        self._check_data()
        assert self.before is not None
        if self.is_main:
            files.write_results(self.folder, self.before)
        messages.overrides(self.overrides)
        if self.changed:
            changed = ", ".join(self.changed)
            logging.warning("Note: not trained with the new %s; --overwrite starts anew.", changed)
        if self.code_changed:
            logging.warning("Note: changed since it was trained: %s", ", ".join(self.code_changed))
            logging.warning("--overwrite trains anew, --resume --set num_epochs=N trains longer.")
        done = plural(self.before["epoch"], "epoch", "epochs")
        logging.info("%s: complete after %s, nothing to do.", self.folder, done)
        return 0

    def _check_data(self) -> None:
        """Take the data's fingerprint; other data than the run began with need --resume."""
        self.data = processes.on_main(fingerprint)(self.data_dir, self.folder)
        self.data_changed = self.before is not None and self.before["data"] != self.data
        if self.data_changed and not self.may_change:
            files.refuse_changes(self.folder, [f"the data in {self.data_dir}"])

    def fetch_loaders(self) -> dict[str, Loader]:
        """Set up the device, and return the loaders of "train" and "val".

        They come before the net, because what they set on params reaches it.
        """
        self.device = devices.start(self.params)
        kept, splits = contents.without_marks(self.loader_params), ["train", "val"]
        with processes.local_main_first():
            loaders, new = fetch_loaders(
                self.task, splits, self.data_dir, self.params, kept, self.device, train=True
            )
        self.loader_params = contents.storable(new)
        self.val_batches = math.ceil(len(loaders["val"]) / processes.world_size())
        for split, loader in loaders.items() if processes.world_size() > 1 else ():
            labels = loader.labels.tolist() if isinstance(loader.labels, Tensor) else None
            told = f"the processes read different examples of {split!r}: each must read all"
            processes.check_same((loader.num_examples, loader.ids, labels), told)
        self._check_data()  # only now: a loader may have written there
        return loaders

    def resume(self, state: State, loaders: dict[str, Loader]) -> None:
        """Put the state where the run stopped; a new run begins from its first weights."""
        if not self.is_main:  # processes draw different numbers; rank 0 those of one alone
            seed_everything(mixed_seed(state.params.seed, processes.rank()))
        content, self.content = processes.broadcast(self.content), None
        known = False  # what outputs and labels mean: after a change it is found out anew
        if self.before is not None and content is not None:
            changed = bool(self.changed) or self.data_changed
            known = "reading" in self.before and not (changed or self.code_changed)
            if known:
                state.adopt(Reading.of(self.before["reading"]))
            content = self.parts.load(state, content) if "parts" in content else content
            snapshot.restore(state, content, self.folder / "last.pt", changed)
            self.log_bytes = self.before["log_bytes"]
        elif content is not None:
            snapshot.start_from(state, content, str(self.restore_file))
        if self.before is None:
            self.asked |= (chosen := choose(state, loaders, self.in_force))
            self.in_force |= chosen
        first = look(state, loaders, known)
        self.task, self.reading, self.baseline = state.task, state.reading, first.baseline
        if self.is_main:
            self._begin_folder(state)
        self.state = state
        messages.start(self.folder, state, loaders, self.data_dir, self.notes, self.overrides)
        if self.before is not None:
            logging.info("Resuming after epoch %d, step %d", state.epoch, state.step)
        messages.first_look(first, new=state.step == 0)
        self.stop.seconds = 0.0 if state.params.checkpoint_minutes == 0 else 0.1
        self.stop.training = True  # from here on a signal waits for the end of a step

    def _begin_folder(self, state: State) -> None:
        """Bring the files of the folder to where the state is."""
        if self.before is not None:
            files.write_results(self.folder, self.before)
        if (rows := self.folder / "metrics.jsonl").exists():
            os.truncate(rows, min(self.log_bytes, rows.stat().st_size))  # later ones do not count
        if self.overwrite:
            files.remove_outputs(self.folder)
        earlier = files.read_resolved(self.folder).get("code_changed", [])
        facts = {
            "params": self.in_force,
            "overrides": self.overrides,
            "restore_file": self.restore_file,
            "resumed_with": {name: new for name, (_, new) in self.changed.items()},
            "code_changed": [*earlier, *self.code_changed],
        }
        name, more = monitored(self.params.dict, self.task.metrics)
        facts |= {"monitor": name, "monitor_mode": "max" if more else "min"}
        files.write_resolved(self.folder, facts, self.task.name, self.data_dir, self.data)
        self.write_status("running", state)
        if wanted(self.params):
            self.trackers = Trackers(self.folder, self.params, state.step)

    def write_status(self, status: str, state: State, **facts: Any) -> None:
        """Write how the run stands now."""
        if self.is_main:
            place = {"epoch": state.epoch, "step": state.step}
            place["parameters"] = messages.count_weights(state)
            files.write_status(self.folder, status, **place, **facts)

    @contextmanager
    def progress(self, state: State, loader: Loader) -> Iterator[Iterable[Batch]]:
        """Yield the batches left of the epoch, with a bar on a terminal; takes the time."""
        self.began, total, done = time.perf_counter(), len(loader), state.batch
        self.fraction, self.examples = 1 - done / total, loader.num_examples
        batches = state.batches(loader)
        name = f"Epoch {state.epoch + 1}/{state.params.num_epochs}"
        self.bar = self._bar(batches, name, total, done)
        with closing(batches), self.bar:
            yield self.bar
        self.trained = time.perf_counter()

    def watch(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Yield the batches of an evaluation, with a bar; a signal ends it between two of them."""
        with self._bar(self.stop.watch(batches), "Validation", self.val_batches) as bar:
            yield from bar

    def _bar(self, batches: Iterable[Batch], name: str, total: int, done: int = 0) -> Bar:
        quiet = hidden_bar() if self.is_main else True
        return Bar(batches, name, total, leave=False, disable=quiet, initial=done, bar_format=BAR)

    def after_update(self, state: State) -> None:
        """Save if `checkpoint_minutes` have passed; raises Stopped if a signal has come."""
        if not self.bar.disable and (state.device.type == "cpu" or state.batch % 50 == 0):
            means = state.tally.losses.means()
            self.bar.loss = means.get("loss", next(iter(means.values()), math.nan))
        if self.writer.save is not None:
            self.writer.check()
        if self.trackers is not None and state.step % self.params.save_summary_steps == 0:
            self.trackers.add_step(state)
        minutes = self.params.checkpoint_minutes if self.is_main else None
        due = minutes is not None and time.monotonic() - self.saved_at >= 60 * minutes
        if self.stop.requested or self.stop.agree:
            due = self.stop.check(due)
        if due:
            self.save(state)

    def write_epoch(self, state: State, trained: dict[str, float], is_best: bool) -> None:
        """Write an epoch's row, take a checkpoint, and tell how it went."""
        row: dict[str, Any] = {"epoch": state.epoch, "step": state.step}
        row["learning_rate"] = state.last_rate
        for split, metrics in (("train", trained), ("val", state.metrics)):
            row |= {f"{split}_{name}": finite_or_none(value) for name, value in metrics.items()}
        if self.is_main:
            self.log_bytes = append_row(self.folder / "metrics.jsonl", row)
        if self.trackers is not None:
            self.trackers.add(row, state.step)
            self.trackers.add_weights(state)
        self.save(state, is_best)
        times = {
            "train_seconds": (seconds := self.trained - self.began),
            "data_seconds": self.bar.waited,
            "seconds": time.perf_counter() - self.began,
            "share": self.fraction,
            "examples_per_second": self.fraction * self.examples / seconds,
            "peak_memory_mb": devices.peak_memory_mb(),
        }
        self.pace.look(state, seconds - self.bar.waited, self.fraction)
        self.epoch_seconds.append((time.perf_counter() - self.began) / max(self.fraction, 0.01))
        left = statistics.median(self.epoch_seconds) * (state.params.num_epochs - state.epoch)
        messages.epoch(state, trained, times, is_best, left, len(self.epoch_seconds) == 1)
        if self.is_main:
            append_row(self.folder / "times.jsonl", {"epoch": state.epoch, **times})

    def save(self, state: State, is_best: bool = False) -> None:
        """Take a checkpoint; it is written in the background, after the one before it."""
        state.check_losses()
        parts = processes.gathered(snapshot.own_part(state))
        shared, weights, written = snapshot.shared_part(state), None, None
        self.writer.wait()
        if in_parts(state):
            weights = wholes(apply(Tensor.clone, state.net.state_dict())) if is_best else None
            shared, written = self.parts.begin(shared)
        if not self.is_main:
            if written is not None:
                self.writer.begin(written)
            return
        facts: dict[str, Any] = {"finished": self.finished, "log_bytes": self.log_bytes}
        facts |= {"data": self.data, "params": self.asked, "overrides": self.overrides}
        facts["loader_params"] = contents.with_arrays(self.loader_params)
        last = snapshot.take_last(state, shared, parts, facts)
        params = self.asked | {"data_dir": self.in_force["data_dir"]}
        best = snapshot.take_best(state, last, params, weights) if is_best else None
        save = self.folder, last, best, state.params.keep_checkpoints
        self.writer.begin(write, self.parts, written, *save)
        self.saved_at = time.monotonic()

    def best_net(self, state: State) -> AbstractContextManager[torch.nn.Module]:
        """Give the net the best weights for a block; those it has now come back at the end."""
        self.writer.wait()
        return snapshot.with_weights(state, self.folder / "best.pt")

    def write_predictions(self, tally: Tally, loader: Loader) -> None:
        """Write the outputs of the validation split, if the params ask for as much."""
        if self.is_main and wants_predictions(self.params, tally):
            best, data = checkpoint_hash(self.folder / "best.pt"), self.data["sha256"]
            path, of = self.folder / "predictions_val.npz", {"checkpoint": best, "data": data}
            save_predictions(path, tally, loader, self.reading, of)

    def finish(self, state: State) -> int:
        """Note that all is done; returns the exit code."""
        self.finished = True
        self.save(state)
        self.writer.wait()
        self.write_status("finished", state)
        logging.info("Wrote best.pt, last.pt, metrics.jsonl and more into %s", self.folder)
        return 0
