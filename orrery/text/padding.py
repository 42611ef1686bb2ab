"""Rectangles for tools that want them. Inside Orrery a batch is its tokens and its lengths, and nothing is padded.

The padding carries no meaning: which places are real is said by `lengths`, never by comparing with a token id.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from orrery.kit.errors import OrreryError


@dataclass(frozen=True)
class Padded:
    """`rows` (B, L) int64 with sequence b at its `side`, `lengths` (B,) int64."""

    rows: np.ndarray
    lengths: np.ndarray
    side: Literal["left", "right"]

    @property
    def mask(self) -> np.ndarray:
        """(B, L) bool: True where a real token stands."""
        places = np.arange(self.rows.shape[1])[None, :]
        if self.side == "right":
            return places < self.lengths[:, None]
        return places >= self.rows.shape[1] - self.lengths[:, None]

    @property
    def waste(self) -> float:
        """The share of places that hold no token: the work a padded batch does for nothing."""
        return 1.0 - float(self.lengths.sum()) / self.rows.size if self.rows.size else 0.0


def pad(
    sequences: Sequence[Sequence[int] | np.ndarray],
    *,
    side: Literal["left", "right"] = "right",
    fill: int = 0,
) -> Padded:
    """Sequences of ids as one rectangle, as wide as the longest.

    Raises:
        OrreryError: no sequences.
    """
    if not sequences:
        raise OrreryError("there are no sequences to pad")
    lengths = np.array([len(ids) for ids in sequences], np.int64)
    rows = np.full((len(sequences), int(lengths.max())), fill, np.int64)
    for row, ids in zip(rows, sequences, strict=True):
        start = 0 if side == "right" else len(row) - len(ids)
        row[start : start + len(ids)] = ids
    return Padded(rows, lengths, side)


def unpad(padded: Padded) -> list[np.ndarray]:
    """The sequences again."""
    return [row[real] for row, real in zip(padded.rows, padded.mask, strict=True)]
