"""Low-rank adapters: a frozen linear layer plus a product of two thin matrices, many adapters to a model.

    y = x W^T + scale * (x A^T) B^T,   A (r, in), B (out, r)
    LoRA: Hu et al. 2021, arXiv:2106.09685, eq. 3: scale = alpha / r
    rsLoRA: Kalajdzievski 2023, arXiv:2312.03732: scale = alpha / sqrt(r)

Tokens of one adapter are gathered, multiplied and added back, so a batch may mix adapters (`adapter_slots` puts them beside a
model). T tokens, r rank.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from orrery.kit.config import config
from orrery.kit.errors import OrreryError
from orrery.model.decoder import Decoder
from orrery.model.lowbit import QuantLinear, ops

ROWS = 16
"""Rows are multiplied in blocks of this many, columns filled up to a multiple of it (see `product_in_blocks`)."""


@config
class Lora:
    """The shape of an adapter.

    Attributes:
        rank: r; alpha: numerator of the scale. rslora: the scale is alpha / sqrt(r), not alpha / r.
        dropout: probability of dropping an input of the thin product while training.
        bias: every adapted layer adds a vector, too.
        targets: which linear layers: the last parts of their names ("q_proj", "attn.o_proj"), or patterns of whole names
            with * and ? ("blocks.1?.mlp.*").
    """

    rank: int = 16
    alpha: float = 32.0
    rslora: bool = False
    dropout: float = 0.0
    bias: bool = False
    targets: tuple[str, ...] = ("blocks.*",)

    def __post_init__(self) -> None:
        if self.rank < 1 or not math.isfinite(self.alpha) or not 0 <= self.dropout < 1:
            raise OrreryError(
                f"an adapter needs a rank of 1 or more, a finite alpha and a dropout from 0 to below 1, not rank={self.rank}, "
                f"alpha={self.alpha}, dropout={self.dropout}"
            )

    def scale(self, rank: int | None = None) -> float:
        """The factor of a product of `rank` (default: the config's)."""
        r = self.rank if rank is None else rank
        return self.alpha / (math.sqrt(r) if self.rslora else r)

    def matches(self, name: str) -> bool:
        """Whether a layer of this name is adapted."""
        return any(
            name == target or name.endswith(f".{target}") or fnmatchcase(name, target)
            for target in self.targets
        )


class LowRank(nn.Module):
    """What one adapter adds at one layer: scale * (x A^T) B^T + bias, in float32."""

    def __init__(
        self, a: Tensor, b: Tensor, *, scale: float, bias: Tensor | None = None, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.a, self.b = (nn.Parameter(t.float(), requires_grad=False) for t in (a, b))  # (r, in), (out, r)
        self.bias = None if bias is None else nn.Parameter(bias.float(), requires_grad=False)  # (out,)
        self.scale, self.dropout = scale, dropout

    @property
    def rank(self) -> int:
        return self.a.shape[0]

    def forward(self, x: Tensor) -> Tensor:
        """(n, in) -> (n, out) float32."""
        x = F.dropout(x.float(), self.dropout) if self.dropout and self.training else x.float()
        y = rows_product(rows_product(x, self.a), self.b) * self.scale
        return y if self.bias is None else y + self.bias

    def delta(self) -> Tensor:
        """(out, in) float32: what is added to the weight."""
        return self.b @ self.a * self.scale

    def extra_repr(self) -> str:
        return f"rank={self.rank}, scale={self.scale:.6g}, bias={self.bias is not None}"


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


@dataclass(frozen=True)
class Adapter:
    """The low-rank parts of one adapter, by the names of the linear layers they belong to."""

    config: Lora
    layers: Mapping[str, LowRank]

    def parameters(self) -> list[nn.Parameter]:
        """All of its weights."""
        return [parameter for layer in self.layers.values() for parameter in layer.parameters()]

    @property
    def bytes(self) -> int:
        return sum(parameter.nbytes for parameter in self.parameters())


def new_adapter(model: Decoder, cfg: Lora, *, seed: int = 0) -> Adapter:
    """An adapter that changes nothing yet: A uniform within 1 / sqrt(in), B zero.

    Its weights want gradients; freeze the model's own to train it alone.

    Raises:
        OrreryError: the model has no linear layer that `cfg.targets` match.
    """
    generator = torch.Generator().manual_seed(seed)
    layers: dict[str, LowRank] = {}
    for name, (out, width) in linear_shapes(model).items():
        if not name.startswith("blocks.") or not cfg.matches(name):
            continue
        bound = width**-0.5
        a = torch.empty(cfg.rank, width).uniform_(-bound, bound, generator=generator)
        bias = torch.zeros(out) if cfg.bias else None
        low = LowRank(a, torch.zeros(out, cfg.rank), scale=cfg.scale(), bias=bias, dropout=cfg.dropout)
        layers[name] = low.to(model.device).requires_grad_(True)
    if not layers:
        raise OrreryError(
            f"no linear layer of the model's blocks is named {' or '.join(cfg.targets)}; take names from "
            f"model.named_modules(), such as 'q_proj'"
        )
    return Adapter(cfg, layers)


def linear_shapes(model: nn.Module) -> dict[str, tuple[int, int]]:
    """(out, in) of every linear layer, adapted or quantised ones too, by name."""
    found: dict[str, tuple[int, int]] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | QuantLinear | LoRALayer) and not name.endswith(".base"):
            found[name] = (module.out_features, module.in_features)
    return found


class Using(threading.local):
    """Which adapter the rows of the pass under way go through: (slot, rows (n,) or None for all of them) for each.

    Linear layers are handed no context, so the block around them sets this; each thread has its own.
    """

    groups: tuple[tuple[int, Tensor | None], ...] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        """Of a copied model the layers share one of their own."""
        return Using, ()


class LoRALayer(nn.Module):
    """A linear layer with adapters beside it: base(x) + the low-rank part of each row's adapter."""

    def __init__(self, base: nn.Linear | QuantLinear, using: Using) -> None:
        super().__init__()
        self.base, self.using = base, using
        self.in_features, self.out_features = base.in_features, base.out_features
        self.low = nn.ModuleDict()  # by slot

    def forward(self, x: Tensor) -> Tensor:
        """(T, in) -> (T, out) in the type of the base."""
        y = self.base(x)
        for slot, rows in self.using.groups:
            if str(slot) not in self.low:
                continue
            low = self.low[str(slot)]
            if rows is None:
                y = y + low(x).to(y.dtype)
            else:
                y = y.index_add(0, rows, low(x.index_select(0, rows)).to(y.dtype))
        return y

    @property
    def bias(self) -> Tensor | None:
        return self.base.bias

    @property
    def weight(self) -> Tensor:
        """Refused: whoever multiplies by the weight itself would leave the adapters out.

        Raises:
            OrreryError: always.
        """
        raise OrreryError(
            "the weight of an adapted layer is not what it computes with; merge the adapter, or run the layer expanded"
        )


def check_fits(model: nn.Module, adapter: Adapter) -> None:
    """Every layer that the adapter names is a linear layer of the model, of its size.

    Raises:
        OrreryError: names the first that is not.
    """
    shapes = linear_shapes(model)
    for name, low in adapter.layers.items():
        if name not in shapes:
            raise OrreryError(
                f"the adapter changes '{name}', which is no linear layer of this model; it is another model's"
            )
        out, width = shapes[name]
        if (len(low.b), low.a.shape[1]) != (out, width):
            raise OrreryError(
                f"the adapter's part of '{name}' is for a layer from {low.a.shape[1]} to {len(low.b)} numbers, but the model's "
                f"goes from {width} to {out}; it is another model's"
            )


@torch.no_grad()
def merge_adapter(model: nn.Module, adapter: Adapter) -> None:
    """Add the adapter into the model's own weights, in place: W += scale * B A, in float32, rounded once.

    Raises:
        OrreryError: it does not fit, a layer is quantised, or a bias has no place; the model is as it was.
    """
    check_fits(model, adapter)
    bases = {name: plain_layer(model.get_submodule(name)) for name in adapter.layers}
    for name, low in adapter.layers.items():
        if not isinstance(bases[name], nn.Linear):
            raise OrreryError(
                f"the weights of '{name}' are quantised, and an adapter cannot be added to them; load the model dequantised"
            )
        if low.bias is not None and bases[name].bias is None:
            raise OrreryError(
                f"the adapter adds a bias at '{name}', where the model has none to merge it into; keep it apart"
            )
    for name, low in adapter.layers.items():
        weight, bias = bases[name].weight, bases[name].bias
        weight.copy_(weight.float() + low.delta())
        if low.bias is not None and bias is not None:
            bias.copy_(bias.float() + low.bias)


def plain_layer(layer: nn.Module) -> Any:
    """The layer itself, without the adapters beside it."""
    return layer.base if isinstance(layer, LoRALayer) else layer
