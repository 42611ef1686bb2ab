"""Overlap of words with a gold answer: DROP's and SQuAD's F1 (Dua et al. 2019, arXiv:1903.00161; Rajpurkar et al. 2016).

    precision = common / said     recall = common / gold     F1 = 2 p r / (p + r)     common: the multiset of shared words

As in DROP, an answer without the gold's number scores 0, and several gold spans are matched with the answer's spans one to one, so
that the sum of F1 is largest.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from orrery.evaluate.scorers.base import ScoreContext
from orrery.evaluate.scorers.exact import normalise
from orrery.evaluate.scorers.final_answer import MAX_CHARACTERS
from orrery.evaluate.scorers.numbers import find_numbers

MAX_SPANS = 10


def word_f1(said: str, gold: str) -> float:
    """F1 of the words of two texts after normalisation; 0 where the gold has numbers and shares none of them; two empty texts: 1."""
    a, b = _bag(said), _bag(gold)
    if not a or not b:
        return float(a == b)
    numbers = {word for word in b if word[0].isdigit() or word[0] == "-"}
    if numbers and not numbers & set(a):
        return 0.0
    common = sum((a & b).values())
    return 2 * common / (sum(a.values()) + sum(b.values()))


def span_f1(said: Sequence[str], gold: Sequence[str]) -> float:
    """The mean F1 over spans of the best one-to-one matching; spans without a partner count 0. At most MAX_SPANS of each are read."""
    said = [text[:MAX_CHARACTERS] for text in said][:MAX_SPANS]
    gold = list(gold)[:MAX_SPANS]
    table = [[word_f1(one, other) for other in said] for one in gold]

    @cache
    def best(at: int, taken: int) -> float:
        """The largest sum for gold spans from `at`, with the bits of `taken` answers used."""
        if at == len(gold):
            return 0.0
        used = [
            table[at][other] + best(at + 1, taken | 1 << other)
            for other in range(len(said))
            if not taken >> other & 1
        ]
        return max([*used, best(at + 1, taken)])

    return best(0, 0) / max(len(said), len(gold), 1)


def score(answer: str, row: Mapping[str, Any], context: ScoreContext, /) -> Mapping[str, float]:
    """exact_match and f1, the best over the gold answer and the row's `aliases`; an alias may be a list of spans.

    Against a list of spans the answer is cut at commas, semicolons, line ends and "and".
    """
    answers: list[str | Sequence[str]] = [context.target] if context.target.strip() else []
    answers += row.get("aliases", ())
    exact, f1 = 0.0, 0.0
    for gold in answers:
        spans = [gold] if isinstance(gold, str) else list(gold)
        said = (
            [answer]
            if len(spans) == 1
            else [part for part in re.split(r",|;|\n|\band\b", answer) if part.strip()]
        )
        exact = max(exact, float(Counter(map(_plain, said)) == Counter(map(_plain, spans))))
        f1 = max(f1, span_f1(said, spans))
    return {"exact_match": exact, "f1": f1}


def _plain(text: str) -> str:
    return " ".join(sorted(_bag(text).elements()))


def _bag(text: str) -> Counter[str]:
    """Words, with numbers in one way of writing: 1,080 and 1080.0 are the same word."""
    words = []
    for word in re.split(r"[\s\-–—]+(?!\d)|\s+", text.strip()):
        stripped = word.strip(".,;:!?\"'()[]$€£%")
        numbers = find_numbers(stripped)
        if numbers and numbers[0].start == 0 and numbers[0].end == len(stripped):
            words.append(str(numbers[0].value))
        else:
            words.extend(normalise(word).split())
    return Counter(words)
