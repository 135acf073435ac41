"""A net that draws random numbers in eval mode: evaluation repeats itself and changes no bit."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from core.base.params import Params
from core.data.batches import Batches
from core.task import Task
from evaluate import evaluate


class Draws(nn.Module):
    """Adds the noise of all three global generators to its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x + torch.randn_like(x) + random.random() + float(np.random.rand())


def mean_square(outputs: Tensor, labels: Tensor) -> Tensor:
    return (outputs - labels).square().mean()


PARAMS = Params.of({"precision": "float32", "seed": 3}, Path("params.json"))
TASK = Task("drawing", lambda params: Draws(), mean_square, {}, dict)


def loader() -> Batches:
    return Batches(torch.arange(20.0), torch.zeros(20), batch_size=5)


def states() -> list[Any]:
    return [torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()]


def test_evaluation_repeats_itself_and_leaves_the_generators_alone() -> None:
    before = states()
    one, _ = evaluate(Draws(), loader(), TASK, PARAMS)
    assert states() == before
    torch.rand(7), random.random(), np.random.rand()
    assert evaluate(Draws(), loader(), TASK, PARAMS)[0] == one


def test_the_seed_decides_what_an_evaluation_draws() -> None:
    other = Params.of(PARAMS.dict | {"seed": 4}, Path("params.json"))
    found = [evaluate(Draws(), loader(), TASK, each)[0] for each in (PARAMS, other)]
    assert found[0] != found[1]


def test_a_stop_in_the_middle_of_an_evaluation_leaves_the_generators_alone() -> None:
    def stopping(batches: Iterator[Any]) -> Iterator[Any]:
        yield next(batches)
        raise KeyboardInterrupt

    before = states()
    with pytest.raises(KeyboardInterrupt):
        evaluate(Draws(), loader(), TASK, PARAMS, watch=stopping)
    assert states() == before
