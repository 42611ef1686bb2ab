"""The position-wise feed-forward network: expand, activate, project; no token sees another.

Plain: down(act(up(x))). Gated (GLU, Shazeer 2020, arXiv:2002.05202): down(act(gate(x)) * up(x)), with SiLU: SwiGLU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from orrery.kit.config import config

Activation = Literal["relu", "relu2", "gelu", "gelu_tanh", "silu"]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "relu2": lambda x: F.relu(x).square(),  # So et al. 2021, arXiv:2109.08668
    "gelu": F.gelu,  # x * Phi(x) by erf; Hendrycks & Gimpel 2016, arXiv:1606.08415
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,  # x * sigmoid(x), "swish"
}


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

    def forward(self, x: Tensor, ctx: Any = None) -> Tensor:
        """(T, d) -> (T, d). The context is not looked at: the signature is that of every feed-forward part."""
        if self.gate_proj is None:
            return self.down_proj(self.activation(self.up_proj(x)))
        return self.down_proj(self.activation(self.gate_proj(x)) * self.up_proj(x))
