"""Rotary position embedding (Su et al. 2021, arXiv:2104.09864).

Each pair of a head's dimensions is turned by an angle proportional to the position, so q.k depends only on the
distance: <R_m q, R_n k> = <q, R_(n-m) k>. Pairs are (i, i + D/2) in the half-split layout of Hugging Face models and
(2i, 2i + 1) in the interleaved layout of the paper.

T tokens, H heads, D head dimension, R <= D rotated dimensions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from orrery.kit.config import config
from orrery.kit.errors import OrreryError
from orrery.model.lowbit import ops
from orrery.model.rope_scaling import Dynamic, LongRope, Scaling, plain_frequencies

if TYPE_CHECKING:
    from orrery.model.context import Context


@config
class Rope:
    """Rotary positions. `fraction` < 1 rotates only the first dimensions of a head (HF: partial_rotary_factor)."""

    kind: Literal["rope"] = "rope"
    theta: float = 10_000.0
    fraction: float = 1.0
    interleaved: bool = False
    scaling: Scaling | None = None

    def rotary_dim(self, head_dim: int) -> int:
        """How many of a head's dimensions turn.

        Raises:
            OrreryError: the number is odd, and dimensions turn in pairs; or it does not fit LongRoPE's factors.
        """
        dim = int(head_dim * self.fraction)
        if dim % 2 or dim < 2:
            raise OrreryError(
                f"rope turns dimensions in pairs, but head_dim {head_dim} * fraction {self.fraction} = {dim}; "
                "choose an even product"
            )
        if isinstance(self.scaling, LongRope):
            for name in ("short_factor", "long_factor"):
                if len(getattr(self.scaling, name)) != dim // 2:
                    raise OrreryError(
                        f"position.scaling.{name} has {len(getattr(self.scaling, name))} numbers; "
                        f"{dim} rotated dimensions need {dim // 2}"
                    )
        return dim

    def frequencies(self, head_dim: int, length: int = 0, device: torch.device | str = "cpu") -> Tensor:
        """(R/2,) float32 radians per position, for a longest sequence of `length` tokens."""
        dim = self.rotary_dim(head_dim)
        if self.scaling is None:
            return plain_frequencies(self.theta, dim, device)
        return self.scaling.frequencies(self.theta, dim, length, device)

    @property
    def attention_factor(self) -> float:
        """What cos and sin are multiplied by: 1 except under YaRN and LongRoPE."""
        return getattr(self.scaling, "temperature", 1.0)


class RotaryEmbedding(nn.Module):
    """Positions to cos and sin tables. It has no buffers: a cast of the model to bfloat16 cannot touch the angles."""

    def __init__(self, cfg: Rope, head_dim: int) -> None:
        super().__init__()
        self.cfg, self.head_dim, self.factor = cfg, head_dim, cfg.attention_factor
        self.native = False  # by our compiled kernel: set in models that are for inference only
        self.by_length = isinstance(cfg.scaling, Dynamic | LongRope)
        fixed = cfg.frequencies(head_dim)  # complains here, not in the first forward
        self.fixed = [] if self.by_length else fixed.tolist()
        self._frequencies: dict[torch.device, Tensor] = {}

    def forward(self, positions: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """(T,) positions -> cos, sin, each (T, R/2) float32, the attention factor folded in.

        `length` is that of the sequence, or of the longest; only dynamic NTK and LongRoPE look at it.
        """
        if self.by_length:
            frequencies = self.cfg.frequencies(self.head_dim, length, positions.device)
        else:
            if self.native:
                return ops.rotary(positions, self._table(positions.device), self.factor)
            frequencies = torch.tensor(self.fixed, dtype=torch.float32, device=positions.device)
        angles = positions[:, None].float() * frequencies
        return angles.cos() * self.factor, angles.sin() * self.factor

    def _table(self, device: torch.device) -> Tensor:
        """`fixed`, made once for each device: a recorded pass must not make it again."""
        if device not in self._frequencies:
            self._frequencies[device] = torch.tensor(self.fixed, dtype=torch.float32, device=device)
        return self._frequencies[device]

    def tables(self, ctx: Context) -> tuple[Tensor, Tensor]:
        """cos, sin of the tokens of a pass, each (T, R/2) float32; every sequence by its own length."""
        if not self.by_length:
            return self(ctx.positions, ctx.max_length)
        pieces = ctx.positions.split(ctx.lengths)
        spans = [int(places[-1]) + 1 for places in pieces] if ctx.spans is None else ctx.spans
        parts = [self(places, span) for places, span in zip(pieces, spans, strict=True)]
        cos, sin = zip(*parts, strict=True)
        return torch.cat(cos), torch.cat(sin)

    @property
    def restart_beyond(self) -> int | None:
        """A length at which all positions begin to turn by other angles, so that cached keys must be made again (LongRoPE).

        Dynamic NTK changes its angles at every step; there keys stay as they were made, as in other implementations.
        """
        scaling = self.cfg.scaling
        return scaling.original_max_positions if isinstance(scaling, LongRope) else None

    def turn(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """(T, H, D) queries or keys, turned by the tables of `tables`."""
        if self.native and not self.cfg.interleaved:
            return ops.rope(x, cos, sin)
        return apply_rope(x, cos, sin, self.cfg.interleaved)

    def extra_repr(self) -> str:
        return f"{self.cfg}, head_dim={self.head_dim}"


def apply_rope(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool = False) -> Tensor:
    """Turn the first R dimensions of every head: (T, H, D) with (T, R/2) tables -> (T, H, D), in x's dtype.

    Half-precision x is turned in float32.
    """
    dim = 2 * cos.shape[-1]
    if dim < x.shape[-1]:
        return torch.cat((apply_rope(x[..., :dim], cos, sin, interleaved), x[..., dim:]), -1)
    if torch.compiler.is_compiling():
        return _rotate(x, cos, sin, interleaved)
    return _rotate_pairs(x, cos, sin) if interleaved else _RotateHalves.apply(x, cos, sin)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool) -> Tensor:
    """The definition, (a, b) -> (a cos - b sin, b cos + a sin). A compiler fuses it; eager mode has the two below."""
    cos, sin = cos[:, None], sin[:, None]
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1) if interleaved else x.chunk(2, -1)
    pair = (a * cos - b * sin, b * cos + a * sin)
    return (torch.stack(pair, -1).flatten(-2) if interleaved else torch.cat(pair, -1)).to(x.dtype)


def _rotate_pairs(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Interleaved: each pair is a complex number and the turn a product with e^(i angle), one pass over memory."""
    wide = x if x.dtype.itemsize >= 4 else x.float()
    if any(step % 2 for step in (wide.storage_offset(), *wide.stride()[:-1])):
        # A complex view needs every pair to start at an even place in memory.
        wide = wide.clone(memory_format=torch.contiguous_format)
    pairs = torch.view_as_complex(wide.unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * torch.complex(cos, sin)[:, None]).flatten(-2).to(x.dtype)


class _RotateHalves(torch.autograd.Function):
    """Half-split. The gradient of a turn is the turn back, so nothing of x is kept, and three in-place passes take
    0.6 of the time of the usual x * cos + rotate_half(x) * sin, forward and backward on a CPU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        out = x * torch.cat((cos, cos), -1)[:, None]
        (a, b), (out_a, out_b), sin = x.chunk(2, -1), out.chunk(2, -1), sin[:, None]
        out_a.addcmul_(b, sin, value=-1)
        out_b.addcmul_(a, sin)
        return out.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _RotateHalves.apply(grads[0], cos, -sin), None, None
