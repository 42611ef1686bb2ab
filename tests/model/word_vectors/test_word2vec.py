from __future__ import annotations

import math

import pytest
import torch

from orrery.kit.errors import OrreryError
from orrery.kit.seeds import numpy_generator
from orrery.model.word_vectors.similarity import score_analogies
from orrery.model.word_vectors.vocabulary import count_words
from orrery.model.word_vectors.windows import NONE
from orrery.model.word_vectors.word2vec import (
    Word2Vec,
    Word2VecConfig,
    negative_sampler,
    thin_out,
    train_word2vec,
)
from tests.model.word_vectors import planted


def small() -> Word2Vec:
    model = Word2Vec(4, 2)
    with torch.no_grad():
        model.input.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [2.0, -1.0]]))
        model.output.weight.copy_(torch.tensor([[0.5, 0.0], [0.0, 0.5], [1.0, -1.0], [0.0, 2.0]]))
    return model


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x))


def test_skip_gram_loss_worked_by_hand() -> None:
    """v_0 = (1, 0) against u_2 = (1, -1), right: score 1; drawn u_0: 0.5, u_3: 0."""
    loss = small().skip_gram(torch.tensor([0]), torch.tensor([2]), torch.tensor([[0, 3]]))
    assert loss.weight == 1
    assert loss.sum.item() == pytest.approx(-log_sigmoid(1) - log_sigmoid(-0.5) - log_sigmoid(0), rel=1e-6)


def test_a_draw_of_the_right_word_is_left_out() -> None:
    loss = small().skip_gram(torch.tensor([0]), torch.tensor([2]), torch.tensor([[2, 2]]))
    assert loss.sum.item() == pytest.approx(-log_sigmoid(1), rel=1e-6)


def test_cbow_loss_worked_by_hand() -> None:
    """The mean of v_0 and v_3 is (1.5, -0.5); u_2 = (1, -1) scores 2, drawn u_1 = (0, 0.5) scores -0.25."""
    contexts = torch.tensor([[NONE, 0, 3, NONE]])
    loss = small().cbow(contexts, torch.tensor([2]), torch.tensor([[1]]))
    assert loss.sum.item() == pytest.approx(-log_sigmoid(2) - log_sigmoid(0.25), rel=1e-6)


def test_the_gradient_is_prediction_minus_truth_on_the_rows_used() -> None:
    model = small()
    model.skip_gram(torch.tensor([0]), torch.tensor([2]), torch.tensor([[3]])).sum.backward()
    right, drawn = 1 / (1 + math.exp(-1)) - 1, 0.5  # sigma(score) - label
    grad = model.output.weight.grad.to_dense()
    expected = torch.tensor([[0.0, 0.0], [0.0, 0.0], [right, 0.0], [drawn, 0.0]])
    torch.testing.assert_close(grad, expected)
    by_hand = right * torch.tensor([1.0, -1.0]) + drawn * torch.tensor([0.0, 2.0])
    torch.testing.assert_close(model.input.weight.grad.to_dense()[0], by_hand)
    assert model.input.weight.grad.is_sparse and not model.input.weight.grad.to_dense()[1:].any()


def test_a_new_model_knows_nothing() -> None:
    """Output rows are zero, so every one of the 1 + K decisions costs log 2."""
    loss = Word2Vec(9, 3).skip_gram(
        torch.tensor([1, 2]), torch.tensor([3, 4]), torch.tensor([[5, 6], [7, 8]])
    )
    assert loss.sum.item() / loss.weight == pytest.approx(3 * math.log(2), rel=1e-6)


def test_negatives_follow_the_noise() -> None:
    vocabulary = count_words([["a"] * 16 + ["b"]])
    drawn = negative_sampler(vocabulary, 5, seed=1)(20_000)
    assert drawn.shape == (20_000, 5)
    assert (drawn == 1).double().mean().item() == pytest.approx(1 / 9, abs=0.005)


def test_thinning_drops_at_the_rate_it_says() -> None:
    sentences = [["a"] * 6400 + ["b"] * 3600]
    vocabulary = count_words(sentences)
    ids = vocabulary.encode(sentences)
    kept = thin_out(ids, vocabulary, 0.16, numpy_generator(0, "thin"))[0]
    assert (kept == 0).sum() == pytest.approx(3200, rel=0.05)
    assert thin_out(ids, vocabulary, 0, numpy_generator(0, "thin"))[0] is ids[0]


@pytest.mark.parametrize(("objective", "epochs", "lr"), [("skip-gram", 4, 0.02), ("cbow", 6, 0.03)])
def test_planted_analogies_are_found(objective: str, epochs: int, lr: float) -> None:
    config = Word2VecConfig(objective=objective, dim=24, epochs=epochs, lr=lr)  # type: ignore[arg-type]
    trained = train_word2vec(planted.sentences(2000), config)
    assert all(a > b for a, b in zip(trained.losses, trained.losses[1:], strict=False))
    assert trained.losses[0] < 6 * math.log(2)
    score = score_analogies(trained.vectors, planted.QUESTIONS)
    assert score.asked == 56 and score.accuracy > 0.8


def test_training_repeats_itself() -> None:
    config = Word2VecConfig(dim=8, epochs=1, subsample=0.01)
    first, second = (train_word2vec(planted.sentences(100), config) for _ in range(2))
    assert first.losses == second.losses and (first.vectors.matrix == second.vectors.matrix).all()


def test_single_words_teach_nothing() -> None:
    with pytest.raises(OrreryError, match="nothing to learn from"):
        train_word2vec([["a"], ["b"]])
