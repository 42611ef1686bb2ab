"""What it takes to open a family of published models: a reader of its config.json, a writer, and a table of names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from orrery.kit.errors import OrreryError
from orrery.model.config import DecoderConfig, Init
from orrery.model.moe import Moe

Hf = dict[str, Any]
Names = dict[str, str | tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class Family:
    """A model family under its Hugging Face names. `write` raises OrreryError for a part it has no word for.

    `names` maps our modules or tensors to theirs, `{i}` standing for the layer. A tuple of names with `{e}` in them
    says that ours is a stack over experts: their (out, in) matrices joined along out, transposed to (in, out).
    """

    model_type: str
    architecture: str
    names: Names
    read: Callable[[Hf], DecoderConfig]
    write: Callable[[DecoderConfig], Hf]

    def expresses(self, cfg: DecoderConfig) -> bool:
        """Whether a folder of this family gives back the same network: what is written reads as what was meant."""
        try:
            return canonical(self.read(self.write(cfg))) == canonical(cfg)
        except OrreryError:
            return False


def canonical(cfg: DecoderConfig) -> DecoderConfig:
    """One spelling for one network: defaults filled in, and left out what only training looks at."""
    pattern = tuple(cfg.layer_kind(i) for i in range(cfg.n_layers))
    local = "local" in pattern
    feed_forward = cfg.feed_forward
    if isinstance(feed_forward, Moe):
        feed_forward = replace(
            feed_forward, balance_loss=0.0, balance_over="batch", z_loss=0.0, capacity_factor=None
        )
    return replace(
        cfg,
        n_kv_heads=cfg.kv_heads,
        head_dim=cfg.head_size,
        attention_scale=cfg.attention_scale or cfg.head_size**-0.5,
        embedding_scale=cfg.embedding_scale or 1.0,
        logit_scale=cfg.logit_scale or 1.0,
        feed_forward=feed_forward,
        dense_feed_forward=cfg.dense_feed_forward if cfg.first_dense_layers else None,
        layer_pattern=pattern,
        window=cfg.window if local else None,
        local_position=cfg.local_position if local else None,
        dropout=0.0,
        init=Init(),
    )
