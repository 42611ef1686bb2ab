"""The block formats that can be multiplied as they are, and what their numbers mean.

In every one of them a weight is  scale * (code - offset) + minimum  or  scale * table[code] :

    "half", "bfloat"   scale (and minimum) is one 16-bit float for 32 weights
    "super"            scale = d * sub, minimum = -dmin * submin: 16-bit d and dmin for 256 weights, whole-number sub and
                       submin for each group of 16 or 32

N rows, K columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

IQ4 = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
FP4 = (0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12)  # twice the values of a 4-bit float (E2M1)


@dataclass(frozen=True)
class Kind:
    """How one format counts. `index` is its number in kernel.cpp; `block` weights take `size` bytes in a file."""

    index: int
    block: int
    size: int
    bits: int
    offset: int = 0
    group: int = 32
    scale: Literal["half", "bfloat", "super"] = "half"
    minimum: bool = False
    table: tuple[int, ...] | None = None

    @property
    def signed(self) -> bool:
        """The codes are two's complement."""
        return self.bits == 8

    @property
    def span(self) -> int:
        """Weights that share one 16-bit scale."""
        return 256 if self.scale == "super" else 32


KINDS: dict[str, Kind] = {
    "Q8_0": Kind(0, 32, 34, 8),
    "Q4_0": Kind(1, 32, 18, 4, 8),
    "Q4_1": Kind(2, 32, 20, 4, minimum=True),
    "Q5_0": Kind(3, 32, 22, 5, 16),
    "Q5_1": Kind(4, 32, 24, 5, minimum=True),
    "Q2_K": Kind(5, 256, 84, 2, group=16, scale="super", minimum=True),
    "Q3_K": Kind(6, 256, 110, 3, 4, group=16, scale="super"),
    "Q4_K": Kind(7, 256, 144, 4, scale="super", minimum=True),
    "Q5_K": Kind(8, 256, 176, 5, scale="super", minimum=True),
    "Q6_K": Kind(9, 256, 210, 6, 32, group=16, scale="super"),
    "IQ4_NL": Kind(10, 32, 18, 4, table=IQ4),
    "IQ4_XS": Kind(11, 256, 136, 4, scale="super", table=IQ4),
    "MXFP4": Kind(12, 32, 17, 4, scale="bfloat", table=FP4),
    "TQ2_0": Kind(13, 256, 66, 2, 1),
}


@dataclass
class Fields:
    """The numbers of some rows. G = K / group, S = K / span; what a kind does not have is None."""

    codes: Tensor  # (N, K) uint8
    d: Tensor  # (N, S) int16, the bits of a float
    m: Tensor | None = None  # (N, S) int16, the bits of the minimum, or of dmin
    sub: Tensor | None = None  # (N, G) int8
    submin: Tensor | None = None  # (N, G) int8

    def each(self, change: Callable[[Tensor], Tensor]) -> Fields:
        """`change` done to every field there is."""
        rest = (None if x is None else change(x) for x in (self.m, self.sub, self.submin))
        return Fields(change(self.codes), change(self.d), *rest)
