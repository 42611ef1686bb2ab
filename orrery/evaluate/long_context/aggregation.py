"""Aggregation: the answer is in no one place, the whole context has to be counted.

    common words      a numbered list in which ten words come often and all others seldom: which ten?
    frequent words    made-up words drawn by Zipf's law among dots: which three come most? The first in rank is noise (the dots)

Source: Hsieh et al. 2024, arXiv:2404.06654, section 3.3. Zipf: p(rank k) = k^-alpha / zeta(alpha).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from orrery.evaluate.long_context.item import Item
from orrery.evaluate.long_context.words import NOUNS, draw
from orrery.kit.errors import OrreryError
from orrery.kit.seeds import numpy_generator

_CONSONANTS, _VOWELS = "bdfgklmnprstvz", "aeiou"
_COINED = f"(?:[{_CONSONANTS}][{_VOWELS}]){{3}}"


def common_words(
    *,
    seed: int,
    index: int = 0,
    common: int = 10,
    times: int = 30,
    seldom: int = 3,
    task: str = "common-words",
) -> Item:
    """A list of `size` words (the item's unit), of which `common` ones come `times` times each and fillers `seldom` times.

    In a list too short for that, the common words come ever less often, but more often than any other: seldom + 1 times at least.
    """
    if not 0 < seldom < times:
        raise OrreryError(f"common words must come more often than others, not {times} times to {seldom}")
    named = draw(NOUNS, len(NOUNS), seed, "common", index)
    wanted = named[:common]
    coined = _coined(seed, "seldom", index)

    @lru_cache(maxsize=2)
    def context(size: int) -> str:
        often = max(seldom + 1, min(times, size // (2 * common)))
        rest = max(size - often * common, 0)
        bag = wanted * often + [coined(i // seldom) for i in range(rest)]
        order = numpy_generator(seed, "order", index, size).permutation(len(bag))
        return " ".join(f"{place}. {bag[i]}" for place, i in enumerate(order, start=1))

    return Item(
        task=task,
        index=index,
        context=context,
        intro=f"Below is a numbered list of words. {common} of them come far more often than the others. Remember which.",
        question=f"Which {common} words come most often in the list? Answer with these words alone.",
        lead=f"The {common} words that come most often are:",
        answers=tuple((word,) for word in wanted),
        least=(seldom + 1) * common,
        max_tokens=8 * common + 16,
        pattern=f"(?i:{'|'.join(wanted)}|{_COINED})",
        tags={"common": common},
    )


def frequent_words(
    *,
    seed: int,
    index: int = 0,
    alpha: float = 2.0,
    kinds: int = 500,
    top: int = 3,
    task: str = "frequent-words",
) -> Item:
    """`size` made-up words drawn by Zipf's law of exponent alpha; asked for are the `top` most frequent behind the very first, which
    is written as dots. Ranks are those of the words as drawn: counts that tie or cross are put right by drawing the difference.

    Raises:
        OrreryError: alpha is not above 1.
    """
    if alpha <= 1:
        raise OrreryError(f"Zipf's law needs an exponent above 1, not {alpha}")
    coined = _coined(seed, "frequent", index)
    words = ["...", *(coined(i) for i in range(kinds))]
    weights = np.arange(1, kinds + 2, dtype=float) ** -alpha
    # The draws come first and stay: a longer context begins with the shorter one's.
    rng = numpy_generator(seed, "zipf", index)
    drawn = rng.choice(kinds + 1, size=1 << 16, p=weights / weights.sum())

    @lru_cache(maxsize=2)
    def context(size: int) -> str:
        rounds = math.ceil(size / len(drawn))
        # Rare words come first: whoever repeats the beginning has answered nothing.
        ranks = [kinds - i for i in range(top)] + np.concatenate([drawn] * max(rounds, 1))[:size].tolist()
        return " ".join(words[i] for i in [*ranks, *_corrections(ranks, top)])

    return Item(
        task=task,
        index=index,
        context=context,
        intro="Below is a text of made-up words and dots. Leave the dots out and find the words that come most often.",
        question=f"Which {top} words come most often in the text? Answer with these words alone.",
        lead=f"The {top} words that come most often are:",
        answers=tuple((word,) for word in words[1 : top + 1]),
        max_tokens=12 * top + 8,
        pattern=f"(?i:{_COINED})",
        tags={"alpha": alpha},
    )


def _corrections(ranks: list[int], top: int) -> list[int]:
    """Further words that make ranks 1 to `top` each come more often than all that follow."""
    counts = Counter(ranks)
    most = max((n for rank, n in counts.items() if rank > top), default=0)
    return [rank for rank in range(1, top + 1) for _ in range(max(0, most + 1 - counts[rank]))]


def _coined(seed: int, *parts: int | str) -> Callable[[int], str]:
    """Made-up words of three syllables by number, all different, none of the lists'."""
    base = len(_CONSONANTS) * len(_VOWELS)
    order = numpy_generator(seed, "coined", *parts).permutation(base**3)

    def word(i: int) -> str:
        n = int(order[i % len(order)])
        syllables = (n // base**2, n // base % base, n % base)
        return "".join(_CONSONANTS[s // 5] + _VOWELS[s % 5] for s in syllables)

    return word
