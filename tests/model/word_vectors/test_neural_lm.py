from __future__ import annotations

import math

import pytest
import torch

from orrery.model.word_vectors.neural_lm import UNKNOWN, NeuralLm, NeuralLmConfig, train_neural_lm

PEOPLE, ANIMALS = ["anna", "ben", "carl", "dora"], ["cat", "dog", "horse", "cow"]
SAYS, EATS = ["speaks", "reads", "writes"], ["barks", "grazes", "sleeps"]


def sentences() -> tuple[list[list[str]], list[list[str]]]:
    """Who does what, every fourth pair held back."""
    every = [["the", "old", who, does] for who in PEOPLE for does in SAYS]
    every += [["the", "old", who, does] for who in ANIMALS for does in EATS]
    return [s for i, s in enumerate(every) if i % 5 != 3], every[3::5]


def test_the_equation_of_the_paper() -> None:
    """b + W x + U tanh(d + H x), x the vectors side by side."""
    for direct in (False, True):
        model = NeuralLm(7, NeuralLmConfig(context=2, dim=3, hidden=4, direct=direct))
        x = torch.cat([model.embed.weight[5], model.embed.weight[7]])
        scores = model.output.bias + model.output.weight @ torch.tanh(
            model.hidden.weight @ x + model.hidden.bias
        )
        if model.direct is not None:
            scores = scores + model.direct.weight @ x
        torch.testing.assert_close(model(torch.tensor([[5, 7]]))[0], scores)


def test_the_size_is_the_papers() -> None:
    """V (1 + n m + h) + h (1 + n m) with direct connections, and a row of C for each of V + 1 words."""
    v, n, m, h = 50, 3, 8, 10
    model = NeuralLm(v, NeuralLmConfig(context=n, dim=m, hidden=h, direct=True))
    count = sum(p.numel() for p in model.parameters())
    assert count == v * (1 + n * m + h) + h * (1 + n * m) + (v + 1) * m


def test_the_gradient_reaches_exactly_the_words_read() -> None:
    model = NeuralLm(5, NeuralLmConfig(context=2, dim=3, hidden=4))
    model.loss(torch.tensor([1]), torch.tensor([[2, 5]])).sum.backward()
    assert model.embed.weight.grad.abs().sum(1).nonzero().flatten().tolist() == [2, 5]


def test_it_learns_and_carries_over_to_unseen_sentences() -> None:
    text, held_out = sentences()
    trained = train_neural_lm(text * 20, NeuralLmConfig(context=2, dim=8, hidden=16, epochs=20, lr=0.01))
    assert trained.losses[0] > trained.losses[-1]
    assert trained.losses[0] < math.log(len(trained.vocabulary)) + 0.2
    own = {w for who, does in ((PEOPLE, SAYS), (ANIMALS, EATS)) for w in (*who, *does)} | {"the", "old"}
    assert own | {UNKNOWN} == set(trained.vocabulary.words)
    for *before, does in held_out:
        p = dict(zip(trained.vocabulary.words, trained.next(before), strict=True))
        assert sum(p.values()) == pytest.approx(1, abs=1e-5)
        assert sum(p[w] for w in (SAYS if does in SAYS else EATS)) > 0.9


def test_perplexity_is_exp_of_the_mean_loss() -> None:
    trained = train_neural_lm([["a", "b"], ["b", "a"]], NeuralLmConfig(context=1, epochs=1, min_count=1))
    expected = trained.next([])[0] * trained.next(["a"])[1]
    assert trained.perplexity([["a", "b"]]) == pytest.approx(expected**-0.5, rel=1e-5)


def test_rare_words_become_one() -> None:
    trained = train_neural_lm([["a", "b", "a", "c"]], NeuralLmConfig(epochs=1, min_count=2))
    assert trained.vocabulary.words == ("a", UNKNOWN) and trained.vocabulary.counts.tolist() == [2, 2]
    assert trained.perplexity([["a", "never"]]) == pytest.approx(trained.perplexity([["a", "b"]]))
