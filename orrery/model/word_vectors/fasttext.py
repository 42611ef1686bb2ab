r"""FastText: skip-gram with words made of pieces, so that a word never seen has a vector too.

$$ v_w = z_w + \sum_{g \in G(w)} z_g $$

G(w) are the character n-grams of `<w>`, 3 to 6 long; $z_w$ a row for the word itself, if training knew it. N-grams share a
table of fixed size by their hash (Bojanowski et al. 2017, arXiv:1607.04606). Loss as in `word2vec`.

    model = train_fasttext(sentences).model
    model.vector("unlearnable")
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from orrery.kit.errors import OrreryError
from orrery.kit.seeds import numpy_generator, torch_generator
from orrery.model.word_vectors.fitting import Loss, fit
from orrery.model.word_vectors.similarity import Matrix, WordVectors
from orrery.model.word_vectors.vocabulary import Vocabulary, count_words
from orrery.model.word_vectors.windows import pairs
from orrery.model.word_vectors.word2vec import negative_sampler, negative_sampling, thin_out


@dataclass(frozen=True, kw_only=True)
class FastTextConfig:
    """How to train; n-grams of `shortest` to `longest` characters in `buckets` rows (the paper: 2 million)."""

    dim: int = 64
    window: int = 5
    negatives: int = 5
    shortest: int = 3
    longest: int = 6
    buckets: int = 50_000
    epochs: int = 5
    lr: float = 0.003
    batch_size: int = 1024
    min_count: int = 1
    subsample: float = 0.0
    seed: int = 0


def char_ngrams(word: str, *, shortest: int = 3, longest: int = 6) -> list[str]:
    """The n-grams of `<word>`, short ones first, each from left to right: 'where' and n = 3: <wh whe her ere re>."""
    marked = f"<{word}>"
    return [marked[i : i + n] for n in range(shortest, longest + 1) for i in range(len(marked) - n + 1)]


def bucket(ngram: str, buckets: int) -> int:
    """FNV-1a over the UTF-8 bytes, 32 bits, modulo `buckets`. Bytes count as signed, as in published fastText models."""
    h = 2166136261
    for byte in ngram.encode():
        signed = byte | 0xFFFFFF00 if byte > 127 else byte
        h = ((h ^ signed) * 16777619) & 0xFFFFFFFF
    return h % buckets


class FastText(nn.Module):
    """`pieces` (V + buckets, d): a row for each word, then one for each bucket. `output` (V, d) scores."""

    def __init__(self, vocabulary: Vocabulary, config: FastTextConfig) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.config = config
        self.pieces = nn.Embedding(len(vocabulary) + config.buckets, config.dim, sparse=True)
        self.output = nn.Embedding(len(vocabulary), config.dim, sparse=True)
        generator = torch_generator(config.seed, "pieces")
        nn.init.uniform_(self.pieces.weight, -0.5 / config.dim, 0.5 / config.dim, generator=generator)
        nn.init.zeros_(self.output.weight)
        rows = [self.rows_of(word) for word in vocabulary.words]
        self.lengths = torch.tensor([len(r) for r in rows])  # (V,)
        self.starts = self.lengths.cumsum(0) - self.lengths
        self.rows = torch.tensor([row for r in rows for row in r])

    def rows_of(self, word: str) -> list[int]:
        """The rows whose sum is the word's vector; its own comes first, if it has one."""
        c, known = self.config, self.vocabulary.ids
        grams = char_ngrams(word, shortest=c.shortest, longest=c.longest)
        own = [known[word]] if word in known else []
        return own + [len(known) + bucket(gram, c.buckets) for gram in grams]

    def forward(self, ids: Tensor) -> Tensor:
        """(B,) words to (B, d) sums of their pieces."""
        lengths = self.lengths[ids]
        offsets = lengths.cumsum(0) - lengths
        shift = (self.starts[ids] - offsets).repeat_interleave(lengths)
        rows = self.rows[torch.arange(len(shift)) + shift]
        return F.embedding_bag(rows, self.pieces.weight, offsets, mode="sum", sparse=True)

    def loss(self, centres: Tensor, contexts: Tensor, negatives: Tensor) -> Loss:
        """Skip-gram with negative sampling: centres (B,), contexts (B,), negatives (B, K)."""
        return negative_sampling(self(centres), self.output, contexts, negatives)

    def vector(self, word: str) -> Matrix:
        """(d,), for any word with at least one n-gram.

        Raises:
            OrreryError: the word is unknown and shorter than every n-gram.
        """
        rows = self.rows_of(word)
        if not rows:
            raise OrreryError(f"'{word}' is unknown and has no n-gram; train with a smaller 'shortest'")
        summed: Matrix = self.pieces.weight.detach()[rows].sum(0).numpy()
        return summed

    def vectors(self) -> WordVectors:
        """The words of the vocabulary with their summed vectors."""
        with torch.no_grad():
            return WordVectors(self.vocabulary.words, self(torch.arange(len(self.vocabulary))).numpy())


@dataclass(frozen=True)
class TrainedFastText:
    """The model, which knows vectors of any word, and the mean loss of each epoch."""

    model: FastText
    losses: tuple[float, ...]


def train_fasttext(
    sentences: Sequence[Sequence[str]], config: FastTextConfig | None = None
) -> TrainedFastText:
    """Count words, then learn the vectors of their pieces.

    Raises:
        OrreryError: no word is frequent enough, or no sentence has two words.
    """
    c = config or FastTextConfig()
    vocabulary = count_words(sentences, min_count=c.min_count)
    ids = vocabulary.encode(sentences)
    model = FastText(vocabulary, c)
    draw = negative_sampler(vocabulary, c.negatives, seed=c.seed)

    def examples(epoch: int) -> tuple[Tensor, Tensor]:
        generator: np.random.Generator = numpy_generator(c.seed, "windows", epoch)
        text = thin_out(ids, vocabulary, c.subsample, generator)
        found = pairs(text, window=c.window, generator=generator)
        return torch.from_numpy(found.centres), torch.from_numpy(found.contexts)

    def loss(centres: Tensor, contexts: Tensor) -> Loss:
        return model.loss(centres, contexts, draw(len(centres)))

    optimizer = torch.optim.SparseAdam(list(model.parameters()), lr=c.lr)
    losses = fit(optimizer, loss, examples, epochs=c.epochs, batch_size=c.batch_size, seed=c.seed)
    return TrainedFastText(model, losses)
