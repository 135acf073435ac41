"""Samplers of a task's own, and lengths that are held against what comes."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler
from torch.utils.data.distributed import DistributedSampler

from core.base.errors import DataError
from core.machine.random_states import cpu_states, kept_states, mixed_seed, seeded


def check_length(
    loader: DataLoader[Any], found: int, promised: int, what: str, advice: str = ""
) -> None:
    """Hold what came in an epoch against the length; DataError if they differ."""
    if found != promised:
        several = " or more" if found > promised else ""
        raise DataError(
            f"a DataLoader of {type(loader.dataset).__name__}: an epoch had {found}{several} "
            f"{what}, its length says {promised}.\n__len__() must be what it yields, else examples "
            f"are lost or counted twice.{advice}"
        )


def is_shuffled(loader: DataLoader[Any]) -> bool | None:
    """Tell whether a loader shuffles; None if it does not visit every example once.

    A DistributedSampler stands for the order that it divides: the framework divides by itself.
    """
    sampler, batches = loader.sampler, loader.batch_sampler
    if type(batches) is not BatchSampler or batches.sampler is not sampler:
        return None
    if type(sampler) is RandomSampler:
        whole = not sampler.replacement and sampler.num_samples == len(sampler.data_source)
        return True if whole else None
    if isinstance(sampler, DistributedSampler):
        return bool(sampler.shuffle)
    return False if type(sampler) is SequentialSampler else None


def own_order(loader: DataLoader[Any], seed: int, epoch: int, length: int) -> Iterator[Any]:
    """Draw `length` entries of the order of a sampler that may have no end, one by one."""
    sampler: Any = loader.batch_sampler or loader.sampler
    parts: list[Any] = [sampler, getattr(sampler, "sampler", None)]
    for part in parts:
        if hasattr(part, "set_epoch"):
            part.set_epoch(epoch)
        if isinstance(own := getattr(part, "generator", None), torch.Generator):
            own.manual_seed(mixed_seed(seed, epoch))
    with seeded(seed, epoch):
        drawn, states = iter(sampler), cpu_states()
    what = "batches of its sampler"
    for i in range(length):
        with kept_states(states):
            batch, states = next(drawn, None), cpu_states()
        if batch is None:
            check_length(loader, i, length, what)
        yield batch
    if epoch:  # that it has no end was found out in the first one
        return
    with kept_states(states):
        more = sum(1 for _ in islice(drawn, length + 1))
    if more <= length:  # else it has no end, and its length is that of an epoch
        check_length(loader, length + more, length, what)
