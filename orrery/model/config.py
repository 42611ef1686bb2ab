"""The shape of a decoder as data: everything `Decoder` needs to be built, nothing about how it is trained.

A default `DecoderConfig` is Llama-shaped: pre-norm RMSNorm, rotary positions, gated SiLU, no biases, tied head.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from orrery.kit.config import config
from orrery.kit.errors import OrreryError
from orrery.model.gated_delta import GatedDelta
from orrery.model.limits import check_fields
from orrery.model.mamba2 import Mamba2
from orrery.model.mla import Mla
from orrery.model.mlp import Mlp
from orrery.model.moe import Moe
from orrery.model.positions import NoPosition, Position, Rope


@config
class Gqa:
    """Attention with `n_kv_heads` shared by groups of query heads (Ainslie et al. 2023, arXiv:2305.13245).

    n_kv_heads = n_heads is multi-head attention (Vaswani et al. 2017), n_kv_heads = 1 is multi-query (Shazeer 2019).
    """

    kind: Literal["gqa"] = "gqa"


@config
class QueryTemperature:
    """Queries grow with position beyond the trained context, so that attention stays sharp: see `DecoderConfig`."""

    beta: float
    positions: int


@config
class Init:
    """How weights are drawn; `std` is used by "normal" and "depth-scaled" alone."""

    kind: Literal["normal", "xavier", "he", "depth-scaled"] = "normal"
    std: float = 0.02


AttentionKind = Annotated[Gqa | Mla, Field(discriminator="kind")]
FeedForward = Annotated[Mlp | Moe, Field(discriminator="kind")]
Recurrent = Annotated[Mamba2 | GatedDelta, Field(discriminator="kind")]
LayerKind = Literal["global", "local", "nope", "recurrent", "feed_forward", "dense_feed_forward"]
"""How a layer mixes tokens: attention to all before it, to a window, to all without positions, a recurrence, not at all."""
FEED_FORWARD_LAYERS = ("feed_forward", "dense_feed_forward")


@config
class DecoderConfig:
    """A decoder-only transformer. Widths in elements, positions and windows in tokens.

    Attributes:
        n_kv_heads: None means n_heads (multi-head attention).
        head_dim: None means d_model // n_heads.
        feed_forward: of every layer, except that the first `first_dense_layers`, and layers of the kind
            "dense_feed_forward", use `dense_feed_forward`.
        position: of "global" layers, and of "local" ones too unless `local_position` is given.
        window: how many tokens a "local" layer sees, its own included.
        layer_pattern: cycled over the layers, for example five "local" then one "global"; see `LayerKind`.
        recurrent: what "recurrent" layers run.
        sublayers: a layer holds attention (or a recurrence) and a feed-forward, or "one" of them (Mamba, Nemotron-H);
            then feed-forwards are layers of their own.
        placement: "pre" x + f(norm(x)); "post" norm(x + f(x)) (Vaswani et al. 2017); "sandwich" x + norm(f(norm(x)));
            "reordered" x + norm(f(x)) (OLMo 2).
        parallel: attention and feed-forward read the same stream and are added together (GPT-J, PaLM), through one norm or,
            with parallel_norms=2, through one each (GPT-NeoX).
        residual_scale: factor on what a sublayer adds to the stream (Granite).
        norm_unit_offset: RMSNorm multiplies by 1 + weight (Gemma).
        norm_weight, norm_bias: LayerNorm multiplies by a vector (OLMo's does not), and adds one.
        embedding_norm: embeddings are normed; "first" means that this norm stands for the first layer's own (ModernBERT).
        qk_norm: queries and keys are normed: True for each head with weights shared by all, "each_head" with weights of its
            own, "width" over all heads together.
        qkv_clip: queries, keys and values are cut off at plus and minus this number (OLMo).
        attention_gate: what attention returns is multiplied by sigmoid(gate(x)), a gate for every number (Qwen3-Next).
        query_temperature: queries at position p are multiplied by 1 + beta log(1 + floor(p / positions)) (Llama 4).
        attention_scale: of the scores before softmax; None means head_dim ** -0.5.
        attention_softcap, logit_softcap: cap * tanh(x / cap) on scores and on logits (Gemma 2).
        cross_attention: layers have a third sublayer between the others, which reads the context's memory (Vaswani et al. 2017).
        sinks: one learned logit per head that takes probability from the softmax (gpt-oss).
        embedding_scale, logit_scale: factors on the embedding's output and on the logits; None means 1.
        head_bias: an untied head adds a vector.
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
    layer_pattern: tuple[LayerKind, ...] = ("global",)
    recurrent: Recurrent | None = None
    sublayers: Literal["both", "one"] = "both"
    norm: Literal["rmsnorm", "layernorm"] = "rmsnorm"
    norm_eps: float = 1e-5
    norm_unit_offset: bool = False
    norm_weight: bool = True
    norm_bias: bool = True
    embedding_norm: Literal["none", "added", "first"] = "none"
    placement: Literal["pre", "post", "sandwich", "reordered"] = "pre"
    parallel: bool = False
    parallel_norms: Literal[1, 2] = 1
    residual_scale: float = 1.0
    qk_norm: bool | Literal["each_head", "width"] = False
    qkv_clip: float | None = None
    attention_gate: bool = False
    query_temperature: QueryTemperature | None = None
    attention_bias: bool = False
    output_bias: bool = False
    attention_scale: float | None = None
    attention_softcap: float | None = None
    logit_softcap: float | None = None
    cross_attention: bool = False
    sinks: bool = False
    dropout: float = 0.0
    tied: bool = True
    head_bias: bool = False
    embedding_scale: float | None = None
    logit_scale: float | None = None
    mtp_heads: int = 0
    max_positions: int = 2048
    init: Init = Init()

    def __post_init__(self) -> None:
        check_fields(self)
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
        if "recurrent" in self.layer_pattern and self.recurrent is None:
            raise OrreryError("layer_pattern has 'recurrent' layers, which need `recurrent`: say which kind")
        if self.sublayers == "both" and not set(FEED_FORWARD_LAYERS).isdisjoint(self.layer_pattern):
            raise OrreryError(
                "layers that are feed-forwards belong to sublayers='one'; with 'both' every layer has one"
            )
        if self.sublayers == "one" and (self.parallel or self.placement != "pre"):
            raise OrreryError(
                "layers of one sublayer are x + f(norm(x)); leave `parallel` and `placement` as they are"
            )
        if self.cross_attention and (
            self.sublayers == "one" or self.parallel or self.placement not in ("pre", "post")
        ):
            raise OrreryError(
                "cross_attention goes with sublayers='both' and placement 'pre' or 'post', not parallel"
            )
        if self.head_bias and self.tied:
            raise OrreryError("head_bias belongs to a head of its own; set tied=false")
        if self.parallel and self.placement != "pre":
            raise OrreryError(
                f"parallel blocks have one norm, before both halves; placement='{self.placement}' does not fit"
            )
        if self.norm_unit_offset and self.norm != "rmsnorm":
            raise OrreryError("norm_unit_offset belongs to norm='rmsnorm'")
        if self.norm == "rmsnorm" and not self.norm_weight:
            raise OrreryError("norm_weight=false belongs to norm='layernorm'")
        if self.dense_feed_forward is None and (
            self.first_dense_layers or "dense_feed_forward" in self.layer_pattern
        ):
            raise OrreryError(
                "a config with first_dense_layers or 'dense_feed_forward' layers needs dense_feed_forward, the MLP they use"
            )
        if not 0.0 <= self.dropout < 1.0:
            raise OrreryError(f"dropout={self.dropout} must be a probability below 1")
        if isinstance(self.attention, Gqa):
            for position in {self.layer_position(i) for i in range(self.n_layers) if self.attends(i)}:
                if isinstance(position, Rope):
                    position.rotary_dim(self.head_size)

    @property
    def kv_heads(self) -> int:
        """Key/value heads: n_kv_heads, or n_heads where that is None."""
        return self.n_heads if self.n_kv_heads is None else self.n_kv_heads

    @property
    def head_size(self) -> int:
        """Width of one head: head_dim, or d_model // n_heads where that is None."""
        return self.d_model // self.n_heads if self.head_dim is None else self.head_dim

    def layer_kind(self, layer: int) -> LayerKind:
        """How layer `layer` mixes tokens."""
        return self.layer_pattern[layer % len(self.layer_pattern)]

    def attends(self, layer: int) -> bool:
        """Whether layer `layer` has attention, and so keeps keys and values."""
        return self.layer_kind(layer) in ("global", "local", "nope")

    def is_local(self, layer: int) -> bool:
        """Whether layer `layer` sees only `window` tokens."""
        return self.layer_kind(layer) == "local"

    def layer_window(self, layer: int) -> int | None:
        """How many tokens layer `layer` sees; None means all before it."""
        return self.window if self.is_local(layer) else None

    def layer_position(self, layer: int) -> Position:
        """The position scheme of layer `layer`."""
        if self.layer_kind(layer) == "nope":
            return NoPosition()
        return self.local_position if self.local_position and self.is_local(layer) else self.position

    def layer_feed_forward(self, layer: int) -> Mlp | Moe:
        """The feed-forward of layer `layer`."""
        dense = layer < self.first_dense_layers or self.layer_kind(layer) == "dense_feed_forward"
        return self.dense_feed_forward if dense and self.dense_feed_forward is not None else self.feed_forward

    def feeds_forward(self, layer: int) -> bool:
        """Whether layer `layer` has a feed-forward."""
        return self.sublayers == "both" or self.layer_kind(layer) in FEED_FORWARD_LAYERS
