"""A net as a file of torch.export, which runs without the project; compared with the net itself."""

import inspect
import io
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from core.base.errors import NumericError, UserError
from core.base.files import replacing, write_json
from core.base.params import Params
from core.machine.nested import apply, tensors
from core.task import Loader, Task

SIZES = (1, 2, 7)  # batches that the file is tried on
TOLERANCE = 1e-4  # of the largest output


def _arguments(model: nn.Module, loader: Loader, task: Task, params: Params) -> tuple[Any, ...]:
    """Return what the task's forward passes to the net for the loader's last batch.

    Of texts sorted by length that is the longest, and the file may be fixed to its length.
    """
    seen: list[tuple[Any, ...]] = []

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if kwargs:
            raise UserError("--export: the net is called with keyword arguments, want plain ones")
        seen.append(args)

    with torch.no_grad(), model.register_forward_pre_hook(note, with_kwargs=True):
        task.forward(model, next(loader.epoch(0, len(loader) - 1)), params)
    if not tensors(seen[0]):
        raise UserError("--export: the net is given no tensor, which torch.export needs")
    return seen[0]


def export(model: nn.Module, loader: Loader, task: Task, params: Params, path: Path) -> str:
    """Write a net with its weights as FILE.pt2, for batches of any size; returns what was done.

    FILE.json beside it says what goes in and comes out, and how the task reads answers from that.
    Other dimensions, such as the length of a text, stay free where torch.export can trace that. It
    cannot for an LSTM: then the file takes inputs of the traced length only, padded up to it. The
    net is left in eval mode, on the CPU: a file that was traced on a GPU runs on none else.

    Raises:
        UserError: torch.export cannot trace the net, or not for batches of any size.
        NumericError: the file's outputs differ from the net's; nothing is written.
    """
    model.eval().cpu()
    loader.put_on(torch.device("cpu"), params)
    given = _arguments(model, loader, task, params)
    size = len(tensors(given)[0])

    def of_size(count: int) -> tuple[Any, ...]:
        rows = torch.arange(count) % size
        return apply(lambda x: x[rows] if x.ndim and len(x) == size else x, given)

    def free_dimensions(x: Tensor) -> dict[int, Any]:
        free = {i: torch.export.Dim.AUTO for i in range(x.ndim)}
        return free | ({0: torch.export.Dim.DYNAMIC} if x.ndim and len(x) == size else {})

    buffer = io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, about the weights of an LSTM
        try:
            shapes = apply(free_dimensions, given)
            program = torch.export.export(model, of_size(max(2, size)), dynamic_shapes=shapes)
        except Exception as error:  # torch raises many kinds, of many lines
            reason = (str(error).strip().splitlines() or [""])[0]
            raise UserError(
                f"--export: torch.export cannot trace {task.name}'s net for batches of any size:\n"
                f"{type(error).__name__}: {reason}"
            ) from error
        torch.export.save(program, buffer)
        exported = torch.export.load(buffer).module()
        worst = max(_difference(model, exported, of_size(count)) for count in SIZES)
    with buffer.getbuffer() as content, replacing(path) as file:
        file.write(content)
    facts = path.with_suffix(".json")
    write_json(facts, _facts(task, params, given, model(*given)))
    sizes = [", ".join(["batch", *map(str, x.shape[1:])]) for x in tensors(given) if x.ndim]
    return (
        f"{path}: {path.stat().st_size:,} bytes, for inputs ({'), ('.join(sizes)}); "
        f"{facts.name} describes them. On 1, 2 and 7 examples its outputs differ from the net's by "
        f"at most {worst:.1g}."
    )


def _facts(task: Task, params: Params, given: Any, outputs: Any) -> dict[str, Any]:
    """Return shapes and types of inputs and outputs, names of classes, and the task's `predict`."""

    def described(value: Any) -> list[dict[str, Any]]:
        kinds = [(["batch", *x.shape[1:]], str(x.dtype)) for x in tensors(value)]
        return [{"shape": shape, "type": kind.removeprefix("torch.")} for shape, kind in kinds]

    facts: dict[str, Any] = {"inputs": described(given), "outputs": described(outputs)}
    if task.class_names is not None:
        facts["classes"] = [*map(str, task.class_names(params))]
    if task.predict is not None:
        facts["predict"] = inspect.getsource(task.predict)
    return facts


def _difference(model: nn.Module, exported: nn.Module, given: tuple[Any, ...]) -> float:
    """Return the largest difference of two nets' outputs; NumericError if it matters."""
    worst = 0.0
    for own, other in zip(tensors(model(*given)), tensors(exported(*given)), strict=True):
        if own.shape != other.shape:
            shapes = f"{tuple(other.shape)}, the net's {tuple(own.shape)}"
            raise NumericError(f"--export: the file's outputs are of shape {shapes}")
        apart = float((own.double() - other.double()).abs().max()) if own.numel() else 0.0
        if not apart <= TOLERANCE * max(1.0, float(own.double().abs().max())):
            raise NumericError(f"--export: the file's outputs differ from the net's by {apart:.1g}")
        worst = max(worst, apart)
    return worst
