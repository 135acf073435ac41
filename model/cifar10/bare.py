"""The two nets of the CS231n PyTorch notebook as functions of bare tensors, with autograd by hand.

Shapes: B batch, C channels, H W pixels, D features, K classes. A weight of a linear layer is a
matrix (in, out) here, and (out, in) in `nn.Linear`.
"""

import math
from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def flatten(x: Tensor) -> Tensor:
    """Turn images (B, C, H, W) into rows (B, C*H*W)."""
    return x.flatten(1)


def random_weight(shape: Sequence[int]) -> Tensor:
    """Draw a weight from a normal distribution of variance 2 / fan-in (He et al. 2015, eq. 10).

    Args:
        shape: (in, out) of a linear layer, or (out, in, kernel H, kernel W) of a convolution. For
            an `nn.Linear.weight`, which is (out, in), use `nn.init.kaiming_normal_` instead: this
            function would take the number of outputs for the fan-in.
    """
    fan_in = shape[0] if len(shape) == 2 else math.prod(shape[1:])
    return (torch.randn(*shape) * math.sqrt(2 / fan_in)).requires_grad_()


def zero_weight(shape: Sequence[int]) -> Tensor:
    """Return zeros, as for a bias."""
    return torch.zeros(*shape, requires_grad=True)


def two_layer_fc(x: Tensor, params: Sequence[Tensor]) -> Tensor:
    """Map (B, ...) inputs to (B, K) scores: linear, ReLU, linear, without biases.

    Args:
        x: the inputs; all dimensions but the first are features.
        params: weights (D, hidden) and (hidden, K).
    """
    w1, w2 = params
    x = flatten(x)  # (B, D)
    x = F.relu(x.mm(w1))  # (B, hidden)
    return x.mm(w2)  # (B, K)


def three_layer_convnet(x: Tensor, params: Sequence[Tensor]) -> Tensor:
    """Map (B, C, H, W) images to (B, K) scores: two convolutions with ReLU, then linear.

    Args:
        x: the images.
        params: weights and biases in turn: (C1, C, 5, 5), (C1,), (C2, C1, 3, 3), (C2,),
            (C2*H*W, K), (K,).
    """
    conv_w1, conv_b1, conv_w2, conv_b2, fc_w, fc_b = params
    x = F.relu(F.conv2d(x, conv_w1, conv_b1, padding=2))  # (B, C1, H, W)
    x = F.relu(F.conv2d(x, conv_w2, conv_b2, padding=1))  # (B, C2, H, W)
    return flatten(x).mm(fc_w) + fc_b  # (B, K)


def two_layer_weights(input_size: int, hidden_size: int, num_classes: int) -> list[Tensor]:
    """Draw the weights of `two_layer_fc`."""
    return [random_weight((input_size, hidden_size)), random_weight((hidden_size, num_classes))]


def convnet_weights(
    in_channel: int, channel_1: int, channel_2: int, num_classes: int
) -> list[Tensor]:
    """Draw the weights of `three_layer_convnet` for images of 32x32; the biases begin at zero."""
    return [
        random_weight((channel_1, in_channel, 5, 5)),
        zero_weight((channel_1,)),
        random_weight((channel_2, channel_1, 3, 3)),
        zero_weight((channel_2,)),
        random_weight((channel_2 * 32 * 32, num_classes)),
        zero_weight((num_classes,)),
    ]


def update_by_hand(weights: Iterable[Tensor], loss: Tensor, learning_rate: float) -> None:
    """Take one step of gradient descent: backward, `w -= learning_rate * gradient`, and forget."""
    loss.backward()
    with torch.no_grad():
        for w in weights:
            assert w.grad is not None
            w -= learning_rate * w.grad
            w.grad = None


class Bare(nn.Module):
    """A function of bare weights, in the clothes of a module: for checkpoints and evaluation.

    Args:
        function: maps inputs and the list of weights to scores.
        weights: what training changes.
    """

    def __init__(
        self, function: Callable[[Tensor, Sequence[Tensor]], Tensor], weights: Sequence[Tensor]
    ) -> None:
        super().__init__()
        self.function = function
        self.weights = nn.ParameterList(weights)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) images to (B, K) scores."""
        return self.function(x, list(self.weights))
