"""Rows of metrics.jsonl for experiment trackers, each sent once, also by a run that is resumed.

All work offline: what they write lies in the run's folder, or beside it. Each row goes to its step.
"""

import json
import logging
import os
import secrets
import warnings
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from core.base.errors import UsageError
from core.base.files import write_text
from core.base.params import Params, read_mapping
from core.training.state import State

SENT = "trackers.json"  # which rows a tracker has
FACTS = ("epoch", "step")


class Place(NamedTuple):
    """Where the rows of a run belong."""

    folder: Path
    params: dict[str, Any]  # those that are plain values
    name: str  # of the run, the same after a restart
    step: int  # that it starts from

    @property
    def parent(self) -> Path:
        """The folder around the run's, whose name the trackers take for the project's."""
        return self.folder.resolve().parent


class Tracker(NamedTuple):
    """Where rows go."""

    add: Callable[[dict[str, float], int], object]  # sends numbers that belong to a step
    close: Callable[[], object]  # sends what waits to be sent
    add_histogram: Callable[..., object] | None = None


def tensorboard(place: Place) -> Tracker:
    """Write event files into the run's folder; train_loss is shown as train/loss."""
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(place.folder), purge_step=place.step + 1)

    def add(values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            writer.add_scalar(name.replace("_", "/", 1), value, step)
        writer.flush()

    return Tracker(add, writer.close, writer.add_histogram)


def wandb(place: Place) -> Tracker:
    """Write for Weights & Biases into the folder `wandb` of the run; `wandb sync` uploads it."""
    import wandb

    mode: Any = os.environ.get("WANDB_MODE", "offline")
    names: Any = {"project": place.parent.name, "name": place.folder.name, "id": place.name}
    run = wandb.init(
        **names,
        dir=str(place.folder),
        resume="allow",
        config=place.params,
        settings=wandb.Settings(mode=mode, silent=True, console="off"),
    )
    return Tracker(run.log, run.finish)


def mlflow(place: Place) -> Tracker:
    """Write for MLflow into `mlflow.db` beside the run's folder, or to MLFLOW_TRACKING_URI."""
    from mlflow import MlflowClient

    store = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{place.parent / 'mlflow.db'}")
    client = MlflowClient(store)
    known = client.get_experiment_by_name(place.parent.name)
    home = known.experiment_id if known else client.create_experiment(place.parent.name)
    tags = {"run": place.name}
    found = client.search_runs([home], f"tags.run = '{place.name}'")
    run = (found or [client.create_run(home, None, tags, place.folder.name)])[0].info.run_id
    for key, value in place.params.items() if not found else ():
        client.log_param(run, key, value)

    def add(values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            client.log_metric(run, name, value, step=step)

    return Tracker(add, lambda: client.set_terminated(run))


def trackio(place: Place) -> Tracker:
    """Write for Trackio into the folder `trackio` beside the run's folder, or TRACKIO_DIR."""
    os.environ.setdefault("TRACKIO_DIR", str(place.parent / "trackio"))
    import trackio

    names: Any = {"project": place.parent.name, "name": f"{place.folder.name} {place.name}"}
    run = trackio.init(**names, resume="allow", embed=False, config=place.params)
    return Tracker(run.log, run.finish)


KINDS = {"tensorboard": tensorboard, "wandb": wandb, "mlflow": mlflow, "trackio": trackio}


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
        place = Place(folder, plain, self.sent["name"], step)
        with warnings.catch_warnings(action="ignore"):  # of these packages among themselves
            self.trackers = {name: KINDS[name](place) for name in names}

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
        if self.histograms and board is not None and board.add_histogram is not None:
            for name, weight in state.model.named_parameters():
                board.add_histogram(name, weight.detach().float(), state.step)

    def close(self) -> None:
        """Send what waits to be sent."""
        with warnings.catch_warnings(action="ignore"):
            for tracker in self.trackers.values():
                tracker.close()
