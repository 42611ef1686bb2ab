"""Tree of thought: thoughts proposed by the model, judged, and searched breadth first or depth first with going back.

Yao et al. 2023, arXiv:2305.10601, algorithms 1 and 2.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic

from orrery.evaluate.strategies.config import Tree
from orrery.evaluate.strategies.games import Game, S
from orrery.evaluate.strategies.play import Found, Play, Trace
from orrery.evaluate.strategies.voice import Question, Voice
from orrery.evaluate.template import render
from orrery.kit.lm import Completion, GenerateRequest
from orrery.kit.seeds import key

WORTH = {"sure": 20.0, "likely": 1.0, "impossible": 0.001}
"""What a judgement counts, as in the paper's Game of 24."""
_WORD = re.compile("|".join(WORTH), re.I)


def tree(cfg: Tree, game: Game[Any], voice: Voice, question: Question, seed: int) -> Play:
    """The answer of the first state that is one, the most valued of its depth; where none is found, of the most valued state seen."""
    search = _Search(cfg, game, voice, question, seed)
    walk = _breadth_first(search) if cfg.search == "bfs" else _depth_first(search, game.start(), 0)
    end = yield from walk
    state = end if end is not None else search.best
    search.trace.append({"step": "end", "found": end is not None, "visits": search.visits})
    return Found(game.answer(state), search.trace)


@dataclass
class _Search(Generic[S]):
    """What both searches share: asking for thoughts and judgements, and the account of them."""

    cfg: Tree
    game: Game[S]
    voice: Voice
    question: Question
    seed: int
    trace: Trace = field(default_factory=list)
    visits: int = 0
    asked: int = 0

    def __post_init__(self) -> None:
        self.best: S = self.game.start()

    def request(self, template: str, state: S, n: int) -> GenerateRequest:
        """A prompt about a state; the same state asked about again draws anew."""
        text = render(template, {**self.question.fields, **self.game.fields(state)})
        asked = self.question.asking(text)
        self.asked += 1
        return self.voice.request(
            self.voice.prompt(asked), seed=key(self.seed, "tree", self.asked), temperature=self.cfg.temperature, n=n,
            max_tokens=self.cfg.max_tokens, stop=("\n\n",) if asked.messages is None else (),
        )  # fmt: skip

    def propose(
        self, states: Sequence[S]
    ) -> Generator[Sequence[GenerateRequest], Sequence[Completion], list[list[S]]]:
        """The legal next states of each state."""
        self.visits += len(states)
        template = self.cfg.propose or self.game.propose
        completions = yield [self.request(template, state, self.cfg.samples) for state in states]
        return [
            self.game.moves(state, [said.text for said in self.voice.hear(self.question, done)])
            for state, done in zip(states, completions, strict=True)
        ]

    def judge(
        self, states: Sequence[S]
    ) -> Generator[Sequence[GenerateRequest], Sequence[Completion], list[float]]:
        """What each state is worth: by the game itself, or by the votes of the model."""
        if self.cfg.evaluator == "exact":
            return [float(self.game.value(state) or 0.0) for state in states]
        template = self.cfg.evaluate or self.game.evaluate
        completions = yield [self.request(template, state, self.cfg.votes) for state in states]
        return [
            sum(map(worth, (said.text for said in self.voice.hear(self.question, done))))
            for done in completions
        ]

    def note(self, step: str, state: S, value: float | None = None) -> None:
        told = {"step": step, "state": self.game.answer(state) or self.game.fields(state)["state"]}
        self.trace.append(told if value is None else {**told, "value": value})


def worth(said: str) -> float:
    """What the last word of judgement in a text counts; a text without one says nothing and counts 0."""
    words = _WORD.findall(said)
    return WORTH[words[-1].lower()] if words else 0.0


Walk = Generator[Sequence[GenerateRequest], Sequence[Completion], S | None]


def _breadth_first(search: _Search[S]) -> Walk[S]:
    cfg, game = search.cfg, search.game
    frontier = [game.start()]
    for _ in range(cfg.depth):
        frontier = frontier[: cfg.visits - search.visits]
        if not frontier:
            return None
        proposed = yield from search.propose(frontier)
        children = list(dict.fromkeys(child for of in proposed for child in of))
        if not children:
            return None
        values = yield from search.judge(children)
        order = sorted(range(len(children)), key=lambda i: -values[i])
        ranked = [children[i] for i in order]
        search.best = ranked[0]
        for i in order[: cfg.width]:
            search.note("keep", children[i], values[i])
        if ends := [child for child in ranked if game.over(child)]:
            return ends[0]
        frontier = ranked[: cfg.width]
    return None


def _depth_first(search: _Search[S], state: S, depth: int) -> Walk[S]:
    cfg, game = search.cfg, search.game
    if depth >= cfg.depth or search.visits >= cfg.visits:
        return None
    ((*children,),) = yield from search.propose([state])
    if not children:
        search.note("dead end", state)
        return None
    if ends := [child for child in children if game.over(child)]:
        search.note("answer", ends[0])
        return ends[0]
    values = yield from search.judge(children)
    for i in sorted(range(len(children)), key=lambda i: -values[i]):
        child, value = children[i], values[i]
        if value < cfg.threshold:
            search.note("cut", child, value)
            continue
        search.note("go", child, value)
        search.best = child
        end = yield from _depth_first(search, child, depth + 1)
        if end is not None:
            return end
        search.note("back", state)
    return None
