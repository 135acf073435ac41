"""Running one step and naming the first tensor in it that is not finite."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from core.base.errors import NumericError
from core.base.params import ROOT
from core.machine.nested import tensors
from core.task import Batch
from core.training.state import State

LOSS = "the loss is the first tensor: what the net gives is finite"


class FirstError(NumericError):
    """A tensor is the first that is not finite."""


def span(value: Any) -> str:
    """Say between which numbers the tensors of a value lie, or that they are not finite."""
    parts = [p.detach().double().flatten() for p in tensors(value) if p.is_floating_point()]
    parts = [p for p in parts if p.numel()]
    if not parts:
        return "no numbers"
    found = torch.cat([p.cpu() for p in parts])
    if found.isfinite().all():
        return f"{float(found.min()):.3g} to {float(found.max()):.3g}"
    return f"{int(found.isnan().sum())} NaN and {int(found.isinf().sum())} infinite of {len(found)}"


def finite(value: Any) -> bool:
    """Tell whether every number in a value is finite."""
    return all(bool(part.isfinite().all()) for part in tensors(value))


@contextmanager
def watched(model: nn.Module) -> Iterator[None]:
    """Raise FirstError at the first output of a layer, or gradient, that is not finite."""
    handles: list[Any] = []

    def watch(name: str) -> None:
        def look(module: nn.Module, inputs: Any, outputs: Any) -> None:
            layer = f"{name or 'the net'} ({type(module).__name__})"
            if not finite(inputs):
                raise FirstError(f"the input of {layer} is the first tensor: {span(inputs)}")
            if not finite(outputs):
                told = f"{span(outputs)}; its input is {span(inputs)}"
                raise FirstError(f"the output of {layer} is the first tensor: {told}")

        handles.append(model.get_submodule(name).register_forward_hook(look))

    def watch_gradient(name: str, weight: Tensor) -> None:
        def look(weight: Tensor) -> None:
            if weight.grad is not None and not finite(weight.grad):
                raise FirstError(f"the gradient of {name} is the first tensor: {span(weight.grad)}")

        handles.append(weight.register_post_accumulate_grad_hook(look))

    for name, _ in model.named_modules():
        watch(name)
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            watch_gradient(name, weight)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def own_line(traceback: str) -> str:
    """Return the last line of the project's own code in a traceback, for a message."""
    lines = [line.strip() for line in traceback.splitlines()]
    own = [i for i, line in enumerate(lines) if f'"{ROOT}' in line and "site-packages" not in line]
    return f", from {lines[own[-1]].replace(f'{ROOT}/', '')}: {lines[own[-1] + 1]}" if own else ""


def examine(state: State, step: Any, batch: Batch) -> str | None:
    """Run one step with anomaly detection; returns where it goes wrong, or None if it does not."""
    if bad := [name for name, w in state.model.named_parameters() if not finite(w)]:
        return f"the weights {bad[0]} are not finite before the step"
    if not finite(batch):
        return f"the batch itself is not finite: {span(batch)}"
    state.model.train()
    with warnings.catch_warnings(record=True) as told, watched(state.model):
        warnings.simplefilter("always")
        try:
            with torch.autograd.detect_anomaly():
                step(state, batch)
        except FirstError as error:
            return str(error)
        except NumericError:
            return LOSS
        except RuntimeError as error:
            if "returned nan values" not in str(error):
                raise
            text = "".join(str(each.message) for each in told)
            return f"the gradient is the first tensor: {error}{own_line(text)}"
    bad = [name for name, w in state.model.named_parameters() if not finite(w)]
    return f"the weights {bad[0]} are not finite after the update" if bad else None
