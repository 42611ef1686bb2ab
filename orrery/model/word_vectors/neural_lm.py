r"""The neural probabilistic language model: the first network that learned word vectors by predicting the next word.

The vectors of the n words before are laid side by side, $x = (C_{w_{t-n}}, \ldots, C_{w_{t-1}})$, and

$$ p(w_t \mid \ldots) = \text{softmax}(b + W x + U \tanh(d + H x)) $$

(Bengio et al. 2003, JMLR 3, equation 1; W, the direct connections, may be left out.) A sentence never seen gets its
probability from sentences with similar words, which a table of counts cannot give.

    trained = train_neural_lm(sentences, NeuralLmConfig(context=3))
    trained.perplexity(held_out)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from orrery.kit.seeds import torch_generator
from orrery.model.word_vectors.fitting import Loss, fit
from orrery.model.word_vectors.similarity import WordVectors
from orrery.model.word_vectors.vocabulary import Vocabulary, count_words
from orrery.model.word_vectors.windows import preceding


@dataclass(frozen=True, kw_only=True)
class NeuralLmConfig:
    """How to build and train; `context` words before, `hidden` units, `direct` connections from vectors to scores."""

    context: int = 3
    dim: int = 32
    hidden: int = 64
    direct: bool = False
    epochs: int = 10
    lr: float = 0.005
    batch_size: int = 256
    min_count: int = 1
    seed: int = 0


UNKNOWN = "<unk>"
"""The word that stands for all others."""


class NeuralLm(nn.Module):
    """`embed` is C, one row a word and a last one for what stands before a sentence; `hidden` H, d; `output` U, b."""

    def __init__(self, vocab_size: int, config: NeuralLmConfig) -> None:
        super().__init__()
        wide = config.context * config.dim
        self.start = vocab_size
        self.embed = nn.Embedding(vocab_size + 1, config.dim)
        self.hidden = nn.Linear(wide, config.hidden)
        self.output = nn.Linear(config.hidden, vocab_size)
        self.direct = nn.Linear(wide, vocab_size, bias=False) if config.direct else None
        generator = torch_generator(config.seed, "neural lm")
        for name, parameter in self.named_parameters():
            fan_in = 10 * config.dim if name == "embed.weight" else parameter.shape[-1]
            nn.init.uniform_(parameter, -(fan_in**-0.5), fan_in**-0.5, generator=generator)

    def forward(self, contexts: Tensor) -> Tensor:
        """(B, context) words to (B, V) scores of the next."""
        x = self.embed(contexts).flatten(1)  # (B, context * d)
        scores = self.output(torch.tanh(self.hidden(x)))
        return scores if self.direct is None else scores + self.direct(x)

    def loss(self, targets: Tensor, contexts: Tensor) -> Loss:
        """Cross-entropy in nats, summed over the batch."""
        return Loss(F.cross_entropy(self(contexts), targets, reduction="sum"), len(targets))


@dataclass(frozen=True)
class TrainedNeuralLm:
    """The model and its vocabulary, whose last word `UNKNOWN` stands for all others; the mean loss of each epoch."""

    model: NeuralLm
    vocabulary: Vocabulary
    context: int
    losses: tuple[float, ...]

    def perplexity(self, sentences: Sequence[Sequence[str]]) -> float:
        """exp of the mean loss a word, each sentence on its own, without its end."""
        with torch.no_grad():
            total = self.model.loss(*self.examples(sentences))
        return math.exp(total.sum.item() / total.weight)

    def next(self, words: Sequence[str]) -> list[float]:
        """The probability of each word of the vocabulary after `words`."""
        padded = [*self.vocabulary.encode([words], unknown=self.model.start - 1)[0].tolist()]
        padded = ([self.model.start] * self.context + padded)[-self.context :]
        with torch.no_grad():
            probabilities: list[float] = self.model(torch.tensor([padded])).softmax(-1)[0].tolist()
        return probabilities

    def vectors(self) -> WordVectors:
        """The rows of C."""
        return WordVectors(self.vocabulary.words, self.model.embed.weight.detach()[:-1].numpy())

    def examples(self, sentences: Sequence[Sequence[str]]) -> tuple[Tensor, Tensor]:
        """Every word (T,) and the words before it (T, context)."""
        ids = self.vocabulary.encode(sentences, unknown=self.model.start - 1)
        found = preceding(ids, length=self.context, start=self.model.start)
        return torch.from_numpy(found.centres), torch.from_numpy(found.contexts)


def train_neural_lm(
    sentences: Sequence[Sequence[str]], config: NeuralLmConfig | None = None
) -> TrainedNeuralLm:
    """Count words, then learn to predict each from those before it, by Adam.

    Raises:
        OrreryError: no word is frequent enough.
    """
    c = config or NeuralLmConfig()
    known = count_words(sentences, min_count=c.min_count)
    rare = sum(map(len, sentences)) - int(known.counts.sum())
    vocabulary = Vocabulary((*known.words, UNKNOWN), np.append(known.counts, rare))
    model = NeuralLm(len(vocabulary), c)
    trained = TrainedNeuralLm(model, vocabulary, c.context, ())
    examples = trained.examples(sentences)
    optimizer = torch.optim.Adam(model.parameters(), lr=c.lr)
    losses = fit(
        optimizer, model.loss, lambda _: examples, epochs=c.epochs, batch_size=c.batch_size, seed=c.seed
    )
    return replace(trained, losses=losses)
