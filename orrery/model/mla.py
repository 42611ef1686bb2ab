"""Multi-head latent attention: keys and values of all heads are made from one small latent vector a token.

    c = norm(W_dkv x),  k_rope = rope(W_kr x);    [k_h; v_h] = W_ukv,h c,    q_h.(k_h ++ k_rope)
    DeepSeek-V2, arXiv:2405.04434, section 2.1 and appendix C

Only c and k_rope need to be kept. Expanded: make k_h and v_h of every token, then attend as usual; cheap for many
queries. Absorbed: move W_uk to the query's side and W_uv behind the attention, q_h.k_h = (W_uk,h^T q_h).c, so that all
heads share one key (c ++ k_rope); cheap for few queries and a long past.

T tokens, H heads, d model width, r latent width (kv_lora_rank), N/R/V head widths without position, rotary, value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from orrery.kit.config import config
from orrery.kit.errors import OrreryError
from orrery.model.cache import CacheSpec
from orrery.model.norm import RMSNorm
from orrery.model.positions import Alibi, Rope, RotaryEmbedding, T5Relative, Yarn, apply_rope
from orrery.model.probe import Probe
from orrery.model.rope_scaling import yarn_mscale

if TYPE_CHECKING:
    from orrery.model.config import DecoderConfig
    from orrery.model.context import Context

ROWS = 8
"""Tokens that are multiplied by a head's matrix at a time, where bits count."""
EPS = 1e-6
"""Of the latents' norms: DeepSeek's code has it fixed, whatever the other norms use."""


@config
class Mla:
    """Widths of multi-head latent attention, under their Hugging Face names. `q_lora_rank` None: queries are not
    compressed (DeepSeek-V2-Lite)."""

    kind: Literal["mla"] = "mla"
    q_lora_rank: int | None = None
    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int


