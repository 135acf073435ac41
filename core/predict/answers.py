"""What a net answers for new inputs: reading them, running the net, saying what it found."""

import itertools
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import default_collate, default_convert

from core.base.errors import DataError, UsageError, printable
from core.base.params import Params
from core.data.batches import placement
from core.data.folder import OF_SYSTEMS
from core.machine.devices import autocast_for, device_of
from core.machine.nested import apply, example, tensors
from core.machine.random_states import seeded
from core.predict.own_answers import own_answers
from core.reading.outputs import Reading
from core.task import Task, given

AHEAD = 16  # batches read at a time, so that inputs of equal shape find each other


def read_inputs(
    task: Task, sources: Sequence[str], params: Params, faults: list[str]
) -> Iterator[Any]:
    """Yield (name, inputs) of every example; a source that cannot be read goes to `faults`.

    A folder stands for all files below it, but for hidden ones and those of operating systems. Any
    other source is the task's business: a file, or a text such as the beginning of a sentence.
    """
    if task.read_inputs is None:
        raise UsageError(
            f"{task.name}.data_loader does not say how new inputs are read. Add a function\n"
            "read_inputs(sources: list[str], params) that yields (name, inputs) of each example,\n"
            "inputs as the net takes them but without the batch's dimension."
        )
    read = given(task.read_inputs, data_dir=params.data_dir)
    for source in sources:
        for each in _files(Path(source)) if os.path.isdir(source) else [source]:
            try:
                yield from read([str(each)], params)
            except (DataError, OSError) as error:
                faults.append(str(error))


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not (hidden or path.is_dir() or path.name.lower() in OF_SYSTEMS):
            yield path


def predict(
    task: Task, model: nn.Module, examples: Iterator[Any], params: Params, batch_size: int
) -> Iterator[tuple[str, Any]]:
    """Yield the name of every example, and what the task's own `predict` answers for it.

    Without that it is the net's outputs, without the batch's dimension. Examples whose inputs have
    the same shapes are run together, `batch_size` at a time; a net that draws is seeded.
    """
    device, batches = device_of(model), itertools.count()
    autocast, place = autocast_for(params, device), placement(params, device)
    model.eval()
    while ahead := list(itertools.islice(examples, AHEAD * batch_size)):
        alike: dict[Any, list[int]] = {}
        for i, (_, inputs) in enumerate(ahead):
            shapes = tuple(part.shape for part in tensors(default_convert(inputs)))
            alike.setdefault(shapes, []).append(i)
        outputs: dict[int, Any] = {}
        for places in alike.values():
            for start in range(0, len(places), batch_size):
                chosen = places[start : start + batch_size]
                batch = place(default_collate([ahead[i][1] for i in chosen]))
                draws = seeded(params.seed, next(batches), device=device)
                with draws, torch.no_grad(), autocast():
                    if task.predict is None:
                        found = model(batch)
                        rows = [example(found, row, len(chosen)) for row in range(len(chosen))]
                        answered = [apply(_of_one, row) for row in rows]
                    else:
                        own = task.predict(model, batch, params)
                        answered = own_answers(task, own, len(chosen))
                outputs |= zip(chosen, answered, strict=True)
        for i, (name, _) in enumerate(ahead):
            yield name, outputs[i]


def _of_one(x: Tensor) -> Tensor:
    """Return the outputs of one example without the batch's dimension, on the CPU."""
    x = x[0] if x.ndim and len(x) == 1 else x
    return (x.float() if x.is_floating_point() else x).cpu()


def _likeliest(chances: Tensor, classes: Sequence[str], top: int) -> list[tuple[str, float]]:
    """Return the `top` classes of probabilities (K,)."""
    found = chances.topk(min(top, len(classes)))
    return [(classes[i], p) for p, i in zip(found.values.tolist(), found.indices, strict=True)]


def answer(
    name: str, outputs: Any, reading: Reading, classes: list[str] | None, top: int
) -> dict[str, Any]:
    """Say what the net answers for one example: a class, a tag for every word, or its numbers.

    Args:
        name: of the example; of a text, its words.
        outputs: of the example, without the batch's dimension.
        reading: what outputs mean.
        classes: their names, if the task gives any.
        top: how many classes are named.
    """
    named = classes if reading.outputs != "other" and isinstance(outputs, Tensor) else None
    if named and reading.class_axis == 1 and outputs.ndim > 1:
        outputs = outputs.movedim(0, -1)
    if classes and named and outputs.shape[-1:] == (len(classes),):
        outputs = outputs if reading.outputs == "probabilities" else outputs.softmax(-1)
        if outputs.ndim == 1:
            best = _likeliest(outputs, classes, top)
            found = {"name": name, "class": best[0][0], "probability": best[0][1]}
            more = [{"class": each, "probability": p} for each, p in best]
            return found if top == 1 else found | {"top": more}
        words = name.split(" ")  # of a text, single spaces stand between its words
        if outputs.ndim == 2 and "" not in words and len(words) <= len(outputs):
            best = [_likeliest(scores, classes, 1)[0] for scores in outputs[: len(words)]]
            tags, chances = map(list, zip(*best, strict=True))
            return {"name": name, "words": words, "tags": tags, "probabilities": chances}
    return {"name": name, "outputs": apply(lambda x: x.tolist(), outputs)}


def as_text(found: dict[str, Any]) -> str:
    """Return an answer as lines of a table; of a text, one a word and a blank one at its end."""
    if "words" in found:
        columns = zip(found["words"], found["tags"], found["probabilities"], strict=True)
        return "\n".join([*(f"{word:<24}{tag:<16}{p:.3f}" for word, tag, p in columns), ""])
    if "class" in found and "probability" in found:
        best = found.get("top", [found])
        shown = "   ".join(f"{each['class']:<16}{each['probability']:.3f}" for each in best)
    else:
        own = {key: value for key, value in found.items() if key != "name"}
        own = json.loads(json.dumps(own), parse_float=lambda x: round(float(x), 4))
        shown = ", ".join(f"{key}: {value}" for key, value in own.items())
        shown = str(*own.values()) if own.keys() <= {"text", "outputs"} else shown
    return f"{printable(found['name'], ''):<40}  {printable(shown)}"
