"""Preferences of the model's own answers: rounds in which it answers, a judge ranks, and the best is learned against the worst.

    round k    problems -> n answers each, by the live engine -> scores -> (best, worst) -> read by the reference -> `every` steps

A round is made when its first step asks for it, by the weights of that moment, and written to the run's folder before anything is
learned from it; a run that goes on after a kill reads it there. What is learned from are the ids that were drawn: no text is encoded
a second time. Problems whose answers all get one score teach nothing and are left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from orrery.data.shuffle import shuffled
from orrery.kit.config import digest
from orrery.kit.errors import OrreryError
from orrery.kit.files import atomic_write
from orrery.kit.seeds import key
from orrery.model.decoder import Decoder
from orrery.serve.engine.config import EngineConfig
from orrery.serve.engine.engine import Engine
from orrery.serve.lm import LM
from orrery.serve.mode import evaluating
from orrery.tune.preference.answers import Item
from orrery.tune.preference.batches import AnswerBatch, batch_of_items
from orrery.tune.preference.config import PreferenceConfig, needs_reference
from orrery.tune.preference.reading import read_items
from orrery.tune.rl.environment import Single, opener
from orrery.tune.rl.problems import Problem, Problems
from orrery.tune.rl.rollout import Speaker
from orrery.tune.rl.trajectory import Trajectory

Judge = Callable[[Sequence[Sequence[Mapping[str, Any]]]], Sequence[float]]
"""Conversations that end with an answer -> a number each, more is better."""
Frozen = Callable[[], AbstractContextManager[Decoder]]
"""Gives the reference model."""


@dataclass(frozen=True, kw_only=True)
class Round:
    """The pairs of a round with the reference's log-probabilities, and the mean score of all its answers."""

    items: tuple[Item, ...]
    reference: tuple[Tensor, ...]
    score: float

    def plain(self) -> dict[str, Any]:
        """JSON-able; float32 numbers come back as they were."""
        return {
            "score": self.score, "items": [asdict(item) for item in self.items], "reference": [one.tolist() for one in self.reference],
        }  # fmt: skip

    @staticmethod
    def of(plain: dict[str, Any]) -> Round:
        """What `plain` wrote."""
        items = [
            Item(
                head=tuple(one["head"]), tails=tuple(map(tuple, one["tails"])), learned=tuple(map(tuple, one["learned"])), where=one["where"]
            )
            for one in plain["items"]
        ]  # fmt: skip
        return Round(
            items=tuple(items), reference=tuple(map(torch.tensor, plain["reference"])), score=plain["score"]
        )


