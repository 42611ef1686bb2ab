"""One layer of the stack: what mixes tokens (attention or a recurrence) and a feed-forward, around the residual stream."""

from __future__ import annotations

from torch import Tensor, nn

from orrery.model.attention import Attention
from orrery.model.config import DecoderConfig
from orrery.model.context import Context
from orrery.model.cross_attention import CrossAttention
from orrery.model.gated_delta import GatedDeltaNet
from orrery.model.lowbit import ops
from orrery.model.mamba2 import Mamba2, Mamba2Mixer
from orrery.model.mla import MLA, Mla
from orrery.model.mlp import MLP, Mlp
from orrery.model.moe import MoE
from orrery.model.norm import make_norm
from orrery.model.probe import Probe


class Block(nn.Module):
    """What the layers below share; they differ in `forward` alone. `residual_mid` shows the stream between the halves.

    A layer has `attn` or `recurrent`, and the other is None.
    """

    def __init__(self, cfg: DecoderConfig, index: int, bias: nn.Module | None = None) -> None:
        super().__init__()
        self.attn = make_attention(cfg, index, bias) if cfg.attends(index) else None
        self.recurrent = make_recurrent(cfg, index) if cfg.layer_kind(index) == "recurrent" else None
        self.dropout = nn.Dropout(cfg.dropout)
        self.residual_scale = cfg.residual_scale
        self.residual_mid = Probe()
        self.native = False  # by our compiled kernel: set in models that are for inference only

    def mix(self, x: Tensor, ctx: Context) -> Tensor:
        """(T, d) -> (T, d): the part of the layer in which tokens meet."""
        return self.attn(x, ctx) if self.attn is not None else self.recurrent(x, ctx)  # type: ignore[not-callable]

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        """The stream x with what a sublayer found."""
        if self.native:
            return ops.add(x, y, self.residual_scale)
        if self.training:
            y = self.dropout(y)
        return x + (y if self.residual_scale == 1.0 else y * self.residual_scale)


class PreNormBlock(Block):
    """x + f(norm(x)): the stream itself is never normed (Xiong et al. 2020, arXiv:2002.04745)."""

    def __init__(self, cfg: DecoderConfig, index: int, bias: nn.Module | None = None) -> None:
        super().__init__(cfg, index, bias)
        normed = index == 0 and cfg.embedding_norm == "first"
        self.attn_norm = nn.Identity() if normed else make_norm(cfg)
        self.mlp_norm = make_norm(cfg)
        self.mlp = make_feed_forward(cfg, index)

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        x = self.residual_mid(self.add(x, self.mix(self.attn_norm(x), ctx)))
        return self.add(x, self.mlp(self.mlp_norm(x), ctx))


class PostNormBlock(Block):
    """norm(x + f(x)): the original transformer (Vaswani et al. 2017)."""

    def __init__(self, cfg: DecoderConfig, index: int, bias: nn.Module | None = None) -> None:
        super().__init__(cfg, index, bias)
        self.attn_norm, self.mlp_norm = make_norm(cfg), make_norm(cfg)
        self.mlp = make_feed_forward(cfg, index)

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        x = self.residual_mid(self.attn_norm(self.add(x, self.mix(x, ctx))))
        return self.mlp_norm(self.add(x, self.mlp(x, ctx)))


class SandwichBlock(Block):
    """x + norm(f(norm(x))): normed on the way in and on the way out (Ding et al. 2021, CogView; Gemma 2)."""

    def __init__(self, cfg: DecoderConfig, index: int, bias: nn.Module | None = None) -> None:
        super().__init__(cfg, index, bias)
        self.attn_norm, self.attn_out_norm = make_norm(cfg), make_norm(cfg)
        self.mlp_norm, self.mlp_out_norm = make_norm(cfg), make_norm(cfg)
        self.mlp = make_feed_forward(cfg, index)

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        x = self.residual_mid(self.add(x, self.attn_out_norm(self.mix(self.attn_norm(x), ctx))))
        return self.add(x, self.mlp_out_norm(self.mlp(self.mlp_norm(x), ctx)))


class ReorderedBlock(Block):
    """x + norm(f(x)): only what is added is normed (Swin v2, Liu et al. 2021; OLMo 2, arXiv:2501.00656)."""

    def __init__(self, cfg: DecoderConfig, index: int, bias: nn.Module | None = None) -> None:
        super().__init__(cfg, index, bias)
        self.attn_out_norm, self.mlp_out_norm = make_norm(cfg), make_norm(cfg)
        self.mlp = make_feed_forward(cfg, index)

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        x = self.residual_mid(self.add(x, self.attn_out_norm(self.mix(x, ctx))))
        return self.add(x, self.mlp_out_norm(self.mlp(x, ctx)))


