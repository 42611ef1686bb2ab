"""Items as one pass: a prompt stands once before its answers, and only the states that predict an answer's ids are read.

T stored tokens, N ids to be written, A answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from orrery.data.batch import Batch
from orrery.model.adapters.virtual import PLACEHOLDER
from orrery.model.packed import Packed
from orrery.tune.forked import Forked, layout
from orrery.tune.preference.answers import Item


@dataclass(frozen=True, kw_only=True)
class AnswerBatch(Batch):
    """Answers in one pass, item by item.

    Attributes:
        rows: (N,) which states predict the ids to be written, wanted: (N,) these ids, owner: (N,) whose they are.
        written: (A,) how many each answer has. reference: (A,) log-probabilities under the reference; None: none is asked.
        up: (A,) bool, of thumbs. step: of the run.
        index, back, whole: as `forked.layout` gives them; forked: whether the stored tokens are not just these sequences in this order.
    """

    rows: Tensor
    wanted: Tensor
    owner: Tensor
    written: Tensor
    index: Tensor
    back: Tensor
    whole: tuple[int, ...]
    forked: bool
    reference: Tensor | None = None
    up: Tensor | None = None
    step: int = 0

    def context(self) -> Forked | Packed:
        """What each token may see."""
        packed = Packed(self.whole, device=self.tokens.device)
        return Forked(packed, self.index, self.back, self.lengths) if self.forked else packed

    def to(self, device: torch.device | str) -> AnswerBatch:
        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{n: v.to(device) for n, v in moved.items() if isinstance(v, Tensor)})


def batch_of_items(items: Sequence[Item], *, share: bool = True, virtual: int = 0) -> AnswerBatch:
    """Items as one pass, answers in their order.

    Args:
        share: prompts are stored once; items with one prompt share it too. virtual: ids for an adapter's virtual tokens before each.
    """
    answers = [
        (item.head, tail, places)
        for item in items
        for tail, places in zip(item.tails, item.learned, strict=True)
    ]
    groups: dict[tuple[object, ...], list[int]] = {}
    for number, (head, _, _) in enumerate(answers):
        groups.setdefault(head if share else (number,), []).append(number)
    ordered = sorted(
        groups.values(), key=lambda group: max(len(answers[n][0]) + len(answers[n][1]) for n in group)
    )
    heads = [[PLACEHOLDER] * virtual + list(answers[group[0]][0]) for group in ordered]
    tails = [[answers[number][1][:-1] for number in group] for group in ordered]
    index, back, whole, begins = layout([len(h) for h in heads], [[len(t) for t in group] for group in tails])
    tokens: list[int] = []
    lengths: list[int] = []
    rows: list[list[int]] = [[] for _ in answers]
    begin = iter(begins)
    for group, head, rest in zip(ordered, heads, tails, strict=True):
        last = len(tokens) + len(head) - 1  # the state of the prompt's end predicts every first id
        tokens += [id for run in (head, *rest) for id in run]
        lengths += [len(run) for run in (head, *rest) if run]
        for number in group:
            tail = next(begin)
            rows[number] = [tail + place - 1 if place else last for place in answers[number][2]]
    wanted = [[tail[place] for place in places] for _, tail, places in answers]
    targets, weights = torch.full((len(tokens),), -1), torch.zeros(len(tokens))
    for places, ids in zip(rows, wanted, strict=True):
        targets[places], weights[places] = (
            torch.tensor(ids),
            1.0,
        )  # of several first ids behind one prompt one is shown
    written = torch.tensor([len(ids) for ids in wanted])
    return AnswerBatch(
        tokens=torch.tensor(tokens), targets=targets, weights=weights, lengths=tuple(lengths), index=index, back=back,
        whole=tuple(whole), forked=not torch.equal(index, torch.arange(len(tokens))),
        rows=torch.tensor([row for one in rows for row in one]), wanted=torch.tensor([id for ids in wanted for id in ids]),
        owner=torch.arange(len(answers)).repeat_interleave(written), written=written,
        up=torch.tensor([item.up for item in items]) if items[0].up is not None else None,
    )  # fmt: skip
