r"""GloVe: vectors whose products are the logarithms of how often words stand together.

$$ J = \sum_{ij: X_{ij} > 0} f(X_{ij}) (w_i^\top \tilde w_j + b_i + \tilde b_j - \log X_{ij})^2, \quad
   f(x) = \min(1, (x / x_{max})^\alpha) $$

(Pennington, Socher & Manning 2014, equations 8 and 9.) Where word2vec walks over the text again and again, this counts it
once; f keeps rare pairs from being believed and frequent ones from ruling. What is kept is $w + \tilde w$.

    trained = train_glove(sentences, GloveConfig(window=10))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from orrery.kit.seeds import torch_generator
from orrery.model.word_vectors.fitting import Loss, fit
from orrery.model.word_vectors.similarity import WordVectors
from orrery.model.word_vectors.vocabulary import Ids, count_words
from orrery.model.word_vectors.windows import pairs
from orrery.model.word_vectors.word2vec import Trained


@dataclass(frozen=True, kw_only=True)
class GloveConfig:
    """How to train; `x_max` and `alpha` shape the weight f, the defaults are the paper's (x_max for large corpora)."""

    dim: int = 64
    window: int = 10
    x_max: float = 100.0
    alpha: float = 0.75
    epochs: int = 25
    lr: float = 0.05
    batch_size: int = 256
    min_count: int = 1
    seed: int = 0


@dataclass(frozen=True)
class Cooccurrences:
    """The cells of X that are not zero: `counts[n]` at (`rows[n]`, `columns[n]`), by row, then column; all (N,)."""

    rows: Ids
    columns: Ids
    counts: NDArray[np.float64]


def cooccurrences(sentences: Sequence[Ids], *, vocab_size: int, window: int) -> Cooccurrences:
    """X: each pair of words d apart, at most `window`, adds 1/d to both its cells; the table is symmetric."""
    found = pairs(sentences, window=window)
    cells, which = np.unique(found.centres * vocab_size + found.contexts, return_inverse=True)
    counts = np.zeros(len(cells))
    np.add.at(counts, which, 1 / found.distance)
    return Cooccurrences(cells // vocab_size, cells % vocab_size, counts)


def weight(x: Tensor, *, x_max: float = 100.0, alpha: float = 0.75) -> Tensor:
    """f(x): how much a cell counts, 0 for none to 1 from `x_max` on."""
    return (x / x_max).pow(alpha).clamp_max(1)


class Glove(nn.Module):
    """Two tables (V, d) of words and contexts and their two biases (V, 1). Gradients are sparse."""

    def __init__(self, vocab_size: int, dim: int, *, seed: int = 0) -> None:
        super().__init__()
        self.word = nn.Embedding(vocab_size, dim, sparse=True)
        self.context = nn.Embedding(vocab_size, dim, sparse=True)
        self.word_bias = nn.Embedding(vocab_size, 1, sparse=True)
        self.context_bias = nn.Embedding(vocab_size, 1, sparse=True)
        generator = torch_generator(seed, "glove")
        for table in (self.word, self.context):
            nn.init.uniform_(table.weight, -0.5 / dim, 0.5 / dim, generator=generator)
        nn.init.zeros_(self.word_bias.weight)
        nn.init.zeros_(self.context_bias.weight)

    def forward(self, rows: Tensor, columns: Tensor) -> Tensor:
        """(B,) the model's log X of cells."""
        product = (self.word(rows) * self.context(columns)).sum(-1)
        return product + self.word_bias(rows).squeeze(-1) + self.context_bias(columns).squeeze(-1)

    def loss(self, rows: Tensor, columns: Tensor, counts: Tensor, *, x_max: float, alpha: float) -> Loss:
        """J over a batch of cells, to be divided by how many they are."""
        error = self(rows, columns) - counts.log()
        return Loss((weight(counts, x_max=x_max, alpha=alpha) * error.square()).sum(), len(rows))


def train_glove(sentences: Sequence[Sequence[str]], config: GloveConfig | None = None) -> Trained:
    """Count which words stand together, then fit the logarithms by AdaGrad.

    Raises:
        OrreryError: no word is frequent enough, or no sentence has two words.
    """
    c = config or GloveConfig()
    vocabulary = count_words(sentences, min_count=c.min_count)
    x = cooccurrences(vocabulary.encode(sentences), vocab_size=len(vocabulary), window=c.window)
    cells = (torch.from_numpy(x.rows), torch.from_numpy(x.columns), torch.from_numpy(x.counts).float())
    model = Glove(len(vocabulary), c.dim, seed=c.seed)

    def loss(rows: Tensor, columns: Tensor, counts: Tensor) -> Loss:
        return model.loss(rows, columns, counts, x_max=c.x_max, alpha=c.alpha)

    optimizer = torch.optim.Adagrad(model.parameters(), lr=c.lr)
    losses = fit(optimizer, loss, lambda _: cells, epochs=c.epochs, batch_size=c.batch_size, seed=c.seed)
    together = (model.word.weight + model.context.weight).detach().numpy()
    return Trained(WordVectors(vocabulary.words, together), losses)
