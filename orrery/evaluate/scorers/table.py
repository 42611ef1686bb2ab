"""The scorers by name. `numeric`, `choice` and the like score every sample of a row and add the majority's score."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

from orrery.evaluate.scorers import (
    bbh,
    bbq,
    boolean,
    calls,
    choice,
    code,
    exact,
    ifeval,
    make_number,
    math_answer,
    numeric,
    overlap,
    refusal,
)
from orrery.evaluate.scorers.base import Scorer
from orrery.evaluate.scorers.samples import over_samples

KEYS: dict[str, Callable[[str, Mapping[str, Any]], Hashable | None]] = {
    "numeric": numeric.number_key,
    "integer": numeric.number_key,
    "choice": choice.choice_key,
    "pictured_choice": choice.choice_key,
    "boolean": boolean.boolean_key,
    "math": math_answer.expression_key,
    "bbh": bbh.bbh_key,
    "exact": lambda answer, row: exact.normalise(answer) or None,
    "verbatim": lambda answer, row: answer.strip() or None,
    "f1": lambda answer, row: exact.normalise(answer) or None,
}
"""How votes count an answer, by scorer: its final answer, normalised; None where it has none."""

SCORERS: dict[str, Scorer] = {
    "numeric": over_samples(numeric.score, KEYS["numeric"]),
    "integer": over_samples(numeric.score_integer, KEYS["integer"]),
    "choice": over_samples(choice.score, KEYS["choice"]),
    "pictured_choice": over_samples(choice.score_pictured, KEYS["pictured_choice"]),
    "boolean": over_samples(boolean.score, KEYS["boolean"]),
    "math": over_samples(math_answer.score, KEYS["math"]),
    "bbh": over_samples(bbh.score, KEYS["bbh"]),
    "exact": over_samples(exact.score, KEYS["exact"]),
    "verbatim": over_samples(exact.score_verbatim, KEYS["verbatim"]),
    "contains": over_samples(exact.score_contains),
    "f1": over_samples(overlap.score, KEYS["f1"]),
    "ifeval": over_samples(ifeval.score),
    "calls": over_samples(calls.score),
    "make_number": over_samples(make_number.score),
    "humaneval": code.score_humaneval,
    "mbpp": code.score_mbpp,
    "bbq": bbq.score,
    "refusal": refusal.score,
}
