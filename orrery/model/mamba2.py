"""Mamba-2: a layer that carries a fixed-size state through the sequence and chooses, token by token, what to keep.

    z, x, B, C, dt = W_in u;   x, B, C = conv(x, B, C);   dt = softplus(dt + dt_bias)
    y = SSD(x, dt, A, B, C) + D x;   out = W_out norm(y * silu(z))
    Dao & Gu 2024, arXiv:2405.21060, section 7 and figure 6

T tokens, d model width, H heads, P head width, G groups, N state width; I = H P inner width, X = I + 2 G N what is convolved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from orrery.kit.config import config
from orrery.kit.errors import OrreryError
from orrery.model.norm import GroupedRMSNorm
from orrery.model.recurrent import Recurrence, StateSpec, in_full_precision, inverse_softplus_of_time_steps
from orrery.model.short_conv import ShortConv
from orrery.model.ssd import ssd, ssd_step

if TYPE_CHECKING:
    from orrery.model.config import DecoderConfig
    from orrery.model.context import Context

State = tuple[Tensor, Tensor]
"""Of the convolution (taps - 1, X), and of the recurrence (H, P, N)."""


@config
class Mamba2:
    """A selective state-space layer (Dao & Gu 2024, arXiv:2405.21060): `n_heads` heads of `head_dim`, state of `state_dim`.

    Attributes:
        n_groups: groups of heads that share B and C; the last norm takes each group by itself.
        conv_taps, conv_bias: of the short convolution.
        bias: the two projections add a vector.
        dt_min, dt_max: time steps are kept between them; dt_max None: no upper bound.
        chunk: the most tokens that are computed at once; it changes the speed, not the result.

    Raises:
        OrreryError: the heads do not divide into the groups.
    """

    kind: Literal["mamba2"] = "mamba2"
    n_heads: int
    head_dim: int
    state_dim: int
    n_groups: int = 1
    conv_taps: int = 4
    conv_bias: bool = True
    bias: bool = False
    dt_min: float = 0.0
    dt_max: float | None = None
    chunk: int = 256

    def __post_init__(self) -> None:
        if self.n_groups < 1 or self.n_heads % self.n_groups:
            raise OrreryError(
                f"n_heads={self.n_heads} must be a multiple of n_groups={self.n_groups}: every group has as many heads"
            )

    @property
    def inner(self) -> int:
        """Width of all heads together, I."""
        return self.n_heads * self.head_dim

    @property
    def convolved(self) -> int:
        """Width of what the convolution sees, X."""
        return self.inner + 2 * self.n_groups * self.state_dim

    @property
    def at_once(self) -> int:
        """Tokens in a chunk: `chunk`, which published models set for kernels that keep a chunk's pairs to themselves, or the
        number at which pairs and states cost about the same here (a state of 128 numbers to a head: 64 takes half the time
        and memory of 256)."""
        return min(self.chunk, 64)

    @property
    def conv_state(self) -> tuple[int, int]:
        """Shape of what the convolution keeps."""
        return self.conv_taps - 1, self.convolved

    @property
    def state(self) -> tuple[int, int, int]:
        """Shape of what the recurrence keeps."""
        return self.n_heads, self.head_dim, self.state_dim


class Mamba2Mixer(Recurrence):
    """Project, convolve, run the recurrence, gate, norm, project."""

    def __init__(self, cfg: DecoderConfig, index: int) -> None:
        super().__init__()
        ssm = cfg.recurrent
        assert isinstance(ssm, Mamba2)
        self.cfg, self.index = ssm, index
        self.in_proj = nn.Linear(cfg.d_model, ssm.inner + ssm.convolved + ssm.n_heads, bias=ssm.bias)
        self.conv = ShortConv(ssm.convolved, ssm.conv_taps, bias=ssm.conv_bias)
        self.A_log = nn.Parameter(torch.empty(ssm.n_heads))
        self.dt_bias = nn.Parameter(torch.empty(ssm.n_heads))
        self.D = nn.Parameter(torch.empty(ssm.n_heads))
        self.norm = GroupedRMSNorm(ssm.inner, ssm.n_groups, cfg.norm_eps)
        self.out_proj = nn.Linear(ssm.inner, cfg.d_model, bias=ssm.bias)

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator) -> None:
        """A uniform in -16..-1, time steps log-uniform in 0.001..0.1, D one: the authors' reference implementation."""
        self.conv.reset_parameters(generator)
        self.A_log.copy_(torch.empty(self.A_log.shape).uniform_(1, 16, generator=generator).log())
        self.dt_bias.copy_(inverse_softplus_of_time_steps(self.dt_bias.shape, 1e-3, 0.1, generator))
        self.D.fill_(1.0)

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        """(T, d) -> (T, d)."""
        z, rest = self.in_proj(x).split((self.cfg.inner, self.cfg.convolved + self.cfg.n_heads), -1)
        y = ctx.recur(self, rest, self.step)
        return self.out_proj(self.norm(y * F.silu(z)))

    def step(self, x: Tensor, state: State | None) -> tuple[Tensor, State]:
        """A stretch of one sequence: (n, X + H) and the state before it -> y (n, I) and the state after it."""
        cfg = self.cfg
        with torch.autocast(x.device.type, enabled=False):
            mixed, dt = in_full_precision(*x.split((cfg.convolved, cfg.n_heads), -1))
            mixed, conv_state = self.conv(mixed, None if state is None else state[0])
            u, B, C = mixed.split((cfg.inner, *[cfg.n_groups * cfg.state_dim] * 2), -1)
            u = u.unflatten(-1, (cfg.n_heads, -1))  # (n, H, P)
            B, C = (t.unflatten(-1, (cfg.n_groups, -1)) for t in (B, C))  # (n, G, N)
            A_log, dt_bias, D = in_full_precision(self.A_log, self.dt_bias, self.D)
            dt, A = F.softplus(dt + dt_bias).clamp(cfg.dt_min, cfg.dt_max), -A_log.exp()
            S = u.new_zeros(cfg.state) if state is None else state[1]
            if len(x) == 1:
                y, S = ssd_step(u[0], dt[0], A, B[0], C[0], S)
                y = y[None]
            else:
                y, S = ssd(u, dt, A, B, C, S, chunk=cfg.at_once)
            y = y + D[:, None] * u
        return y.flatten(1).to(x.dtype), (conv_state.to(x.dtype), S)

    def state_spec(self) -> StateSpec:
        """(taps - 1, X) numbers of the convolution and (H, P, N) of the state."""
        return StateSpec(layer=self.index, conv=self.cfg.conv_state, state=self.cfg.state)
