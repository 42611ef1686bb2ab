"""What generation has to remember: bytes of keys and values for each token and for a sequence of a length.

    bytes per token = 2 * L * K * D * bytes per number;   latent attention: L * (r + R) * bytes per number

A local layer needs its last `window` tokens only, so a long sequence costs less than length times bytes per token. A recurrent
layer keeps the same state for a sequence of any length (`state_bytes`).

L layers, K kv heads, D head dim, r latent width, R rotary width.
"""

from __future__ import annotations

import math

from orrery.model.config import DecoderConfig
from orrery.model.mla import Mla


def kv_numbers_per_token(cfg: DecoderConfig) -> int:
    """Numbers one layer keeps for one token."""
    if isinstance(cfg.attention, Mla):
        return (
            cfg.attention.kv_lora_rank + cfg.attention.qk_rope_head_dim
        )  # the absorbed form keeps the latent alone
    return 2 * cfg.kv_heads * cfg.head_size


def kv_bytes_per_token(cfg: DecoderConfig, *, bytes_per_number: float = 2) -> int:
    """Bytes all layers keep for one token while no window has filled; 2 bytes a number is bf16."""
    attending = sum(cfg.attends(layer) for layer in range(cfg.n_layers))
    return round(attending * kv_numbers_per_token(cfg) * bytes_per_number)


def kv_bytes(cfg: DecoderConfig, length: int, *, bytes_per_number: float = 2) -> int:
    """Bytes needed for one sequence of `length` tokens, local layers keeping their window only."""
    kept = sum(
        min(length, cfg.layer_window(layer) or length) for layer in range(cfg.n_layers) if cfg.attends(layer)
    )
    return round(kept * kv_numbers_per_token(cfg) * bytes_per_number)


def state_bytes(cfg: DecoderConfig, *, bytes_per_number: float = 2) -> int:
    """Bytes all recurrent layers keep for one sequence, however long it is: the last inputs of their convolutions, and their
    states, which are float32 whatever the rest is."""
    if cfg.recurrent is None:
        return 0
    layers = sum(cfg.layer_kind(layer) == "recurrent" for layer in range(cfg.n_layers))
    conv, state = math.prod(cfg.recurrent.conv_state), math.prod(cfg.recurrent.state)
    return round(layers * (conv * bytes_per_number + state * 4))
