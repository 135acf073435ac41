"""Seeds, and the states of the random generators.

Randomness inside a loader is a pure function of (seed, epoch, batch or example), so a run can start
again at any batch, and the number of worker processes does not change what it sees.
"""

import math
import random
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

_BITS = 2**64 - 1


def mixed_seed(*numbers: int) -> int:
    """Mix whole numbers >= 0 into one seed of 32 bits (NumPy's SeedSequence, O'Neill 2015)."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


_first_seed = lru_cache(maxsize=4)(mixed_seed)


def example_seed(seed: int, epoch: int, index: int) -> int:
    """Return a seed of 32 bits for an example: SplitMix64 (Steele et al. 2014) from (seed, epoch).

    It takes a tenth of the time of mixed_seed, which showed beside decoding a photograph.
    """
    return _split_mix(_first_seed(seed, epoch), index) & 0xFFFFFFFF


def _split_mix(start: Any, place: Any) -> Any:
    """Return output number `place`, of 64 bits, of SplitMix64 seeded by `start`: ints or arrays."""
    x = start + (place + 1) * 0x9E3779B97F4A7C15 & _BITS
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & _BITS
    x = (x ^ x >> 27) * 0x94D049BB133111EB & _BITS
    return x ^ x >> 31


class RowDraws:
    """Random numbers of a batch that depend on (seed, epoch, example), not on the rest of it.

    Every call goes on in the sequence of each example. The numbers are on the CPU, so that they are
    the same whatever the device.
    """

    def __init__(self, seed: int, epoch: int, index: Any) -> None:
        examples = np.atleast_1d(np.asarray(index, np.int64)).astype(np.uint64)  # (B,)
        self.starts = _split_mix(np.uint64(_first_seed(seed, epoch)), examples)[:, None]
        self.drawn = 0  # numbers of each example so far

    def uniform(self, *shape: int) -> Tensor:
        """Return numbers (B, *shape) float32 from 0 on and below 1."""
        count = math.prod(shape)
        places = np.arange(self.drawn, self.drawn + count, dtype=np.uint64)
        self.drawn += count
        drawn = (_split_mix(self.starts, places) >> 40) * np.float32(2**-24)
        return torch.from_numpy(drawn.astype(np.float32)).view(-1, *shape)

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """Return whole numbers (B, *shape) from `low` on and below `high`."""
        return low + (self.uniform(*shape).double() * (high - low)).long()

    def normal(self, *shape: int) -> Tensor:
        """Return numbers (B, *shape) float32 of mean 0 and deviation 1."""
        return torch.special.ndtri(self.uniform(*shape).double() + 2**-25).float()


def generator(*numbers: int) -> torch.Generator:
    """Return a generator on the CPU that is seeded by whole numbers such as (seed, epoch)."""
    return torch.Generator().manual_seed(mixed_seed(*numbers))


def seed_everything(seed: int) -> None:
    """Seed the global generators of torch (all devices), NumPy and Python."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def seed_cpu(seed: int) -> None:
    """Seed the CPU generators of torch, NumPy and Python; torch.manual_seed is 80 times slower."""
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def cpu_states() -> tuple[Any, ...]:
    """Return the states of the CPU generators of torch, NumPy and Python."""
    return torch.get_rng_state(), np.random.get_state(), random.getstate()


@contextmanager
def kept_states(states: tuple[Any, ...] | None = None) -> Iterator[None]:
    """Put the CPU generators' states back at the end; begin the block with others if given."""
    before = cpu_states()
    try:
        if states is not None:
            _set_cpu_states(states)
        yield
    finally:
        _set_cpu_states(before)


def _set_cpu_states(states: tuple[Any, ...]) -> None:
    torch.set_rng_state(states[0])
    np.random.set_state(states[1])
    random.setstate(states[2])


def kept_outside_workers() -> AbstractContextManager[None]:
    """Put the generators' states back at the end; a worker process has none that matter."""
    return kept_states() if get_worker_info() is None else nullcontext()


@contextmanager
def seeded(*numbers: int, device: torch.device | None = None) -> Iterator[None]:
    """Seed the global generators, those of a GPU too if given; put their states back after."""
    of_gpu = [device] if device is not None and device.type == "cuda" else []
    with kept_states(), torch.random.fork_rng(of_gpu, enabled=bool(of_gpu)):
        seed_cpu(mixed_seed(*numbers))
        for each in of_gpu:
            torch.cuda.default_generators[each.index or 0].manual_seed(mixed_seed(*numbers))
        yield


def random_states() -> dict[str, Any]:
    """Return the states of the global generators of torch (all devices), NumPy and Python."""
    name, keys, *rest = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [name, torch.from_numpy(np.asarray(keys, np.int64)), *rest],
        "python": random.getstate(),
    }


def set_random_states(states: Mapping[str, Any]) -> None:
    """Put back what random_states returned."""
    torch.cuda.set_rng_state_all(states["cuda"][: torch.cuda.device_count()])
    name, keys, *rest = states["numpy"]
    version, internal, gauss = states["python"]
    numpy_state = (name, keys.numpy().astype(np.uint32), *rest)
    _set_cpu_states((states["torch"], numpy_state, (version, tuple(internal), gauss)))
