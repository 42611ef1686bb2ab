"""How many weights a decoder has, part by part, from its config alone.

Dense layer: q d*H*D, k and v d*K*D each, o H*D*d, gated feed-forward 3*d*ff (plain 2*d*ff), norms d each.
Equal to `Decoder(cfg).num_parameters()` to the last weight.

d model width, H heads, K kv heads, D head dim, V vocabulary, E experts.
"""

from __future__ import annotations

from dataclasses import dataclass

from orrery.model.config import DecoderConfig
from orrery.model.mla import Mla
from orrery.model.mlp import Mlp
from orrery.model.moe import Moe
from orrery.model.positions import Learned, T5Relative


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Weights by component; a tied head has none of its own. `active_feed_forward` counts the chosen experts only."""

    embedding: int
    attention: int
    feed_forward: int
    norm: int
    head: int
    multi_token: int
    active_feed_forward: int
    input_embedding: int
    """The token table alone (V * d); `embedding` holds learned positions too."""

    @property
    def total(self) -> int:
        return sum(self.by_component().values())

    @property
    def active(self) -> int:
        """Weights one token passes through when the model runs: chosen experts, no multi-token modules, both embeddings."""
        return self.total - self.multi_token - self.feed_forward + self.active_feed_forward

    @property
    def active_without_input_embedding(self) -> int:
        """The same without the token table, which is looked up and not multiplied (how many model cards count)."""
        return self.active - (self.input_embedding if self.head else 0)

    @property
    def non_embedding(self) -> int:
        """Without token table, positions and head: the N of Kaplan et al. 2020."""
        return self.total - self.embedding - self.head - self.multi_token

    @property
    def active_non_embedding(self) -> int:
        return self.active - self.embedding - self.head

    def by_component(self) -> dict[str, int]:
        """The names are those of `Decoder.describe`."""
        return {
            "embedding": self.embedding,
            "attention": self.attention,
            "feed_forward": self.feed_forward,
            "norm": self.norm,
            "head": self.head,
            "multi_token": self.multi_token,
        }


def count_parameters(cfg: DecoderConfig) -> Parameters:
    """Every weight of the decoder `cfg` describes."""
    d, layers = cfg.d_model, range(cfg.n_layers)
    token_table = cfg.vocab_size * d
    positions = cfg.position.max_positions * d if isinstance(cfg.position, Learned) else 0
    bias_table = cfg.position.buckets * cfg.n_heads if isinstance(cfg.position, T5Relative) else 0
    final_norm = 0 if cfg.placement == "post" else norm_parameters(cfg, d)
    return Parameters(
        embedding=token_table + positions,
        attention=sum(attention_parameters(cfg) for _ in layers) + bias_table,
        feed_forward=sum(feed_forward_parameters(d, cfg.layer_feed_forward(i)) for i in layers),
        norm=sum(layer_norm_parameters(cfg) for _ in layers) + final_norm,
        head=0 if cfg.tied else token_table,
        multi_token=sum(multi_token_parameters(cfg, cfg.n_layers + k) for k in range(cfg.mtp_heads)),
        active_feed_forward=sum(
            feed_forward_parameters(d, cfg.layer_feed_forward(i), active=True) for i in layers
        ),
        input_embedding=token_table,
    )


def attention_parameters(cfg: DecoderConfig) -> int:
    """One attention layer: projections, their biases, sinks, and the norms inside latent attention.

    Norms of queries and keys (`qk_norm`) count as norms.
    """
    d, h, bias = cfg.d_model, cfg.n_heads, int(cfg.attention_bias)
    sinks = h if cfg.sinks else 0
    if isinstance(cfg.attention, Mla):
        mla = cfg.attention
        q_dim = h * (mla.qk_nope_head_dim + mla.qk_rope_head_dim)
        rank = mla.q_lora_rank
        queries = d * q_dim if rank is None else (d + bias) * rank + rank + rank * q_dim
        latent = (d + bias) * (mla.kv_lora_rank + mla.qk_rope_head_dim) + mla.kv_lora_rank
        expand = mla.kv_lora_rank * h * (mla.qk_nope_head_dim + mla.v_head_dim)
        return queries + latent + expand + linear(h * mla.v_head_dim, d, cfg.output_bias) + sinks
    size = cfg.head_size
    queries = linear(d, h * size, cfg.attention_bias)
    keys_values = 2 * linear(d, cfg.kv_heads * size, cfg.attention_bias)
    return queries + keys_values + linear(h * size, d, cfg.output_bias) + sinks


def feed_forward_parameters(d_model: int, cfg: Mlp | Moe, *, active: bool = False) -> int:
    """One feed-forward layer; `active` counts `top_k` experts of E."""
    if isinstance(cfg, Moe):
        expert = 3 * d_model * cfg.d_ff
        experts = cfg.top_k if active else cfg.n_experts
        return cfg.n_experts * d_model + (experts + cfg.shared_experts) * expert
    inward = linear(d_model, cfg.d_ff, cfg.bias) * (2 if cfg.gated else 1)
    return inward + linear(cfg.d_ff, d_model, cfg.bias)


def layer_norm_parameters(cfg: DecoderConfig) -> int:
    """The norms of one layer: one (parallel), two, or four (sandwich), and those of queries and keys."""
    around = 1 if cfg.parallel else 4 if cfg.placement == "sandwich" else 2
    inside = 2 * norm_parameters(cfg, cfg.head_size) if cfg.qk_norm else 0
    return around * norm_parameters(cfg, cfg.d_model) + inside


def multi_token_parameters(cfg: DecoderConfig, layer: int) -> int:
    """One multi-token-prediction module: a projection of two vectors to one, a layer, its norms."""
    norms = (2 if cfg.placement == "post" else 3) * norm_parameters(cfg, cfg.d_model)
    block = (
        attention_parameters(cfg)
        + feed_forward_parameters(cfg.d_model, cfg.layer_feed_forward(layer))
        + layer_norm_parameters(cfg)
    )
    return 2 * cfg.d_model**2 + norms + block


def norm_parameters(cfg: DecoderConfig, width: int) -> int:
    """A weight for each feature, and a shift too in LayerNorm."""
    return width * (2 if cfg.norm == "layernorm" else 1)


def linear(n_in: int, n_out: int, bias: bool) -> int:
    """A matrix and perhaps a bias."""
    return n_in * n_out + (n_out if bias else 0)
