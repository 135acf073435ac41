"""CIFAR-10: the nets of the CS231n PyTorch notebook at three levels of abstraction, and a ResNet.

The params `net` and `level` choose. Level `bare` is in `bare.py`; here are `module` (classes) and
`sequential` (a list of layers). Shapes: B batch, C channels, H W pixels, D features, K classes,
N examples.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.base.errors import UsageError, did_you_mean
from model.cifar10.bare import (
    Bare,
    convnet_weights,
    flatten,
    random_weight,
    three_layer_convnet,
    two_layer_fc,
    two_layer_weights,
    update_by_hand,
    zero_weight,
)
from model.cifar10.resnet import ResNet
from utils import Params

__all__ = ["flatten", "random_weight", "three_layer_convnet", "two_layer_fc", "zero_weight"]

CHANNELS, SIZE, NUM_CLASSES = 3, 32, 10  # of CIFAR-10
NETS = ("two_layer_fc", "three_layer_convnet", "resnet")
LEVELS = ("bare", "module", "sequential")
# What the update by hand does; anything else that the params ask for would be left out silently.
BY_HAND: dict[str, Any] = {
    "optimizer": "SGD",
    "optimizer_args": {},
    "lr_scheduler": None,
    "grad_clip": None,
    "grad_accumulation": 1,
}


class TwoLayerFC(nn.Module):
    """Linear, ReLU, linear."""

    def __init__(self, input_size: int, hidden_size: int, num_classes: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(input_size, hidden_size)
        self.fc2 = nn.Linear(hidden_size, num_classes)
        start_with_kaiming(self.fc1, self.fc2)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, ...) inputs to (B, K) scores."""
        x = flatten(x)  # (B, D)
        x = F.relu(self.fc1(x))  # (B, hidden)
        return self.fc2(x)  # (B, K)


class ThreeLayerConvNet(nn.Module):
    """Convolution, ReLU, convolution, ReLU, linear; for images of 32x32."""

    def __init__(self, in_channel: int, channel_1: int, channel_2: int, num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channel, channel_1, 5, padding=2)
        self.conv2 = nn.Conv2d(channel_1, channel_2, 3, padding=1)
        self.fc = nn.Linear(channel_2 * SIZE * SIZE, num_classes)
        start_with_kaiming(self.conv1, self.conv2, self.fc)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, 32, 32) images to (B, K) scores."""
        x = F.relu(self.conv1(x))  # (B, C1, 32, 32)
        x = F.relu(self.conv2(x))  # (B, C2, 32, 32)
        return self.fc(flatten(x))  # (B, K)


def start_with_kaiming(*layers: nn.Linear | nn.Conv2d) -> None:
    """Draw the weights as `random_weight` does, and let the biases begin at zero."""
    for layer in layers:
        nn.init.kaiming_normal_(layer.weight)
        assert layer.bias is not None
        nn.init.zeros_(layer.bias)


class Flatten(nn.Module):
    """`flatten` as a layer."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C*H*W)."""
        return flatten(x)


def sequential_fc(input_size: int, hidden_size: int, num_classes: int) -> nn.Sequential:
    """Build `TwoLayerFC` as a list of layers, with torch's own first weights."""
    return nn.Sequential(
        Flatten(),
        nn.Linear(input_size, hidden_size),
        nn.ReLU(),
        nn.Linear(hidden_size, num_classes),
    )


def sequential_convnet(
    in_channel: int, channel_1: int, channel_2: int, num_classes: int
) -> nn.Sequential:
    """Build `ThreeLayerConvNet` as a list of layers, with torch's own first weights."""
    return nn.Sequential(
        nn.Conv2d(in_channel, channel_1, 5, padding=2),
        nn.ReLU(),
        nn.Conv2d(channel_1, channel_2, 3, padding=1),
        nn.ReLU(),
        Flatten(),
        nn.Linear(channel_2 * SIZE * SIZE, num_classes),
    )


def choice(params: Params, key: str, allowed: Sequence[str]) -> str:
    """Return the value of a key; UsageError if it is none of those allowed."""
    value = getattr(params, key)
    if value not in allowed:
        hint = did_you_mean(str(value), allowed)
        raise UsageError(f"{key!r} is {value!r}, want {', '.join(allowed)}{hint}")
    return str(value)


def Net(params: Params) -> nn.Module:  # noqa: N802 - the contract's name
    """Build the net that `net` and `level` name; `hidden_size`, `channel_1`... are its sizes."""
    net = choice(params, "net", NETS)
    level = choice(params, "level", LEVELS if net != "resnet" else ("module",))
    if level == "bare":
        for key, wanted in BY_HAND.items():
            if params.dict.get(key, wanted) != wanted:
                found = params.dict[key]
                raise UsageError(f"{key!r} is {found!r}, but level 'bare' needs {wanted!r}")
    if net == "resnet":
        return ResNet(CHANNELS, params.width, NUM_CLASSES)
    if net == "two_layer_fc":
        sizes = CHANNELS * SIZE * SIZE, params.hidden_size, NUM_CLASSES
        if level == "bare":
            return Bare(two_layer_fc, two_layer_weights(*sizes))
        return TwoLayerFC(*sizes) if level == "module" else sequential_fc(*sizes)
    shape = CHANNELS, params.channel_1, params.channel_2, NUM_CLASSES
    if level == "bare":
        return Bare(three_layer_convnet, convnet_weights(*shape))
    return ThreeLayerConvNet(*shape) if level == "module" else sequential_convnet(*shape)


def loss_fn(outputs: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Return the mean cross-entropy () of logits (B, K) and labels (B,), in nats."""
    return F.cross_entropy(outputs, labels, label_smoothing=label_smoothing)


def train_step(state: Any, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    """Forward, backward, update: train.py's own step, except that level `bare` updates by hand.

    Labels are smoothed in training only, so that the validation loss of all nets is one measure.
    """
    params, (images, labels) = state.params, batch
    with state.autocast():
        outputs = state.model(images)
        loss = loss_fn(outputs, labels, params.dict.get("label_smoothing", 0.0))
    if params.level == "bare":
        update_by_hand(state.model.parameters(), loss, params.learning_rate)
    else:
        state.update(loss, weight=state.task.loss_weight(outputs, labels))
    state.seen = outputs, labels
    return {"loss": loss}


def accuracy(outputs: np.ndarray, labels: np.ndarray) -> float:
    """Return the share of right answers among logits (N, K) for labels (N,)."""
    return float(np.mean(outputs.argmax(axis=1) == labels))


metrics = {"accuracy": accuracy}


def check_accuracy(loader: Any, model: nn.Module) -> tuple[int, int]:
    """Print and return how many of a loader's examples a net gets right, and of how many."""
    weight = next(model.parameters())
    hits, total = 0, 0
    model.eval()
    with torch.no_grad():
        for images, labels in loader:
            scores = model(images.to(weight))  # (B, K)
            hits += int((scores.argmax(dim=1) == labels.to(weight.device)).sum())
            total += len(labels)
    print(f"Got {hits} / {total} correct ({100 * hits / total:.2f}%)")
    return hits, total


def class_names(params: Params) -> list[str]:
    """Return the names of the ten classes, as the data tell them."""
    return list(params.class_names)
