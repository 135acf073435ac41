"""The checks of how a net is put together: its parts, their modes, the range of its outputs."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from core.base.monitor import monitored
from core.check.subject import FaultError, NotApplicableError, Subject
from core.machine.nested import tensors
from core.machine.random_states import seeded
from core.reading.outputs import LossProbe
from core.task import Task, counted
from core.training.tally import score

SURE_LOGIT, RIGHT = 4.0, 0.7  # of a right answer; its loss, as a part of that of an even one
SURE = 0.1  # of the first loss: what a sure and right answer may cost at most
KERAS = 0.9  # a momentum of batch normalisation that is meant the other way round


def _hidden(value: Any, name: str, known: set[int]) -> Iterator[tuple[str, str]]:
    """Yield names of modules and weights inside plain lists and dicts, and what would hold them."""
    if isinstance(value, nn.Module):
        trained = any(weight.requires_grad for weight in value.parameters())
        if trained and not {id(weight) for weight in value.parameters()} <= known:
            yield name, "nn.ModuleDict" if "[" in name and "'" in name else "nn.ModuleList"
    elif isinstance(value, Tensor):
        if value.requires_grad and value.is_leaf and id(value) not in known:
            yield name, "nn.Parameter"
    elif isinstance(value, dict | list | tuple):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield from _hidden(item, f"{name}[{key!r}]", known)


def all_weights_are_known(subject: Subject) -> str:
    """Every layer and weight that the net holds is among its parameters()."""
    model = subject.fresh().model
    known = {id(weight) for weight in model.parameters()}
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if not name.startswith("_"):
                for place, holder in _hidden(value, name, known):
                    where = f"{path}.{place}" if path else place
                    raise FaultError(
                        f"self.{where} is not among parameters(): it is neither trained nor saved. "
                        f"Keep it in {holder}"
                    )
    return f"{sum(weight.numel() for weight in model.parameters()):,} numbers"


def frozen_parts_rest(subject: Subject) -> str:
    """A part whose weights are frozen is in eval mode in a step of training, and stays as it is."""
    state = subject.fresh()
    frozen = {
        name: module
        for name, module in state.model.named_modules()
        if (weights := [*module.parameters()]) and not any(w.requires_grad for w in weights)
    }
    if not frozen:
        raise NotApplicableError("no part of the net is frozen")
    training = list[str]()

    def note(name: str, module: nn.Module, args: Any) -> None:
        if module.training:
            training.append(f"{name} ({type(module).__name__})")

    watched = (nn.modules.batchnorm._NormBase, nn.modules.dropout._DropoutNd)
    for name, part in frozen.items():
        for inner, module in part.named_modules():
            if isinstance(module, watched):
                module.register_forward_pre_hook(partial(note, f"{name}.{inner}".strip(".")))
    subject.step(state, subject.loaders["train"].first_batch())
    if training:
        raise FaultError(
            f"{training[0]} is in train mode, but its part of the net is frozen. Call .eval() on "
            "that part in the net's own train(), after super().train(mode)"
        )
    return ", ".join([*frozen][:3])


def batch_norm_remembers(subject: Subject) -> str:
    """Running statistics of batch normalisation are means over many batches."""
    kept = {
        name: module.momentum
        for name, module in subject.fresh().model.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats
    }
    if not kept:
        raise NotApplicableError("no batch normalisation with running statistics")
    for name, momentum in kept.items():
        if momentum is not None and (momentum >= KERAS or momentum == 0):
            does = "never change" if momentum == 0 else "are those of the last batch only"
            raise FaultError(
                f"{name}: with momentum {momentum:g} the running statistics {does}. In PyTorch "
                "it is the weight of the new batch, 0.1 by default; Keras counts the other way"
            )
    return f"{len(kept)} layers"


def _last_layer(subject: Subject, state: Any, batch: Any) -> nn.Module | None:
    """Return the layer with weights of its own that runs last in a forward pass."""
    ran: list[nn.Module] = []
    hooks = [
        module.register_forward_hook(lambda m, args, out: ran.append(m))
        for module in state.model.modules()
        if [*module.parameters(recurse=False)]
    ]
    subject.forward(state, batch)
    for hook in hooks:
        hook.remove()
    return ran[-1] if ran else None


def _is_never_negative(subject: Subject) -> bool:
    """Tell whether outputs stay above 0 when the last layer's weights change their sign."""
    state, batch = subject.fresh(), subject.loaders["val"].first_batch()
    last = _last_layer(subject, state, batch)
    if last is None:
        return False
    found = []
    for _ in range(2):
        outputs = tensors(subject.forward(state, batch)[0])
        found.append(torch.cat([part.flatten().float() for part in outputs]))
        with torch.no_grad():
            for weight in last.parameters(recurse=False):
                weight.neg_()
    both = torch.cat(found)
    return bool(both.min() >= 0) and bool(both.max() > 0)


