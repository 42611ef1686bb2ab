"""Mamba-2: see `Mamba2Mixer`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from torch import nn

from orrery.kit.config import config

if TYPE_CHECKING:
    from orrery.model.config import DecoderConfig


@config
class Mamba2:
    """A selective state-space layer (Dao & Gu 2024, arXiv:2405.21060): `n_heads` heads of `head_dim`, state of `state_dim`."""

    kind: Literal["mamba2"] = "mamba2"
    n_heads: int
    head_dim: int
    state_dim: int


class Mamba2Mixer(nn.Module):
    """Being written."""

    def __init__(self, cfg: DecoderConfig, index: int) -> None:
        super().__init__()
        raise NotImplementedError
