"""Bits per byte: the number of bits a model needs to encode held-out text, for each byte of it.

    bits per byte = sum over documents of -log2 p(document) / sum of their sizes in bytes

Unlike perplexity it does not depend on the tokenizer, so models with different vocabularies, n-gram counts and
file compressors stand in one table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from orrery.kit.errors import OrreryError
from orrery.kit.lm import Score
from orrery.model.decoder import Decoder
from orrery.serve.lm import LM
from orrery.serve.windows import windowed_logprobs

TokenScorer = Callable[[Sequence[ArrayLike]], Sequence[NDArray[Any]]]
"""Documents of ids -> natural log p of every id, (T,) each; `NgramModel.logprobs` is one."""


class Document(Protocol):
    """A text as ids, with its size in bytes."""

    @property
    def id(self) -> str: ...
    @property
    def ids(self) -> ArrayLike: ...
    @property
    def n_bytes(self) -> int: ...


@dataclass(frozen=True, kw_only=True)
class DocumentBits:
    """One row of the table."""

    id: str
    nats: float
    tokens: int
    bytes: int

    @property
    def bits_per_byte(self) -> float:
        return self.nats / math.log(2) / self.bytes


@dataclass(frozen=True, kw_only=True)
class Bits:
    """What a model needs for a set of documents.

    `unscored` names documents that could not be scored (empty, or a probability that is no number): they are in no total.
    """

    documents: tuple[DocumentBits, ...]
    unscored: tuple[str, ...] = ()

    @property
    def nats(self) -> float:
        return math.fsum(document.nats for document in self.documents)

    @property
    def tokens(self) -> int:
        return sum(document.tokens for document in self.documents)

    @property
    def bytes(self) -> int:
        return sum(document.bytes for document in self.documents)

    @property
    def bits_per_byte(self) -> float:
        return self.nats / math.log(2) / self.bytes

    @property
    def perplexity(self) -> float:
        """exp(nats / tokens): per token, comparable only between models with one tokenizer."""
        return math.exp(min(self.nats / self.tokens, 700.0))

    @property
    def standard_error(self) -> float:
        """Of bits per byte as a ratio over documents drawn at random; nan for fewer than two documents.

        Linearised: sqrt(n / (n - 1) * sum (bits_i - R bytes_i)^2) / sum bytes_i (Cochran 1977, section 2.11).
        """
        n = len(self.documents)
        if n < 2:
            return math.nan
        residuals = [d.nats / math.log(2) - self.bits_per_byte * d.bytes for d in self.documents]
        return math.sqrt(n / (n - 1) * math.fsum(r * r for r in residuals)) / self.bytes

    def to_dict(self) -> dict[str, Any]:
        """Totals and the table as plain values."""
        error = self.standard_error
        return {
            "bits_per_byte": self.bits_per_byte,
            "standard_error": None if math.isnan(error) else error,
            "perplexity": self.perplexity,
            "nats": self.nats,
            "tokens": self.tokens,
            "bytes": self.bytes,
            "unscored": list(self.unscored),
            "documents": [
                {
                    "id": d.id,
                    "nats": d.nats,
                    "tokens": d.tokens,
                    "bytes": d.bytes,
                    "bits_per_byte": d.bits_per_byte,
                }
                for d in self.documents
            ],
        }


def bits_per_byte(
    model: TokenScorer | LM | Decoder,
    documents: Iterable[Document],
    *,
    start_id: int | None = None,
    context: int | None = None,
    stride: int | None = None,
) -> Bits:
    """Score every document once, token by token.

    Args:
        model: an LM or Decoder (in windows of `context` moved by `stride`, see `windowed_logprobs`), or a function
            that scores ids.
        documents: their ids may begin with `start_id`, which gives context and is never scored itself.
        start_id: None where documents begin with their first real token (an LM then reads its own BOS before each).

    Raises:
        OrreryError: no document could be scored, or one does not begin with `start_id`.
    """
    score = _scorer(model, start_id, context, stride)
    table, unscored = [], []
    named = list(documents)
    bodies = [_body(document, start_id) for document in named]
    for document, ids, logprobs in zip(named, bodies, score(bodies), strict=True):
        nats = -float(np.sum(logprobs, dtype=np.float64))
        if len(ids) and document.n_bytes and math.isfinite(nats):
            table.append(DocumentBits(id=document.id, nats=nats, tokens=len(ids), bytes=document.n_bytes))
        else:
            unscored.append(document.id)
    if not table:
        raise OrreryError(
            f"none of the {len(unscored)} held-out documents could be scored; hold out at least one that is not empty"
        )
    return Bits(documents=tuple(table), unscored=tuple(unscored))


def score_text(lm: LM, text: str, *, stride: int | None = None) -> Score:
    """Log-probability of a text of any length under `lm`, in windows moved by `stride`."""
    return lm.score(text, stride=stride)


def _body(document: Document, start_id: int | None) -> NDArray[np.int64]:
    ids = np.asarray(document.ids, dtype=np.int64)
    if start_id is None:
        return ids
    if not len(ids) or ids[0] != start_id:
        raise OrreryError(
            f"document '{document.id}' does not begin with the start id {start_id}; prepare the data again"
        )
    return ids[1:]


def _scorer(
    model: TokenScorer | LM | Decoder, start: int | None, context: int | None, stride: int | None
) -> TokenScorer:
    if isinstance(model, LM):
        start = model.tokenizer.bos_id if start is None else start
        return _scorer(model.model, start, context, stride)
    if not isinstance(model, Decoder):
        return model
    return lambda documents: windowed_logprobs(model, documents, context=context, stride=stride, start=start)
