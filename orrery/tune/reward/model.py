"""A reward model at work: conversations in, a number for each out; alone or as an ensemble.

mean, min       of the members' scores
pessimist       mean - k std: where members disagree, nobody has seen such an answer (Coste et al. 2023, arXiv:2310.02743)

n conversations, m members.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from typing import Any, Protocol

import torch
from torch import Tensor

from orrery.serve.adapters import Adapters
from orrery.serve.lm import LM
from orrery.serve.mode import evaluating
from orrery.tune.examples import Renderer
from orrery.tune.reward.batches import batch_of_items
from orrery.tune.reward.config import Combine, Level, RewardConfig
from orrery.tune.reward.head import ScoreHead, scores_of
from orrery.tune.reward.items import Item, answer_places, cut_left, whole
from orrery.tune.reward.steps import aggregate_steps, step_ends

PASS_TOKENS = 8192
"""Ids of a pass, about."""

Conversation = Sequence[Mapping[str, Any]]


class Scored(Protocol):
    """What scores conversations."""

    def score(self, conversations: Sequence[Conversation]) -> Tensor:
        """(n,) float32; higher is better."""
        ...


@dataclass(frozen=True, kw_only=True)
class RewardModel:
    """A model and its head.

    Attributes:
        level: what it has learned to judge. A pair model's score has no zero of its own; an outcome model's is the logit of being
            right; a process model's is the probability that all steps are, as `cfg.aggregate` has it.
        system: the system message in front of conversations that have none.
    """

    lm: LM
    head: ScoreHead
    level: Level = "pair"
    cfg: RewardConfig = field(default_factory=RewardConfig)
    system: str = ""

    def score(self, conversations: Sequence[Conversation]) -> Tensor:
        """(n,) the score of the last answer of each. What is longer than the context loses its beginning; an answer that has no room there
        gets nan.

        Raises:
            OrreryError: a conversation that does not end with an answer, or that the chat format refuses.
        """
        if not conversations:
            return torch.zeros(0)
        if self.level != "process":
            return torch.cat(self._read(conversations, steps=False))
        found = self._read(conversations, steps=True)
        return torch.stack([aggregate_steps(scores, self.cfg.aggregate) for scores in found])

    def score_steps(self, conversations: Sequence[Conversation]) -> list[Tensor]:
        """For each conversation the probabilities, (steps,), that the steps of its last answer are right.

        Raises:
            OrreryError: as `score`.
        """
        return [torch.sigmoid(scores) for scores in self._read(conversations, steps=True)]

    @cached_property
    def _renderer(self) -> Renderer:
        return Renderer(tokenizer=self.lm.tokenizer, chat=self.lm.chat, system=self.system, learn="last")

    def _read(self, conversations: Sequence[Conversation], *, steps: bool) -> list[Tensor]:
        """The head's numbers of each conversation; a nan for one whose answer has no room."""
        model, virtual = self.lm.model, Adapters.of(self.lm.model).virtual_tokens(None)
        items = [self._item(said, steps, self.lm.context - virtual) for said in conversations]
        found: list[Tensor] = []
        with torch.no_grad(), evaluating(model):
            for part in _passes(_grouped(conversations, items)):
                batch = batch_of_items(part, share=not model.state_spec(), virtual=virtual).to(model.device)
                scores = scores_of(model, self.head, batch).cpu()
                found += scores.split([len(places) for item in part for places in item.places])
        known = iter(found)
        return [torch.full((1,), math.nan) if item is None else next(known) for item in items]

    def _item(self, said: Conversation, steps: bool, room: int) -> Item | None:
        """A conversation within the context; None where that would cut its answer, or there is no step to judge."""
        example = whole(self._renderer, said)
        places: tuple[int, ...] = (len(example.ids) - 1,)
        if steps:
            text = str(said[-1]["content"])
            places = answer_places(self._renderer, example, text, step_ends(text, self.cfg.separator))
        if not places:
            return None
        item = Item(ids=(example.ids,), places=(places,))
        if item.longest <= room:
            return item
        begins = next(place for place, weight in enumerate(example.weights) if weight)
        cut = cut_left(item, room, self.lm.tokenizer.bos_id)
        return cut if cut is not None and begins >= item.longest - room else None


@dataclass(frozen=True, kw_only=True)
class RewardEnsemble:
    """Several reward models as one."""

    members: tuple[Scored, ...]
    combine: Combine = "mean"
    k: float = 1.0

    def score(self, conversations: Sequence[Conversation]) -> Tensor:
        """(n,) what the members agree on."""
        return combined(torch.stack([one.score(conversations) for one in self.members]), self.combine, self.k)


def combined(scores: Tensor, how: Combine, k: float = 1.0) -> Tensor:
    """(m, n) scores by members -> (n,). The deviation of a single member is 0."""
    match how:
        case "mean":
            return scores.mean(0)
        case "min":
            return scores.amin(0)
    return scores.mean(0) - k * scores.std(0, correction=0)


def as_learned(model: Scored) -> Any:
    """The function that reinforcement learning (`rl.rewards`) and pair accuracy (`evaluate.judge.reward`) call."""
    return lambda conversations: model.score(conversations).tolist()


def _grouped(conversations: Sequence[Conversation], items: Sequence[Item | None]) -> Iterator[Item]:
    """Neighbours that answer one prompt, as one item."""
    known = [(said, item) for said, item in zip(conversations, items, strict=True) if item is not None]
    for _, same in groupby(known, key=lambda one: list(one[0][:-1])):
        group = [item for _, item in same]
        yield Item(ids=tuple(one.ids[0] for one in group), places=tuple(one.places[0] for one in group))


def _passes(items: Iterator[Item]) -> Iterator[list[Item]]:
    """Items in order, in parts of about so many ids."""
    part: list[Item] = []
    size = 0
    for item in items:
        more = sum(map(len, item.ids)) - item.common * (len(item.ids) - 1)
        if part and size + more > PASS_TOKENS:
            yield part
            part, size = [], 0
        part.append(item)
        size += more
    if part:
        yield part
