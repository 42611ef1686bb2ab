"""Multi-head attention with shared key/value heads (MHA, GQA, MQA), before the part that a context does.

    head_h = softmax(q_h k_g^T * scale) v_g,  g = h // (H / K);   out = [head_1 ... head_H] W_o
    Vaswani et al. 2017, arXiv:1706.03762; Ainslie et al. 2023, arXiv:2305.13245

T tokens, H heads, K kv heads, D head dim, d model width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from orrery.model.cache import CacheSpec
from orrery.model.config import DecoderConfig, QueryTemperature
from orrery.model.context import Context
from orrery.model.norm import make_qk_norm
from orrery.model.positions import Rope, RotaryEmbedding
from orrery.model.probe import Probe


class Attention(nn.Module):
    """Project, norm, rotate, attend, project. Contexts read index, window, scale, softcap, sinks, bias, dropout."""

    def __init__(self, cfg: DecoderConfig, index: int, bias: nn.Module | None = None) -> None:
        super().__init__()
        d, h, k, size = cfg.d_model, cfg.n_heads, cfg.kv_heads, cfg.head_size
        self.index, self.head_dim, self.kv_heads = index, size, k
        self.window = cfg.layer_window(index)
        self.scale = size**-0.5 if cfg.attention_scale is None else cfg.attention_scale
        self.softcap = cfg.attention_softcap
        self.dropout_p = cfg.dropout
        self.q_proj = nn.Linear(d, h * size, bias=cfg.attention_bias)
        self.k_proj = nn.Linear(d, k * size, bias=cfg.attention_bias)
        self.v_proj = nn.Linear(d, k * size, bias=cfg.attention_bias)
        self.o_proj = nn.Linear(h * size, d, bias=cfg.output_bias)
        self.q_norm, self.k_norm = make_qk_norm(cfg, h), make_qk_norm(cfg, k)
        self.norm_width = cfg.qk_norm == "width"
        self.clip = cfg.qkv_clip
        self.gate_proj = nn.Linear(d, h * size, bias=cfg.attention_bias) if cfg.attention_gate else None
        self.temperature = cfg.query_temperature
        self.sinks: Tensor | None = nn.Parameter(torch.zeros(h)) if cfg.sinks else None
        self.keys, self.values, self.pattern, self.z = Probe(), Probe(), Probe(), Probe()
        self.native = False  # by our compiled kernel: set in models that are for inference only
        position = cfg.layer_position(index)
        self.rotary = RotaryEmbedding(position, size) if isinstance(position, Rope) else None
        self.rotary_key = ("rotary", cfg.is_local(index))  # layers of one kind share the tables of a pass
        self._bias = (bias,)  # in a tuple, so that a table shared by all layers is the decoder's alone

    @property
    def bias(self) -> nn.Module | None:
        """(q_pos, k_pos) -> (H, Q, S) added to the scores (ALiBi, T5), or None."""
        return self._bias[0]

    @property
    def dropout(self) -> float:
        """Probability of dropping an attention weight: the config's in training, 0 in eval."""
        return self.dropout_p if self.training else 0.0

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        """(T, d) -> (T, d)."""
        q, k, v = self.q_proj(x), self.k_proj(x), self.v_proj(x)
        if self.clip is not None:
            q, k, v = (t.clamp(-self.clip, self.clip) for t in (q, k, v))
        q, k = self.norm_queries_and_keys(q, k)
        v = v.unflatten(-1, (-1, self.head_dim))
        rotary = self.rotary
        if rotary is not None:
            cos, sin = ctx.once(self.rotary_key, lambda: rotary.tables(ctx))
            q, k = rotary.turn(q, cos, sin), rotary.turn(k, cos, sin)
        if self.temperature is not None:
            q = q * query_temperature(self.temperature, ctx.positions).to(q.dtype)
        z = self.z(ctx.attend(self, q, self.keys(k), self.values(v)))  # (T, H, D)
        if self.gate_proj is not None:
            z = z * self.gate_proj(x).sigmoid().view_as(z)
        return self.o_proj(z.flatten(-2))

    def norm_queries_and_keys(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """(T, H * D), (T, K * D) -> (T, H, D), (T, K, D), normed as the config says."""
        if self.q_norm is not None and self.k_norm is not None and self.norm_width:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = (t.unflatten(-1, (-1, self.head_dim)) for t in (q, k))
        if self.q_norm is not None and self.k_norm is not None and not self.norm_width:
            q, k = self.q_norm(q), self.k_norm(k)
        return q, k

    def cache_spec(self) -> CacheSpec:
        """What generating keeps of this layer for each token."""
        return CacheSpec(
            layer=self.index,
            kv_heads=self.kv_heads,
            key_dim=self.head_dim,
            value_dim=self.head_dim,
            window=self.window,
            restart_beyond=None if self.rotary is None else self.rotary.restart_beyond,
        )


def query_temperature(cfg: QueryTemperature, positions: Tensor) -> Tensor:
    """(T,) -> (T, 1, 1) factors on queries: 1 within `cfg.positions`, growing with the logarithm beyond."""
    return (1 + cfg.beta * torch.log1p(torch.floor(positions / cfg.positions)))[:, None, None]