class ParallelBlock(Block):
    """x + attn(norm(x)) + mlp(norm(x)): both halves read the stream as it came (Wang & Komatsuzaki 2021, GPT-J; PaLM).

    One norm for both, or one each (GPT-NeoX, Black et al. 2022, arXiv:2204.06745).
    """

    def __init__(self, cfg: DecoderConfig, index: int, bias: nn.Module | None = None) -> None:
        super().__init__(cfg, index, bias)
        self.attn_norm = make_norm(cfg)
        self.mlp_norm = make_norm(cfg) if cfg.parallel_norms == 2 else None
        self.mlp = make_feed_forward(cfg, index)

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        h = self.attn_norm(x)
        m = h if self.mlp_norm is None else self.mlp_norm(x)
        return self.add(self.add(x, self.mix(h, ctx)), self.mlp(m, ctx))


class SingleBlock(Block):
    """x + f(norm(x)) with one f: attention, a recurrence or a feed-forward (Mamba; Nemotron-H, arXiv:2504.03624)."""

    def __init__(self, cfg: DecoderConfig, index: int, bias: nn.Module | None = None) -> None:
        super().__init__(cfg, index, bias)
        self.norm = make_norm(cfg)
        self.mlp = make_feed_forward(cfg, index) if cfg.feeds_forward(index) else None

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        h = self.norm(x)
        return self.add(x, self.mix(h, ctx) if self.mlp is None else self.mlp(h, ctx))


class PreNormCrossBlock(PreNormBlock):
    """`PreNormBlock` with x + cross(norm(x)) between its halves (T5, Raffel et al. 2019)."""

    def __init__(self, cfg: DecoderConfig, index: int, bias: nn.Module | None = None) -> None:
        super().__init__(cfg, index, bias)
        self.cross_norm, self.cross = make_norm(cfg), CrossAttention(cfg, index)

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        x = self.add(x, self.mix(self.attn_norm(x), ctx))
        x = self.residual_mid(self.add(x, self.cross(self.cross_norm(x), ctx)))
        return self.add(x, self.mlp(self.mlp_norm(x), ctx))


class PostNormCrossBlock(PostNormBlock):
    """`PostNormBlock` with norm(x + cross(x)) between its halves (Vaswani et al. 2017)."""

    def __init__(self, cfg: DecoderConfig, index: int, bias: nn.Module | None = None) -> None:
        super().__init__(cfg, index, bias)
        self.cross_norm, self.cross = make_norm(cfg), CrossAttention(cfg, index)

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        x = self.attn_norm(self.add(x, self.mix(x, ctx)))
        x = self.residual_mid(self.cross_norm(self.add(x, self.cross(x, ctx))))
        return self.mlp_norm(self.add(x, self.mlp(x, ctx)))


PLACEMENTS: dict[str, type[Block]] = {
    "pre": PreNormBlock, "post": PostNormBlock, "sandwich": SandwichBlock, "reordered": ReorderedBlock,
}  # fmt: skip
WITH_MEMORY: dict[str, type[Block]] = {"pre": PreNormCrossBlock, "post": PostNormCrossBlock}


def make_block(cfg: DecoderConfig, index: int, bias: nn.Module | None = None) -> Block:
    """The layer `index` of `cfg`; `bias` is the attention bias that all layers share, if any."""
    if cfg.sublayers == "one":
        return SingleBlock(cfg, index, bias)
    if cfg.cross_attention:
        return WITH_MEMORY[cfg.placement](cfg, index, bias)
    return (ParallelBlock if cfg.parallel else PLACEMENTS[cfg.placement])(cfg, index, bias)


def make_attention(cfg: DecoderConfig, index: int, bias: nn.Module | None) -> nn.Module:
    """The attention of layer `index`."""
    return MLA(cfg, index) if isinstance(cfg.attention, Mla) else Attention(cfg, index, bias)


def make_recurrent(cfg: DecoderConfig, index: int) -> nn.Module:
    """The recurrence of layer `index`."""
    return Mamba2Mixer(cfg, index) if isinstance(cfg.recurrent, Mamba2) else GatedDeltaNet(cfg, index)


def make_feed_forward(cfg: DecoderConfig, index: int) -> nn.Module:
    """The feed-forward of layer `index`."""
    ff = cfg.layer_feed_forward(index)
    return MLP(cfg.d_model, ff) if isinstance(ff, Mlp) else MoE(cfg.d_model, ff)
