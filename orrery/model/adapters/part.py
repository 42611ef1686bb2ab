"""What an adapter does at one module: change what goes in, or what comes out, for the rows that are its own.

    part.before(x)                    -> what the module is given
    part.after(x, y, rows, module)    -> what comes of it, y being what the module itself made of x

Every kind of adapter is a set of such parts by the names of modules: linear layers (LoRA, DoRA, VeRA, IA3), sublayers
(bottlenecks), whole blocks (ReFT), and the probes at which a model's embeddings, keys and values pass by (prompts, prefixes). So one batch may
mix them all: each part sees the rows of its adapter and no others. T tokens of a pass, n rows of one adapter.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from orrery.kit.errors import OrreryError
from orrery.model.lowbit import QuantLinear, ops

ROWS = 16
"""Rows are multiplied in blocks of this many, columns filled up to a multiple of it (see `product_in_blocks`)."""


@dataclass(frozen=True)
class Rows:
    """The tokens of a pass that go through one adapter.

    Attributes:
        index: (n,) which of the T tokens; None: all of them.
        positions: (n,) where in their sequences they stand.
        edited: (n,) bool, at which of them representations are edited, where somebody chose them.
    """

    slot: int
    index: Tensor | None
    positions: Tensor
    edited: Tensor | None = None

    def take(self, x: Tensor) -> Tensor:
        """(T, ...) -> (n, ...)."""
        return x if self.index is None else x.index_select(0, self.index)

    def put(self, x: Tensor, new: Tensor) -> Tensor:
        """x (T, ...) with these rows replaced by (n, ...)."""
        new = new.to(x.dtype)
        return new if self.index is None else x.index_copy(0, self.index, new)


class Part(nn.Module, ABC):
    """One adapter at one module. `on_input`: it has a `before`."""

    on_input: ClassVar[bool] = False

    def before(self, x: Tensor) -> Tensor:
        """What the module is given in place of x."""
        return x

    def after(self, x: Tensor, y: Tensor, rows: Rows, module: nn.Module) -> Tensor:
        """What the adapted module gives; y is what `module` made of x (or of `before(x)`)."""
        return y

    @abstractmethod
    def fits(self, module: nn.Module) -> str | None:
        """None, or what it was made for where that is not this module ("a layer from 3 to 4 numbers")."""

    def merged(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """(out, in) and (out,) float32 of a linear layer that computes what the adapted one does.

        Raises:
            OrreryError: there is none.
        """
        raise OrreryError(
            f"what a {type(self).__name__} part does is not a matrix product, so it cannot be merged; serve it beside the model"
        )


def through(active: Sequence[tuple[Any, Rows]], module: nn.Module, x: Tensor) -> Tensor:
    """module(x) with each (part, its rows) around it."""
    for part, rows in active:
        if part.on_input:
            x = rows.put(x, part.before(rows.take(x)))
    return behind(active, module, x, module(x))


def behind(active: Sequence[tuple[Any, Rows]], module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """y = module(x) with what each part makes of its rows."""
    for part, rows in active:
        y = rows.put(y, part.after(rows.take(x), rows.take(y), rows, module))
    return y


def rows_product(x: Tensor, weight: Tensor) -> Tensor:
    """x W^T, (n, in) and (out, in) -> (n, out): without gradients, a row's bits do not depend on the other rows.

    Our kernel sees to that where it serves. A library's chooses its order of summation by the shape of the whole product; so there
    each block of ROWS rows, the last one filled with zeros, is a product of its own, and all have one shape.
    """
    if not len(x):
        return x.new_empty(0, len(weight))
    if ops.plain(x, weight):
        return ops.linear(x, weight)
    return F.linear(x, weight) if torch.is_grad_enabled() else product_in_blocks(x, weight)


def product_in_blocks(x: Tensor, weight: Tensor) -> Tensor:
    """`rows_product` without our kernel."""
    n, out = len(x), len(weight)
    blocks = F.pad(x, (0, 0, 0, -n % ROWS)).unflatten(0, (-1, ROWS))  # (n / ROWS, ROWS, in)
    filled = F.pad(weight, (0, 0, 0, -out % ROWS)) if out % ROWS else weight
    return torch.bmm(blocks, filled.t().expand(len(blocks), -1, -1)).flatten(0, 1)[:n, :out]


Linear = nn.Linear | QuantLinear


def is_linear(module: nn.Module) -> TypeGuard[Linear]:
    """Whether it multiplies by a matrix: floats, or quantised blocks."""
    return isinstance(module, nn.Linear | QuantLinear)


def misfit(module: nn.Module, out: int, width: int) -> str | None:
    """What a part for a linear layer from `width` to `out` numbers says of another module."""
    if is_linear(module) and (module.out_features, module.in_features) == (out, width):
        return None
    return f"a layer from {width} to {out} numbers"


def float_weight(layer: nn.Module) -> Tensor:
    """(out, in) float32: the weight of a linear layer, dequantised."""
    if isinstance(layer, QuantLinear):
        return layer.dequantized()
    assert isinstance(layer, nn.Linear)
    return layer.weight.detach().float()


def product(layer: nn.Module, x: Tensor) -> Tensor:
    """x W^T in float32, without the layer's bias: (n, in) -> (n, out)."""
    if isinstance(layer, QuantLinear):
        y = layer(x)
        return y if layer.bias is None else y - layer.bias
    assert isinstance(layer, nn.Linear)
    return F.linear(x, layer.weight.float())


def versions(*tensors: Tensor) -> tuple[int, ...]:
    """How often each was written to, by which a result made of them is known to be good still; inference tensors are not written to."""
    return tuple(0 if x.is_inference() else x._version for x in tensors)
