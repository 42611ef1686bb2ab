"""What an adapter can be: one small config for each kind, told apart by `kind`."""

from __future__ import annotations

import math
from fnmatch import fnmatchcase
from typing import Annotated, Literal

from pydantic import Field

from orrery.kit.config import config
from orrery.kit.errors import OrreryError
from orrery.model.mlp import Activation

LARGEST = 1 << 16


def matches(targets: tuple[str, ...], name: str) -> bool:
    """Whether `name` is one of the targets, ends with one (after a dot), or fits one as a pattern with * and ?."""
    return any(name == t or name.endswith(f".{t}") or fnmatchcase(name, t) for t in targets)


def _check_sizes(kind: str, **sizes: int) -> None:
    for name, size in sizes.items():
        if not 1 <= size <= LARGEST:
            raise OrreryError(f"{name} of a {kind} adapter is from 1 to {LARGEST}, not {size}")


@config
class Lora:
    """W + scale * B A.

    Attributes:
        rank: r; alpha: numerator of the scale. rslora: the scale is alpha / sqrt(r), not alpha / r.
        init: "default": A uniform, B zero. "pissa": the r largest singular directions of the weight are what is trained.
        dora: the direction of each row of the weight is adapted so, and its length by a number of its own.
        lr_ratio: the learning rate of B over that of A (LoRA+).
        dropout: probability of dropping an input of the thin product while training.
        bias: every adapted layer adds a vector, too.
        targets: which linear layers: the last parts of their names ("q_proj", "attn.o_proj"), or patterns of whole names
            with * and ? ("blocks.1?.mlp.*").
    """

    kind: Literal["lora"] = "lora"
    rank: int = 16
    alpha: float = 32.0
    rslora: bool = False
    init: Literal["default", "pissa"] = "default"
    dora: bool = False
    lr_ratio: float = 1.0
    dropout: float = 0.0
    bias: bool = False
    targets: tuple[str, ...] = ("blocks.*",)

    def __post_init__(self) -> None:
        if self.rank < 1 or not math.isfinite(self.alpha) or not 0 <= self.dropout < 1:
            raise OrreryError(
                f"an adapter needs a rank of 1 or more, a finite alpha and a dropout from 0 to below 1, not rank={self.rank}, "
                f"alpha={self.alpha}, dropout={self.dropout}"
            )
        if not 0 < self.lr_ratio < math.inf:
            raise OrreryError(f"lr_ratio is how much faster B learns than A, above 0, not {self.lr_ratio}")
        if self.dora and (self.init == "pissa" or self.bias):
            raise OrreryError("dora goes with neither init=pissa nor bias; leave one of them out")

    def scale(self, rank: int | None = None) -> float:
        """The factor of a product of `rank` (default: the config's)."""
        r = self.rank if rank is None else rank
        return self.alpha / (math.sqrt(r) if self.rslora else r)

    def matches(self, name: str) -> bool:
        """Whether a layer of this name is adapted."""
        return matches(self.targets, name)


@config
class Vera:
    """W + diag(b) B diag(d) A with random A and B that all layers share and nobody trains.

    Attributes:
        rank: r, which may be large: a layer learns r + out numbers. projection_seed: A and B are drawn from it.
        d_initial: what d begins with; b begins with 0. targets: as in `Lora`.
    """

    kind: Literal["vera"] = "vera"
    rank: int = 256
    projection_seed: int = 0
    d_initial: float = 0.1
    dropout: float = 0.0
    targets: tuple[str, ...] = ("blocks.*",)

    def __post_init__(self) -> None:
        _check_sizes(self.kind, rank=self.rank)


@config
class Ia3:
    """One factor for each output of some layers, and for each input of others (`feedforward`); names as in `Lora`."""

    kind: Literal["ia3"] = "ia3"
    targets: tuple[str, ...] = ("k_proj", "v_proj")
    feedforward: tuple[str, ...] = ("down_proj",)


@config
class Prefix:
    """Keys and values of `tokens` virtual tokens that stand before every text, in each layer."""

    kind: Literal["prefix"] = "prefix"
    tokens: int = 16

    def __post_init__(self) -> None:
        _check_sizes(self.kind, tokens=self.tokens)


@config
class Prompt:
    """Embeddings of `tokens` virtual tokens that stand before every text."""

    kind: Literal["prompt"] = "prompt"
    tokens: int = 16

    def __post_init__(self) -> None:
        _check_sizes(self.kind, tokens=self.tokens)


@config
class Bottleneck:
    """y + up(act(down(y))) behind sublayers, `width` numbers wide.

    Attributes:
        after: "both": behind what mixes tokens and behind the feed-forward (Houlsby); "mlp": behind the latter alone (Pfeiffer).
    """

    kind: Literal["bottleneck"] = "bottleneck"
    width: int = 32
    activation: Activation = "gelu"
    after: Literal["both", "mlp"] = "both"

    def __post_init__(self) -> None:
        _check_sizes(self.kind, width=self.width)


@config
class Reft:
    """A low-rank edit of the stream behind some layers, at some positions.

    Attributes:
        rank: r, the width of the edited subspace. layers: behind which (empty: all).
        positions: "all"; "first": the first `count` of a text; "critical": those that whoever runs the pass marks in
            `Context.edited`, for example the `count` that `tune.critical` finds.
    """

    kind: Literal["reft"] = "reft"
    rank: int = 4
    layers: tuple[int, ...] = ()
    positions: Literal["all", "first", "critical"] = "all"
    count: int = 8

    def __post_init__(self) -> None:
        _check_sizes(self.kind, rank=self.rank, count=self.count)


AdapterConfig = Annotated[
    Lora | Vera | Ia3 | Prefix | Prompt | Bottleneck | Reft, Field(discriminator="kind")
]
