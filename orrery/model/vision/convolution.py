"""Convolution and pooling as what they are: the same small computation in every window of an image.

    conv:      out[n, o, y, x] = b[o] + sum over c, i, j of w[o, c, i, j] * image[n, c, y s + i, x s + j]
    max pool:  out[n, c, y, x] = max over i, j of image[n, c, y s + i, x s + j]

The windows are laid out as columns, and then a convolution is one matrix product (LeCun et al. 1989, Neural Computation 1;
the product: Chellapilla et al. 2006). Its weights are as many for a large image as for a small one.

N images, C and O channels, H and W rows and columns, k window, s stride; H' = (H + 2 padding - k) / s + 1, rounded down.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from orrery.kit.errors import OrreryError


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
) -> Tensor:
    """(N, C, H, W) with weight (O, C / groups, k, k) and bias (O,) -> (N, O, H', W').

    groups: the channels in and out are split in so many parts, each of which sees its own part alone.

    Raises:
        OrreryError: the channels are not those of the weight, or the image is smaller than a window.
    """
    if x.shape[1] != weight.shape[1] * groups:
        raise OrreryError(
            f"the convolution was made for {weight.shape[1] * groups} channels, the images have {x.shape[1]}; "
            "set `channels` in the network's configuration to that of the images"
        )
    height, width = _places(x, weight.shape[-1], stride, padding)
    columns = F.unfold(
        x, weight.shape[-2:], padding=padding, stride=stride
    )  # (N, C k k, H' W'), one window each
    kernels = weight.flatten(1).unflatten(0, (groups, -1))  # (groups, O / groups, C k k / groups)
    out = kernels @ columns.unflatten(1, (groups, -1))
    out = out.flatten(1, 2).unflatten(-1, (height, width))
    return out if bias is None else out + bias[:, None, None]


def max_pool(x: Tensor, size: int, *, stride: int | None = None, padding: int = 0) -> Tensor:
    """(N, C, H, W) -> (N, C, H', W'), the largest number of each window; stride None: windows that touch.

    The gradient goes to the first of equal numbers. What lies outside the image never is the largest.
    """
    stride = stride or size
    _places(x, size, stride, padding)
    return _windows(F.pad(x, (padding,) * 4, value=-torch.inf), size, stride).flatten(-2).max(-1).values


def average_pool(x: Tensor, size: int, *, stride: int | None = None) -> Tensor:
    """(N, C, H, W) -> (N, C, H', W'), the mean of each window; stride None: windows that touch."""
    stride = stride or size
    _places(x, size, stride, 0)
    return _windows(x, size, stride).mean((-2, -1))


def average_pool_to(x: Tensor, grid: int) -> Tensor:
    """(N, C, H, W) -> (N, C, grid, grid): means of windows that cover the image, whatever its size (overlapping where the
    grid does not divide it)."""
    rows, columns = (_shares(n, grid).to(x) for n in x.shape[-2:])
    return rows @ x @ columns.T


def _shares(n: int, grid: int) -> Tensor:
    """(grid, n): row i averages places floor(i n / grid) up to ceil((i + 1) n / grid)."""
    cell, place = torch.arange(grid)[:, None], torch.arange(n)
    inside = ((place + 1) * grid > cell * n) & (place * grid < (cell + 1) * n)
    return inside / inside.sum(1, keepdim=True)


def _windows(x: Tensor, size: int, stride: int) -> Tensor:
    """(N, C, H, W) -> (N, C, H', W', k, k), a view: nothing is copied."""
    return x.unfold(2, size, stride).unfold(3, size, stride)


def _places(x: Tensor, size: int, stride: int, padding: int) -> tuple[int, int]:
    """(H', W'): where a window can lie."""
    height, width = x.shape[-2:]
    if min(height, width) + 2 * padding < size:
        raise OrreryError(
            f"an image of {height} x {width} is smaller than a window of {size} x {size}; "
            "use larger images, or fewer or smaller strides before this layer"
        )
    return (height + 2 * padding - size) // stride + 1, (width + 2 * padding - size) // stride + 1


class Conv2d(nn.Module):
    """A convolution with square kernels; weight (O, C / groups, k, k), drawn by the network it is part of.

    Raises:
        OrreryError: `groups` does not divide the channels.
    """

    def __init__(
        self, channels: int, out: int, size: int, *, stride: int = 1, padding: int = 0, groups: int = 1, bias: bool = True
    ) -> None:  # fmt: skip
        super().__init__()
        if channels % groups or out % groups:
            raise OrreryError(
                f"{groups} groups do not divide {channels} and {out} channels; choose a divisor of both"
            )
        self.stride, self.padding, self.groups = stride, padding, groups
        self.weight = nn.Parameter(torch.empty(out, channels // groups, size, size))
        self.bias = nn.Parameter(torch.empty(out)) if bias else None
        nn.init.kaiming_normal_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, O, H', W')."""
        return conv2d(x, self.weight, self.bias, stride=self.stride, padding=self.padding, groups=self.groups)

    def extra_repr(self) -> str:
        return (
            f"{tuple(self.weight.shape)}, stride={self.stride}, padding={self.padding}, groups={self.groups}"
        )


class MaxPool(nn.Module):
    """`max_pool` as a layer."""

    def __init__(self, size: int, *, stride: int | None = None, padding: int = 0) -> None:
        super().__init__()
        self.size, self.stride, self.padding = size, stride, padding

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H', W')."""
        return max_pool(x, self.size, stride=self.stride, padding=self.padding)


class AveragePool(nn.Module):
    """`average_pool_to` as a layer."""

    def __init__(self, grid: int = 1) -> None:
        super().__init__()
        self.grid = grid

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, grid, grid)."""
        return average_pool_to(x, self.grid)