@dataclass(kw_only=True)
class OnlineLoader:
    """Batches of the model's own ranked answers (`train.step.Batches`).

    Attributes:
        reference: gives the model as it was at the start; None: it is the model at the start of each round.
        judge: None: the problems' own checkers.
        folder: where rounds are kept.
    """

    cfg: PreferenceConfig
    lm: LM
    problems: Problems
    folder: Path
    seed: int
    reference: Frozen | None = None
    judge: Judge | None = None
    system: str = ""
    virtual: int = 0
    rank: int = 0
    world: int = 1
    _kept: tuple[int, Round] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.online = _online(self.cfg)
        self.config = self.cfg.loader
        self.share = self.config.share and not self.lm.model.state_spec()
        self.speaker = Speaker(
            engine=Engine(self.lm, EngineConfig(max_sequences=min(256, self.online.prompts * self.online.answers))),
            max_tokens=self.online.max_tokens, stop=self.online.stop, system=self.system,
        )  # fmt: skip

    @property
    def fingerprint(self) -> str:
        """Names the run."""
        return digest([self.cfg, self.problems.fingerprint, self.system])

    def batch(self, step: int, micro: int = 0) -> AnswerBatch:
        """Micro-batch `micro` of `step`: items of its round, in an order of their own, from the beginning again where they are few."""
        number = step // self.online.every
        found = self.round(number)
        size = self.config.pairs
        first = ((step % self.online.every) * self.config.micro_batches + micro) * size
        order = key(self.seed, "round's pairs", number)
        places = [shuffled(i % len(found.items), len(found.items), order) for i in range(first, first + size)]
        made = batch_of_items([found.items[i] for i in places], share=self.share, virtual=self.virtual)
        known = torch.cat([found.reference[i] for i in places]) if found.reference else None
        return replace(made, step=step, reference=known)

    def round(self, number: int) -> Round:
        """A round: from its file, or made now.

        Raises:
            OrreryError: the first round has no two answers that are judged differently.
        """
        if self._kept is None or self._kept[0] != number:
            path = self.folder / f"{number:06}.json"
            if not path.is_file():
                found = self._made(number)
                path.parent.mkdir(parents=True, exist_ok=True)
                atomic_write(path, json.dumps(found.plain()) + "\n")
            self._kept = number, Round.of(json.loads(path.read_text(encoding="utf-8")))
        return self._kept[1]

    def scores(self, rounds: int) -> list[float]:
        """The mean score of all answers of each round so far."""
        return [self.round(number).score for number in range(rounds)]

    def mean_score(self, problems: Sequence[Problem]) -> float:
        """Of the likeliest answer to each problem."""
        played = self._play(problems, responses=1, temperature=0.0, seed=0)
        return sum(self._judged(played)) / len(played)

    def _made(self, number: int) -> Round:
        played = self._play(
            self._drawn(number), responses=self.online.answers, temperature=self.online.temperature,
            seed=key(self.seed, "round", number),
        )  # fmt: skip
        scores = self._judged(played)
        n = self.online.answers
        items = [
            item for at in range(0, len(played), n) if (item := _opposed(played[at : at + n], scores[at : at + n])) is not None
        ]  # fmt: skip
        mean = sum(scores) / len(scores)
        if not items and number == 0:
            raise OrreryError(
                f"no problem of the first round has two answers that are judged differently (mean score {mean:.3g}); take other problems, "
                "a higher temperature, or more answers"
            )
        if not items:  # nothing new to learn: the last round once more
            return replace(self.round(number - 1), score=mean)
        return Round(items=tuple(items), reference=tuple(self._reference(items)), score=mean)

    def _drawn(self, number: int) -> list[Problem]:
        """The problems of a round: all of them in turn, in an order of their own each time."""
        every = [problem for part in self.problems.sets for problem in part]
        first = number * self.online.prompts
        places = [divmod(i, len(every)) for i in range(first, first + self.online.prompts)]
        return [every[shuffled(at, len(every), key(self.seed, "problems", epoch))] for epoch, at in places]

    def _play(
        self, problems: Sequence[Problem], *, responses: int, temperature: float, seed: int
    ) -> list[Trajectory]:
        self.speaker.engine.weights_changed()
        with evaluating(self.lm.model), torch.no_grad():
            return self.speaker.play(
                problems, opener(Single()), responses=responses, temperature=temperature, seed=seed
            )

    def _judged(self, played: Sequence[Trajectory]) -> list[float]:
        if self.judge is None:
            return [one.verdict for one in played]
        return [float(score) for score in self.judge([one.conversation for one in played])]

    def _reference(self, items: Sequence[Item]) -> list[Tensor]:
        if not needs_reference(self.cfg.loss):
            return []
        if self.reference is not None:
            with self.reference() as model, evaluating(model):
                return read_items(model, items, share=self.share)
        with evaluating(self.lm.model):
            return read_items(self.lm.model, items, share=self.share, virtual=self.virtual)


def _opposed(answers: Sequence[Trajectory], scores: Sequence[float]) -> Item | None:
    """The best against the worst of the answers to one problem; of equals the first. None: all are equal."""
    best, worst = (pick(range(len(scores)), key=scores.__getitem__) for pick in (max, min))
    if scores[best] == scores[worst]:
        return None
    two = [answers[best].turns[0], answers[worst].turns[0]]
    return Item(
        head=two[0].read, tails=(two[0].ids, two[1].ids), learned=tuple(tuple(range(len(turn.ids))) for turn in two),
        where=f"problem {answers[0].problem.id}",
    )  # fmt: skip


def _online(cfg: PreferenceConfig) -> Any:
    assert cfg.online is not None
    return cfg.online
