"""Any of the text metrics by name, over a corpus, with intervals.

BLEU, chrF, TER and the error rates are computed from sums over the corpus, so their intervals come from resampling texts; the
others are means over texts. Names: bleu, bleu_zh, bleu_char, bleu_intl, chrf, chrf++, ter, rouge1 ... rougeL, rougeLsum,
rougeS4, rougeSU4 (F1; `_stem` behind it stems), exact_match, token_f1, wer, cer. BLEU, chrF and TER run from 0 to 100, the
others from 0 to 1; for ter, wer and cer less is better.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orrery.evaluate.metrics.bleu import bleu_counts, bleu_of
from orrery.evaluate.metrics.bleu_tokens import Tokenisation
from orrery.evaluate.metrics.chrf import chrf_counts, chrf_of
from orrery.evaluate.metrics.edit_distance import edit_distance
from orrery.evaluate.metrics.exact_match import exact_match, token_f1
from orrery.evaluate.metrics.rouge import rouge
from orrery.evaluate.metrics.ter import ter_counts, ter_of
from orrery.evaluate.metrics.text_pairs import check_pairs
from orrery.evaluate.statistics.bootstrap import bootstrap
from orrery.evaluate.statistics.estimate import Estimate, mean_estimate, ratio_estimate
from orrery.kit.errors import OrreryError, suggest

_TOKENISATIONS: dict[str, Tokenisation] = {
    "bleu": "13a", "bleu_zh": "zh", "bleu_char": "char", "bleu_intl": "intl", "bleu_none": "none",
}  # fmt: skip
KNOWN = (
    *_TOKENISATIONS, "chrf", "chrf++", "ter", "rouge1", "rouge2", "rougeL", "rougeLsum", "rougeS4", "rougeSU4",
    "exact_match", "token_f1", "wer", "cer",
)  # fmt: skip
"""The names there are (and other orders and gaps of ROUGE, such as rouge3)."""


def text_metrics(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    names: Sequence[str] = ("bleu", "chrf", "rougeL"),
    *,
    seed: int = 0,
    resamples: int = 1000,
    level: float = 0.95,
) -> dict[str, Estimate]:
    """The metrics asked for, each with its standard error and interval over texts.

    Args:
        references: for each hypothesis, one or more references.

    Raises:
        OrreryError: an unknown metric, or a hypothesis without references.
    """
    check_pairs(hypotheses, references)
    pairs = list(zip(hypotheses, references, strict=True))
    return {name: _measure(name, pairs, seed, resamples, level) for name in names}


def _measure(
    name: str, pairs: list[tuple[str, Sequence[str]]], seed: int, resamples: int, level: float
) -> Estimate:
    def resampled(rows: list[NDArray[Any]], of: Callable[[NDArray[Any]], float]) -> Estimate:
        return bootstrap(
            np.array(rows), lambda drawn: of(drawn.sum(0)), seed=seed, resamples=resamples, level=level
        )

    if name in _TOKENISATIONS:
        rows = [bleu_counts(h, r, tokenisation=_TOKENISATIONS[name]) for h, r in pairs]
        return resampled(rows, lambda counts: bleu_of(counts).score)
    if name in ("chrf", "chrf++"):
        return resampled([chrf_counts(h, r, word_order=2 * (name == "chrf++")) for h, r in pairs], chrf_of)
    if name == "ter":
        return resampled([ter_counts(h, r) for h, r in pairs], ter_of)
    if name in ("wer", "cer"):
        edits, lengths = (
            zip(*(_nearest(h, r, words=name == "wer") for h, r in pairs), strict=True) if pairs else ((), ())
        )
        return ratio_estimate(edits, lengths, level=level)
    if name == "exact_match":
        return mean_estimate([exact_match(h, r) for h, r in pairs], level)
    if name == "token_f1":
        return mean_estimate([token_f1(h, r) for h, r in pairs], level)
    if name.startswith("rouge"):
        kind, stem = name.removesuffix("_stem"), name.endswith("_stem")
        return mean_estimate([rouge(h, r, kind, stem=stem).f1 for h, r in pairs], level)
    raise OrreryError(f"there is no metric '{name}'; there are {', '.join(KNOWN)}.{suggest(name, KNOWN)}")


def _nearest(hypothesis: str, references: Sequence[str], *, words: bool) -> tuple[int, int]:
    """Edits to the reference that needs fewest, and its length."""
    found = []
    for text in references:
        said, wanted = (hypothesis.split(), text.split()) if words else (hypothesis, text)
        found.append((edit_distance(said, wanted), len(wanted)))
    return min(found)
