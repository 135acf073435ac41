"""A net as a file of torch.export, which runs without the project; held against the net itself."""

import io
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from core.base.errors import NumericError, UserError
from core.base.files import replacing
from core.base.params import Params
from core.machine.nested import apply, tensors
from core.task import Loader, Task

SIZES = (1, 2, 7)  # batches that the file is tried on
TOLERANCE = 1e-4  # of the largest output


def called_with(model: nn.Module, loader: Loader, task: Task, params: Params) -> tuple[Any, ...]:
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
    return seen[0]


def export(model: nn.Module, loader: Loader, task: Task, params: Params, path: Path) -> str:
    """Write a net with its weights as FILE.pt2, for batches of any size.

    Other dimensions, such as the length of a text, stay free where torch.export can trace that. It
    cannot for an LSTM: then the file takes inputs of the traced length only, padded up to it.

    Args:
        model: the net; it is left in eval mode, on the CPU.
        loader: its first batch shows what the net is given.
        task: whose forward calls the net.
        params: of the net.
        path: of the file; it is written only if its outputs are those of the net.

    Returns:
        What was done, as a sentence.

    Raises:
        UserError: torch.export cannot trace the net, or not for batches of any size.
        NumericError: the file's outputs differ from the net's.
    """
    cpu = torch.device("cpu")  # a file that was traced on a GPU runs on none else
    model.eval().to(cpu)
    loader.put_on(cpu, params)
    given = called_with(model, loader, task, params)
    if not tensors(given):
        raise UserError("--export: the net is given no tensor, which torch.export needs")
    size = len(tensors(given)[0])

    def of_size(count: int) -> tuple[Any, ...]:
        rows = torch.arange(count) % size
        return apply(lambda x: x[rows.to(x.device)] if x.ndim and len(x) == size else x, given)

    def shape(x: Tensor) -> dict[int, Any]:
        free = {i: torch.export.Dim.AUTO for i in range(x.ndim)}
        return free | ({0: torch.export.Dim.DYNAMIC} if x.ndim and len(x) == size else {})

    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own, about the weights of an LSTM
            program = torch.export.export(
                model, of_size(max(2, size)), dynamic_shapes=apply(shape, given)
            )
    except Exception as error:  # torch raises many kinds, of many lines
        reason = str(error).strip().splitlines()[0] if str(error).strip() else ""
        raise UserError(
            f"--export: torch.export cannot trace {task.name}'s net for batches of any size:\n"
            f"{type(error).__name__}: {reason}"
        ) from error
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, about weights that share memory
        torch.export.save(program, buffer)
        worst = difference(model, torch.export.load(buffer).module(), of_size)
    with buffer.getbuffer() as content, replacing(path) as file:
        file.write(content)
    sizes = [", ".join(["batch", *map(str, x.shape[1:])]) for x in tensors(given) if x.ndim]
    return (
        f"{path}: {path.stat().st_size:,} bytes, for inputs ({'), ('.join(sizes)}); "
        f"on 1, 2 and 7 examples its outputs differ from the net's by at most {worst:.1g}."
    )


@torch.no_grad()
def difference(model: nn.Module, exported: nn.Module, of_size: Any) -> float:
    """Return the largest difference between the outputs of two nets; NumericError if it matters."""
    worst = 0.0
    for count in SIZES:
        own, other = (tensors(net(*of_size(count))) for net in (model, exported))
        for a, b in zip(own, other, strict=True):
            if a.shape != b.shape:
                raise NumericError(
                    f"--export: outputs for {count} examples are of shape {tuple(b.shape)}, "
                    f"the net's of {tuple(a.shape)}"
                )
            apart = float((a.double() - b.double()).abs().max()) if a.numel() else 0.0
            if not apart <= TOLERANCE * max(1.0, float(a.double().abs().max())):
                raise NumericError(f"--export: outputs for {count} examples differ by {apart:.1g}")
            worst = max(worst, apart)
    return worst
