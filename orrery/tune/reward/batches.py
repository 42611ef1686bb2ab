"""Batches of items as a pure function of (seed, step): answers that begin alike are stored behind one beginning.

loader = RewardLoader([items], RewardLoaderConfig(rows=8), fingerprint="...")
loader.batch(step=100)

T stored tokens, N scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from orrery.data.batch import Batch, Piece
from orrery.data.set_draws import SetDraws
from orrery.kit.config import digest, to_dict
from orrery.kit.errors import OrreryError
from orrery.model.adapters.virtual import PLACEHOLDER
from orrery.model.packed import Packed
from orrery.tune.forked import Forked, layout
from orrery.tune.reward.config import RewardLoaderConfig
from orrery.tune.reward.items import Item, fingerprint_of


@dataclass(frozen=True, kw_only=True)
class ScoreBatch(Batch):
    """Items in one pass.

    Attributes:
        rows: (N,) which states are scored, item by item, answer by answer, place by place. labels: (N,).
        margins: (items,). index, back, whole: as `forked.layout` gives them.
    """

    rows: Tensor
    labels: Tensor
    margins: Tensor
    index: Tensor
    back: Tensor
    whole: tuple[int, ...]

    def context(self) -> Forked | Packed:
        """What each token may see."""
        if len(self.index) == len(self):  # nothing is shared: the runs are the sequences
            return Packed(self.lengths, device=self.tokens.device)
        whole = Packed(self.whole, device=self.tokens.device)
        return Forked(whole, self.index, self.back, self.lengths)

    def to(self, device: torch.device | str) -> ScoreBatch:
        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{n: v.to(device) for n, v in moved.items() if isinstance(v, Tensor)})


def batch_of_items(
    items: Sequence[Item],
    *,
    share: bool = True,
    virtual: int = 0,
    numbers: Sequence[tuple[int, int]] = (),
) -> ScoreBatch:
    """Items as one pass.

    Args:
        share: store what the answers of an item begin with once. virtual: ids for an adapter's virtual tokens before everything.
        numbers: set and number of each item, for the log of what was in a batch.
    """
    origins = list(numbers) or [(0, n) for n in range(len(items))]
    groups, owners = list(items), origins
    if not share:
        groups = [one for item in items for one in alone(item)]
        owners = [origin for item, origin in zip(items, origins, strict=True) for _ in item.ids]
    common = [item.common for item in groups]
    heads = [[PLACEHOLDER] * virtual + list(item.ids[0][:n]) for item, n in zip(groups, common, strict=True)]
    tails = [[one[n:] for one in item.ids] for item, n in zip(groups, common, strict=True)]
    index, back, whole, begins = layout([len(h) for h in heads], [[len(t) for t in group] for group in tails])
    tokens: list[int] = []
    lengths: list[int] = []
    rows: list[int] = []
    pieces: list[Piece] = []
    begin = iter(begins)
    for item, (part, number), n, head, rest in zip(groups, owners, common, heads, tails, strict=True):
        first = len(tokens) + virtual
        runs = [run for run in (head, *rest) if run]
        tokens += [id for run in runs for id in run]
        lengths += map(len, runs)
        pieces += [Piece(number, 0, len(run), part) for run in runs]
        for places in item.places:
            tail = next(begin)
            rows += [first + place if place < n else tail + place - n for place in places]
    weights = torch.zeros(len(tokens))
    weights[rows] = 1.0
    labels = [label for item in items for label in item.labels]
    return ScoreBatch(
        tokens=torch.tensor(tokens), targets=torch.where(weights > 0, 0, -1), weights=weights, lengths=tuple(lengths),
        rows=torch.tensor(rows), labels=torch.tensor(labels), margins=torch.tensor([item.margin for item in items]), index=index,
        back=back, whole=tuple(whole), pieces=tuple(pieces),
    )  # fmt: skip


def alone(item: Item) -> list[Item]:
    """The answers of an item, each by itself."""
    return [replace(item, ids=(ids,), places=(at,)) for ids, at in zip(item.ids, item.places, strict=True)]


class RewardLoader:
    """Batches over one set of items or several (`train.step.Batches`).

    Args:
        shares: one a set, in proportion to which their items are drawn; None: each as often as it has items.
        purpose: names the loss with its settings: another one is another run.
        virtual: as `batch_of_items` takes it.

    Raises:
        OrreryError: a set without items.
    """

    rank, world = 0, 1

    def __init__(
        self, sets: Sequence[Sequence[Item]], config: RewardLoaderConfig, *, shares: Sequence[float] | None = None, purpose: Any = None,
        virtual: int = 0,
    ) -> None:  # fmt: skip
        if not sets or not all(sets):
            raise OrreryError("a set has nothing to learn from; look at its rows")
        self.sets, self.config, self.virtual = tuple(map(tuple, sets)), config, virtual
        weights = [float(x) for x in (shares or map(len, self.sets))]
        self._draws = SetDraws(list(map(len, self.sets)), weights, seed=config.seed, purpose="items")
        self._name = digest([to_dict(config), weights, purpose, [fingerprint_of(part) for part in self.sets]])

    @property
    def fingerprint(self) -> str:
        """Names the whole sequence of steps."""
        return self._name

    @property
    def steps_per_epoch(self) -> float:
        """Steps that draw as many items as all sets hold together."""
        return sum(map(len, self.sets)) / (self.config.rows * self.config.micro_batches)

    def batch(self, step: int, micro: int = 0) -> ScoreBatch:
        """Micro-batch `micro` of `step`."""
        first = (step * self.config.micro_batches + micro) * self.config.rows
        drawn = [self._draws.at(place) for place in range(first, first + self.config.rows)]
        items = [self.sets[part][number] for part, number in drawn]
        return batch_of_items(items, share=self.config.share, virtual=self.virtual, numbers=drawn)
