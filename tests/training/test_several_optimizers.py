"""Steps of a task's own: several optimizers, and mistakes that are told in words."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core.base.errors import UsageError
from core.base.params import DEFAULTS, Params
from core.data.batches import Batches
from core.task import Task
from core.training.optimizers import make_optimizers
from core.training.state import State, make_state


class Pair(nn.Module):
    """A critic of two inputs, and a generator of one number."""

    def __init__(self) -> None:
        super().__init__()
        self.critic, self.generator = nn.Linear(2, 1), nn.Linear(1, 2)


def pair(model: nn.Module) -> Pair:
    assert isinstance(model, Pair)
    return model


def step(state: State, batch: Any) -> dict[str, Tensor]:
    (x, _), model = batch, pair(state.model)
    fake = model.generator(torch.ones(len(x), 1))
    critic = model.critic(x).mean() - model.critic(fake.detach()).mean()
    state.update(critic, "critic")
    generator = model.critic(fake).mean()  # its gradient reaches the critic, too
    state.update(generator, "generator")
    return {"loss": critic + generator}


def optimizers(model: nn.Module, params: Params) -> dict[str, torch.optim.Optimizer]:
    parts = {"critic": pair(model).critic, "generator": pair(model).generator}
    return {name: torch.optim.SGD(part.parameters(), 0.1) for name, part in parts.items()}


def after_one_update(batch_size: int, train_step: Any = step) -> State:
    torch.manual_seed(0)
    inputs = torch.arange(16.0).reshape(8, 2)
    loader = Batches(inputs, torch.zeros(8), batch_size=batch_size)
    values = DEFAULTS | {"precision": "float32", "grad_accumulation": 8 // batch_size}
    task = Task("pair", lambda params: Pair(), lambda x, y: x.mean(), {}, dict)
    task = Task(**vars(task) | {"make_optimizer": optimizers, "train_step": train_step})
    state = make_state(task, Params.of(values, Path("p")), torch.device("cpu"), loader)
    for batch in itertools.islice(state.batches(loader), len(loader)):
        state.end_batch(train_step(state, batch))
    return state


@pytest.mark.parametrize("batch_size", [4, 2, 1])
def test_no_optimizer_gets_gradients_of_another_ones_loss(batch_size: int) -> None:
    whole, parts = (pair(after_one_update(size).model).critic for size in (8, batch_size))
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def of_no_name(state: State, batch: Any) -> dict[str, Tensor]:
    state.update(pair(state.model).critic(batch[0]).mean())
    return {}


@pytest.mark.parametrize(
    ("train_step", "told"),
    [
        (of_no_name, "no optimizer 'main', only critic, generator"),
        (lambda state, batch: None, "must return a dict of named losses"),
        (lambda state, batch: {"loss": 1.0}, "must return a dict of named losses"),
    ],
)
def test_mistakes_in_a_step_are_told_in_words(train_step: Any, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        after_one_update(8, train_step)


def test_weights_that_no_checkpoint_would_hold_are_refused() -> None:
    centres = nn.Parameter(torch.zeros(3, 2))  # of a loss, say

    def optimizer(model: nn.Module, params: Params) -> torch.optim.Optimizer:
        return torch.optim.SGD([*model.parameters(), centres], 0.1)

    task = Task("t", lambda params: Pair(), nn.MSELoss(), {}, dict, make_optimizer=optimizer)
    with pytest.raises(UsageError, match="not the net's: no checkpoint holds them"):
        make_optimizers(task, Pair(), Params.of(DEFAULTS, "test"))
