"""Word vectors: one vector a word, learned from which words stand near which.

    trained = train_word2vec(sentences)                          # lists of words; also train_glove
    trained.vectors.neighbours("paris")                          # [("rome", 0.93), ...]
    trained.vectors.analogy("france", "paris", "italy")          # [("rome", 0.91)]
    write_vectors(trained.vectors, "vectors.txt")                # GloVe's text format, or word2vec's
    train_fasttext(sentences).model.vector("unseen")             # any word, from its pieces
    train_neural_lm(sentences).perplexity(held_out)              # the language model that came first

Each file is one paper's idea; sentences are what `str.split` makes of a line, or any lists of words.
"""

from __future__ import annotations

from orrery.model.word_vectors.fasttext import FastText, FastTextConfig, char_ngrams, train_fasttext
from orrery.model.word_vectors.glove import Glove, GloveConfig, cooccurrences, train_glove
from orrery.model.word_vectors.neural_lm import NeuralLm, NeuralLmConfig, train_neural_lm
from orrery.model.word_vectors.similarity import AnalogyScore, WordVectors, read_questions, score_analogies
from orrery.model.word_vectors.text_format import read_vectors, write_vectors
from orrery.model.word_vectors.vocabulary import Vocabulary, count_words
from orrery.model.word_vectors.word2vec import Trained, Word2Vec, Word2VecConfig, train_word2vec

__all__ = [
    "AnalogyScore",
    "FastText",
    "FastTextConfig",
    "Glove",
    "GloveConfig",
    "NeuralLm",
    "NeuralLmConfig",
    "Trained",
    "Vocabulary",
    "Word2Vec",
    "Word2VecConfig",
    "WordVectors",
    "char_ngrams",
    "cooccurrences",
    "count_words",
    "read_questions",
    "read_vectors",
    "score_analogies",
    "train_fasttext",
    "train_glove",
    "train_neural_lm",
    "train_word2vec",
    "write_vectors",
]
