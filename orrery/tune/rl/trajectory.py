"""What was said in one episode, as ids, and who wrote each of them.

    prompt . answer              one turn
    prompt . answer . observation . answer . ...

The ids are those that were read and drawn; no text is encoded a second time, so what is learned from is what was said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from orrery.tune.rl.problems import Problem


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One thing said: `read` are the ids put before it (the prompt, or an observation), `ids` those the model wrote.

    Attributes:
        logprobs: of `ids`, as the engine that drew them says, in nats, at temperature 1.
        text: what it says, without control tokens. raw: with them. whole: it ended by itself.
        reward: of this turn, as the environment gave it.
    """

    read: tuple[int, ...]
    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    text: str
    raw: str
    whole: bool
    reward: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """One episode: a problem and the turns.

    Attributes:
        group: which answers belong together: those to one drawing of a problem.
        truncated: it was cut off: an answer or a further turn had no room.
        experts: by layer, those that its tokens were sent to, where that is noted (`routing`).
        verdict: the sum of the environment's rewards. rewards: of each turn, all terms and weights included. parts: of the terms.
    """

    problem: Problem
    group: int
    turns: tuple[Turn, ...]
    conversation: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)
    truncated: bool = False
    experts: tuple[Tensor, ...] = field(default=(), repr=False, compare=False)
    rewards: tuple[float, ...] = ()
    parts: Mapping[str, float] = field(default_factory=dict)

    @property
    def verdict(self) -> float:
        return sum(turn.reward for turn in self.turns)

    @property
    def right(self) -> float:
        """The last turn's verdict where the episode came to an end, whatever it was worth by then: 1 is right."""
        return float(self.turns[-1].reward > 0)

    @property
    def reward(self) -> float:
        return sum(self.rewards)

    @property
    def ids(self) -> list[int]:
        """All of it, end to end."""
        return [id for turn in self.turns for id in (*turn.read, *turn.ids)]

    @property
    def written(self) -> list[int]:
        """The ids the model wrote."""
        return [id for turn in self.turns for id in turn.ids]

    @property
    def places(self) -> list[int]:
        """Where in `ids` the written ones stand."""
        found: list[int] = []
        at = 0
        for turn in self.turns:
            at += len(turn.read)
            found += range(at, at + len(turn.ids))
            at += len(turn.ids)
        return found

    def scored(self, rewards: Sequence[float], parts: Mapping[str, float]) -> Trajectory:
        """The same with its rewards."""
        return replace(self, rewards=tuple(rewards), parts=dict(parts))
