"""Exhibits of measuring: units that compare, windows that are fair, errors of the mean, and test text that leaked."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from orrery.data.dedup import document_hash
from orrery.data.split import split
from orrery.evaluate.bits import Bits, DocumentBits, bits_per_byte
from orrery.evaluate.compression import compressed_bits_per_byte
from orrery.evaluate.ngram import fit_ngram, kneser_ney
from orrery.evaluate.ngram_counts import count_ngrams, lay_out
from orrery.glossary.exhibit import Exhibit
from orrery.glossary.exhibits import _library, _prepared, _tiny
from orrery.kit.seeds import numpy_generator
from orrery.model.decoder import Decoder
from orrery.model.mlp import Mlp
from orrery.serve.windows import sliding_windows
from orrery.train.optim.build import build_optimizer
from orrery.train.optim.config import Muon
from orrery.train.schedule import Cosine

RUN = 12
"""Bytes in a row that are looked for in the training text."""


@dataclass(frozen=True)
class _Held:
    """A document as evaluation wants it: ids, and the size of its text."""

    id: str
    ids: NDArray[np.int64]
    n_bytes: int


def _as_bytes(texts: list[str]) -> list[_Held]:
    return [
        _Held(str(i), np.frombuffer(t.encode(), dtype=np.uint8).astype(np.int64), len(t.encode()))
        for i, t in enumerate(texts)
    ]


def bits_across_tokenizers() -> Exhibit:
    """The same held-out text predicted byte by byte and token by token: which numbers can be compared."""
    short = [piece for piece in _prepared.pieces(800) if len(piece) < 3000][:360]
    seen, held_out = short[::2], short[1::2]
    tokenizer = _prepared.tokenizer()
    rows = []
    for name, order in (("bytes, order 5", 5), ("tokens, order 3", 3)):
        if name.startswith("bytes"):
            documents, counted, size = _as_bytes(held_out), [d.ids for d in _as_bytes(seen)], 256
        else:
            documents = [
                _Held(str(i), np.array(tokenizer.encode(t)), len(t.encode())) for i, t in enumerate(held_out)
            ]
            counted, size = [np.array(tokenizer.encode(t)) for t in seen], tokenizer.vocab_size
        found = bits_per_byte(fit_ngram(counted, order=order, vocab_size=size).logprobs, documents)
        nats = found.nats / found.tokens
        rows.append(
            (
                name,
                found.tokens,
                found.bytes / found.tokens,
                nats,
                nats / math.log(2),
                found.perplexity,
                found.bits_per_byte,
            )
        )
    return Exhibit(
        title="Kneser-Ney on pieces of Python's library",
        columns=(
            "model",
            "tokens",
            "bytes a token",
            "nats a token",
            "bits a token",
            "perplexity",
            "bits a byte",
        ),
        rows=rows,
        reads="A token of several bytes is harder to guess than a byte, so nats, bits and perplexity by the token look far worse for the second model. By "
        "the byte, where both predict the same text, they can be compared.",
    )


def windows_and_strides() -> Exhibit:
    """A decoder with a context of 48 on texts of 400 tokens: perplexity and work by how far the windows move."""

    def draw(count: int, length: int, *name: str | int) -> NDArray[np.int64]:
        """Texts that use 3 of 32 tokens each, at random: context tells which."""
        rng = numpy_generator(0, *name)
        return np.stack([rng.choice(32, 3, replace=False)[rng.integers(0, 3, length)] for _ in range(count)])

    model = Decoder(
        _tiny.shape(
            vocab_size=32, d_model=32, n_heads=2, n_layers=1, feed_forward=Mlp(d_ff=64), max_positions=48
        )
    )
    optimizer = build_optimizer(model, Muon(lr=0.01))
    for step in range(100):
        texts = torch.from_numpy(draw(12, 49, "train", step))
        optimizer.zero_grad()
        _tiny.loss(model, texts[:, :-1].flatten(), texts[:, 1:].flatten(), context=48).mean().backward()
        optimizer.step()
    documents = [_Held(str(i), ids, len(ids)) for i, ids in enumerate(draw(10, 400, "test"))]
    rows = []
    for stride in (48, 24, 12, 3):
        found = bits_per_byte(model, documents, stride=stride)
        windows = [
            window for d in documents for window in sliding_windows(len(d.ids) - 1, context=48, stride=stride)
        ]
        rows.append(
            (
                stride,
                48 - stride,
                sum(w.length for w in windows),
                found.perplexity,
                found.nats / found.tokens / math.log(2),
            )
        )
    return Exhibit(
        title="Texts that each use 3 of 32 tokens (who knows which has a perplexity of 3)",
        columns=("stride", "tokens before, at least", "tokens computed", "perplexity", "bits a token"),
        rows=rows,
        reads="Cut into pieces, a text has tokens that are predicted from next to nothing, which makes the model look worse than it is. Overlapping windows score "
        "every token once, with more before it, for more work. The stride belongs to the number.",
    )


def models_in_one_table() -> Exhibit:
    """Guessing, file compressors, counting and a decoder on the same held-out bytes, in bits a byte."""
    texts = list(_library.texts())
    seen, held_out = texts[::2], [text[:4000] for text in texts[1:25:2]]
    given, data = "".join(seen).encode(), "".join(held_out).encode()
    documents = _as_bytes(held_out)
    counts = count_ngrams([d.ids for d in _as_bytes(seen)], order=5, vocab_size=256)
    model = Decoder(_tiny.shape())
    ids = torch.frombuffer(bytearray(given), dtype=torch.uint8).long()
    _tiny.train(model, Muon(lr=0.02), steps=80, schedule=Cosine(warmup=5), ids=ids, rows=4)
    rows: list[tuple[str, str, float, float | str]] = [("uniform guess", "nothing", 8.0, "")]
    for name in ("gzip", "bz2", "xz"):
        rows.append(
            (name, "the held-out text as it goes", compressed_bits_per_byte(data, compressor=name), "")
        )  # type: ignore[arg-type]
    for order in (1, 3, 5):
        found = bits_per_byte(kneser_ney(counts.truncated(order)).logprobs, documents)
        rows.append(
            (f"Kneser-Ney {order}-gram", f"{len(given):,} bytes", found.bits_per_byte, found.standard_error)
        )
    found = bits_per_byte(model, documents, context=64)
    rows.append(
        (
            f"decoder, {model.num_parameters():,} weights",
            f"{80 * 4 * 64:,} bytes",
            found.bits_per_byte,
            found.standard_error,
        )
    )
    return Exhibit(
        title=f"{len(documents)} held-out documents, {len(data):,} bytes",
        columns=("model", "what it learned from", "bits a byte", "standard error"),
        rows=rows,
        reads="Everything that predicts stands in one table, compressors too. Counting is a hard rival for a decoder trained for a moment: a network is worth its "
        "price only once it beats such baselines on the same bytes.",
    )


def interval_coverage() -> Exhibit:
    """400 made-up evaluations with a known answer: how often the true value lies within 1.96 standard errors."""
    rng, true = numpy_generator(0, "coverage"), 1.0
    rows = []
    for n in (5, 20, 100):
        ratio, naive, widths = 0, 0, []
        for _ in range(400):
            sizes = np.maximum(50, rng.lognormal(7.0, 1.0, n)).astype(int)
            rates = true * (1 + 0.25 * rng.standard_normal(n))
            table = tuple(
                DocumentBits(id=str(i), nats=float(r * s * math.log(2)), tokens=int(s), bytes=int(s))
                for i, (r, s) in enumerate(zip(rates, sizes, strict=True))
            )
            bits = Bits(documents=table)
            width = 1.96 * bits.standard_error
            ratio += abs(bits.bits_per_byte - true) <= width
            by_byte = 1.96 * 0.25 / math.sqrt(sizes.sum())  # as if every byte were a draw of its own
            naive += abs(bits.bits_per_byte - true) <= by_byte
            widths.append(width)
        rows.append((n, float(np.mean(widths)), ratio / 400, naive / 400))
    return Exhibit(
        title="Documents of very different sizes, each with its own difficulty; the true value is 1 bit a byte",
        columns=(
            "documents",
            "mean half width",
            "intervals that hold the truth",
            "the same, bytes taken for independent",
        ),
        rows=rows,
        reads="95 in 100 are promised. With a hundred documents the promise nearly holds, with five it does not: the error is itself estimated. Counting bytes or "
        "tokens as independent draws gives intervals that are almost never right, since a document's bytes are hard or easy together.",
    )


def leaked_documents() -> Exhibit:
    """Ever more of the test documents put into the training text: their overlap and the score they give."""
    pieces = [piece for piece in _prepared.pieces(800) if 300 < len(piece) < 2000][:200]
    documents = _as_bytes(pieces)
    test, clean = documents[::4], [d for i, d in enumerate(documents) if i % 4]
    fresh, test = test[::2], test[1::2]
    rows = []
    for leaked in (0.0, 0.1, 0.3, 1.0):
        copies = test[: round(leaked * len(test))]
        counts = count_ngrams([d.ids for d in [*clean, *copies]], order=RUN, vocab_size=256)
        line = lay_out([d.ids for d in test], 256)
        known = counts.ranks(line)[RUN][line.targets] >= 0
        parts = np.split(known, np.cumsum([len(d.ids) for d in test])[:-1])
        flagged = float(np.mean([part[RUN - 1 :].mean() > 0.8 for part in parts]))
        model = kneser_ney(counts.truncated(5))
        rows.append(
            (
                f"{leaked:.0%}",
                flagged,
                *(bits_per_byte(model.logprobs, part).bits_per_byte for part in (test, fresh)),
            )
        )
    return Exhibit(
        title=f"{len(test)} test documents, {len(fresh)} others that never leak; Kneser-Ney of order 5",
        columns=(
            "of the test leaked",
            "flagged: 4 in 5 of its 12-byte runs seen",
            "bits a byte, test",
            "bits a byte, others",
        ),
        rows=rows,
        reads="Every leaked document makes the score better and the model hardly, as the others show. Counting how much of each test document the training text "
        "already holds finds the leak, while its score alone looks like progress.",
    )


def copies_across_the_split() -> Exhibit:
    """400 documents with many copies among them, split by place and by the shipped hash: copies on both sides."""
    pieces = _prepared.pieces(200)
    rng = numpy_generator(0, "copies")
    documents = [pieces[i] for i in rng.integers(0, len(pieces), 400)]
    hashes = [document_hash(text.encode()) for text in documents]
    by_place = ["heldout" if u < 0.2 else "train" for u in rng.random(len(documents))]
    by_hash = [
        side
        for side, _ in sorted(
            split(((h, i) for i, h in enumerate(hashes)), 0.2, seed=0), key=lambda pair: pair[1]
        )
    ]
    rows = []
    for name, sides in (("each document at random", by_place), ("by the document's hash", by_hash)):
        seen = {h for h, side in zip(hashes, sides, strict=True) if side == "train"}
        held = [h for h, side in zip(hashes, sides, strict=True) if side == "heldout"]
        rows.append((name, len(held), sum(h in seen for h in held), sum(h in seen for h in held) / len(held)))
    return Exhibit(
        title=f"{len(documents)} documents, {len(set(hashes))} of them different, a fifth held out",
        columns=("split", "held out", "of these also in training", "share"),
        rows=rows,
        reads="A random split puts copies on both sides, and what is held out is no longer unseen. The hash decides for all copies alike, whatever "
        "their order or number; copies that differ in a character still slip through.",
    )
