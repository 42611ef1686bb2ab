r"""Word2vec: a table of vectors learned by telling a word's neighbours from words drawn at random.

A hidden vector $h$ meets the vector $u_o$ of the right word and those of $K$ words drawn from the noise (Mikolov et al.
2013b, equation 4):

$$ L = -\log \sigma(u_o^\top h) - \sum_{k=1}^{K} \log \sigma(-u_k^\top h) $$

Skip-gram: $h = v_c$, the centre's vector, and each word of the window is right once. CBOW: h is the mean of the window's
vectors, and the centre is right (Mikolov et al. 2013a, arXiv:1301.3781; 2013b, arXiv:1310.4546).

    trained = train_word2vec(sentences, Word2VecConfig(objective="cbow"))
    trained.vectors.neighbours("paris")
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from orrery.kit.seeds import numpy_generator, torch_generator
from orrery.model.word_vectors.fitting import Loss, fit
from orrery.model.word_vectors.similarity import WordVectors
from orrery.model.word_vectors.vocabulary import Ids, Vocabulary, count_words
from orrery.model.word_vectors.windows import NONE, pairs, windows


@dataclass(frozen=True, kw_only=True)
class Word2VecConfig:
    """How to train; `window` words on each side, `negatives` drawn for each right word, `subsample` 0 keeps every word."""

    objective: Literal["skip-gram", "cbow"] = "skip-gram"
    dim: int = 64
    window: int = 5
    negatives: int = 5
    epochs: int = 5
    lr: float = 0.01
    batch_size: int = 1024
    min_count: int = 1
    subsample: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Trained:
    """Word vectors, and the mean loss of each epoch on the way to them."""

    vectors: WordVectors
    losses: tuple[float, ...]


class Word2Vec(nn.Module):
    """Two tables (V, d): `input` is kept, `output` scores. Gradients are sparse: only rows that were used."""

    def __init__(self, vocab_size: int, dim: int, *, seed: int = 0) -> None:
        super().__init__()
        self.input = nn.Embedding(vocab_size, dim, sparse=True)
        self.output = nn.Embedding(vocab_size, dim, sparse=True)
        nn.init.uniform_(self.input.weight, -0.5 / dim, 0.5 / dim, generator=torch_generator(seed, "input"))
        nn.init.zeros_(self.output.weight)

    def skip_gram(self, centres: Tensor, contexts: Tensor, negatives: Tensor) -> Loss:
        """Each centre (B,) predicts one context word (B,), against negatives (B, K)."""
        return negative_sampling(self.input(centres), self.output, contexts, negatives)

    def cbow(self, contexts: Tensor, centres: Tensor, negatives: Tensor) -> Loss:
        """The mean of the context words (B, 2 window), `NONE` where there is none, predicts the centre (B,)."""
        there = (contexts != NONE).to(self.input.weight.dtype).unsqueeze(-1)  # (B, 2 window, 1)
        mean = (self.input(contexts.clamp_min(0)) * there).sum(1) / there.sum(1)
        return negative_sampling(mean, self.output, centres, negatives)


def negative_sampling(hidden: Tensor, output: nn.Embedding, right: Tensor, negatives: Tensor) -> Loss:
    """The loss above: hidden (B, d), right words (B,), drawn words (B, K). A draw that hits the right word is left out."""
    score = (hidden * output(right)).sum(-1)  # (B,)
    noise = torch.einsum("bd,bkd->bk", hidden, output(negatives))
    kept = negatives != right.unsqueeze(-1)
    return Loss(-F.logsigmoid(score).sum() - (F.logsigmoid(-noise) * kept).sum(), len(right))


def negative_sampler(vocabulary: Vocabulary, k: int, *, seed: int) -> Callable[[int], Tensor]:
    """A function that draws (B, k) words from the unigram distribution to the power 3/4, by inverting its sum."""
    cumulative = torch.from_numpy(np.cumsum(vocabulary.noise()))
    generator = torch_generator(seed, "negatives")

    def draw(n: int) -> Tensor:
        u = torch.rand((n, k), generator=generator, dtype=torch.float64)
        return torch.searchsorted(cumulative, u).clamp_max(len(cumulative) - 1)

    return draw


def thin_out(
    sentences: Sequence[Ids], vocabulary: Vocabulary, threshold: float, generator: np.random.Generator
) -> list[Ids]:
    """Drop occurrences of frequent words by `Vocabulary.keep`; a threshold of 0 drops none."""
    if not threshold:
        return list(sentences)
    keep = vocabulary.keep(threshold)
    return [ids[generator.random(len(ids)) < keep[ids]] for ids in sentences]


def train_word2vec(sentences: Sequence[Sequence[str]], config: Word2VecConfig | None = None) -> Trained:
    """Count words, then learn their vectors: Adam on sparse rows, a new draw of windows and negatives each epoch.

    Raises:
        OrreryError: no word is frequent enough, or no sentence has two words.
    """
    c = config or Word2VecConfig()
    vocabulary = count_words(sentences, min_count=c.min_count)
    ids = vocabulary.encode(sentences)
    model = Word2Vec(len(vocabulary), c.dim, seed=c.seed)
    draw = negative_sampler(vocabulary, c.negatives, seed=c.seed)

    def examples(epoch: int) -> tuple[Tensor, Tensor]:
        generator = numpy_generator(c.seed, "windows", epoch)
        text = thin_out(ids, vocabulary, c.subsample, generator)
        gather = pairs if c.objective == "skip-gram" else windows
        found = gather(text, window=c.window, generator=generator)
        return torch.from_numpy(found.centres), torch.from_numpy(found.contexts)

    def loss(centres: Tensor, contexts: Tensor) -> Loss:
        if c.objective == "skip-gram":
            return model.skip_gram(centres, contexts, draw(len(centres)))
        return model.cbow(contexts, centres, draw(len(centres)))

    optimizer = torch.optim.SparseAdam(list(model.parameters()), lr=c.lr)
    losses = fit(optimizer, loss, examples, epochs=c.epochs, batch_size=c.batch_size, seed=c.seed)
    return Trained(WordVectors(vocabulary.words, model.input.weight.detach().numpy()), losses)
