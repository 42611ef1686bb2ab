from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from orrery.model.word_vectors.glove import Glove, GloveConfig, cooccurrences, train_glove, weight
from orrery.model.word_vectors.similarity import score_analogies
from tests.model.word_vectors import planted


def test_the_weight_function() -> None:
    x = torch.tensor([0.0, 6.25, 100.0, 1e6])
    assert weight(x).tolist() == pytest.approx([0, 0.125, 1, 1])  # (1/16)^(3/4) = 1/8
    assert weight(torch.tensor([5.0]), x_max=10, alpha=1).item() == 0.5


def test_cooccurrences_worked_by_hand() -> None:
    """a b a: a and b stand together twice at distance 1; a and a once at distance 2, counted from both ends."""
    x = cooccurrences([np.array([0, 1, 0])], vocab_size=2, window=2)
    cells = {(int(i), int(j)): float(c) for i, j, c in zip(x.rows, x.columns, x.counts, strict=True)}
    assert cells == {(0, 0): 1.0, (0, 1): 2.0, (1, 0): 2.0}


def test_cooccurrences_are_symmetric_and_lose_nothing() -> None:
    ids = [np.random.default_rng(0).integers(0, 9, size=50)]
    x = cooccurrences(ids, vocab_size=9, window=3)
    table = np.zeros((9, 9))
    table[x.rows, x.columns] = x.counts
    assert np.allclose(table, table.T)
    assert table.sum() == pytest.approx(2 * (49 / 1 + 48 / 2 + 47 / 3))


def test_the_loss_worked_by_hand() -> None:
    model = Glove(2, 2)
    with torch.no_grad():
        model.word.weight.copy_(torch.tensor([[1.0, 2.0], [0.0, 0.0]]))
        model.context.weight.copy_(torch.tensor([[0.0, 0.0], [0.5, 0.25]]))
        model.word_bias.weight[0] = 0.1
        model.context_bias.weight[1] = -0.2
    loss = model.loss(torch.tensor([0]), torch.tensor([1]), torch.tensor([6.25]), x_max=100, alpha=0.75)
    assert loss.sum.item() == pytest.approx(0.125 * (1.0 + 0.1 - 0.2 - math.log(6.25)) ** 2, rel=1e-5)
    assert loss.weight == 1


def test_logarithms_of_low_rank_are_fitted_exactly() -> None:
    """Where log X is a product of vectors plus biases, the loss goes to nothing."""
    trained = train_glove([["a", "b", "c"]] * 7 + [["a", "c"]] * 4, GloveConfig(dim=4, epochs=400, lr=0.1))
    assert trained.losses[-1] < 1e-4 < trained.losses[0]


def test_planted_analogies_are_found() -> None:
    config = GloveConfig(dim=16, epochs=30, lr=0.1, x_max=20)
    trained = train_glove(planted.sentences(2000), config)
    assert trained.losses[-1] < trained.losses[0] / 5
    assert score_analogies(trained.vectors, planted.QUESTIONS).accuracy > 0.8
