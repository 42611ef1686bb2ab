"""Tiles for attention: how large a block of queries and of keys may be so that all of a block's work fits on the chip.

    on the chip     b_q D + b_k (D + Dv) inputs, b_q b_k scores, b_q (Dv + 2) sums          (scores and sums in 4 bytes)
    tiled           N (D + Dv) + sum over tiles of queries of keys seen * (D + Dv)          Dao 2023, arXiv:2307.08691
    written out     N (2 D + 2 Dv) + 4 N^2                                                  Dao et al. 2022, arXiv:2205.14135

Traffic to main memory of one head, in numbers: a tile of queries stays while keys and values pass by, so these are read
N / b_q times; without tiles scores are written, read, and once more as probabilities. N tokens, D width of a key, Dv of a value.
"""

from __future__ import annotations

from dataclasses import dataclass

from orrery.kit.errors import OrreryError

SIDES = (16, 32, 64, 128, 256, 512, 1024)
"""Matrix units work on multiples of 16."""


@dataclass(frozen=True, kw_only=True)
class Tiles:
    """Queries and keys of a tile, and what they take."""

    queries: int
    keys: int
    on_chip_bytes: float

    def steps(self, length: int, *, causal: bool = True) -> int:
        """Tiles of scores that are computed for `length` tokens: those above the diagonal are skipped."""
        return sum(-(-seen // self.keys) for seen in self._seen(length, causal))

    def traffic_bytes(
        self, length: int, *, key_dim: int, value_dim: int, number: float = 2, causal: bool = True
    ) -> float:
        """To and from main memory, of one head."""
        passed = sum(min(length, -(-seen // self.keys) * self.keys) for seen in self._seen(length, causal))
        return number * (length + passed) * (key_dim + value_dim)

    def _seen(self, length: int, causal: bool) -> list[int]:
        """For each tile of queries, up to which key it must look."""
        ends = [min(start + self.queries, length) for start in range(0, length, self.queries)]
        return ends if causal else [length] * len(ends)


def choose_tiles(
    on_chip_bytes: float, *, key_dim: int, value_dim: int, number: float = 2, length: int | None = None
) -> Tiles:
    """The tiles with the least traffic that fit: as many queries as possible, then as many keys.

    Args:
        number: bytes of a number of queries, keys and values.
        length: tokens there are; no side need be longer. None: any number.

    Raises:
        OrreryError: not even the smallest tiles fit.
    """
    sides = [side for side in SIDES if length is None or side < 2 * length]
    fitting = [
        Tiles(queries=q, keys=k, on_chip_bytes=size)
        for q in sides
        for k in sides
        if (size := tile_bytes(q, k, key_dim=key_dim, value_dim=value_dim, number=number)) <= on_chip_bytes
    ]
    if not fitting:
        least = tile_bytes(SIDES[0], SIDES[0], key_dim=key_dim, value_dim=value_dim, number=number)
        raise OrreryError(
            f"tiles of attention with heads of {key_dim} need at least {least:,.0f} bytes on the chip, and there are "
            f"{on_chip_bytes:,.0f}; use narrower heads or fewer bytes a number"
        )
    return max(fitting, key=lambda tiles: (tiles.queries, tiles.keys))


def tile_bytes(queries: int, keys: int, *, key_dim: int, value_dim: int, number: float = 2) -> float:
    """What one step keeps on the chip."""
    inputs = queries * key_dim + keys * (key_dim + value_dim)
    return number * inputs + 4.0 * (queries * keys + queries * (value_dim + 2))


def untiled_bytes(
    length: int, *, key_dim: int, value_dim: int, number: float = 2, causal: bool = True
) -> float:
    """To and from main memory of one head when scores and probabilities are written out and read again.

    causal: a kernel that skips what the mask hides moves half of the square.
    """
    square = length * (length + 1) / 2 if causal else float(length * length)
    return number * (2 * length * (key_dim + value_dim) + 4 * square)
