"""One transformer layer: attention and feed-forward around the residual stream, in the four ways of placing norms."""

from __future__ import annotations

from torch import Tensor, nn

from orrery.model.attention import Attention
from orrery.model.config import DecoderConfig
from orrery.model.context import Context
from orrery.model.mla import MLA, Mla
from orrery.model.mlp import MLP, Mlp
from orrery.model.moe import MoE
from orrery.model.norm import make_norm
from orrery.model.probe import Probe


class Block(nn.Module):
    """What the layers below share; they differ in `forward` alone. `residual_mid` shows the stream between the halves."""

    def __init__(self, cfg: DecoderConfig, index: int, bias: nn.Module | None = None) -> None:
        super().__init__()
        self.attn = MLA(cfg, index) if isinstance(cfg.attention, Mla) else Attention(cfg, index, bias)
        ff = cfg.layer_feed_forward(index)
        self.mlp = MLP(cfg.d_model, ff) if isinstance(ff, Mlp) else MoE(cfg.d_model, ff)
        self.attn_norm = make_norm(cfg)
        self.dropout = nn.Dropout(cfg.dropout)
        self.residual_mid = Probe()


class PreNormBlock(Block):
    """x + f(norm(x)): the stream itself is never normed (Xiong et al. 2020, arXiv:2002.04745)."""

    def __init__(self, cfg: DecoderConfig, index: int, bias: nn.Module | None = None) -> None:
        super().__init__(cfg, index, bias)
        self.mlp_norm = make_norm(cfg)

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        x = self.residual_mid(x + self.dropout(self.attn(self.attn_norm(x), ctx)))
        return x + self.dropout(self.mlp(self.mlp_norm(x), ctx))


class PostNormBlock(Block):
    """norm(x + f(x)): the original transformer (Vaswani et al. 2017)."""

    def __init__(self, cfg: DecoderConfig, index: int, bias: nn.Module | None = None) -> None:
        super().__init__(cfg, index, bias)
        self.mlp_norm = make_norm(cfg)

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        x = self.residual_mid(self.attn_norm(x + self.dropout(self.attn(x, ctx))))
        return self.mlp_norm(x + self.dropout(self.mlp(x, ctx)))


class SandwichBlock(Block):
    """x + norm(f(norm(x))): normed on the way in and on the way out (Ding et al. 2021, CogView; Gemma 2)."""

    def __init__(self, cfg: DecoderConfig, index: int, bias: nn.Module | None = None) -> None:
        super().__init__(cfg, index, bias)
        self.attn_out_norm, self.mlp_norm, self.mlp_out_norm = make_norm(cfg), make_norm(cfg), make_norm(cfg)

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        x = self.residual_mid(x + self.dropout(self.attn_out_norm(self.attn(self.attn_norm(x), ctx))))
        return x + self.dropout(self.mlp_out_norm(self.mlp(self.mlp_norm(x), ctx)))


class ParallelBlock(Block):
    """x + attn(norm(x)) + mlp(norm(x)): both halves read one norm (Wang & Komatsuzaki 2021, GPT-J; PaLM)."""

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        h = self.attn_norm(x)
        return x + self.dropout(self.attn(h, ctx)) + self.dropout(self.mlp(h, ctx))


PLACEMENTS: dict[str, type[Block]] = {"pre": PreNormBlock, "post": PostNormBlock, "sandwich": SandwichBlock}


def make_block(cfg: DecoderConfig, index: int, bias: nn.Module | None = None) -> Block:
    """The layer `index` of `cfg`; `bias` is the attention bias that all layers share, if any."""
    return (ParallelBlock if cfg.parallel else PLACEMENTS[cfg.placement])(cfg, index, bias)
