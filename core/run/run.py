"""One start of a run: what it goes on from, when it saves, what it leaves in its folder."""

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

import torch
from tqdm import tqdm

from core.base.errors import UsageError, listed
from core.base.files import append_row, cut_back, finite_or_none, write_json
from core.base.keys import deciding
from core.base.monitor import check_monitor
from core.base.params import Params
from core.base.predictions import write_predictions
from core.data.fetching import fetch_loaders
from core.data.folder import find_data_dir, fingerprint, synthetic_note
from core.machine import devices, processes
from core.machine.random_states import mixed_seed, seed_everything, seeded
from core.machine.signals import Stop
from core.run import messages
from core.run.baseline import baseline, unseen_classes
from core.run.folder import (
    RESOLVED,
    describe_environment,
    hash_code,
    read_resolved,
    remove_outputs,
    write_results,
    write_save,
    write_status,
)
from core.run.log import Board
from core.run.writer import Writer
from core.task import Batch, Loader, Task
from core.training import snapshot
from core.training.checkpoint import (
    load_weights,
    plain,
    read_checkpoint,
    storable,
    with_arrays,
    without_marks,
)
from core.training.state import State
from core.training.tally import Tally

AUTO_BYTES = 64 * 2**20  # up to which `save_predictions: auto` keeps outputs


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
    content: (
        dict[str, Any] | None
    )  # of the checkpoint to go on or start from; rank 0 until `resume`
    loader_params: dict[str, Any]  # what the loaders set on params
    changed: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    code_changed: list[str] = field(default_factory=list)
    may_change: bool = False  # --resume
    overwrite: bool = False

    def __post_init__(self) -> None:
        self.asked = deciding(self.in_force)
        self.data_dir = find_data_dir(self.params, self.task)
        self.data: dict[str, Any] = {}  # its fingerprint
        self.baseline: dict[str, float] = {}
        self.state: State | None = None  # from `resume` on
        self.is_main = processes.is_main()
        self.finished = False
        self.log_bytes = 0  # length of metrics.jsonl
        self.stop, self.writer = Stop(), Writer()
        self.saved_at = time.monotonic()
        self.board: Board | None = None
        self.bar: Any = None
        self.times: dict[str, float] = {}  # of the epoch in progress

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do: every epoch is done, or it stopped early."""
        if self.before is None or not self.before["finished"]:
            return False
        stopped = self.before["stopped_early"] and not self.changed
        return stopped or self.before["epoch"] >= self.params.num_epochs

    def _look_at_data(self) -> bool:
        """Take the data's fingerprint; tell whether it is another one than the run began with.

        Raises:
            UsageError: it is, and --resume does not allow it.
        """
        self.data = processes.on_main(fingerprint)(self.data_dir, self.folder)
        changed = self.before is not None and self.before["data"] != self.data
        if changed and not self.may_change:
            refuse(self.folder, [f"the data in {self.data_dir}"])
        return changed

    def tell_complete(self) -> int:
        """Say that nothing is left to do; returns the exit code."""
        self._look_at_data()
        assert self.before is not None
        if self.is_main:
            write_results(self.folder, self.before)
        messages.overrides(self.overrides)
        if self.changed:
            changed = ", ".join(self.changed)
            logging.warning("Note: not trained with the new %s; --overwrite starts anew.", changed)
        logging.info("%s: complete, nothing to do.", self.folder)
        return 0

    def fetch_loaders(self) -> dict[str, Loader]:
        """Set up the device, and return the loaders of "train" and "val".

        They come before the net, because what they set on params reaches it.
        """
        self.device = devices.start(self.params)
        with processes.local_main_first():
            loaders, new = fetch_loaders(
                self.task,
                ["train", "val"],
                self.data_dir,
                self.params,
                without_marks(self.loader_params),
                self.device,
                train=True,
            )
        self.loader_params = storable(new)
        self.data_changed = self._look_at_data()  # only now: a loader may have written there
        return loaders

    def resume(self, state: State, loaders: dict[str, Loader]) -> None:
        """Put the state where the run stopped; a new run begins from its first weights."""
        processes.broadcast_modules(state.model, state.average, weights=True)
        if not self.is_main:  # processes draw different numbers; rank 0 those of one alone
            seed_everything(mixed_seed(state.params.seed, processes.rank()))
        content, self.content = processes.broadcast(self.content), None
        if self.before is not None and content is not None:
            changed = bool(self.changed) or self.data_changed
            snapshot.restore(state, content, self.folder / "last.pt", changed)
            self.log_bytes = self.before["log_bytes"]
        elif content is not None:
            snapshot.start_from(state, content, str(self.restore_file))
        self._look_at_first_batch(state, loaders)
        if self.is_main:
            self._begin_folder(state)
        self.state = state
        self._tell_start(state, loaders)
        self.stop.training = True  # from here on a signal waits for the end of a step

    def _tell_start(self, state: State, loaders: dict[str, Loader]) -> None:
        settings, notes = self.overrides, self.notes
        messages.start(self.folder, state, loaders, self.data_dir, notes, settings)
        if self.before is not None:
            logging.info("Going on after epoch %d, step %d", state.epoch, state.step)
        first_loss = self.first_loss if state.step == 0 else None
        messages.baseline(self.baseline, unseen_classes(loaders), first_loss)

    def _begin_folder(self, state: State) -> None:
        """Bring the files of the folder to where the state is."""
        if self.before is not None:
            write_results(self.folder, self.before)
        cut_back(self.folder / "metrics.jsonl", self.log_bytes)
        if self.overwrite:
            remove_outputs(self.folder)
        earlier = read_resolved(self.folder).get("code_changed", [])
        folder, note = str(self.data_dir), synthetic_note(self.data_dir)
        content = {
            "params": self.in_force,
            "overrides": self.overrides,
            "restore_file": self.restore_file,
            "resumed_with": {name: new for name, (_, new) in self.changed.items()},
            "code": hash_code(self.task.name),
            "code_changed": [*earlier, *self.code_changed],
            "data": {"folder": folder, **self.data, "made_up": note},
            **describe_environment(self.device),
        }
        write_json(self.folder / RESOLVED, content)
        self.weights = messages.count_weights(state)
        write_status(self.folder, "running", **self._progress(state))
        self.board = Board(self.folder, state.step) if self.params.tensorboard else None

    def _progress(self, state: State) -> dict[str, int]:
        return {"epoch": state.epoch, "step": state.step, "parameters": self.weights}

    def _look_at_first_batch(self, state: State, loaders: dict[str, Loader]) -> None:
        """Learn from a validation batch what the loss needs, and how well chance would do."""
        state.model.eval()
        with (
            seeded(state.params.seed),  # a resumed run draws what it would have drawn
            torch.no_grad(),
            state.autocast(),
        ):
            batch = loaders["val"].first_batch()
            outputs, labels = state.task.forward(state.model, batch, state.params)
            losses = state.task.losses(outputs, labels)
            check_monitor(state.params.dict, [*state.task.metrics, *losses])
            self.baseline = baseline(state.task, loaders, outputs, labels)
        if self.before is None:
            state.task = self.task = replace(self.task, labelled=labels is not None)
        self.first_loss = float(losses["loss"])

    @contextmanager
    def progress(self, state: State, loader: Loader) -> Iterator[Iterable[Batch]]:
        """Yield the batches left of the epoch, with a bar on a terminal; takes the time."""
        began, fraction = time.perf_counter(), 1 - state.batch / len(loader)
        self.times = {"began": began, "fraction": fraction, "examples": loader.num_examples}
        quiet = None if self.is_main else True  # None: shown on a terminal only
        name, total = f"epoch {state.epoch + 1}", len(loader)
        batches, done = state.batches(loader), state.batch
        with (
            closing(batches),
            tqdm(batches, name, total, leave=False, disable=quiet, initial=done) as self.bar,
        ):
            yield self.bar
        self.times["trained"] = time.perf_counter()

    def after_update(self, state: State) -> None:
        """Save if it is time; raises Stopped if a signal has come."""
        if not self.bar.disable and (state.device.type == "cpu" or state.batch % 50 == 0):
            mean = state.tally.losses.means()["loss"]
            self.bar.set_postfix(loss=f"{mean:.3f}", refresh=False)
        self.writer.check()
        due = self._is_due()
        if self.stop.requested or self.stop.agree:
            due = self.stop.check(due)
        if due:
            self.save(state)

    def _is_due(self) -> bool:
        """Tell whether `checkpoint_minutes` have passed since the last save."""
        minutes = self.params.checkpoint_minutes
        if minutes is None or not self.is_main:
            return False
        return time.monotonic() - self.saved_at >= 60 * minutes

    def write_epoch(self, state: State, trained: dict[str, float], is_best: bool) -> None:
        """Write an epoch's row, take a checkpoint, and tell how it went."""
        row: dict[str, Any] = {
            "epoch": state.epoch,
            "step": state.step,
            "learning_rate": state.last_rate,
        }
        for split, metrics in (("train", trained), ("val", state.metrics)):
            row |= {f"{split}_{name}": finite_or_none(value) for name, value in metrics.items()}
        if self.is_main:
            self.log_bytes = append_row(self.folder / "metrics.jsonl", row)
        if self.board is not None:
            self.board.add(row)
        self.save(state, is_best)
        began, seconds = self.times["began"], self.times["trained"] - self.times["began"]
        rate = self.times["fraction"] * self.times["examples"] / seconds
        times = {
            "train_seconds": seconds,
            "seconds": time.perf_counter() - began,
            "share": self.times["fraction"],
            "examples_per_second": finite_or_none(rate),
            "peak_memory_mb": devices.peak_memory_mb(),
        }
        messages.epoch(state, trained, times, is_best)
        if self.is_main:
            append_row(self.folder / "times.jsonl", {"epoch": state.epoch, **times})

    def save(self, state: State, is_best: bool = False) -> None:
        """Take a checkpoint; it is written in the background, after the one before it."""
        state.check_losses()
        parts = processes.gathered(snapshot.own_part(state))
        if not self.is_main:
            return
        self.writer.wait()
        facts = {
            "finished": self.finished,
            "log_bytes": self.log_bytes,
            "data": self.data,
            "params": self.asked,
            "loader_params": with_arrays(self.loader_params),
        }
        last = snapshot.take_last(state, parts, facts)
        params = self.asked | {"data_dir": self.params.data_dir}
        best = snapshot.take_best(state, last, params) if is_best else None
        self.writer.begin(write_save, self.folder, last, best)
        self.saved_at = time.monotonic()

    @contextmanager
    def best_net(self, state: State) -> Iterator[torch.nn.Module]:
        """Yield the net with the best weights; those it has now come back at the end."""
        self.writer.wait()
        path, own = self.folder / "best.pt", plain(state.net.state_dict())
        best = processes.broadcast(read_checkpoint(path) if self.is_main else None)
        assert best is not None
        load_weights(state.net, best["state_dict"], path)
        try:
            yield state.net
        finally:
            state.net.load_state_dict(own)

    def write_predictions(self, tally: Tally, loader: Loader) -> None:
        """Write the outputs of the validation split, if the params ask for as much."""
        if self.is_main and wants_predictions(self.params, tally):
            path = self.folder / "predictions_val.npz"
            write_predictions(path, *tally.arrays(), loader.ids)

    def finish(self, state: State) -> int:
        """Note that all is done; returns the exit code."""
        self.finished = True
        self.save(state)
        self.writer.wait()
        self.write_status("finished", state)
        return 0

    def write_status(self, status: str, state: State, **facts: Any) -> None:
        """Write how the run stands now."""
        if self.is_main:
            write_status(self.folder, status, **self._progress(state), **facts)


def wants_predictions(params: Params, tally: Tally) -> bool:
    """Tell whether `save_predictions` asks for predictions of this size."""
    wanted = params.save_predictions
    return tally.nbytes <= AUTO_BYTES if wanted == "auto" else bool(wanted)


def refuse(folder: Path, changes: list[str]) -> NoReturn:
    """Stop, because what decides the result is not what it was when the run started."""
    raise UsageError(
        f"{folder}: changed since this run began:\n{listed(changes, 2)}\n"
        "--resume goes on with what is new, --overwrite starts again from nothing."
    )
