"""Span corruption (Raffel et al. 2019, T5, arXiv:1910.10683, section 3.1.4).

    document   Thank you for inviting me to your party last week
    inputs     Thank you <s0> me to your party <s1> week
    targets    <s0> for inviting <s1> last <s2>

A share of the tokens lies in spans; both the spans and the gaps between them are random partitions, so the
mean length is exact. The targets end with one more sentinel.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np


def draw_spans(
    length: int, rng: np.random.Generator, *, rate: float = 0.15, mean_length: float = 3.0
) -> list[tuple[int, int]]:
    """Spans [start, stop) to hide in a text of `length` >= 2 tokens: apart from each other, none at 0."""
    hidden = min(max(round(length * rate), 1), length - 1)
    count = min(max(round(hidden / mean_length), 1), length - hidden)
    spans = _partition(hidden, count, rng)
    gaps = _partition(length - hidden, count, rng)
    stops = np.cumsum(spans + gaps)
    return [(int(stop - span), int(stop)) for span, stop in zip(spans, stops, strict=True)]


def corrupt(
    ids: np.ndarray, spans: list[tuple[int, int]], sentinels: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """The text with each span replaced by a sentinel, and the spans, each after its sentinel.

    Needs one sentinel more than there are spans.
    """
    inputs: list[np.ndarray] = []
    targets: list[np.ndarray] = []
    at = 0
    for (start, stop), sentinel in zip(spans, sentinels, strict=False):
        mark = np.array([sentinel], dtype=ids.dtype)
        inputs += [ids[at:start], mark]
        targets += [mark, ids[start:stop]]
        at = stop
    inputs.append(ids[at:])
    targets.append(np.array([sentinels[len(spans)]], dtype=ids.dtype))
    return np.concatenate(inputs), np.concatenate(targets)


def restore(inputs: np.ndarray, targets: np.ndarray, sentinels: list[int]) -> np.ndarray:
    """The text again, from what `corrupt` gave."""
    marks = np.flatnonzero(np.isin(targets, sentinels))
    spans = {int(targets[a]): targets[a + 1 : b] for a, b in pairwise(marks)}
    return np.concatenate([spans.get(int(token), inputs[i : i + 1]) for i, token in enumerate(inputs)])


def longest_text(room: int, *, rate: float, mean_length: float) -> int:
    """The longest text whose inputs and targets fit into `room` tokens together."""
    length = room
    while length > 2 and _total(length, rate, mean_length) > room:
        length -= 1
    return length


def _total(length: int, rate: float, mean_length: float) -> int:
    hidden = min(max(round(length * rate), 1), length - 1)
    return length + 2 * min(max(round(hidden / mean_length), 1), length - hidden) + 1


def _partition(total: int, parts: int, rng: np.random.Generator) -> np.ndarray:
    """`total` as an ordered sum of `parts` positive numbers, all such sums equally likely."""
    cuts = np.sort(rng.permutation(total - 1)[: parts - 1]) + 1
    return np.diff(np.concatenate([[0], cuts, [total]])).astype(np.int64)
