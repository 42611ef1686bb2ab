"""What it takes to open a family of published models: a reader of its config.json, a writer, and a table of names."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from orrery.kit.errors import OrreryError
from orrery.model.config import DecoderConfig, Init
from orrery.model.moe import Moe
from orrery.model.names import Names

Hf = dict[str, Any]

__all__ = ["Family", "Hf", "Names", "canonical"]


@dataclass(frozen=True, kw_only=True)
class Family:
    """A model family under its Hugging Face names. `write` raises OrreryError for a part it has no word for.

    Attributes:
        names: our modules or tensors to theirs (see `model.names`); a function of the config where layouts depend on it.
        aliases: other values of `model_type` that `read` understands.
        renames: (pattern, replacement) for names as other writers spell them, applied to the names in a file in order.
        redundant: patterns of tensors that some writers add and that say nothing new.
        fit: the config that the tensors of a file (their names) ask for, where config.json alone does not say.
    """

    model_type: str
    architecture: str
    names: Names | Callable[[Any], Names]
    read: Callable[[Hf], Any]
    write: Callable[[Any], Hf]
    aliases: tuple[str, ...] = ()
    renames: tuple[tuple[str, str], ...] = ()
    redundant: tuple[str, ...] = ()
    fit: Callable[[Any, set[str]], Any] | None = None

    def table(self, cfg: Any) -> Names:
        """The names for one config."""
        return self.names(cfg) if callable(self.names) else self.names

    def canonical_name(self, name: str) -> str:
        """A tensor's name in a file as `names` spells it."""
        for pattern, new in self.renames:
            name = re.sub(pattern, new, name)
        return name

    def is_redundant(self, name: str) -> bool:
        """Whether a tensor of a file says nothing new."""
        return any(re.search(pattern, name) for pattern in self.redundant)

    def expresses(self, cfg: DecoderConfig) -> bool:
        """Whether a folder of this family gives back the same network: what is written reads as what was meant."""
        try:
            return canonical(self.read(self.write(cfg))) == canonical(cfg)
        except (OrreryError, AttributeError):  # a part, or a kind of model, that this family has no word for
            return False


def canonical(cfg: Any) -> Any:
    """One spelling for one network: defaults filled in, and left out what only training looks at."""
    if not isinstance(cfg, DecoderConfig):
        return cfg
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
