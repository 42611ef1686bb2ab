"""Gated DeltaNet: see `GatedDeltaNet`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from torch import nn

from orrery.kit.config import config

if TYPE_CHECKING:
    from orrery.model.config import DecoderConfig


@config
class GatedDelta:
    """Linear attention by the gated delta rule (Yang et al. 2024, arXiv:2412.06464)."""

    kind: Literal["gated_delta"] = "gated_delta"
    n_key_heads: int
    n_value_heads: int
    key_dim: int
    value_dim: int


class GatedDeltaNet(nn.Module):
    """Being written."""

    def __init__(self, cfg: DecoderConfig, index: int) -> None:
        super().__init__()
        raise NotImplementedError
