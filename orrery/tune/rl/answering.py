"""Who answers the problems of a round: the live engine, here and at once, or workers elsewhere (`workers`).

    answers = who.ask(problems, responses=8, seed=1)        begins, with the weights as they are now
    answers()                                               waits; the episodes, in the order of the problems

What is answered does not depend on who answers: the draws are keyed by the problem's place (see `rollout`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from orrery.model.decoder import Decoder
from orrery.serve.engine.config import EngineConfig
from orrery.serve.engine.engine import Engine
from orrery.serve.lm import LM
from orrery.tune.rl.config import RlConfig
from orrery.tune.rl.environment import Environment, opener
from orrery.tune.rl.problems import Problem
from orrery.tune.rl.rollout import Speaker
from orrery.tune.rl.routing import with_experts
from orrery.tune.rl.trajectory import Trajectory

Answers = Callable[[], list[Trajectory]]
"""Waits for episodes that are under way."""


class Answering(Protocol):
    """Who answers."""

    def ask(
        self, problems: Sequence[Problem], *, responses: int, seed: int, temperature: float = 1.0, first: int = 0
    ) -> Answers:  # fmt: skip
        """Begin, with the weights as they are now; see `Speaker.play`."""
        ...

    def weights_changed(self) -> None:
        """Said after every change of the weights."""
        ...


@dataclass(frozen=True, kw_only=True)
class Here:
    """The live engine in this process: it answers before it returns. `notes`: it adds the experts of what is drawn."""

    speaker: Speaker
    world: Callable[[], Environment]
    notes: Callable[[list[Trajectory]], list[Trajectory]] | None = None

    @staticmethod
    def of(cfg: RlConfig, lm: LM, *, system: str, virtual: int = 0) -> Here:
        """As the run is set up; `virtual`: tokens of an adapter that stand before every conversation."""
        most = max(1, cfg.rollout.prompts) * cfg.rollout.responses
        engine = Engine(lm, EngineConfig(max_sequences=min(256, most)))
        speaker = Speaker(
            engine=engine, max_tokens=cfg.rollout.max_tokens, stop=cfg.rollout.stop, system=system
        )
        notes = partial(with_experts, model=lm.model, tokens=cfg.rollout.micro_tokens, virtual=virtual)
        return Here(
            speaker=speaker, world=opener(cfg.environment), notes=notes if cfg.router_replay else None
        )

    def ask(
        self, problems: Sequence[Problem], *, responses: int, seed: int, temperature: float = 1.0, first: int = 0
    ) -> Answers:  # fmt: skip
        """See `Answering.ask`."""
        played = self.speaker.play(
            problems, self.world, responses=responses, seed=seed, temperature=temperature, first=first
        )
        if self.notes is not None and temperature:  # what is only measured with is not learned from
            played = self.notes(played)
        return lambda: played

    def weights_changed(self) -> None:
        """What the engine has cached is of the old ones."""
        self.speaker.engine.weights_changed()


def copied(model: Decoder) -> Decoder:
    """The model as it is now, without the critic that learns beside it."""
    made = deepcopy(model)
    if hasattr(made, "critic"):
        del made.critic
    return made.eval()
