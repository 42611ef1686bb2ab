"""How many weights a model has, part by part, from its config alone: the model is built as shapes and counted.

Dense layer: q d*H*D, k and v d*K*D each, o H*D*d, gated feed-forward 3*d*ff (plain 2*d*ff), norms d each.

d model width, H heads, K kv heads, D head dim, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, get_args

from orrery.model.build import Config, build
from orrery.model.describe import Part
from orrery.model.shell import shell


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Weights by component; a tied head has none of its own. `active_...` counts the experts a token is sent to only."""

    embedding: int = 0
    attention: int = 0
    recurrent: int = 0
    feed_forward: int = 0
    norm: int = 0
    head: int = 0
    multi_token: int = 0
    vision: int = 0
    """The image encoder of a model that sees, and what joins it to the text model."""
    active_feed_forward: int
    active_multi_token: int
    """Of the multi-token-prediction modules; they take part in training only."""
    input_embedding: int
    """The token table alone (V * d); `embedding` holds learned positions too."""

    @property
    def total(self) -> int:
        """Of the model itself: multi-token-prediction modules are counted apart, as published sizes do."""
        return self.stored - self.multi_token

    @property
    def stored(self) -> int:
        """All weights in the file and in training: the total and the multi-token-prediction modules."""
        return sum(self.by_component().values())

    @property
    def active(self) -> int:
        """Weights one token passes through when the model runs: chosen experts, no multi-token modules, both embeddings."""
        return self.total - self.feed_forward + self.active_feed_forward

    @property
    def active_without_input_embedding(self) -> int:
        """The same without the token table, which is looked up and not multiplied (how many model cards count)."""
        return self.active - (self.input_embedding if self.head else 0)

    @property
    def non_embedding(self) -> int:
        """Without token table, positions and head: the N of Kaplan et al. 2020."""
        return self.total - self.embedding - self.head - self.vision

    @property
    def active_non_embedding(self) -> int:
        return self.active - self.embedding - self.head - self.vision

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "total": self.total,
            "stored": self.stored,
            "active": self.active,
            "active_without_input_embedding": self.active_without_input_embedding,
            "non_embedding": self.non_embedding,
            "by_component": self.by_component(),
        }

    def by_component(self) -> dict[str, int]:
        """The names are those of `Decoder.describe`, and `vision`."""
        seen = {"vision": self.vision} if self.vision else {}
        return {name: getattr(self, name) for name in get_args(Part)} | seen


@lru_cache(maxsize=256)
def count_parameters(cfg: Config) -> Parameters:
    """Every weight of the model `cfg` describes: a decoder, an encoder or an encoder-decoder."""
    rows = shell(lambda: build(cfg)).describe()
    totals = {part: sum(row.parameters for row in rows if row.component == part) for part in get_args(Part)}
    active = {part: sum(row.active for row in rows if row.component == part) for part in get_args(Part)}
    return Parameters(
        **totals,
        active_feed_forward=active["feed_forward"],
        active_multi_token=active["multi_token"],
        input_embedding=cfg.vocab_size * cfg.d_model,
    )
