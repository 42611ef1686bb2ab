from __future__ import annotations

import numpy as np
import pytest
import torch

from orrery.kit.errors import OrreryError
from orrery.kit.seeds import numpy_generator
from orrery.model.word_vectors.fasttext import FastText, FastTextConfig, bucket, char_ngrams, train_fasttext
from orrery.model.word_vectors.vocabulary import count_words


def test_the_ngrams_of_where() -> None:
    assert char_ngrams("where", shortest=3, longest=3) == ["<wh", "whe", "her", "ere", "re>"]
    assert char_ngrams("where", shortest=5, longest=6) == ["<wher", "where", "here>", "<where", "where>"]
    assert char_ngrams("a") == ["<a>"] and char_ngrams("") == []
    assert char_ngrams("über", shortest=4, longest=4) == ["<übe", "über", "ber>"]


def test_buckets_are_fnv_1a() -> None:
    """The published test values of 32-bit FNV-1a; beyond ASCII a byte is sign-extended."""
    assert bucket("", 2**32) == 0x811C9DC5
    assert bucket("a", 2**32) == 0xE40C292C
    assert bucket("foobar", 2**32) == 0xBF9CF968
    assert bucket("foobar", 1000) == 0xBF9CF968 % 1000
    assert bucket("é", 2**32) != bucket("e", 2**32)


def test_a_word_is_the_sum_of_its_pieces() -> None:
    config = FastTextConfig(dim=5, buckets=100)
    model = FastText(count_words([["where", "were", "a", "here"]]), config)
    together = model(torch.tensor([3, 0, 3, 1]))
    for i, word in enumerate(["where", "a", "where", "here"]):
        rows = model.rows_of(word)
        assert len(rows) == 1 + len(char_ngrams(word))
        torch.testing.assert_close(together[i], model.pieces.weight[rows].sum(0))
        assert np.allclose(model.vector(word), together[i].detach().numpy(), atol=1e-6)
    assert model.rows_of("wherever")[0] >= 4  # no row of its own


def test_an_unseen_word_lies_near_its_relatives() -> None:
    generator = numpy_generator(0, "fasttext")
    topics = [["walk", "run", "jump", "climb"], ["cook", "bake", "boil", "roast"]]
    around = [["road", "hill", "shoes", "mile", "path"], ["oven", "pan", "salt", "dinner", "sauce"]]
    text = []
    for _ in range(1200):
        topic = int(generator.integers(2))
        word = topics[topic][generator.integers(4)] + ("", "ing", "er")[generator.integers(3)]
        if word != "walking":
            text.append([word, *map(str, generator.choice(around[topic], 3, replace=False))])
    trained = train_fasttext(text, FastTextConfig(dim=16, epochs=8, lr=0.01, buckets=2000, batch_size=256))
    model, vectors = trained.model, trained.model.vectors()
    assert trained.losses[-1] < trained.losses[0]
    near = [word for word, _ in vectors.nearest(model.vector("walking"), k=6)]
    assert "walk" in near or "walker" in near
    assert not set(near) & {stem + end for stem in topics[1] for end in ("", "ing", "er")}
    with pytest.raises(OrreryError, match="'walking' has no vector"):
        vectors.vector("walking")


def test_a_word_without_pieces_says_so() -> None:
    model = FastText(count_words([["where"]]), FastTextConfig(dim=2, shortest=4, buckets=9))
    with pytest.raises(OrreryError, match="smaller 'shortest'"):
        model.vector("a")
