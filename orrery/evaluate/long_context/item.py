"""One question over a context that can be made of any size, and how its answer is scored.

    item = needle(Filler.of(texts), seed=0, index=3, depth=0.5)
    trial = fitted(item, Frame.of(lm), 4096)           # ids: exactly 4096 of them, chat frame and question included
    score_answer(completion.text, item)                # the share of wanted answers that stand in the text

An answer counts when it stands in the text as words of its own, in any case: "17" is not in "1170". Where it is known what an answer
looks like, only as many such words are read as are wanted, so that whoever repeats the whole context has answered nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Answers = tuple[tuple[str, ...], ...]
"""What is wanted, each with all spellings that are right."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """Attributes:
    context: the context made of so many units (words, documents, records), which grows with them; `least` units at least.
    intro, question, lead: what is said before the context, what is asked behind it, and how a base model's answer begins.
    answers: what is wanted. max_tokens: how long an answer may be. stop: texts at which a base model's answer is over.
    pattern: a regular expression of what can be an answer (seven digits, a word of the list ...); None: any text.
    tags: what is known of the item, for breaking results down: depth, position, hops ...
    """

    task: str
    index: int
    context: Callable[[int], str]
    question: str
    answers: Answers
    intro: str = ""
    lead: str = "Answer:"
    least: int = 0
    max_tokens: int = 24
    stop: tuple[str, ...] = ()
    pattern: str | None = None
    tags: Mapping[str, Any] = field(default_factory=dict)


def score_answer(text: str, item: Item) -> float:
    """The share of wanted answers of which one spelling stands in `text`; in [0, 1]."""
    return share_held(text, item.answers, pattern=item.pattern)


def share_held(text: str, answers: Sequence[Sequence[str]], *, pattern: str | None = None) -> float:
    """As `score_answer`. With a pattern only its first different matches are read, as many as there are answers."""
    if pattern is not None:
        found = re.findall(rf"(?<!\w)(?:{pattern})(?!\w)", text)
        text = "\n".join(list(dict.fromkeys(word.casefold() for word in found))[: len(answers)])
    return sum(any(holds(text, spelling) for spelling in spellings) for spellings in answers) / len(answers)


def holds(text: str, value: str) -> bool:
    """Whether `value` stands in `text` as words of its own, whatever the case and the white space."""
    pattern = r"\s+".join(map(re.escape, value.split()))
    return re.search(rf"(?<!\w){pattern}(?!\w)", text, re.IGNORECASE) is not None
