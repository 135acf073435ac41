"""The order of examples: a pure function of (seed, epoch)."""

import torch
from torch import Tensor

from core.machine.random_states import generator


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
