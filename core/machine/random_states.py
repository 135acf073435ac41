"""Seeds, and the states of the random generators.

Randomness inside a loader is a pure function of (seed, epoch, batch or example), so a run can start
again at any batch, and the number of worker processes does not change what it sees.
"""

import random
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from typing import Any

import numpy as np
import torch
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
    x = (_first_seed(seed, epoch) + (index + 1) * 0x9E3779B97F4A7C15) & _BITS
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & _BITS
    x = (x ^ x >> 27) * 0x94D049BB133111EB & _BITS
    return (x ^ x >> 31) & 0xFFFFFFFF


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
def seeded(*numbers: int) -> Iterator[None]:
    """Seed the global generators of torch, NumPy and Python, and put their states back after."""
    with kept_states():
        seed_cpu(mixed_seed(*numbers))
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
