"""The position-wise feed-forward network: expand, activate, project; no token sees another.

Plain: down(act(up(x))). Gated (GLU, Shazeer 2020, arXiv:2002.05202): down(act(gate(x)) * up(x)), with SiLU: SwiGLU.
"""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor, nn

from orrery.kit.config import config
from orrery.model.lowbit import ops
from orrery.model.lowbit.ops import ACTIVATIONS

Activation = Literal["relu", "relu2", "gelu", "gelu_tanh", "silu"]


@config
class Mlp:
    """A dense feed-forward network of inner width `d_ff`."""

    kind: Literal["mlp"] = "mlp"
    d_ff: int
    activation: Activation = "silu"
    gated: bool = True
    bias: bool = False


class MLP(nn.Module):
    def __init__(self, d_model: int, cfg: Mlp) -> None:
        super().__init__()
        self.cfg = cfg
        self.gate_proj = nn.Linear(d_model, cfg.d_ff, cfg.bias) if cfg.gated else None
        self.up_proj = nn.Linear(d_model, cfg.d_ff, cfg.bias)
        self.down_proj = nn.Linear(cfg.d_ff, d_model, cfg.bias)
        self.activation = ACTIVATIONS[cfg.activation]
        self.native = False  # by our compiled kernel: set in models that are for inference only

    def forward(self, x: Tensor, ctx: Any = None) -> Tensor:
        """(T, d) -> (T, d). The context is not looked at: the signature is that of every feed-forward part."""
        if self.gate_proj is None:
            return self.down_proj(self.activate(self.up_proj(x)))
        return self.down_proj(self.activate(self.gate_proj(x), self.up_proj(x)))

    def activate(self, gate: Tensor, up: Tensor | None = None) -> Tensor:
        """act(gate) * up, or act(gate) alone."""
        if self.native:
            return ops.gated(self.cfg.activation, gate, up)
        return self.activation(gate) if up is None else self.activation(gate) * up
