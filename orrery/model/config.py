"""The shape of a decoder as data: everything `Decoder` needs to be built, nothing about how it is trained.

A default `DecoderConfig` is Llama-shaped: pre-norm RMSNorm, rotary positions, gated SiLU, no biases, tied head.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from orrery.kit.config import config
from orrery.kit.errors import OrreryError
from orrery.model.mla import Mla
from orrery.model.mlp import Mlp
from orrery.model.moe import Moe
from orrery.model.positions import Position, Rope


@config
class Gqa:
    """Attention with `n_kv_heads` shared by groups of query heads (Ainslie et al. 2023, arXiv:2305.13245).

    n_kv_heads = n_heads is multi-head attention (Vaswani et al. 2017), n_kv_heads = 1 is multi-query (Shazeer 2019).
    """

    kind: Literal["gqa"] = "gqa"


@config
class Init:
    """How weights are drawn; `std` is used by "normal" and "depth-scaled" alone."""

    kind: Literal["normal", "xavier", "he", "depth-scaled"] = "normal"
    std: float = 0.02


AttentionKind = Annotated[Gqa | Mla, Field(discriminator="kind")]
FeedForward = Annotated[Mlp | Moe, Field(discriminator="kind")]


@config
class DecoderConfig:
    """A decoder-only transformer. Widths in elements, positions and windows in tokens.

    Attributes:
        n_kv_heads: None means n_heads (multi-head attention).
        head_dim: None means d_model // n_heads.
        feed_forward: of every layer, except that the first `first_dense_layers` use `dense_feed_forward`.
        position: of "global" layers, and of "local" ones too unless `local_position` is given.
        window: how many tokens a "local" layer sees, its own included.
        layer_pattern: cycled over the layers, for example five "local" then one "global".
        placement: "pre" x + f(norm(x)); "post" norm(x + f(x)) (Vaswani et al. 2017); "sandwich" x + norm(f(norm(x))).
        parallel: attention and feed-forward read the same normed input and are added together (GPT-J, PaLM).
        norm_unit_offset: RMSNorm multiplies by 1 + weight (Gemma).
        attention_scale: of the scores before softmax; None means head_dim ** -0.5.
        attention_softcap, logit_softcap: cap * tanh(x / cap) on scores and on logits (Gemma 2).
        sinks: one learned logit per head that takes probability from the softmax (gpt-oss).
        embedding_scale, logit_scale: factors on the embedding's output and on the logits; None means 1.
        mtp_heads: multi-token-prediction modules (DeepSeek-V3), used in training only.
        max_positions: the context the model is meant for.

    Raises:
        OrreryError: the numbers do not fit together.
    """

    vocab_size: int = 4096
    d_model: int = 256
    n_layers: int = 4
    n_heads: int = 4
    n_kv_heads: int | None = None
    head_dim: int | None = None
    attention: AttentionKind = Gqa()
    feed_forward: FeedForward = Mlp(d_ff=704)
    first_dense_layers: int = 0
    dense_feed_forward: Mlp | None = None
    position: Position = Rope()
    local_position: Rope | None = None
    window: int | None = None
    layer_pattern: tuple[Literal["global", "local"], ...] = ("global",)
    norm: Literal["rmsnorm", "layernorm"] = "rmsnorm"
    norm_eps: float = 1e-5
    norm_unit_offset: bool = False
    placement: Literal["pre", "post", "sandwich"] = "pre"
    parallel: bool = False
    qk_norm: bool = False
    attention_bias: bool = False
    output_bias: bool = False
    attention_scale: float | None = None
    attention_softcap: float | None = None
    logit_softcap: float | None = None
    sinks: bool = False
    dropout: float = 0.0
    tied: bool = True
    embedding_scale: float | None = None
    logit_scale: float | None = None
    mtp_heads: int = 0
    max_positions: int = 2048
    init: Init = Init()

    def __post_init__(self) -> None:
        for name in (
            "vocab_size",
            "d_model",
            "n_layers",
            "n_heads",
            "n_kv_heads",
            "head_dim",
            "max_positions",
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise OrreryError(f"{name}={value} must be at least 1")
        if self.head_dim is None and self.d_model % self.n_heads:
            raise OrreryError(
                f"d_model={self.d_model} does not divide into n_heads={self.n_heads}; change one or give head_dim"
            )
        if self.n_heads % self.kv_heads:
            raise OrreryError(
                f"n_heads={self.n_heads} must be a multiple of n_kv_heads={self.kv_heads}: every kv head serves a group"
            )
        if not self.layer_pattern or ("local" in self.layer_pattern and not self.window):
            raise OrreryError(
                "layer_pattern needs at least one layer, and its 'local' layers need a window of 1 or more"
            )
        if self.parallel and self.placement != "pre":
            raise OrreryError(
                f"parallel blocks have one norm, before both halves; placement='{self.placement}' does not fit"
            )
        if self.norm_unit_offset and self.norm != "rmsnorm":
            raise OrreryError("norm_unit_offset belongs to norm='rmsnorm'")
        if self.first_dense_layers and self.dense_feed_forward is None:
            raise OrreryError("first_dense_layers needs dense_feed_forward, the MLP those layers use")
        if not 0.0 <= self.dropout < 1.0:
            raise OrreryError(f"dropout={self.dropout} must be a probability below 1")

    @property
    def kv_heads(self) -> int:
        """Key/value heads: n_kv_heads, or n_heads where that is None."""
        return self.n_heads if self.n_kv_heads is None else self.n_kv_heads

    @property
    def head_size(self) -> int:
        """Width of one head: head_dim, or d_model // n_heads where that is None."""
        return self.d_model // self.n_heads if self.head_dim is None else self.head_dim

    def layer_kind(self, layer: int) -> Literal["global", "local"]:
        """What layer `layer` sees: all tokens before it, or `window` of them."""
        return self.layer_pattern[layer % len(self.layer_pattern)]

    def is_local(self, layer: int) -> bool:
        """Whether layer `layer` sees only `window` tokens."""
        return self.layer_kind(layer) == "local"

    def layer_window(self, layer: int) -> int | None:
        """How many tokens layer `layer` sees; None means all before it."""
        return self.window if self.is_local(layer) else None

    def layer_position(self, layer: int) -> Position:
        """The position scheme of layer `layer`."""
        return self.local_position if self.local_position and self.is_local(layer) else self.position

    def layer_feed_forward(self, layer: int) -> Mlp | Moe:
        """The feed-forward of layer `layer`."""
        if layer < self.first_dense_layers and self.dense_feed_forward is not None:
            return self.dense_feed_forward
        return self.feed_forward
