"""NF4: 4-bit codes at the quantiles of a normal distribution, scaled by blocks of 64, the scales themselves kept in 8 bits.

    w = scale[block] * NF4[code],  scale[block] = step[group] * CODE[scale code] + mean
    Dettmers et al. 2023 (QLoRA), arXiv:2305.14314, sections 3 and appendix E; 8-bit codes: Dettmers et al. 2021, arXiv:2110.02861

4 bits and 8 / 64 + 32 / (64 * 256), that is 4.127 bits a weight. Blocks run over the whole tensor, row after row, and a byte holds two codes, the
first one in its high bits, as the bitsandbytes library has it. Codes are the nearest of the book.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from orrery.kit.errors import OrreryError

NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip
"""Quantiles of N(0, 1), eight below zero and nine from zero on, scaled to reach 1 (appendix E; zero is exact)."""
BLOCK, GROUP = 64, 256
"""Weights that share a scale, and scales that share a step."""


@dataclass(frozen=True)
class Nf4:
    """A tensor of n weights in NF4.

    Attributes:
        codes: (ceil(n / 2),) uint8. scales: (ceil(n / 64),) uint8, codes of `scale_book`. steps: (ceil(n / 64 / 256),) float32.
        mean: the mean of the scales, which their codes leave out. shape: of the tensor.
    """

    codes: Tensor
    scales: Tensor
    steps: Tensor
    mean: float
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Memory taken."""
        return self.codes.nbytes + self.scales.nbytes + self.steps.nbytes + 4

    def numbers(self, first: int, last: int) -> Tensor:
        """(last - first,) float32: those of the weights, end to end, from `first` on."""
        pair = self.codes[first // 2 : (last + 1) // 2]
        codes = torch.stack([pair >> 4, pair & 15], 1).flatten()[first % 2 :][: last - first]
        begin, end = first // BLOCK, -(-last // BLOCK)
        scales = self.block_scales(begin, end).repeat_interleave(BLOCK)[first - begin * BLOCK :][
            : last - first
        ]
        return torch.tensor(NF4)[codes.int()] * scales

    def block_scales(self, first: int, last: int) -> Tensor:
        """(last - first,) float32 scales of blocks."""
        groups = torch.arange(first, last) // GROUP
        return scale_book()[self.scales[first:last].int()] * self.steps[groups] + self.mean


@torch.no_grad()
def quantize_nf4(x: Tensor) -> Nf4:
    """Any float tensor -> NF4 with double quantisation.

    Raises:
        OrreryError: numbers that are NaN or infinite.
    """
    if not bool(x.isfinite().all()):
        raise OrreryError("numbers that are NaN or infinite cannot be quantised: mend the tensor first")
    flat = x.detach().float().flatten()
    padded = torch.nn.functional.pad(flat, (0, -len(flat) % BLOCK)).view(-1, BLOCK)
    peak = padded.abs().amax(1)
    mean = peak.mean()
    scales, steps = _nearest(peak - mean, scale_book())
    codes = torch.bucketize(padded / peak.clamp_min(1e-38)[:, None], _middles(torch.tensor(NF4)))
    codes = codes.to(torch.uint8).flatten()[: len(flat) + len(flat) % 2]
    return Nf4(codes[::2] << 4 | codes[1::2], scales, steps, float(mean), tuple(x.shape))


def dequantize_nf4(x: Nf4) -> Tensor:
    """(...) float32."""
    n = 1
    for size in x.shape:
        n *= size
    return x.numbers(0, n).view(x.shape)


def _nearest(x: Tensor, book: Tensor) -> tuple[Tensor, Tensor]:
    """(n,) -> codes (n,) uint8 and one step for each GROUP of them."""
    groups = torch.nn.functional.pad(x, (0, -len(x) % GROUP)).view(-1, GROUP)
    steps = groups.abs().amax(1)
    codes = torch.bucketize(groups / steps.clamp_min(1e-38)[:, None], _middles(book))
    return codes.to(torch.uint8).flatten()[: len(x)], steps


def _middles(book: Tensor) -> Tensor:
    return (book[1:] + book[:-1]) / 2


@cache
def scale_book() -> Tensor:
    """(256,) float32, ascending: the dynamic 8-bit numbers. A magnitude is 10^-e times a fraction from 0.1 to 1; the smaller e, the finer
    the fractions (64 of them for e = 0, one for e = 6); with 0 and 1."""
    magnitudes = []
    for e in range(7):
        edges = torch.linspace(0.1, 1, 2 ** (6 - e) + 1)
        magnitudes.append(10.0**-e * (edges[:-1] + edges[1:]) / 2)
    some = torch.cat(magnitudes)
    return torch.cat([-some, torch.tensor([0.0, 1.0]), some]).sort().values
