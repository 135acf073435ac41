"""Rows of metrics.jsonl for experiment trackers, each sent once, also by a run that is resumed.

All work offline: what they write lies in the run's folder, or beside it. Each row goes to its step.
"""

import json
import logging
import os
import secrets
import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from core.base.errors import UsageError
from core.base.files import write_text
from core.base.params import Params, read_mapping
from core.training.state import State

SENT = "trackers.json"  # which rows a tracker has
FACTS = ("epoch", "step")


class Tracker(Protocol):
    """Where rows go."""

    def add(self, values: Mapping[str, float], step: int) -> None:
        """Send numbers that belong to a step."""

    def close(self) -> None:
        """Send what waits to be sent."""


class TensorBoard:
    """Event files in the run's folder."""

    def __init__(self, folder: Path, params: Mapping[str, Any], name: str, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder), purge_step=step + 1)

    def add(self, values: Mapping[str, float], step: int) -> None:
        """Send numbers: train_loss is shown as train/loss."""
        for name, value in values.items():
            self.writer.add_scalar(name.replace("_", "/", 1), value, step)
        self.writer.flush()

    def close(self) -> None:
        """Close the file."""
        self.writer.close()


class Wandb:
    """Weights & Biases, in the folder `wandb` of the run; `wandb sync` uploads it."""

    def __init__(self, folder: Path, params: Mapping[str, Any], name: str, step: int) -> None:
        import wandb

        mode: Any = os.environ.get("WANDB_MODE", "offline")
        quiet = wandb.Settings(mode=mode, silent=True, console="off")
        place: Any = {"project": folder.resolve().parent.name, "name": folder.name, "id": name}
        place |= {"dir": str(folder), "resume": "allow", "config": dict(params)}
        self.run = wandb.init(**place, settings=quiet)

    def add(self, values: Mapping[str, float], step: int) -> None:
        """Send numbers."""
        self.run.log(dict(values), step=step)

    def close(self) -> None:
        """End the run."""
        self.run.finish()


class MLflow:
    """MLflow, in `mlflow.db` beside the run's folder, or at MLFLOW_TRACKING_URI."""

    def __init__(self, folder: Path, params: Mapping[str, Any], name: str, step: int) -> None:
        from mlflow import MlflowClient

        parent = folder.resolve().parent
        store = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{parent / 'mlflow.db'}")
        self.client = MlflowClient(store)
        known = self.client.get_experiment_by_name(parent.name)
        home = known.experiment_id if known else self.client.create_experiment(parent.name)
        found = self.client.search_runs([home], f"tags.run = '{name}'")
        run = (found or [self.client.create_run(home, None, {"run": name}, folder.name)])[0]
        self.id = run.info.run_id
        for key, value in params.items() if not found else ():
            self.client.log_param(self.id, key, value)

    def add(self, values: Mapping[str, float], step: int) -> None:
        """Send numbers."""
        for name, value in values.items():
            self.client.log_metric(self.id, name, value, step=step)

    def close(self) -> None:
        """Mark the run as ended."""
        self.client.set_terminated(self.id)


class Trackio:
    """Trackio, in the folder `trackio` beside the run's folder, or in TRACKIO_DIR."""

    def __init__(self, folder: Path, params: Mapping[str, Any], name: str, step: int) -> None:
        parent = folder.resolve().parent
        os.environ.setdefault("TRACKIO_DIR", str(parent / "trackio"))
        import trackio

        title = f"{folder.name} {name}"
        place: Any = {"project": parent.name, "name": title, "resume": "allow", "embed": False}
        self.run = trackio.init(**place, config=dict(params))

    def add(self, values: Mapping[str, float], step: int) -> None:
        """Send numbers."""
        self.run.log(dict(values), step=step)

    def close(self) -> None:
        """Wait until all is written."""
        self.run.finish()


KINDS: dict[str, type[Any]] = {
    "tensorboard": TensorBoard,
    "wandb": Wandb,
    "mlflow": MLflow,
    "trackio": Trackio,
}


def wanted(params: Params) -> list[str]:
    """Return the trackers that the params name; UsageError if a package is missing."""
    names = list(dict.fromkeys([*params.track, *(["tensorboard"] if params.tensorboard else [])]))
    for name in names:
        if find_spec(name) is None:
            key = "tensorboard" if name not in params.track else "track"
            raise UsageError(f"'{key}': the package {name} is missing: pip install {name}")
    return names


class Trackers:
    """All trackers of a run."""

    def __init__(self, folder: Path, params: Params, step: int) -> None:
        self.path, names = folder / SENT, wanted(params)
        sent: dict[str, Any] = read_mapping(self.path) if self.path.exists() else {}
        self.sent = {"name": secrets.token_hex(4), "epochs": {}, "steps": {}} | sent
        plain = {n: v for n, v in params.dict.items() if isinstance(v, str | int | float | None)}
        self.histograms = bool(params.log_histograms)
        self.trackers: dict[str, Tracker] = {}
        with warnings.catch_warnings(action="ignore"):  # of these packages among themselves
            for name in names:
                self.trackers[name] = KINDS[name](folder, plain, self.sent["name"], step)

    def add(self, values: Mapping[str, Any], step: int, kind: str = "epochs") -> None:
        """Send a row to each tracker that does not have it; `kind` is epochs or steps."""
        numbers = {n: float(v) for n, v in values.items() if v is not None and n not in FACTS}
        for name, tracker in list(self.trackers.items()):
            if name != "tensorboard" and step <= self.sent[kind].get(name, -1):
                continue
            try:
                tracker.add(numbers, step)
                self.sent[kind][name] = step
            except Exception as error:  # a package of others must not end the run
                logging.warning("Note: %s gets no more rows: %s", name, error)
                del self.trackers[name]
        write_text(self.path, json.dumps(self.sent))

    def add_step(self, state: State) -> None:
        """Send the running loss, the learning rates of all groups, and the norm of the gradient."""
        values = {f"running_{n}": v for n, v in state.tally.losses.means().items()}
        for name, optimizer in state.optimizers.items():
            for i, group in enumerate(optimizer.param_groups):
                values[f"rate_{name}_{i}"] = float(group["lr"])
        if state.grad_norm is not None:
            values["gradient_norm"] = float(state.grad_norm)
        self.add(values, state.step, "steps")

    def add_weights(self, state: State) -> None:
        """Send histograms of all weights to TensorBoard, if `log_histograms` asks for them."""
        board = self.trackers.get("tensorboard")
        if self.histograms and isinstance(board, TensorBoard):
            for name, weight in state.model.named_parameters():
                board.writer.add_histogram(name, weight.detach().float(), state.step)

    def close(self) -> None:
        """Send what waits to be sent."""
        with warnings.catch_warnings(action="ignore"):
            for tracker in self.trackers.values():
                tracker.close()
