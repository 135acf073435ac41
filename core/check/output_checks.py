"""What outputs may depend on: not on labels, padding, later inputs or other examples."""

from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from core.check.examples import inputs_of, length_of, pair
from core.check.subject import DoubtError, FaultError, NotApplicableError, Subject
from core.machine.nested import apply, example, first_difference, tensors
from core.task import Batch, is_integer
from core.training.state import State
from core.training.tally import join


def _batch_of_several(subject: Subject) -> tuple[Batch, int]:
    """Return a batch of at least two examples, and their number."""
    for split in ("val", "train"):
        batch = subject.loaders[split].first_batch()
        parts = [part for part in tensors(batch) if part.ndim]
        if parts and len(parts[0]) > 1 and not isinstance(batch, nn.utils.rnn.PackedSequence):
            return batch, len(parts[0])
    raise NotApplicableError("no batch of several examples that can be taken apart")


def a_batch_of_one_is_evaluated(subject: Subject) -> None:
    """The last batch of a split may hold one example: its outputs join those of the others."""
    state, (batch, size) = subject.fresh(), _batch_of_several(subject)
    parts = [subject.forward(state, each) for each in (batch, example(batch, 0, size))]
    for outputs, labels in parts:
        if labels is not None or not subject.labelled:
            loss = state.task.losses(outputs, labels)["loss"]
            if not loss.isfinite() and state.task.loss_weight(outputs, labels) > 0:
                raise FaultError(
                    "its loss is not finite. Does it use a standard deviation over the batch?"
                )
    several, one = ([part.ndim for part in tensors(outputs)] for outputs, _ in parts)
    if several != one:
        raise FaultError(f"outputs have {one} dimensions, of several {several}. Is it squeeze()d?")
    join([state.task.collect(*part) for part in parts])


def examples_do_not_meet(subject: Subject) -> str:
    """In eval mode the outputs of an example are the same alone and among others."""
    state, (batch, size) = subject.fresh(precision=subject.precise), _batch_of_several(subject)
    whole, _ = subject.forward(state, batch)
    hint = "Is something normalised over the batch, or are rows mixed by a view or reshape? "
    hint += "Is a position read along the wrong axis?"
    for i in range(min(size, 8)):
        try:
            alone, _ = subject.forward(state, example(batch, i, size))
        except (ValueError, RuntimeError) as error:
            raise FaultError(f"example {i} cannot be evaluated alone: {error}. {hint}") from error
        one, other = map(_of_examples, (alone, example(whole, i, size)))
        if first_difference(one, other, "outputs", subject.rounding):
            raise FaultError(f"example {i}: outputs differ by more than rounding if alone. {hint}")
    return f"{min(size, 8)} examples"


def _of_examples(outputs: Any) -> list[Tensor]:
    """Return the tensors of outputs that are no single number of the whole batch."""
    return [x for x in tensors(outputs) if x.ndim]


def outputs_do_not_read_labels(subject: Subject) -> str:
    """In eval mode outputs stay the same when the labels of the batch are others."""
    batch = subject.loaders["val"].first_batch()
    inputs, labels = pair(batch)
    if not subject.labelled:
        raise NotApplicableError("batches are not (inputs, labels)")
    if any(x is y for x in tensors(inputs) for y in tensors(labels)):
        raise NotApplicableError("labels are the inputs")
    state, changed = subject.fresh(), (inputs, apply(_moved, labels))
    try:
        one, other = (subject.forward(state, each)[0] for each in (batch, changed))
    except Exception as error:  # labels that were made up may not fit the task's code
        raise NotApplicableError("other labels do not fit") from error
    if first_difference(one, other, "outputs", subject.rounding):
        raise FaultError(
            "outputs change with the labels of the batch: in evaluation the net reads the answer. "
            "Leave teacher forcing to training: `if model.training` in forward"
        )
    return "other labels, the same outputs"


def _moved(labels: Tensor) -> Tensor:
    """Return labels of which each is that of the next example, and along a sequence, too."""
    axes = tuple(range(min(labels.ndim, 2)))
    return labels.roll((1,) * len(axes), axes) if axes else labels


