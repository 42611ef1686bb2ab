"""Skip-bigrams: pairs of words in the order of the text, with anything, or at most so many words, between them.

A text of n words has n (n - 1) / 2 of them. Lin & Och 2004, ROUGE-S.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence


def skip_bigrams(
    words: Sequence[Hashable], max_skip: int | None = None
) -> Counter[tuple[Hashable, Hashable]]:
    """How often each pair occurs.

    Args:
        max_skip: the most words between the two; 0 gives plain bigrams, None any distance (for n words n^2 / 2 pairs:
            for long texts set a limit).
    """
    reach = len(words) if max_skip is None else max_skip + 1
    return Counter(
        (first, second) for i, first in enumerate(words) for second in words[i + 1 : i + 1 + reach]
    )
