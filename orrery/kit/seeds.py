"""Randomness as a pure function of a seed and a name: nothing to store, nothing to lose.

`key(seed, "dropout", step)` is the same number in every process and on every machine; a generator made from it
replaces hidden global state.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch


def key(seed: int, *parts: int | str) -> int:
    """A 63-bit number that depends on the seed and every part, and on their order."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in (seed, *parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def torch_generator(seed: int, *parts: int | str) -> torch.Generator:
    """A CPU torch.Generator for this purpose alone."""
    import torch

    return torch.Generator().manual_seed(key(seed, *parts))


def numpy_generator(seed: int, *parts: int | str) -> np.random.Generator:
    """A numpy Generator (Philox, counter-based) for this purpose alone."""
    import numpy as np

    return np.random.Generator(np.random.Philox(key=key(seed, *parts)))


def uniform(seed: int, *parts: int | str) -> float:
    """One number in [0, 1) with 53 random bits."""
    return (key(seed, *parts) >> 10) / (1 << 53)
