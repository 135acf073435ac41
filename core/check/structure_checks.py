"""The checks of how a net is put together: its parts, their modes, the range of its outputs."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from core.base.monitor import monitored
from core.check.subject import FaultError, NotApplicableError, Subject
from core.machine.nested import tensors
from core.machine.random_states import seeded
from core.reading.outputs import LossProbe
from core.task import Task, counted, is_integer
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
        own = vars(module).items()
        for name, value in own if isinstance(module, nn.Module) else ():
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
    modes: dict[str, str] = {}

    def note(module: nn.Module, name: str) -> None:
        if module.training:
            modes.setdefault(name, type(module).__name__)

    watched = (nn.modules.batchnorm._NormBase, nn.modules.dropout._DropoutNd)
    for name, part in frozen.items():
        for inner, module in part.named_modules():
            if isinstance(module, watched):
                place = f"{name}.{inner}".strip(".")
                module.register_forward_pre_hook(lambda m, args, place=place: note(m, place))
    subject.step(state, subject.loaders["train"].first_batch())
    for name, kind in modes.items():
        raise FaultError(
            f"{name} ({kind}) is in train mode, but its part of the net is frozen. Call .eval() on "
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


def _is_never_negative(subject: Subject, state: Any, batch: Any) -> bool:
    """Tell whether outputs stay above 0 when the last layer's weights change their sign."""
    last = _last_layer(subject, state, batch)
    if last is None:
        return False
    lowest, highest = list[float](), list[float]()
    for _ in range(2):
        outputs = [part for part in tensors(subject.forward(state, batch)[0]) if part.numel()]
        lowest.append(min(float(part.min()) for part in outputs))
        highest.append(max(float(part.max()) for part in outputs))
        with torch.no_grad():
            for weight in last.parameters(recurse=False):
                weight.neg_()
    return min(lowest) >= 0 and max(highest) > 0


def outputs_have_the_range_that_the_loss_needs(subject: Subject) -> str:
    """Outputs are not squashed before a loss that does so itself, nor cut off where labels go."""
    state, batch = subject.fresh(), subject.loaders["val"].first_batch()
    outputs, labels = subject.forward(state, batch)
    if not (isinstance(outputs, Tensor) and isinstance(labels, Tensor) and len(labels)):
        raise NotApplicableError("outputs or labels are not one tensor")
    reading, loss = subject.reading, LossProbe(state.task)
    axis = reading.class_axis
    if reading.outputs == "probabilities" and axis is not None and is_integer(labels):
        marks = counted(labels, reading.ignored)
        right = torch.zeros_like(outputs.movedim(axis, -1)).reshape(*labels.shape, -1)
        right.scatter_(-1, labels.long().masked_fill(~marks, 0).unsqueeze(-1), 1.0)
        sure = loss(right.movedim(-1, axis).reshape(outputs.shape), labels)
        first = loss(outputs, labels)
        if sure is not None and first and sure > SURE * abs(first):
            raise FaultError(
                f"every row of outputs sums to 1, and a sure, right answer still costs {sure:.2g}: "
                "cross_entropy applies softmax itself. Remove softmax at the end of forward"
            )
        return "probabilities, and a loss that takes these"
    if outputs.shape == labels.shape and outputs.ndim == 2 and labels.is_floating_point():
        sums, known = outputs.float().sum(1), (labels == 0) | (labels == 1)
        of_one = bool((sums - 1).abs().max() < 1e-3) and float(outputs.min()) >= 0
        if of_one and bool(known.all()) and bool((labels.sum(1) != 1).any()):
            raise FaultError(
                "outputs of an example sum to 1, but several of its labels, or none, can be yes. "
                "Use sigmoid in place of softmax"
            )
    squashed = _is_never_negative(subject, state, batch)
    if not squashed:
        return "of both signs"
    if reading.outputs == "logits" and axis is not None:
        raise FaultError(
            "outputs are never negative, but are scores before softmax. Remove ReLU or sigmoid at "
            "the end of forward"
        )
    shaped = labels.is_floating_point() and labels.shape == outputs.shape
    if shaped and float(labels.min()) < 0:
        raise FaultError(
            f"outputs are never negative, but labels are, down to {float(labels.min()):.3g}. "
            "Remove the activation at the end of forward"
        )
    yes_or_no = (labels == 0) | (labels == 1)
    if shaped and float(outputs.max()) <= 1 and bool(yes_or_no.all()):
        sure, first = loss(labels.to(outputs), labels), loss(outputs, labels)
        if sure is not None and first and sure > SURE * abs(first):
            raise FaultError(
                f"outputs lie between 0 and 1, and a sure, right answer still costs {sure:.2g}: "
                "the loss applies sigmoid itself. Remove sigmoid at the end of forward"
            )
    return "never negative"


