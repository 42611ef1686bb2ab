"""What generation has to remember: bytes of keys and values for each token and for a sequence of a length.

    bytes per token = 2 * L * K * D * bytes per number;   latent attention: L * (r + R) * bytes per number

A local layer needs its last `window` tokens only, so a long sequence costs less than length times bytes per token.

L layers, K kv heads, D head dim, r latent width, R rotary width.
"""

from __future__ import annotations

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