def outputs_do_not_see_the_future(subject: Subject) -> str:
    """Where a net predicts the next element, outputs do not change with later inputs."""
    x, y = pair(subject.loaders["val"].first_batch())
    fitting = isinstance(x, Tensor) and isinstance(y, Tensor) and x.shape == y.shape and x.ndim == 2
    if not (fitting and x.shape[1] > 2 and torch.equal(x[:, 1:], y[:, :-1])):
        raise NotApplicableError("labels are not the inputs moved by one")
    middle = x.shape[1] // 2
    other = x.clone()
    other[:, middle:] = x[:, middle:].roll(1, 0).flip(1)
    state = subject.fresh(precision=subject.precise)
    one, two = (subject.forward(state, (each, y))[0] for each in (x, other))
    for a, b in zip(tensors(one), tensors(two), strict=True):
        axis = next((i for i in (1, 2) if a.ndim > i and a.shape[i] == x.shape[1]), None)
        if axis is None:
            raise NotApplicableError("outputs have no axis of positions")
        past = a.narrow(axis, 0, middle), b.narrow(axis, 0, middle)
        if first_difference(*past, "outputs", subject.rounding):
            raise FaultError(
                "outputs change with inputs that come later: the net sees what it is to predict. "
                "Is the mask of attention causal, with -inf before softmax? Is the RNN one-way?"
            )
    return f"{middle} of {x.shape[1]} positions"


def _differ(subject: Subject, alone: Any, padded: Any, count: int) -> bool:
    """Tell whether outputs of an example are others where it is padded, the first of `count`."""
    for a, b in zip(_of_examples(alone), _of_examples(padded), strict=True):
        b = b if len(b) == len(a) else example(b, 0, count)
        b = b[tuple(map(slice, a.shape))] if a.ndim == b.ndim else b
        if a.shape != b.shape:
            raise NotApplicableError("outputs of padded examples cannot be taken apart")
        if first_difference(b, a, "outputs", subject.rounding):
            return True
    return False


def padding_changes_nothing(subject: Subject) -> str:
    """A short example gives the same outputs alone and padded to the length of a long one."""
    state, loader = subject.fresh(precision=subject.precise), subject.own_loaders["val"]
    lengths = [length_of(inputs) for _, inputs in islice(inputs_of(loader), 200)]
    short, long = lengths.index(min(lengths)), lengths.index(max(lengths))
    if lengths[short] == lengths[long]:
        return _padding_of_one_length(subject, state)
    batches = (subject.batch_of(loader, index) for index in ([short], [short, long]))
    alone, padded = (subject.forward(state, batch)[0] for batch in batches)
    if _differ(subject, alone, padded, count=2):
        raise FaultError(
            f"outputs of an example of length {lengths[short]} change if it is padded to "
            f"{lengths[long]}. Does the net read padding? Pass lengths or a mask"
        )
    return f"lengths {lengths[short]} and {lengths[long]}"


def _padding_of_one_length(subject: Subject, state: State) -> str:
    """Cut off what all examples of a batch of integers (B, T) may end with, and compare."""
    batch = subject.loaders["val"].first_batch()
    x, labels = pair(batch)
    if not (is_integer(x) and is_integer(labels) and x.ndim == 2):
        raise NotApplicableError("examples are of one length")
    mark = x[:, -1].mode().values
    lengths = ((x != mark).cumsum(1).argmax(1) + 1).tolist()  # up to the last other number
    i = lengths.index(length := min(lengths))
    if (x[:, -1] == mark).float().mean() < 0.5 or length == x.shape[1]:
        raise NotApplicableError("examples are of one length, without padding")
    whole = x[i : i + 1], labels[i : i + 1]
    cut = whole[0][:, :length], whole[1][:, :length] if labels.ndim > 1 else whole[1]
    try:
        alone, padded = (subject.forward(state, type(batch)(each))[0] for each in (cut, whole))
    except (ValueError, RuntimeError) as error:
        raise NotApplicableError("the net takes examples of one length only") from error
    if _differ(subject, alone, padded, count=1):
        raise DoubtError(
            f"outputs of an example of length {length} change if its padding ({int(mark)}) "
            "is cut off. Does the net read the last column, or a mean over all?"
        )
    return f"length {length} and {x.shape[1]}"
