"""The order of examples, a pure function of (seed, epoch), and who takes which batches."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Subset

from core.data.known import whole
from core.machine import processes
from core.machine.random_states import generator
from core.task import Batch, IndexBatch, Loader

ROUNDS = 16  # of evaluation, after which rank 0 takes what the processes have collected


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


def check_same_order(plan: Sequence[IndexBatch]) -> None:
    """Raise UsageError if the processes would divide different orders of examples."""
    if processes.world_size() > 1:
        index = [x.index.tolist() if isinstance(x.index, Tensor) else x.index for x in plan]
        processes.check_same(
            index,
            "the processes draw different orders of examples: a sampler of one's own must draw by\n"
            "torch's, NumPy's or Python's global generators, which are seeded alike, and divide "
            "nothing",
        )


def own_batches(
    loader: Loader, watch: Callable[[Iterator[Any]], Iterable[Any]], exchange: Callable[[], None]
) -> Iterator[tuple[Batch, bool]]:
    """Yield the batches to evaluate, and whether each counts; N processes take every N-th each.

    A process that has none in the last round gets another's, which does not count, because all have
    to run a sharded net. `watch` passes on what it is given, and may stop between two rounds;
    `exchange` is called after every 16.
    """
    rank, world_size = processes.rank(), processes.world_size()
    if world_size == 1:
        yield from ((batch, True) for batch in watch(loader.epoch(0)))
        return
    plan = list(loader.plan(0))
    check_same_order(plan)
    own, rounds = plan[rank::world_size], math.ceil(len(plan) / world_size)
    others = plan[: rounds - len(own)]
    if plan[0].index is None and plan[0].rows is not None:  # the processes divide the stream itself
        own, others = [x for x in plan if x.fraction], [x for x in plan if not x.fraction]
    for i, batch in enumerate(watch(loader.load(0, own + others))):
        yield batch, i < len(own)
        if (i + 1) % ROUNDS == 0:
            exchange()


def windowed_order(starts: Tensor, count: int, window: int, seed: int, epoch: int) -> Tensor:
    """Return an order (N,) in which blocks come at random, and records at random in windows.

    Args:
        starts: (K,) the first record of each block.
        count: N, the number of records.
        window: blocks whose records are shuffled with each other.
        seed: with the epoch's number it decides the order.
        epoch: its number.
    """
    draws = generator(seed, epoch)
    blocks = torch.randperm(len(starts), generator=draws)
    lengths = torch.diff(starts, append=torch.tensor([count]))[blocks]
    begins = starts[blocks] - lengths.cumsum(0) + lengths
    order = torch.arange(count) + begins.repeat_interleave(lengths)
    places = (torch.arange(len(blocks)) // window).repeat_interleave(lengths)
    draw = places + torch.rand(count, generator=draws, dtype=torch.float64)
    return order[draw.argsort(stable=True)]


def blocks_of_a_batch(order: Tensor, starts: Tensor, batch_size: int) -> float:
    """Return from how many blocks, which begin at `starts` (K,), a batch of an order comes.

    It is the mean of the first hundred batches.
    """
    blocks = torch.searchsorted(starts, order[: 100 * batch_size], right=True)
    parts = blocks.split(batch_size)
    return sum(len(part.unique()) for part in parts) / len(parts)


def drawn_order(dataset: Any, seed: int, epoch: int) -> Tensor:
    """Return the order (N,) of a shuffled epoch: the dataset's own `epoch_order` if it has one."""
    if (own := getattr(whole(dataset), "epoch_order", None)) is None:
        return epoch_order(len(dataset), seed, epoch)
    if not isinstance(dataset, Subset):
        return own(seed, epoch)
    ranks = drawn_order(dataset.dataset, seed, epoch).argsort()  # place of each of its examples
    return ranks[torch.as_tensor(dataset.indices)].argsort(stable=True)
