"""Pairs of a better and a worse answer, and whether a score tells them apart: RewardBench's measurement (Lambert et al. 2024,
arXiv:2403.13787), for whatever gives an answer a number.

    accuracy = share of pairs with score(chosen) > score(rejected)          equal scores count one half

A chat model is such a score by the log-probability it gives the answer behind the prompt; a reward model is another, passed in as a
function. RewardBench's own subsets are gathered into its four sections; other sets (HHH alignment) are reported by category.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from orrery.evaluate.statistics.estimate import Estimate, mean_estimate
from orrery.kit.errors import OrreryError
from orrery.kit.json_lines import read_rows
from orrery.kit.lm import ScoreRequest
from orrery.serve.chat_model import plain_text
from orrery.serve.lm import LM

Message = Mapping[str, Any]
Scorer = Callable[[Sequence[Sequence[Message]]], Sequence[float]]
"""Conversations that end with the answer in question -> a number each, higher for better; nan where there is none."""

SECTIONS = {
    "Chat": ("alpacaeval-easy", "alpacaeval-length", "alpacaeval-hard", "mt-bench-easy", "mt-bench-med"),
    "Chat Hard": (
        "mt-bench-hard", "llmbar-natural", "llmbar-adver-neighbor", "llmbar-adver-GPTInst", "llmbar-adver-GPTOut", "llmbar-adver-manual",
    ),
    "Safety": ("refusals-dangerous", "refusals-offensive", "xstest-should-refuse", "xstest-should-respond", "donotanswer"),
    "Reasoning": ("math-prm", "hep-cpp", "hep-go", "hep-java", "hep-js", "hep-python", "hep-rust"),
}  # fmt: skip
"""RewardBench's subsets by section."""


@dataclass(frozen=True, kw_only=True)
class AnswerPair:
    """A conversation up to the last request, a better answer to it and a worse one."""

    prompt: tuple[Message, ...]
    chosen: str
    rejected: str
    category: str = ""


@dataclass(frozen=True, kw_only=True)
class PairAccuracy:
    """accuracy: over all scored pairs. categories, sections: the same by category, and by RewardBench's sections where its subsets
    are present. section_mean: the sections' mean, each counting once. unscored: pairs one of whose answers got no number."""

    accuracy: Estimate
    unscored: int
    categories: Mapping[str, Estimate]
    sections: Mapping[str, float] = field(default_factory=dict)

    @property
    def section_mean(self) -> float:
        """RewardBench's score; nan without its subsets."""
        return sum(self.sections.values()) / len(self.sections) if self.sections else math.nan


def read_pairs(path: str | Path) -> list[AnswerPair]:
    """Pairs of a JSON-lines file: prompt (a text, or messages), chosen, rejected, and subset or category.

    Raises:
        OrreryError: a file that cannot be read, or a line without one of them.
    """
    made = []
    for number, row in enumerate(read_rows(path), start=1):
        try:
            prompt, chosen, rejected = row["prompt"], row["chosen"], row["rejected"]
        except KeyError as error:
            raise OrreryError(f"'{path}' line {number} is no pair: it has no {error}") from None
        messages = ({"role": "user", "content": prompt},) if isinstance(prompt, str) else tuple(prompt)
        category = str(row.get("subset", row.get("category", "")))
        made.append(AnswerPair(prompt=messages, chosen=chosen, rejected=rejected, category=category))
    return made


def pair_accuracy(pairs: Sequence[AnswerPair], scorer: Scorer) -> PairAccuracy:
    """How often the scorer gives the better answer the higher number."""
    said = [
        [*pair.prompt, {"role": "assistant", "content": answer}]
        for pair in pairs
        for answer in (pair.chosen, pair.rejected)
    ]
    scores = list(scorer(said))
    right: list[float | None] = []
    for chosen, rejected in zip(scores[::2], scores[1::2], strict=True):
        known = not (math.isnan(chosen) or math.isnan(rejected))
        right.append((float(chosen > rejected) + float(chosen >= rejected)) / 2 if known else None)
    by: dict[str, list[float]] = {}
    for pair, value in zip(pairs, right, strict=True):
        if value is not None:
            by.setdefault(pair.category, []).append(value)
    return PairAccuracy(
        accuracy=mean_estimate([value for value in right if value is not None]),
        unscored=sum(value is None for value in right),
        categories={name: mean_estimate(values) for name, values in sorted(by.items()) if name},
        sections=_sections(by),
    )


def likelihood_scorer(
    lm: LM, *, per: Literal["text", "token", "byte"] = "text", chat: bool | None = None
) -> Scorer:
    """log p(answer | conversation), of the whole text or by its length.

    Args:
        per: "text" favours short answers (each token costs), "token" and "byte" do not.
        chat: by the model's chat format, or as plain text; None: by the format where the model has one. An answer beyond the context
            is scored within its end.
    """
    by_format = lm.chat is not None if chat is None else chat

    def request(said: Sequence[Message]) -> ScoreRequest:
        *prompt, answer = said
        if by_format:
            assert lm.chat is not None
            head, whole = lm.chat.prompt(prompt), lm.chat.render(said).ids
            if whole[: len(head)] != head:
                raise OrreryError(
                    "the chat format changes the prompt once it is answered; score with chat=False"
                )
            return ScoreRequest(ids=_trimmed(lm, whole), start=len(head))
        head = lm.prompt_ids(plain_text(prompt))
        return ScoreRequest(ids=[*head, *lm.tokenizer.encode(f" {answer['content']}")], start=len(head))

    def scorer(conversations: Sequence[Sequence[Message]]) -> list[float]:
        requests = [request(said) for said in conversations]
        known = [r for r in requests if len(r.ids) > r.start]
        scores = iter(lm.score(known)) if known else iter(())
        made = []
        for r in requests:
            if len(r.ids) <= r.start:  # an answer without a token
                made.append(math.nan)
                continue
            score = next(scores)
            made.append(-score.nats / {"text": 1, "token": score.tokens, "byte": max(score.bytes, 1)}[per])
        return made

    return scorer


def _trimmed(lm: LM, ids: Sequence[int]) -> list[int]:
    """Up to and with the id that ends the answer: what a format writes behind it is the same for every answer."""
    for end in range(len(ids), 0, -1):
        if ids[end - 1] in lm.stop_ids:
            return list(ids[:end])
    return list(ids)


def _sections(by: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Accuracy of each section over its pairs; in Reasoning, mathematics counts as much as all code together."""
    made = {}
    for section, subsets in SECTIONS.items():
        there = {name: by[name] for name in subsets if by.get(name)}
        maths = there.pop("math-prm", None)
        rest = [value for values in there.values() for value in values]
        parts = [sum(values) / len(values) for values in (maths, rest) if values]
        if parts:
            made[section] = sum(parts) / len(parts)
    return made
