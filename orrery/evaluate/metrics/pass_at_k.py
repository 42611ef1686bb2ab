"""pass@k: the chance that at least one of k programs drawn from a model passes the tests.

    pass@k = 1 - C(n - c, k) / C(n, k)          c of n samples passed; the mean over problems is reported

Unbiased for every n >= k, where 1 - (1 - c/n)^k is too low. Chen et al. 2021, arXiv:2107.03374.
"""

from __future__ import annotations

import math

from orrery.kit.errors import OrreryError


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """The unbiased estimate for one problem.

    Raises:
        OrreryError: more passed than were drawn, or fewer drawn than k.
    """
    if not 0 <= correct <= samples:
        raise OrreryError(f"{correct} passing of {samples} samples cannot be")
    if not 1 <= k <= samples:
        raise OrreryError(
            f"pass@{k} needs at least {max(k, 1)} samples a problem and k of 1 or more; there are {samples}"
        )
    return 1 - math.comb(samples - correct, k) / math.comb(samples, k)


def pass_to_the_k(samples: int, correct: int, k: int) -> float:
    """The chance that all of k samples pass, C(c, k) / C(n, k): reliability rather than luck (Yao et al. 2024, arXiv:2406.12045).

    Raises:
        OrreryError: as `pass_at_k`.
    """
    pass_at_k(samples, correct, k)
    return math.comb(correct, k) / math.comb(samples, k)