def _one_hot(numbers: Tensor, outputs: Tensor, axis: int) -> Tensor:
    """Return 1 for the class of each number and 0 for others, in the shape of some outputs."""
    classes = outputs.shape[axis]
    chosen = nn.functional.one_hot(numbers.long().clamp(0, classes - 1), classes)
    chosen = chosen.to(outputs.dtype).reshape(outputs.movedim(axis, -1).shape)
    return chosen.movedim(-1, axis)


def _cost_of_sure(loss: LossProbe, sure: Tensor, outputs: Tensor, labels: Tensor) -> float | None:
    """Return the loss of sure and right outputs, if it is not far below that of the net's own."""
    cost, first = loss(sure, labels), loss(outputs, labels)
    return cost if cost is not None and first and cost > SURE * abs(first) else None


def outputs_have_the_range_of_the_loss(subject: Subject) -> str:
    """Outputs are not squashed before a loss that does so itself, nor cut off where labels go."""
    state, outputs, labels = subject.first_answers()
    if not (isinstance(outputs, Tensor) and isinstance(labels, Tensor) and len(labels)):
        raise NotApplicableError("outputs or labels are not one tensor")
    kind, axis, loss = subject.reading.outputs, subject.reading.class_axis, LossProbe(state.task)
    if kind == "probabilities" and axis is not None:
        if cost := _cost_of_sure(loss, _one_hot(labels, outputs, axis), outputs, labels):
            raise FaultError(
                f"every row of outputs sums to 1, and a sure, right answer still costs {cost:.2g}: "
                "cross_entropy applies softmax itself. Remove softmax at the end of forward"
            )
        return "probabilities, and a loss that takes these"
    shaped = labels.is_floating_point() and labels.shape == outputs.shape
    yes_or_no = shaped and bool(((labels == 0) | (labels == 1)).all())
    if yes_or_no and outputs.ndim == 2:
        of_one = (outputs.float().sum(1) - 1).abs().max() < 1e-3 and outputs.min() >= 0
        if of_one and (labels.sum(1) != 1).any():
            raise FaultError(
                "outputs of an example sum to 1, but several of its labels, or none, can be yes. "
                "Use sigmoid in place of softmax"
            )
    if not _is_never_negative(subject):
        return "of both signs"
    if kind == "logits" and axis is not None:
        raise FaultError(
            "outputs are never negative, but are scores before softmax. Remove ReLU or sigmoid at "
            "the end of forward"
        )
    if shaped and labels.min() < 0:
        raise FaultError(
            f"outputs are never negative, but labels are, down to {float(labels.min()):.3g}. "
            "Remove the activation at the end of forward"
        )
    cost = _cost_of_sure(loss, labels.to(outputs), outputs, labels) if yes_or_no else None
    if cost is not None and outputs.max() <= 1:
        raise FaultError(
            f"outputs lie between 0 and 1, and a sure, right answer still costs {cost:.2g}: "
            "the loss applies sigmoid itself. Remove sigmoid at the end of forward"
        )
    return "never negative"


