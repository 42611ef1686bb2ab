"""Gated DeltaNet: linear attention whose state is a table that is corrected, not only added to.

    q, k, v = conv(W_q x, W_k x, W_v x), q and k of length 1;   b = sigmoid(W_b x)
    a = exp(-exp(A_log) softplus(W_a x + dt_bias));   out = W_o (norm(delta_rule(q, k, v, a, b)) * silu(W_g x))
    Yang et al. 2024, arXiv:2412.06464, section 3.4; Qwen3-Next

T tokens, d model width, H value heads, G key heads (each serves H / G value heads), K key width, V value width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from orrery.kit.config import config
from orrery.kit.errors import OrreryError
from orrery.model.delta_rule import delta_rule, delta_step
from orrery.model.norm import RMSNorm
from orrery.model.recurrent import Recurrence, StateSpec, in_full_precision, inverse_softplus_of_time_steps
from orrery.model.short_conv import ShortConv

if TYPE_CHECKING:
    from orrery.model.config import DecoderConfig
    from orrery.model.context import Context

State = tuple[Tensor, Tensor]
"""Of the convolution (taps - 1, 2 G K + H V), and of the recurrence (H, K, V)."""

LENGTH_EPS = 1e-6
"""Added to the squared length of queries and keys before they are divided by it."""


@config
class GatedDelta:
    """Linear attention by the gated delta rule (Yang et al. 2024, arXiv:2412.06464).

    Attributes:
        n_key_heads, key_dim: heads of queries and keys, and their width.
        n_value_heads, value_dim: heads of values, a multiple of the key heads, and their width.
        conv_taps: of the short convolution.
        chunk: tokens that are computed at once; it changes the speed, not the result.

    Raises:
        OrreryError: the value heads do not divide among the key heads.
    """

    kind: Literal["gated_delta"] = "gated_delta"
    n_key_heads: int
    n_value_heads: int
    key_dim: int
    value_dim: int
    conv_taps: int = 4
    chunk: int = 64

    def __post_init__(self) -> None:
        if self.n_key_heads < 1 or self.n_value_heads % self.n_key_heads:
            raise OrreryError(
                f"n_value_heads={self.n_value_heads} must be a multiple of n_key_heads={self.n_key_heads}: "
                "every key head serves as many value heads"
            )

    @property
    def keys(self) -> int:
        """Width of all key heads together."""
        return self.n_key_heads * self.key_dim

    @property
    def values(self) -> int:
        """Width of all value heads together."""
        return self.n_value_heads * self.value_dim

    @property
    def conv_state(self) -> tuple[int, int]:
        """Shape of what the convolution keeps."""
        return self.conv_taps - 1, 2 * self.keys + self.values

    @property
    def state(self) -> tuple[int, int, int]:
        """Shape of what the recurrence keeps."""
        return self.n_value_heads, self.key_dim, self.value_dim


class GatedDeltaNet(Recurrence):
    """Project, convolve, run the delta rule, norm, gate, project."""

    def __init__(self, cfg: DecoderConfig, index: int) -> None:
        super().__init__()
        delta, d = cfg.recurrent, cfg.d_model
        assert isinstance(delta, GatedDelta)
        self.cfg, self.index = delta, index
        self.q_proj = nn.Linear(d, delta.keys, bias=False)
        self.k_proj = nn.Linear(d, delta.keys, bias=False)
        self.v_proj = nn.Linear(d, delta.values, bias=False)
        self.gate_proj = nn.Linear(d, delta.values, bias=False)
        self.beta_proj = nn.Linear(d, delta.n_value_heads, bias=False)
        self.decay_proj = nn.Linear(d, delta.n_value_heads, bias=False)
        self.conv = ShortConv(2 * delta.keys + delta.values, delta.conv_taps, bias=False)
        self.A_log = nn.Parameter(torch.empty(delta.n_value_heads))
        self.dt_bias = nn.Parameter(torch.empty(delta.n_value_heads))
        self.norm = RMSNorm(delta.value_dim, cfg.norm_eps)
        self.o_proj = nn.Linear(delta.values, d, bias=False)

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator) -> None:
        """exp(A_log) uniform in 0..16, time steps log-uniform in 0.001..0.1: the authors' reference implementation."""
        self.conv.reset_parameters(generator)
        # Away from 0, whose logarithm is no number.
        self.A_log.copy_(torch.empty(self.A_log.shape).uniform_(0.01, 16, generator=generator).log())
        self.dt_bias.copy_(inverse_softplus_of_time_steps(self.dt_bias.shape, 1e-3, 0.1, generator))

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        """(T, d) -> (T, d)."""
        projections = (self.q_proj, self.k_proj, self.v_proj, self.beta_proj, self.decay_proj)
        o = ctx.recur(self, torch.cat([project(x) for project in projections], -1), self.step)
        gate = self.gate_proj(x).view_as(o)
        return self.o_proj((self.norm(o) * F.silu(gate)).flatten(1))

    def step(self, x: Tensor, state: State | None) -> tuple[Tensor, State]:
        """A stretch of one sequence: (n, 2 G K + H V + 2 H) and the state before it -> o (n, H, V) and the state after it."""
        cfg = self.cfg
        with torch.autocast(x.device.type, enabled=False):
            widths = (2 * cfg.keys + cfg.values, cfg.n_value_heads, cfg.n_value_heads)
            mixed, b, a = in_full_precision(*x.split(widths, -1))
            mixed, conv_state = self.conv(mixed, None if state is None else state[0])
            q, k, v = mixed.split((cfg.keys, cfg.keys, cfg.values), -1)
            v = v.unflatten(-1, (cfg.n_value_heads, -1))  # (n, H, V)
            q, k = (self.unit_heads(t) for t in (q, k))  # (n, H, K)
            A_log, dt_bias = in_full_precision(self.A_log, self.dt_bias)
            log_decay, beta = -A_log.exp() * F.softplus(a + dt_bias), b.sigmoid()
            q = q * cfg.key_dim**-0.5
            S = v.new_zeros(cfg.state) if state is None else state[1]
            if len(x) == 1:
                o, S = delta_step(q[0], k[0], v[0], log_decay[0], beta[0], S)
                o = o[None]
            else:
                o, S = delta_rule(q, k, v, log_decay, beta, S, chunk=cfg.chunk)
        return o.to(x.dtype), (conv_state.to(x.dtype), S)

    def unit_heads(self, x: Tensor) -> Tensor:
        """(n, G K) -> (n, H, K): each key head of length 1, once for every value head that it serves."""
        x = x.unflatten(-1, (self.cfg.n_key_heads, -1))
        x = x * (x.square().sum(-1, keepdim=True) + LENGTH_EPS).rsqrt()
        return x.repeat_interleave(self.cfg.n_value_heads // self.cfg.n_key_heads, 1)

    def state_spec(self) -> StateSpec:
        """(taps - 1, 2 G K + H V) numbers of the convolution and (H, K, V) of the state."""
        return StateSpec(layer=self.index, conv=self.cfg.conv_state, state=self.cfg.state)
