"""Attention of a decoder to what an encoder made: queries from the decoder, keys and values from the memory.

    head_h = softmax(q_h k_g^T * scale) v_g over all tokens of the source (Vaswani et al. 2017, section 3.2.3)

T tokens, S tokens of the sources, H heads, K kv heads, D head dim, d model width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from orrery.model.probe import Probe

if TYPE_CHECKING:
    from orrery.model.config import DecoderConfig
    from orrery.model.context import Context


class CrossAttention(nn.Module):
    """Project, attend to the context's memory, project. No positions: order is in the states already."""

    window = None
    softcap = None
    sinks = None
    bias = None

    def __init__(self, cfg: DecoderConfig, index: int) -> None:
        super().__init__()
        d, h, k, size = cfg.d_model, cfg.n_heads, cfg.kv_heads, cfg.head_size
        self.index, self.head_dim = index, size
        self.scale = size**-0.5 if cfg.attention_scale is None else cfg.attention_scale
        self.dropout_p = cfg.dropout
        self.q_proj = nn.Linear(d, h * size, bias=cfg.attention_bias)
        self.k_proj = nn.Linear(d, k * size, bias=cfg.attention_bias)
        self.v_proj = nn.Linear(d, k * size, bias=cfg.attention_bias)
        self.o_proj = nn.Linear(h * size, d, bias=cfg.output_bias)
        self.pattern, self.z = Probe(), Probe()
        self.native = False  # by our compiled kernel: set in models that are for inference only

    @property
    def dropout(self) -> float:
        """Probability of dropping an attention weight: the config's in training, 0 in eval."""
        return self.dropout_p if self.training else 0.0

    def keys_values(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """(S, d) -> (S, K, D) twice."""
        k, v = (proj(states).unflatten(-1, (-1, self.head_dim)) for proj in (self.k_proj, self.v_proj))
        return k, v

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        """(T, d) -> (T, d).

        Raises:
            OrreryError: the context has no memory.
        """
        q = self.q_proj(x).unflatten(-1, (-1, self.head_dim))
        k, v = ctx.read_memory().keys_values(self, self.keys_values)
        z = self.z(ctx.attend_memory(self, q, k, v))  # (T, H, D)
        return self.o_proj(z.flatten(-2))