def a_right_answer_has_the_lowest_loss(subject: Subject) -> str:
    """A sure and right answer costs less than one that does not know."""
    state, reading = subject.fresh(), subject.reading
    outputs, labels = subject.forward(state, subject.loaders["val"].first_batch())
    axis = reading.class_axis
    if reading.outputs != "logits" or axis is None or not isinstance(outputs, Tensor):
        raise NotApplicableError("outputs are not logits of classes")
    classes = outputs.shape[axis]
    chosen = nn.functional.one_hot(labels.long().clamp(0, classes - 1), classes)
    right = chosen.to(outputs.dtype).reshape(outputs.movedim(axis, -1).shape).movedim(-1, axis)
    probe = LossProbe(state.task)
    sure, even = probe(SURE_LOGIT * right, labels), probe(torch.zeros_like(outputs), labels)
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
    state = subject.fresh()
    outputs, labels = subject.forward(state, subject.loaders["val"].first_batch())
    name, more = monitored(state.params.dict, state.task.metrics)
    if subject.reading.num_classes is None and name in state.task.metrics:
        return _knows_right_numbers(state.task, outputs, labels, name, more)
    classes = subject.num_classes()
    axis = subject.reading.class_axis or -1
    marks = counted(labels, subject.reading.ignored)
    if not marks.any():
        raise NotApplicableError("all labels of the first batch are ignored")

    def values(numbers: Tensor) -> dict[str, float]:
        chosen = nn.functional.one_hot(numbers.long().masked_fill(~marks, 0), classes)
        scores = 0.01 + 0.98 * chosen.to(outputs.dtype)  # a probability, or a score
        scores = scores.reshape(outputs.movedim(axis, -1).shape).movedim(-1, axis)
        with seeded(0):
            return score(state.task, scores, labels)

    right, wrong = values(labels), values((labels + 1) % classes)
    known = [each for each in right if "accuracy" in each or each == name]
    for each in known:
        better = more if each == name else True
        sound = right[each] > wrong[each] if better else right[each] < wrong[each]
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
        logits = 8 * right - 4
        costs = [LossProbe(task)(each, labels) for each in (logits, 0.02 + 0.96 * right)]
        takes_logits = None not in costs and costs[0] < costs[1]  # type: ignore[operator]
        right = logits if takes_logits else 0.02 + 0.96 * right
    with seeded(0):
        other = right.roll(1, 0)
        wrong = 1 - other if float(right.min()) > 0 and float(right.max()) < 1 else -other
        good, bad = (score(task, each, labels)[name] for each in (right, wrong))
    if not (good > bad if more else good < bad) or ("accuracy" in name and good < 0.999):
        wanted = "more" if more else "less"
        if good == bad or (good > bad) == more:
            raise FaultError(
                f"{name} is {good:.3g} for right answers and {bad:.3g} for wrong ones. Does it "
                "take logits for probabilities, or the other way round?"
            )
        raise FaultError(
            f"{name} is {good:.3g} for right answers and {bad:.3g} for wrong ones, but {wanted} of "
            "it is taken as better. Is monitor_mode the other way round?"
        )
    return name
