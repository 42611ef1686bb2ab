"""The scorers by name. `numeric`, `choice` and the like score every sample of a row and add the majority's score."""

from __future__ import annotations

from orrery.evaluate.scorers import (
    bbh,
    bbq,
    boolean,
    calls,
    choice,
    code,
    exact,
    ifeval,
    math_answer,
    numeric,
    overlap,
    refusal,
)
from orrery.evaluate.scorers.base import Scorer
from orrery.evaluate.scorers.samples import over_samples

SCORERS: dict[str, Scorer] = {
    "numeric": over_samples(numeric.score, numeric.number_key),
    "integer": over_samples(numeric.score_integer, numeric.number_key),
    "choice": over_samples(choice.score, choice.choice_key),
    "pictured_choice": over_samples(choice.score_pictured, choice.choice_key),
    "boolean": over_samples(boolean.score, boolean.boolean_key),
    "math": over_samples(math_answer.score, math_answer.expression_key),
    "bbh": over_samples(bbh.score, bbh.bbh_key),
    "exact": over_samples(exact.score, lambda answer, row: exact.normalise(answer) or None),
    "verbatim": over_samples(exact.score_verbatim, lambda answer, row: answer.strip() or None),
    "contains": over_samples(exact.score_contains),
    "f1": over_samples(overlap.score, lambda answer, row: exact.normalise(answer) or None),
    "ifeval": over_samples(ifeval.score),
    "calls": over_samples(calls.score),
    "humaneval": code.score_humaneval,
    "mbpp": code.score_mbpp,
    "bbq": bbq.score,
    "refusal": refusal.score,
}
