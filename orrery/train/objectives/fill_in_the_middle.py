"""Fill-in-the-middle (Bavarian et al. 2022, arXiv:2207.14255): a causal model learns to infill from
rearranged documents.

    document = prefix middle suffix
    PSM      <pre> prefix <suf> suffix <mid> middle
    SPM      <pre> <suf> suffix <mid> prefix middle     (the variant that shares PSM's tokens)

Cuts are drawn uniformly between tokens. All tokens carry loss, as in the paper.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np


@dataclass(frozen=True)
class FimTokens:
    """Ids of the three control tokens."""

    prefix: int
    suffix: int
    middle: int


def rearrange(
    ids: np.ndarray, first: int, second: int, tokens: FimTokens, order: Literal["psm", "spm"] = "psm"
) -> np.ndarray:
    """The document cut at `first` <= `second`, middle last; three ids longer."""
    prefix, middle, suffix = ids[:first], ids[first:second], ids[second:]
    if order == "psm":
        parts = [[tokens.prefix], prefix, [tokens.suffix], suffix, [tokens.middle], middle]
    else:
        parts = [[tokens.prefix, tokens.suffix], suffix, [tokens.middle], prefix, middle]
    return np.concatenate([np.asarray(part, dtype=ids.dtype) for part in parts])


def restore(ids: np.ndarray, tokens: FimTokens) -> np.ndarray:
    """The document that was rearranged, in either order."""
    suffix, middle = (int(np.flatnonzero(ids == token)[0]) for token in (tokens.suffix, tokens.middle))
    return np.concatenate([ids[1:suffix], ids[middle + 1 :], ids[suffix + 1 : middle]])


def draw(
    ids: np.ndarray, rng: np.random.Generator, tokens: FimTokens, *, rate: float, spm_rate: float
) -> np.ndarray:
    """Rearrange with probability `rate`, at random cuts and in a random order."""
    if rng.random() >= rate:
        return ids
    first, second = sorted(int(cut) for cut in rng.integers(0, len(ids) + 1, size=2))
    return rearrange(ids, first, second, tokens, "spm" if rng.random() < spm_rate else "psm")
