"""What it takes to open a family of published models: a reader of its config.json, a writer, and a table of names."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

from orrery.kit.errors import OrreryError
from orrery.model.config import DecoderConfig, Init
from orrery.model.mlp import Mlp
from orrery.model.moe import Moe
from orrery.model.names import Names
from orrery.model.positions import NoPosition, Rope

Hf = dict[str, Any]

__all__ = ["Family", "Hf", "Names", "canonical"]


@dataclass(frozen=True, kw_only=True)
class Family:
    """A model family under its Hugging Face names. `write` raises OrreryError for a part it has no word for.

    Attributes:
        names: our modules or tensors to theirs (see `model.names`); a function of the config where layouts depend on it.
        aliases: other values of `model_type` that `read` understands.
        renames: (pattern, replacement) for names as other writers spell them, applied to the names in a file in order.
        redundant: patterns of tensors that some writers add and that say nothing new where the config does not ask for them.
        spelling: a name of `names` as a folder of this config spells it, where that depends on the heads there are.
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
    spelling: Callable[[Any, str], str] | None = None
    fit: Callable[[Any, set[str]], Any] | None = None

    def table(self, cfg: Any) -> Names:
        """The names for one config."""
        return self.names(cfg) if callable(self.names) else self.names

    def canonical_name(self, name: str) -> str:
        """A tensor's name in a file as `names` spells it."""
        for pattern, new in self.renames:
            name = re.sub(pattern, new, name)
        return name

    def spelt(self, cfg: Any, name: str) -> str:
        """The other way: a name of `names` as it is written."""
        return name if self.spelling is None else self.spelling(cfg, name)

    def expresses(self, cfg: DecoderConfig) -> bool:
        """Whether a folder of this family gives back the same network: what is written reads as what was meant."""
        try:
            return canonical(self.read(self.write(cfg))) == canonical(cfg)
        except (OrreryError, AttributeError):  # a part, or a kind of model, that this family has no word for
            return False


def canonical(cfg: Any) -> Any:
    """One spelling for one network: defaults filled in, and left out what only training looks at."""
    if not isinstance(cfg, DecoderConfig):  # decoders inside an encoder or an encoder-decoder
        stacks = {f.name: canonical(getattr(cfg, f.name)) for f in fields(cfg) if f.type == "DecoderConfig"}
        return replace(cfg, **stacks)
    pattern = tuple(cfg.layer_kind(i) for i in range(cfg.n_layers))
    local = "local" in pattern
    feed_forward = cfg.feed_forward
    if isinstance(feed_forward, Moe):
        feed_forward = replace(
            feed_forward, balance_loss=0.0, balance_over="batch", z_loss=0.0, capacity_factor=None,
            shared_experts=0, shared_width=feed_forward.shared_d_ff or None,
            bias_update=None if feed_forward.bias_update is None else 0.0,
        )  # fmt: skip
    if not any(map(cfg.feeds_forward, range(cfg.n_layers))):
        feed_forward = Mlp(d_ff=1)
    dense = cfg.first_dense_layers or "dense_feed_forward" in pattern
    if not any(map(cfg.attends, range(cfg.n_layers))):
        position = NoPosition() if isinstance(cfg.position, Rope) else cfg.position
        cfg = replace(cfg, n_heads=1, n_kv_heads=1, head_dim=1, attention_scale=None, position=position)
    return replace(
        cfg,
        n_kv_heads=cfg.kv_heads,
        head_dim=cfg.head_size,
        attention_scale=cfg.attention_scale or cfg.head_size**-0.5,
        embedding_scale=cfg.embedding_scale or 1.0,
        logit_scale=cfg.logit_scale or 1.0,
        feed_forward=feed_forward,
        dense_feed_forward=cfg.dense_feed_forward if dense else None,
        layer_pattern=pattern,
        recurrent=cfg.recurrent if "recurrent" in pattern else None,
        window=cfg.window if local else None,
        local_position=cfg.local_position if local and cfg.local_position != cfg.position else None,
        dropout=0.0,
        init=Init(),
    )
