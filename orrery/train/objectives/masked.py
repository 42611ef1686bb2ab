"""Masked language modelling (Devlin et al. 2018, arXiv:1810.04805, section 3.1).

Of the tokens chosen to be predicted 80% are shown as the mask, 10% as a random token, 10% as they are: at use
there is no mask, so the model must not learn that only masks need a thought. Loss falls on the chosen tokens
alone.
"""

from __future__ import annotations

import numpy as np


def mask_tokens(
    ids: np.ndarray, rng: np.random.Generator, *, mask: int, ordinary: np.ndarray, rate: float = 0.15,
    random: float = 0.1, keep: float = 0.1,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Hide a share `rate` of the ordinary tokens (rounded, at least one if there is one).

    Args:
        ordinary: ids that may be hidden and may stand in for others (not the control tokens).

    Returns:
        The ids as shown, and which were chosen (bool), both of the length of `ids`.
    """
    eligible = np.flatnonzero(np.isin(ids, ordinary))
    count = min(len(eligible), max(1, round(rate * len(eligible))))
    places = rng.permutation(eligible)[:count]
    chosen = np.zeros(len(ids), dtype=bool)
    chosen[places] = True
    fate = rng.random(count)
    shown = ids.copy()
    shown[places[fate >= random + keep]] = mask
    swapped = places[fate < random]
    shown[swapped] = rng.choice(ordinary, size=len(swapped))
    return shown, chosen
