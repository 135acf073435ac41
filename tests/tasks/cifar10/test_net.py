"""The nets of the notebook: three levels of abstraction that are one net."""

import copy
import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import train
from core.base.errors import UsageError
from core.task import load_task
from core.training.optimizers import make_optimizers
from core.training.schedule import Schedule
from core.training.state import State
from model.cifar10 import net
from tests.tasks.cifar10.helpers import TASK, params


def test_flatten_keeps_the_order_of_every_image() -> None:
    x = torch.arange(12).view(2, 1, 3, 2)
    assert net.flatten(x).tolist() == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]
    assert torch.equal(net.Flatten()(x), net.flatten(x))


def test_two_layer_fc_scores_ten_classes() -> None:
    weights = [torch.zeros(50, 42), torch.zeros(42, 10)]
    assert net.two_layer_fc(torch.zeros(64, 50), weights).shape == (64, 10)
    assert net.TwoLayerFC(50, 42, 10)(torch.zeros(64, 50)).shape == (64, 10)


def test_three_layer_convnet_scores_ten_classes() -> None:
    shapes = [(6, 3, 5, 5), (6,), (9, 6, 3, 3), (9,), (9 * 32 * 32, 10), (10,)]
    x = torch.zeros(64, 3, 32, 32)
    assert net.three_layer_convnet(x, [torch.zeros(shape) for shape in shapes]).shape == (64, 10)
    module = net.ThreeLayerConvNet(in_channel=3, channel_1=12, channel_2=8, num_classes=10)
    assert module(x).shape == (64, 10)


def test_weights_begin_with_a_variance_of_two_over_the_fan_in() -> None:
    torch.manual_seed(0)
    assert net.random_weight((3000, 100)).std().item() == pytest.approx(
        math.sqrt(2 / 3000), rel=0.02
    )
    weight = net.random_weight((64, 32, 5, 5))
    assert weight.std().item() == pytest.approx(math.sqrt(2 / (32 * 25)), rel=0.02)
    assert weight.requires_grad
    assert not net.zero_weight((5,)).any()
    module = net.TwoLayerFC(3000, 100, 10)
    assert module.fc1.weight.std().item() == pytest.approx(math.sqrt(2 / 3000), rel=0.02)


@pytest.mark.parametrize("level", net.LEVELS)
@pytest.mark.parametrize("name", ["two_layer_fc", "three_layer_convnet"])
def test_the_first_loss_is_near_that_of_chance(name: str, level: str) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 4000, "channel_1": 32, "channel_2": 16}  # of the notebook
    model = net.Net(params(net=name, level=level, **sizes))
    with torch.no_grad():
        outputs = model(torch.randn(64, 3, 32, 32))
    # Kaiming's deviation of sqrt(2) in the scores costs about 1 nat above ln 10; a weight drawn
    # with the number of outputs for its fan-in costs 50.
    assert 2.2 < net.loss_fn(outputs, torch.arange(64) % 10).item() < 4


def sgd_state(model: nn.Module, **values: Any) -> State:
    """The state of a training run on the CPU, as train.py makes it."""
    settings = params(net="", **values)
    task = load_task(TASK)
    return State(
        task=task,
        params=settings,
        device=torch.device("cpu"),
        model=model.to(torch.float64 if settings.precision == "float64" else torch.float32),
        optimizers=make_optimizers(task, model, settings),
        schedule=Schedule({}, False, 1),
    )


def same_nets(name: str) -> dict[str, nn.Module]:
    """The net of a name at each level, with the first weights of level bare."""
    torch.manual_seed(1)
    nets = {level: net.Net(params(net=name, level=level)) for level in net.LEVELS}
    bare = list(nets["bare"].parameters())
    with torch.no_grad():
        for level in ("module", "sequential"):
            weights = list(nets[level].parameters())
            if name == "two_layer_fc":  # the bare one has no biases
                for bias in (weights.pop(3), weights.pop(1)):
                    bias.zero_().requires_grad_(False)
            for weight, wanted in zip(weights, bare, strict=True):
                weight.copy_(in_layout_of(weight, wanted))
    return nets


def in_layout_of(weight: Tensor, other: Tensor) -> Tensor:
    return other if weight.shape == other.shape else other.T


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("float64", 1e-12)])
@pytest.mark.parametrize("name", ["two_layer_fc", "three_layer_convnet"])
def test_the_three_levels_train_alike_for_a_hundred_steps(
    name: str, precision: str, tolerance: float
) -> None:
    draw = torch.Generator().manual_seed(2)
    x = torch.randn(100, 4, 3, 32, 32, generator=draw).to(getattr(torch, precision))
    y = torch.randint(10, (100, 4), generator=draw)
    losses: dict[str, list[float]] = {}
    states = {
        level: sgd_state(model, level=level, precision=precision, learning_rate=1e-3)
        for level, model in same_nets(name).items()
    }
    for level, state in states.items():
        losses[level] = [
            net.train_step(state, batch)["loss"].item() for batch in zip(x, y, strict=True)
        ]
    assert losses["module"] == losses["sequential"]  # the same kernels: bit for bit
    assert losses["bare"] == pytest.approx(losses["module"], rel=0, abs=tolerance)
    assert losses["bare"][-1] != losses["bare"][0]
    module, sequential = (states[level].model for level in ("module", "sequential"))
    pairs = zip(module.parameters(), sequential.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    trained = [weight for weight in module.parameters() if weight.requires_grad]
    for weight, wanted in zip(trained, states["bare"].model.parameters(), strict=True):
        torch.testing.assert_close(weight, in_layout_of(weight, wanted), rtol=0, atol=tolerance)


def test_above_level_bare_a_step_is_that_of_train_py() -> None:
    model = net.Net(params(net="three_layer_convnet", level="module"))
    own = sgd_state(model, level="module", optimizer_args={"momentum": 0.9, "nesterov": True})
    default = sgd_state(
        copy.deepcopy(model), level="module", optimizer_args=own.params.optimizer_args
    )
    default.task = dataclasses.replace(default.task, train_step=None)
    batches = [(torch.randn(8, 3, 32, 32), torch.randint(10, (8,))) for _ in range(5)]
    for batch in batches:
        losses = net.train_step(own, batch), train.train_step(default, batch)
        assert torch.equal(losses[0]["loss"], losses[1]["loss"])
        assert own.seen is not None and default.seen is not None
        assert torch.equal(own.seen[0], default.seen[0])
    pairs = zip(own.model.parameters(), default.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"net": "three_layer_convet", "level": "bare"}, "did you mean 'three_layer_convnet'"),
        ({"net": "two_layer_fc", "level": "modul"}, "did you mean 'module'"),
        ({"net": "resnet", "level": "bare"}, "'level' is 'bare', want module"),
        ({"net": "two_layer_fc", "level": "bare", "optimizer": "Adam"}, "'optimizer' is 'Adam'"),
        ({"net": "two_layer_fc", "level": "bare", "grad_clip": 1.0}, "needs None"),
    ],
)
def test_a_net_that_there_is_not_is_a_usage_error(values: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        net.Net(params(**values))