def a_right_answer_has_the_lowest_loss(subject: Subject) -> str:
    """A sure and right answer costs less than one that does not know."""
    state, outputs, labels = subject.first_answers()
    axis = subject.reading.class_axis
    if subject.reading.outputs != "logits" or axis is None:
        raise NotApplicableError("outputs are not logits of classes")
    probe, right = LossProbe(state.task), SURE_LOGIT * _one_hot(labels, outputs, axis)
    sure, even = probe(right, labels), probe(torch.zeros_like(outputs), labels)
    if sure is None or even is None or even <= 0:
        raise NotApplicableError("the loss takes no made-up outputs")
    if sure > RIGHT * even:
        raise FaultError(
            f"a right answer costs {sure:.3g}, one that does not know {even:.3g}. Does loss_fn "
            "bring outputs and labels to one order? Classes go last by movedim, not by reshape"
        )
    return f"{sure:.2g}, and {even:.2g} for one that does not know"


def metrics_know_a_right_answer(subject: Subject) -> str:
    """The monitored metric, and those whose names say so, are better for right than for wrong."""
    state, outputs, labels = subject.first_answers()
    name, more = monitored(state.params.dict, state.task.metrics)
    if subject.reading.num_classes is None and name in state.task.metrics:
        return _knows_right_numbers(state.task, outputs, labels, name, more)
    classes = subject.num_classes()
    if not counted(labels, subject.reading.ignored).any():
        raise NotApplicableError("all labels of the first batch are ignored")

    def values(numbers: Tensor) -> dict[str, float]:
        chosen = _one_hot(numbers, outputs, subject.reading.class_axis or -1)
        with seeded(0):  # a probability, or a score
            return score(state.task, 0.01 + 0.98 * chosen, labels)

    right, wrong = values(labels), values((labels + 1) % classes)
    known = [each for each in right if "accuracy" in each or each == name]
    for each in known:
        sign = -1 if each == name and not more else 1
        sound = sign * right[each] > sign * wrong[each]
        if not sound or ("accuracy" in each and right[each] < 0.999):
            raise FaultError(
                f"{each} is {right[each]:.3g} for right answers and {wrong[each]:.3g} for wrong "
                "ones. Does it take argmax over the classes, and compare with labels?"
            )
    if not known:
        raise NotApplicableError("the monitored metric is a loss")
    return ", ".join(known)


def _knows_right_numbers(task: Task, outputs: Any, labels: Any, name: str, more: bool) -> str:
    """Hold the monitored metric of the labels themselves against that of labels moved by a row."""
    numbers = isinstance(labels, Tensor) and labels.is_floating_point() and len(labels) > 1
    if not (numbers and isinstance(outputs, Tensor) and outputs.shape == labels.shape):
        raise NotApplicableError("outputs are not scores of classes, nor numbers as labels are")
    right = labels.to(outputs.dtype)
    if bool(((right == 0) | (right == 1)).all()):  # of yes or no: probabilities, or sure logits
        answers = 8 * right - 4, 0.02 + 0.96 * right
        logits, probable = (LossProbe(task)(each, labels) for each in answers)
        takes_logits = logits is not None and probable is not None and logits < probable
        right = answers[0 if takes_logits else 1]
    with seeded(0):
        other = right.roll(1, 0)
        wrong = 1 - other if float(right.min()) > 0 and float(right.max()) < 1 else -other
        good, bad = (score(task, each, labels)[name] for each in (right, wrong))
    better = good > bad if more else good < bad
    if better and not ("accuracy" in name and good < 0.999):
        return name
    told = f"{name} is {good:.3g} for right answers and {bad:.3g} for wrong ones"
    if better or good == bad:
        told += ". Does it take logits for probabilities, or the other way round?"
    else:
        told += f", but {'more' if more else 'less'} of it is taken as better. Is monitor_mode the "
        told += "other way round?"
    raise FaultError(told)
