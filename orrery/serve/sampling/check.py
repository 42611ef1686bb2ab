"""Settings that mean nothing are refused before anything runs."""

from __future__ import annotations

import math

from orrery.kit.errors import OrreryError
from orrery.kit.lm import Sampling

LARGEST = 1e9
"""Beyond it penalties of float32 logits could become infinite and no numbers."""


def check_sampling(sampling: Sampling, vocab_size: int) -> None:
    """Refuse settings that mean nothing.

    Raises:
        OrreryError: names the setting and its range.
    """
    s = sampling
    ids = range(vocab_size)
    wrong = {
        "temperature must be 0 (greedy) or from 1e-6 to 1e6": s.temperature != 0
        and not 1e-6 <= s.temperature <= 1e6,
        "top_k must be 0 (off) or more": s.top_k < 0,
        "top_p must be above 0 and at most 1": not 0 < s.top_p <= 1,
        "min_p must be from 0 to 1": not 0 <= s.min_p <= 1,
        "typical_p must be above 0 and at most 1": not 0 < s.typical_p <= 1,
        "repetition_penalty must be from 1e-9 to 1e9": not 1 / LARGEST <= s.repetition_penalty <= LARGEST,
        "presence_penalty must be from -1e9 to 1e9": not abs(s.presence_penalty) <= LARGEST,
        "frequency_penalty must be from -1e9 to 1e9": not abs(s.frequency_penalty) <= LARGEST,
        f"logit_bias must name ids from 0 to {vocab_size - 1}": not all(i in ids for i in s.logit_bias),
        "logit_bias must be -inf or from -1e9 to 1e9": not all(
            b == -math.inf or abs(b) <= LARGEST for b in s.logit_bias.values()
        ),
        f"bad_words must be sequences of one or more ids from 0 to {vocab_size - 1}": not all(
            len(word) and all(i in ids for i in word) for word in s.bad_words
        ),
        "xtc_probability must be from 0 to 1": not 0 <= s.xtc_probability <= 1,
        "xtc_threshold must be from 0 to 1": not 0 <= s.xtc_threshold <= 1,
        "dry_multiplier must be from 0 (off) to 1e9": not 0 <= s.dry_multiplier <= LARGEST,
        "dry_base must be from 1 to 1e9": not 1 <= s.dry_base <= LARGEST,
        "dry_allowed_length must be 1 or more": s.dry_allowed_length < 1,
        f"dry_breakers must be ids from 0 to {vocab_size - 1}": not all(i in ids for i in s.dry_breakers),
        "contrastive_alpha must be from 0 (off) to 1": not 0 <= s.contrastive_alpha <= 1,
    }
    for rule, broken in wrong.items():
        if broken:
            name = rule.split()[0]
            raise OrreryError(f"{rule}, not {_short(getattr(s, name))}")
    if s.contrastive_alpha:
        _check_contrastive(s)


def _check_contrastive(s: Sampling) -> None:
    filters = (s.top_p, s.min_p, s.typical_p, s.xtc_probability)
    if s.top_k < 2 or s.temperature not in (0, 1) or filters != (1, 0, 1, 0):
        raise OrreryError(
            "contrastive_alpha searches among the top_k likeliest tokens and does not sample: give top_k=2 or more (4 to 8 is "
            "usual) with temperature=0, and leave top_p, min_p, typical_p and xtc_probability out"
        )


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."
