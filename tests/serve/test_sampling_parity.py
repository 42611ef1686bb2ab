"""Our filters and penalties against transformers' logits processors, on logits without ties."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import (
    MinPLogitsWarper,
    NoBadWordsLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from orrery.kit.lm import Sampling
from orrery.serve import sampling as s

V = 1500


def some(seed: int, scale: float = 3.0) -> torch.Tensor:
    return torch.randn(V, generator=torch.Generator().manual_seed(seed)) * scale


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (lambda: TemperatureLogitsWarper(0.7), lambda x: s.temperature(x, 0.7)),
        (lambda: TopKLogitsWarper(1), lambda x: s.top_k(x, 1)),
        (lambda: TopKLogitsWarper(50), lambda x: s.top_k(x, 50)),
        (lambda: TopPLogitsWarper(0.3), lambda x: s.top_p(x, 0.3)),
        (lambda: TopPLogitsWarper(0.95), lambda x: s.top_p(x, 0.95)),
        (lambda: TopPLogitsWarper(0.999), lambda x: s.top_p(x, 0.999)),
        (lambda: MinPLogitsWarper(0.05), lambda x: s.min_p(x, 0.05)),
        (lambda: TypicalLogitsWarper(0.2), lambda x: s.typical(x, 0.2)),
        (lambda: TypicalLogitsWarper(0.95), lambda x: s.typical(x, 0.95)),
    ],
)
def test_filters(theirs, ours, seed) -> None:
    logits = some(seed, scale=[0.3, 1, 3, 8][seed])
    torch.testing.assert_close(ours(logits), theirs()(torch.zeros(1, 1), logits[None])[0])


@pytest.mark.parametrize("penalty", [0.7, 1.2, 2.0])
def test_repetition(penalty) -> None:
    ids, logits = torch.tensor([[3, 9, 3, 700, 41]]), some(5)
    before = torch.bincount(ids[0], minlength=V)
    ours = s.penalized(
        logits, Sampling(repetition_penalty=penalty), before=before, made=torch.zeros_like(before)
    )
    torch.testing.assert_close(ours, RepetitionPenaltyLogitsProcessor(penalty)(ids, logits[None])[0])


@pytest.mark.parametrize("ids", [[3], [3, 9], [7, 3, 9], [9, 9, 9, 9]])
def test_bad_words(ids) -> None:
    words, logits = [[4], [9, 5], [3, 9, 6], [9, 9, 9, 9, 9, 8]], some(6)
    theirs = NoBadWordsLogitsProcessor(words, eos_token_id=0)(torch.tensor([ids]), logits[None])[0]
    ours = s.forbid(logits, s.BadWords(words).ends(ids))
    torch.testing.assert_close(ours, theirs)
    assert (ours == -math.inf).sum() >= 1


def test_the_whole_chain_in_the_order_of_transformers() -> None:
    logits = some(8)
    want = logits[None]
    for step in (
        TemperatureLogitsWarper(1.4),
        TopKLogitsWarper(200),
        TopPLogitsWarper(0.9),
        MinPLogitsWarper(0.02),
    ):
        want = step(torch.zeros(1, 1), want)
    ours = s.filtered(logits, Sampling(temperature=1.4, top_k=200, top_p=0.9, min_p=0.02))
    torch.testing.assert_close(ours, want[0])
