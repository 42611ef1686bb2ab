"""How far a source supports a claim: by shared words, by a language model's likelihood, or by a judge.

Each is a function (source, claim) -> a number in [0, 1], or None where it cannot tell.

    overlap      the share of the claim's content stems in its best stretch of the source; 0 where a number or name of the claim is not in
                 the source at all, or where one denies and the other does not
    likelihood   1 - (p(claim) / p(claim | source))^(1/n) over the claim's n tokens: how much of the surprise the source takes away
    choice       p(yes) / (p(yes) + p(no)) of an instruction-tuned model asked whether the claim follows

Overlap is a filter and no verdict: on SciFact it tells the cited abstract of a supported claim from another claim's (ROC-AUC 0.90), and not
an abstract that supports a claim from one that contradicts it (0.52).

Sources: Maynez et al. 2020, arXiv:2005.00661 (faithfulness against a source); Min et al. 2023, arXiv:2305.14251 (claim by claim); Yuan et
al. 2021, arXiv:2106.11520 (likelihood as a score).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from orrery.evaluate.content_words import content_stems
from orrery.evaluate.roles import Scores
from orrery.evaluate.truth.alias import words
from orrery.evaluate.truth.claims import split_sentences
from orrery.kit.lm import ScoreRequest
from orrery.text.tokenizer import Tokenizer

Support = Callable[[str, str], float | None]
_DENIAL = re.compile(
    r"\b(?:not|no|never|none|nobody|nothing|neither|nor|without|cannot|\w+n't)\b", re.IGNORECASE
)
_NAME = re.compile(r"(?<=[\w,;] )[A-Z]\w+")
SPAN = 2
"""Sentences in a row that may support one claim together."""


def overlap_support(source: str, claim: str) -> float | None:
    """Shared words, with numbers, names and denials as conditions. None for a claim without content words."""
    wanted = content_stems(claim)
    if not wanted:
        return None
    known = set(words(source))
    must = {w for w in words(claim) if any(c.isdigit() for c in w)}
    must |= {w for name in _NAME.findall(claim) for w in words(name)}
    if must - known:
        return 0.0
    sentences = split_sentences(source)
    best = 0.0
    for i in range(len(sentences)):
        for n in range(1, SPAN + 1):
            stretch = " ".join(sentences[i : i + n])
            if bool(_DENIAL.search(stretch)) == bool(_DENIAL.search(claim)):
                best = max(best, len(wanted & content_stems(stretch)) / len(wanted))
    return best


def likelihood_support(lm: Scores, tokenizer: Tokenizer) -> Support:
    """Support by how much likelier the source makes the claim than another beginning of a text would."""

    def support(source: str, claim: str) -> float | None:
        given, alone = _prompt(tokenizer, source), _prompt(tokenizer, "")
        ids = tokenizer.encode(" " + claim)
        if not ids:
            return None
        with_source, without = lm.score(
            [
                ScoreRequest(ids=[*given, *ids], start=len(given)),
                ScoreRequest(ids=[*alone, *ids], start=len(alone)),
            ]
        )
        return max(0.0, 1.0 - math.exp((with_source.nats - without.nats) / len(ids)))

    return support


def choice_support(
    lm: Scores,
    prompt_ids: Callable[[str, str], list[int]],
    *,
    yes: list[int],
    no: list[int],
) -> Support:
    """Support by a model's own choice: `prompt_ids(source, claim)` asks, `yes` and `no` are the ids of the two answers."""

    def support(source: str, claim: str) -> float | None:
        asked = prompt_ids(source, claim)
        scores = lm.score([ScoreRequest(ids=[*asked, *answer], start=len(asked)) for answer in (yes, no)])
        return 1 / (1 + math.exp(min(scores[0].nats - scores[1].nats, 700.0)))

    return support


def _prompt(tokenizer: Tokenizer, source: str) -> list[int]:
    text = f"{source}\n\nTherefore:" if source else "Therefore:"
    return tokenizer.encode(text, bos=tokenizer.bos_id is not None)
