"""Adapter layers: a narrow network behind a sublayer, on its way to the residual stream.

y + U act(D y + c) + e,   D (width, d), U (d, width) zero at the beginning
Houlsby et al. 2019, arXiv:1902.00751, behind both sublayers; Pfeiffer et al. 2020, arXiv:2005.00247, behind the feed-forward alone
"""

from __future__ import annotations

from torch import Tensor, nn

from orrery.model.adapters.part import Part, Rows, is_linear, rows_product
from orrery.model.lowbit.ops import ACTIVATIONS
from orrery.model.mlp import Activation


class BottleneckPart(Part):
    """One such network, in float32."""

    def __init__(
        self, down: Tensor, up: Tensor, *, activation: Activation, down_bias: Tensor, up_bias: Tensor
    ) -> None:
        super().__init__()
        self.down, self.up = (nn.Parameter(t.float(), requires_grad=False) for t in (down, up))
        self.down_bias, self.up_bias = (
            nn.Parameter(t.float(), requires_grad=False) for t in (down_bias, up_bias)
        )
        self.activation = ACTIVATIONS[activation]

    def after(self, x: Tensor, y: Tensor, rows: Rows, module: nn.Module) -> Tensor:
        inner = self.activation(rows_product(y.float(), self.down) + self.down_bias)
        return y + (rows_product(inner, self.up) + self.up_bias).to(y.dtype)

    def fits(self, module: nn.Module) -> str | None:
        return None if not is_linear(module) else "a sublayer"
