"""Texts that must be the same: as they are, or after normalisation, or as one of several aliases."""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Mapping
from typing import Any

from orrery.evaluate.scorers.base import ScoreContext

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = re.compile(f"[{re.escape(string.punctuation)}‘’“”´–—…。，、！？：；「」（）]")


def normalise(text: str) -> str:
    """Lower case, one width of characters, no punctuation, no articles (a, an, the), single spaces (SQuAD's rule)."""
    text = unicodedata.normalize("NFKC", text).lower()
    return " ".join(_ARTICLES.sub(" ", _PUNCTUATION.sub("", text)).split())


def golds(row: Mapping[str, Any], context: ScoreContext) -> list[str]:
    """The gold answer and the row's `aliases`."""
    return [context.target, *(str(alias) for alias in row.get("aliases", ()))]


def score(answer: str, row: Mapping[str, Any], context: ScoreContext, /) -> Mapping[str, float]:
    """exact_match: the same text after normalisation as the gold or one of the row's `aliases`."""
    said = normalise(answer)
    return {"exact_match": float(any(said == normalise(gold) for gold in golds(row, context)))}


def score_verbatim(answer: str, row: Mapping[str, Any], context: ScoreContext, /) -> Mapping[str, float]:
    """exact_match: the same text but for spaces at both ends; case and punctuation count. Aliases as above."""
    return {"exact_match": float(any(answer.strip() == gold.strip() for gold in golds(row, context)))}


def score_contains(answer: str, row: Mapping[str, Any], context: ScoreContext, /) -> Mapping[str, float]:
    """contains: the gold or an alias stands somewhere in the answer as whole words, after normalisation."""
    said = f" {normalise(answer)} "
    wanted = [normalise(gold) for gold in golds(row, context)]
    return {"contains": float(any(gold and f" {gold} " in said for gold in wanted))}
