"""Where a token stands: the position schemes a decoder can be built with.

Rotary (rope.py) turns queries and keys; ALiBi and T5 add a bias to the attention scores; learned and sinusoidal
positions are added to the embeddings. Without any of them attention cannot tell the order of its input.

T tokens, Q queries, S keys, H heads, d model width.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from orrery.kit.config import config
from orrery.kit.errors import OrreryError
from orrery.model.lowbit import ops
from orrery.model.rope import Rope, RotaryEmbedding, apply_rope
from orrery.model.rope_scaling import Dynamic, Linear, Llama3, LongRope, Ntk, Scaling, Yarn

__all__ = [
    "Alibi",
    "AlibiBias",
    "Dynamic",
    "Learned",
    "LearnedPositions",
    "Linear",
    "Llama3",
    "LongRope",
    "NoPosition",
    "Ntk",
    "Position",
    "Rope",
    "RotaryEmbedding",
    "Scaling",
    "Sinusoidal",
    "SinusoidalPositions",
    "T5Relative",
    "T5RelativeBias",
    "Yarn",
    "alibi_slopes",
    "apply_rope",
    "t5_bucket",
]


@config
class Alibi:
    """Attention with linear biases: a penalty on distance, one slope a head (Press et al. 2021, arXiv:2108.12409)."""

    kind: Literal["alibi"] = "alibi"


@config
class Learned:
    """One learned vector a position, added to the token's embedding (GPT-2, BERT).

    The table has `max_positions` rows; a sequence begins at row `offset` (RoBERTa: 2).
    """

    kind: Literal["learned"] = "learned"
    max_positions: int
    offset: int = 0

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence there are positions for."""
        return self.max_positions - self.offset


@config
class Sinusoidal:
    """Fixed sines and cosines added to the embedding (Vaswani et al. 2017, section 3.5)."""

    kind: Literal["sinusoidal"] = "sinusoidal"


@config
class T5Relative:
    """A learned bias for each head and each bucket of distances (Raffel et al. 2019, arXiv:1910.10683, section 2.1).

    HF names: relative_attention_num_buckets, relative_attention_max_distance. `bidirectional` is the encoder's form:
    half of the buckets are for keys after the query.
    """

    kind: Literal["t5"] = "t5"
    buckets: int = 32
    max_distance: int = 128
    bidirectional: bool = False

    def __post_init__(self) -> None:
        exact = self.buckets // 4 if self.bidirectional else self.buckets // 2
        if not 1 <= exact < self.max_distance:
            raise OrreryError(
                f"buckets={self.buckets} with max_distance={self.max_distance} leave none for far tokens; take 32 and 128"
            )


@config
class NoPosition:
    """No position at all: order is known only through the causal mask (NoPE, Kazemnejad et al. 2023)."""

    kind: Literal["none"] = "none"


Position = Annotated[
    Rope | Alibi | Learned | Sinusoidal | T5Relative | NoPosition, Field(discriminator="kind")
]


def alibi_slopes(n_heads: int) -> list[float]:
    """2^(-8/H), 2^(-16/H), ... for a power of two; otherwise those of the next power below, filled up with every
    second slope of the next power above (the authors' own rule)."""
    power = 2 ** math.floor(math.log2(n_heads))
    slopes = [2 ** (-8 * (i + 1) / power) for i in range(power)]
    return slopes + [2 ** (-4 * (2 * i + 1) / power) for i in range(n_heads - power)]


class AlibiBias(nn.Module):
    """-slope * |distance|, added to the scores after their scaling."""

    def __init__(self, cfg: Alibi, n_heads: int) -> None:
        super().__init__()
        self.slopes = alibi_slopes(n_heads)

    def forward(self, q_pos: Tensor, k_pos: Tensor) -> Tensor:
        """(Q,), (S,) -> (H, Q, S) float32."""
        distance = (q_pos[:, None] - k_pos[None, :]).abs().float()
        return -torch.tensor(self.slopes, device=q_pos.device)[:, None, None] * distance


def t5_bucket(relative: Tensor, *, buckets: int, max_distance: int, bidirectional: bool) -> Tensor:
    """Bucket of key position minus query position: exact for small distances, logarithmic up to `max_distance`."""
    offset = torch.zeros_like(relative)
    if bidirectional:
        buckets //= 2
        offset, distance = (relative > 0).long() * buckets, relative.abs()
    else:
        distance = -relative.clamp(max=0)
    exact = buckets // 2
    steps = torch.log(distance.float() / exact) / math.log(max_distance / exact) * (buckets - exact)
    far = (exact + steps.clamp(min=0).long()).clamp(max=buckets - 1)
    return offset + torch.where(distance < exact, distance, far)


class T5RelativeBias(nn.Module):
    """A table of learned biases, looked up by bucketed distance. T5 shares one table between all layers."""

    def __init__(self, cfg: T5Relative, n_heads: int) -> None:
        super().__init__()
        self.cfg = cfg
        self.relative_attention_bias = nn.Embedding(cfg.buckets, n_heads)

    def forward(self, q_pos: Tensor, k_pos: Tensor) -> Tensor:
        """(Q,), (S,) -> (H, Q, S)."""
        bucket = t5_bucket(
            k_pos[None, :] - q_pos[:, None],
            buckets=self.cfg.buckets,
            max_distance=self.cfg.max_distance,
            bidirectional=self.cfg.bidirectional,
        )
        return self.relative_attention_bias(bucket).permute(2, 0, 1)


class LearnedPositions(nn.Module):
    def __init__(self, cfg: Learned, d_model: int) -> None:
        super().__init__()
        self.offset = cfg.offset
        self.native = False  # by our compiled kernel: set in models that are for inference only
        self.weight = nn.Parameter(torch.empty(cfg.max_positions, d_model))
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, positions: Tensor) -> Tensor:
        """(T,) -> (T, d)."""
        rows = positions + self.offset if self.offset else positions
        return ops.embedding(rows, self.weight) if self.native else F.embedding(rows, self.weight)


class SinusoidalPositions(nn.Module):
    """PE(p, 2i) = sin(p / 10000^(2i/d)), PE(p, 2i+1) = cos(p / 10000^(2i/d))."""

    def __init__(self, cfg: Sinusoidal, d_model: int) -> None:
        super().__init__()
        if d_model % 2:
            raise OrreryError(
                f"sinusoidal positions come in sine-cosine pairs; d_model {d_model} must be even"
            )
        self.d_model = d_model

    def forward(self, positions: Tensor) -> Tensor:
        """(T,) -> (T, d) float32."""
        exponent = torch.arange(0, self.d_model, 2, device=positions.device).float() / self.d_model
        angles = positions[:, None].float() / 10_000.0**exponent
        return torch.stack((angles.sin(), angles.cos()), -1).flatten(-2)