class MLA(nn.Module):
    """Latent attention in its two equal forms; `absorbed` says which one the context is handed.

    Raises:
        OrreryError: the config asks for what latent attention does not have.
    """

    def __init__(self, cfg: DecoderConfig, index: int) -> None:
        super().__init__()
        mla, position = cfg.attention, cfg.layer_position(index)
        assert isinstance(mla, Mla)
        if cfg.qk_norm or cfg.kv_heads != cfg.n_heads or isinstance(position, Alibi | T5Relative):
            raise OrreryError(
                "latent attention norms its latents, gives every head its own key and takes its position from rope: "
                "leave qk_norm and n_kv_heads unset, and position.kind neither 'alibi' nor 't5'"
            )
        d, self.n_heads, self.cfg, self.index = cfg.d_model, cfg.n_heads, mla, index
        q_dim = mla.qk_nope_head_dim + mla.qk_rope_head_dim
        self.absorbed = False
        self.window, self.softcap = cfg.layer_window(index), cfg.attention_softcap
        self.bias: nn.Module | None = None
        default_scale = q_dim**-0.5 * _yarn_sharpening(position)
        self.scale = default_scale if cfg.attention_scale is None else cfg.attention_scale
        self.dropout_p = cfg.dropout
        if mla.q_lora_rank is None:
            self.q_proj = nn.Linear(d, self.n_heads * q_dim, bias=False)
        else:
            self.q_a_proj = nn.Linear(d, mla.q_lora_rank, bias=cfg.attention_bias)
            self.q_a_layernorm = RMSNorm(mla.q_lora_rank, EPS)
            self.q_b_proj = nn.Linear(mla.q_lora_rank, self.n_heads * q_dim, bias=False)
        self.kv_a_proj_with_mqa = nn.Linear(
            d, mla.kv_lora_rank + mla.qk_rope_head_dim, bias=cfg.attention_bias
        )
        self.kv_a_layernorm = RMSNorm(mla.kv_lora_rank, EPS)
        self.kv_b_proj = nn.Linear(
            mla.kv_lora_rank, self.n_heads * (mla.qk_nope_head_dim + mla.v_head_dim), bias=False
        )
        self.o_proj = nn.Linear(self.n_heads * mla.v_head_dim, d, bias=cfg.output_bias)
        self.sinks: Tensor | None = nn.Parameter(torch.zeros(self.n_heads)) if cfg.sinks else None
        self.pattern, self.z = Probe(), Probe()
        self.native = False  # by our compiled kernel: set in models that are for inference only
        self.rotary = RotaryEmbedding(position, mla.qk_rope_head_dim) if isinstance(position, Rope) else None
        self.rotary_key = ("mla-rotary", cfg.is_local(index))

    @property
    def dropout(self) -> float:
        """Probability of dropping an attention weight: the config's in training, 0 in eval."""
        return self.dropout_p if self.training else 0.0

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        """(T, d) -> (T, d)."""
        q = self.queries(x).unflatten(-1, (self.n_heads, -1))  # (T, H, N + R)
        q_nope, q_rope = q.split((self.cfg.qk_nope_head_dim, self.cfg.qk_rope_head_dim), -1)
        kv = self.kv_a_proj_with_mqa(x)
        latent, k_rope = kv.split((self.cfg.kv_lora_rank, self.cfg.qk_rope_head_dim), -1)
        latent, k_rope = self.kv_a_layernorm(latent), k_rope[:, None]  # (T, r), (T, 1, R)
        if self.rotary is not None:
            cos, sin = ctx.once(self.rotary_key, lambda: self.rotary.tables(ctx))
            interleaved = self.rotary.cfg.interleaved
            q_rope, k_rope = (apply_rope(t, cos, sin, interleaved) for t in (q_rope, k_rope))
        attend = self._absorbed if self.absorbed else self._expanded
        return self.o_proj(self.z(attend(ctx, q_nope, q_rope, latent, k_rope)).flatten(-2))

    def queries(self, x: Tensor) -> Tensor:
        """(T, d) -> (T, H * (N + R))."""
        if self.cfg.q_lora_rank is None:
            return self.q_proj(x)
        return self.q_b_proj(self.q_a_layernorm(self.q_a_proj(x)))

    def _expanded(
        self, ctx: Context, q_nope: Tensor, q_rope: Tensor, latent: Tensor, k_rope: Tensor
    ) -> Tensor:
        kv = self.kv_b_proj(latent).unflatten(-1, (self.n_heads, -1))
        k_nope, v = kv.split((self.cfg.qk_nope_head_dim, self.cfg.v_head_dim), -1)
        k = torch.cat((k_nope, k_rope.expand(-1, self.n_heads, -1)), -1)
        return ctx.attend(self, torch.cat((q_nope, q_rope), -1), k, v)  # (T, H, V)

    def _absorbed(
        self, ctx: Context, q_nope: Tensor, q_rope: Tensor, latent: Tensor, k_rope: Tensor
    ) -> Tensor:
        """The values are the first r numbers of the keys, so one tensor is handed over as both and a cache keeps it once."""
        w_uk, w_uv = self.kv_b_proj.weight.unflatten(0, (self.n_heads, -1)).split(
            (self.cfg.qk_nope_head_dim, self.cfg.v_head_dim), 1
        )  # (H, N, r), (H, V, r)
        q = torch.cat((_by_head(q_nope, w_uk), q_rope), -1)
        shared = torch.cat((latent[:, None], k_rope), -1)  # (T, 1, r + R)
        out = ctx.attend(self, q, shared, shared)[..., : self.cfg.kv_lora_rank]
        return _by_head(out, w_uv.transpose(1, 2))

    def cache_spec(self) -> CacheSpec:
        """What this layer keeps for each token in the form it is in now."""
        cfg = self.cfg
        if self.absorbed:
            width = cfg.kv_lora_rank + cfg.qk_rope_head_dim
            return CacheSpec(
                layer=self.index, kv_heads=1, key_dim=width, value_dim=width, window=self.window, shared=True
            )
        return CacheSpec(
            layer=self.index,
            kv_heads=self.n_heads,
            key_dim=cfg.qk_nope_head_dim + cfg.qk_rope_head_dim,
            value_dim=cfg.v_head_dim,
            window=self.window,
        )


def _by_head(x: Tensor, weight: Tensor) -> Tensor:
    """(T, H, n), (H, n, m) -> (T, H, m), each head by its own matrix.

    Without gradients tokens go in blocks of ROWS, the last one filled with zeros, so that all products have one shape and a
    token's bits do not depend on the others.
    """
    if torch.is_grad_enabled():
        return torch.einsum("thn,hnm->thm", x, weight)
    tokens, heads = x.shape[:2]
    blocks = F.pad(x, (0, 0, 0, 0, 0, -tokens % ROWS)).unflatten(0, (-1, ROWS)).transpose(1, 2)
    product = torch.cat([block.contiguous() @ weight for block in blocks])  # (blocks * H, ROWS, m)
    return product.unflatten(0, (-1, heads)).transpose(1, 2).flatten(0, 1)[:tokens]


def _yarn_sharpening(position: object) -> float:
    """DeepSeek scales the scores by mscale_all_dim's factor squared, since only a part of q and k is rotated."""
    if isinstance(position, Rope) and isinstance(position.scaling, Yarn) and position.scaling.mscale_all_dim:
        return yarn_mscale(position.scaling.factor, position.scaling.mscale_all_dim) ** 2
    return 1.0
