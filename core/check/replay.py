"""Replay of the steps after the last checkpoint: which tensor was the first that is not finite?"""

import re
import shutil
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from core.base.errors import NumericError, UsageError
from core.base.params import ROOT, find_params_file
from core.machine.nested import tensors
from core.run.folder import RESOLVED, read_resolved
from core.run.opening import open_run
from core.task import Batch
from core.training.state import State, make_state


class FoundError(Exception):
    """A tensor is the first that is not finite."""


def replay(folder: Path, train: ModuleType, overrides: dict[str, Any]) -> str:
    """Name the first tensor that is not finite in the epoch after the last checkpoint.

    It trains in a copy of the folder. On a CPU the step comes again at which the run stopped.
    UsageError: the run is complete.
    """
    with tempfile.TemporaryDirectory() as temporary:
        for name in (find_params_file(folder).name, RESOLVED, "last.pt", "previous.pt"):
            if (folder / name).exists():
                shutil.copy(folder / name, temporary)
        run = open_run(Path(temporary), read_resolved(folder).get("overrides", {}) | overrides)
        if run.complete:
            raise UsageError(f"{folder}: the run is complete, no step was stopped for its loss")
        loaders = run.fetch_loaders()
        state = make_state(run.task, run.params, run.device, loaders["train"], run.new)
        run.resume(state, loaders)
        state.model.train()
        step = run.task.train_step or train.train_step
        try:
            _check_weights(state.model, "before the step")
            _watch(state.model)
            with run.progress(state, loaders["train"]) as batches:
                for batch in batches:
                    state.end_batch(_examined(state, step, batch))
        except FoundError as found:
            return f"Epoch {state.epoch + 1}, step {state.step + 1}: {found}"
    return "In the epoch after the last checkpoint all is finite."


def _watch(model: nn.Module) -> None:
    """Raise FoundError at the first output of a layer, or gradient, that is not finite."""

    def look(name: str, layer: nn.Module, inputs: Any, outputs: Any) -> None:
        told = f"of {name or 'the net'} ({type(layer).__name__}) is the first tensor: "
        if not _finite(inputs):
            raise FoundError(f"the input {told}{_span(inputs)}")
        if not _finite(outputs):
            raise FoundError(f"the output {told}{_span(outputs)}; its input is {_span(inputs)}")

    def look_at_gradient(name: str, weight: Tensor) -> None:
        if not _finite(weight.grad):
            raise FoundError(f"the gradient of {name} is the first tensor: {_span(weight.grad)}")

    for name, layer in model.named_modules():
        layer.register_forward_hook(partial(look, name))
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            weight.register_post_accumulate_grad_hook(partial(look_at_gradient, name))


def _examined(state: State, step: Callable[..., Any], batch: Batch) -> dict[str, Tensor]:
    """Train on a batch with anomaly detection; FoundError says where it goes wrong."""
    if not _finite(batch):
        raise FoundError(f"the batch itself is not finite: {_span(batch)}")
    noted = warnings.catch_warnings(record=True, action="always")
    with noted as told, torch.autograd.set_detect_anomaly(True):
        try:
            losses: dict[str, Tensor] = step(state, batch)
            state.check_losses()  # of a GPU
        except NumericError:
            raise FoundError("the loss is the first tensor: what the net gives is finite") from None
        except RuntimeError as error:
            if "returned nan values" not in str(error):
                raise
            text = "".join(str(each.message) for each in told)
            own = re.findall(rf'File "{re.escape(str(ROOT))}/(?!.*site-packages)(.*)\n *(.*)', text)
            line = f', from File "{own[-1][0]}: {own[-1][1]}' if own else ""
            raise FoundError(f"the gradient is the first tensor: {error}{line}") from None
    _check_weights(state.model, "after the update")
    return losses


def _check_weights(model: nn.Module, when: str) -> None:
    for name, weight in model.named_parameters():
        if not _finite(weight):
            raise FoundError(f"the weights {name} are not finite {when}")


def _finite(value: Any) -> bool:
    return all(bool(part.isfinite().all()) for part in tensors(value))


def _span(value: Any) -> str:
    """Say between which numbers the tensors of a value lie, or that they are not finite."""
    parts = [p.detach().double().flatten().cpu() for p in tensors(value) if p.is_floating_point()]
    found = torch.cat([torch.empty(0), *parts])
    if found.isfinite().all():
        return f"{found.min():.3g} to {found.max():.3g}" if len(found) else "no numbers"
    return f"{found.isnan().sum()} NaN and {found.isinf().sum()} infinite of {len(found)}"
