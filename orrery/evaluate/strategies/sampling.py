"""Strategies that draw whole answers: one, one with its steps, the majority's of n, the best of n."""

from __future__ import annotations

from collections import Counter

from orrery.evaluate.scorers.samples import majority_vote
from orrery.evaluate.strategies.config import BestOfN, ChainOfThought, Direct, SelfConsistency
from orrery.evaluate.strategies.judging import Reward, best, scores
from orrery.evaluate.strategies.play import Found, Play
from orrery.evaluate.strategies.voice import Question, Said, Voice
from orrery.kit.lm import Completion


def direct(cfg: Direct, voice: Voice, question: Question, seed: int) -> Play:
    """One answer."""
    (done,) = yield [voice.ask(question, seed=seed, temperature=cfg.temperature, max_tokens=cfg.max_tokens)]
    return _one(voice, question, done)


def chain_of_thought(cfg: ChainOfThought, voice: Voice, question: Question, seed: int) -> Play:
    """One answer behind its steps."""
    asked = question.with_instruction(cfg.instruction)
    request = voice.ask(asked, seed=seed, temperature=cfg.temperature, max_tokens=cfg.max_tokens, steps=True)
    (done,) = yield [request]
    return _one(voice, asked, done)


def self_consistency(cfg: SelfConsistency, voice: Voice, question: Question, seed: int) -> Play:
    """The first sample with the final answer that most samples have; samples without one have no vote."""
    asked = question.with_instruction(cfg.instruction)
    (done,) = yield [
        voice.ask(
            asked, seed=seed, temperature=cfg.temperature, n=cfg.n, max_tokens=cfg.max_tokens, steps=True
        )
    ]
    said = voice.hear(asked, done)
    assert question.key is not None  # `require` saw to it
    keys = [question.key(one.text) for one in said]
    winner = majority_vote(keys)
    votes = Counter(str(key) for key in keys if key is not None)
    trace = [{"step": "sample", **_told(one), "vote": None if key is None else str(key)} for one, key in zip(said, keys, strict=True)]  # fmt: skip
    trace.append({"step": "vote", "votes": dict(votes.most_common()), "unread": keys.count(None)})
    return Found(said[keys.index(winner)].text, trace)


def best_of_n(cfg: BestOfN, voice: Voice, question: Question, seed: int, reward: Reward | None) -> Play:
    """The sample with the best score; of equals the first."""
    asked = question.with_instruction(cfg.instruction)
    (done,) = yield [
        voice.ask(
            asked, seed=seed, temperature=cfg.temperature, n=cfg.n, max_tokens=cfg.max_tokens, steps=True
        )
    ]
    said = voice.hear(asked, done)
    values = scores(cfg.by, asked, said, reward)
    chosen = best(values)
    trace = [{"step": "sample", **_told(one), cfg.by: value} for one, value in zip(said, values, strict=True)]
    trace.append({"step": "choose", "sample": chosen})
    return Found(said[chosen].text, trace)


def _one(voice: Voice, question: Question, done: Completion) -> Found:
    (said,) = voice.hear(question, done)
    return Found(said.text, [{"step": "answer", **_told(said)}])


def _told(said: Said) -> dict[str, object]:
    """What the trace says of a completion."""
    told: dict[str, object] = {"text": said.text, "tokens": said.tokens}
    return told | ({"thought": said.thought} if said.thought else {}) | ({} if said.whole else {"cut": True})
