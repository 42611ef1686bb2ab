"""Batches of comparisons as a pure function of (seed, step), with what the reference says of them.

loader = PairLoader([items], PairLoaderConfig(pairs=8), references=[read_items(model, items)], purpose=loss)
loader.batch(step=100)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from orrery.data.set_draws import SetDraws
from orrery.kit.config import digest
from orrery.kit.errors import OrreryError
from orrery.tune.preference.answers import Item, fingerprint_of
from orrery.tune.preference.batches import AnswerBatch, batch_of_items
from orrery.tune.preference.config import PairLoaderConfig


@dataclass(frozen=True, kw_only=True)
class Part:
    """A set of items. `reference[i]`: the reference's log-probabilities of the answers of `items[i]`, `other[i]` of its answer to another
    prompt; empty: none is asked."""

    name: str
    items: tuple[Item, ...]
    reference: tuple[Tensor, ...] = ()
    other: tuple[Tensor, ...] = ()


class PairLoader:
    """Batches over one set of comparisons or several (`train.step.Batches`).

    Args:
        shares: one a set, in proportion to which their items are drawn; None: each as often as it has items.
        purpose: the loss with its settings: another one is another run.
        virtual: ids for an adapter's virtual tokens before every prompt.
        share: whether prompts are stored once.

    Raises:
        OrreryError: no set, or one without items.
    """

    rank, world = 0, 1

    def __init__(
        self, parts: Sequence[Part], config: PairLoaderConfig, *, shares: Sequence[float] | None = None, purpose: Any = None,
        virtual: int = 0, share: bool = True,
    ) -> None:  # fmt: skip
        empty = next((part.name for part in parts if not part.items), None)
        if empty is not None or not parts:
            raise OrreryError(
                f"the set '{empty}' has nothing to learn from; look at its rows and their lengths"
            )
        self.parts, self.config, self.virtual, self.share = (
            tuple(parts),
            config,
            virtual,
            share and config.share,
        )
        self.shares = [float(x) for x in (shares or [len(part.items) for part in parts])]
        self._draws = SetDraws(
            [len(part.items) for part in parts], self.shares, seed=config.seed, purpose="pairs"
        )
        names = [fingerprint_of(part.items) for part in parts]
        self.fingerprint = digest([config, self.shares, purpose, names])
        """Names the whole sequence of steps."""

    @property
    def steps_per_epoch(self) -> float:
        """Steps that draw as many items as all sets hold together."""
        return sum(len(part.items) for part in self.parts) / (self.config.pairs * self.config.micro_batches)

    def batch(self, step: int, micro: int = 0) -> AnswerBatch:
        """Micro-batch `micro` of `step`."""
        chosen = self._chosen(step, micro)
        made = batch_of_items([part.items[i] for part, i in chosen], share=self.share, virtual=self.virtual)
        known = [part.reference[i] for part, i in chosen if part.reference]
        return replace(made, step=step, reference=torch.cat(known) if known else None)

    def others(self, step: int, micro: int = 0) -> tuple[AnswerBatch, Tensor]:
        """The answers to other prompts in the place of the micro-batch's thumbs, and what the reference says of them (A,)."""
        chosen = self._chosen(step, micro)
        items = [part.items[i].other for part, i in chosen]
        made = batch_of_items(
            [item for item in items if item is not None], share=self.share, virtual=self.virtual
        )
        return made, torch.cat([part.other[i] for part, i in chosen])

    def drawn(self, steps: int) -> dict[str, int]:
        """How many items of each set the first `steps` steps had."""
        counts = self._draws.mixture.drawn(steps * self.config.pairs * self.config.micro_batches)
        return {part.name: count for part, count in zip(self.parts, counts, strict=True)}

    def _chosen(self, step: int, micro: int) -> list[tuple[Part, int]]:
        first = (step * self.config.micro_batches + micro) * self.config.pairs
        drawn = map(self._draws.at, range(first, first + self.config.pairs))
        return [(self.parts[which], item) for which, item in drawn]
