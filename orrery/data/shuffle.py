"""A random order that needs no list: a keyed bijection of {0 .. size-1}, computed one index at a time.

A Feistel network permutes the 2k-bit numbers; a number that lands outside the range is sent through again until it
lands inside ("cycle walking"; Black and Rogaway 2002, "Ciphers with Arbitrary Finite Domains"). Time O(1), memory
none, so the order of a billion rows costs nothing to hold and nothing to resume.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

ROUNDS = 4
_MASK = (1 << 64) - 1
Words = Any
"""int, or an array of uint64 whose arithmetic wraps as the masks below make that of int"""


def shuffled(index: int, size: int, key: int) -> int:
    """Where `index` of {0 .. size-1} goes in the order named by `key`."""
    half = _half(size)
    index = _network(index, half, key)
    while index >= size:
        index = _network(index, half, key)
    return index


def shuffled_array(indices: npt.NDArray[np.int64], size: int, key: int) -> npt.NDArray[np.int64]:
    """`shuffled` of many indices at once."""
    half = _half(size)
    values = _network(indices.astype(np.uint64), half, key)
    while (outside := values >= size).any():
        values[outside] = _network(values[outside], half, key)
    return values.astype(np.int64)


def _half(size: int) -> int:
    """Bits of each half: the network permutes fewer than 4 * size numbers."""
    return max(1, ((size - 1).bit_length() + 1) // 2)


def _network(value: Words, half: int, key: int) -> Words:
    low = (1 << half) - 1
    left, right = value >> half, value & low
    for i in range(ROUNDS):
        left, right = right, left ^ (_mix(right, key * ROUNDS + i) & low)
    return left << half | right


def _mix(value: Words, key: int) -> Words:
    """The finaliser of splitmix64: every bit of the input reaches every bit of the output."""
    z = (value * 0x9E3779B97F4A7C15 + (key * 0xD1B54A32D192ED03 & _MASK)) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)
