"""Seeds, the order of examples, and the states of the random generators.

The order of the examples is a pure function of (seed, epoch), and randomness inside a loader of
(seed, epoch, batch or example), so a run can start again at any batch, and the number of worker
processes does not change what it sees.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor


def mixed_seed(*numbers: int) -> int:
    """Mix whole numbers >= 0 into one seed of 32 bits (NumPy's SeedSequence, O'Neill 2015)."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def generator(*numbers: int) -> torch.Generator:
    """Return a generator on the CPU that is seeded by whole numbers such as (seed, epoch)."""
    return torch.Generator().manual_seed(mixed_seed(*numbers))


def epoch_order(num_examples: int, seed: int, epoch: int) -> Tensor:
    """Return the order (N,) in which one epoch visits the examples."""
    return torch.randperm(num_examples, generator=generator(seed, epoch))


def split_into_batches(order: Tensor, batch_size: int, train: bool) -> list[Tensor]:
    """Cut an order (N,) into batches; a last training batch of one joins the one before it.

    Batch normalisation cannot be trained on a single example.
    """
    batches = list(order.split(batch_size))
    if train and batch_size > 1 and len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


_SETTERS: tuple[Callable[[Any], object], ...] = (
    torch.set_rng_state,
    np.random.set_state,
    random.setstate,
)


def global_states() -> tuple[Any, ...]:
    """Return the states of the CPU generators of torch, NumPy and Python."""
    return torch.get_rng_state(), np.random.get_state(), random.getstate()


@contextmanager
def states_in_place(states: tuple[Any, ...]) -> Iterator[None]:
    """Put states of the global generators in place, and the ones of before back at the end."""
    before = global_states()
    try:
        for put, state in zip(_SETTERS, states, strict=False):
            put(state)
        yield
    finally:
        for put, state in zip(_SETTERS, before, strict=True):
            put(state)


@contextmanager
def seeded(*numbers: int) -> Iterator[None]:
    """Seed the global generators of torch, NumPy and Python, and put their states back after."""
    with states_in_place(()):
        seed_global(mixed_seed(*numbers))
        yield


def seed_global(seed: int) -> None:
    """Seed the CPU generators of torch, NumPy and Python; torch.manual_seed is 80 times slower."""
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)
