"""SentencePiece `.model` files, unigram and BPE, without the sentencepiece package.

SentencePiece reads raw text: no words are cut first, a space is a character like any other, written `▁`. The file is a
protocol buffer: pieces with a score and a type, and how text is to be normalised. Field numbers are those of
sentencepiece_model.proto. Source: Kudo and Richardson 2018, arXiv:1808.06226.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from orrery.kit.errors import OrreryError
from orrery.text.formats import Merge, split, tokenizer_spec
from orrery.text.patterns import SPACE
from orrery.text.scored_merges import merges_of_scores
from orrery.text.spec import MAX_BYTES, Spec, added_token
from orrery.text.tokenizer import Tokenizer

NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = range(1, 7)  # types of pieces
UNIGRAM, BPE = 1, 2  # types of models


class ScoredPiece(NamedTuple):
    """One entry of a SentencePiece vocabulary."""

    text: str
    score: float
    type: int


def sentencepiece_file(path: str | Path) -> Tokenizer:
    """Open a `.model` file (T5, Llama 2, Gemma ...).

    Raises:
        OrreryError: missing, cut short, or of a model type that has no fast form.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise OrreryError(f"'{path}' is over {MAX_BYTES >> 20} MB; that is no vocabulary")
        data = path.read_bytes()
    except OSError as error:
        raise OrreryError(f"cannot read '{path}': {error.strerror}") from None
    try:
        pieces: list[ScoredPiece] = []
        trainer: dict[int, Any] = {}
        normalizer: dict[int, Any] = {}
        for number, value in fields(data):
            if number == 1:
                piece = dict(fields(value))
                text, type = piece[1].decode(), piece.get(3, NORMAL)
                text = text.replace(SPACE, " ") if type == USER else text  # found before spaces are rewritten
                pieces.append(ScoredPiece(text, _float(piece.get(2)), type))
            elif number == 2:
                trainer = dict(fields(value))
            elif number == 3:
                normalizer = dict(fields(value))
    except (KeyError, ValueError, struct.error, AttributeError, TypeError, IndexError):
        raise OrreryError(
            f"'{path}' is not a whole SentencePiece model; copy the file again from where it came"
        ) from None
    if not pieces:
        raise OrreryError(f"'{path}' has no pieces; it is not a SentencePiece model")
    kind = trainer.get(3, UNIGRAM)
    if kind not in (UNIGRAM, BPE):
        raise OrreryError(
            f"'{path}' is a SentencePiece model of words or characters; only unigram and BPE are read"
        )
    spec = sentencepiece_spec(
        pieces,
        bpe=kind == BPE,
        prefix=bool(normalizer.get(3, 1)),
        squeeze=bool(normalizer.get(4, 1)),
        charsmap=normalizer.get(2, b""),
    )
    roles = {
        "unk_token": trainer.get(40, 0),
        "bos_token": trainer.get(41, 1),
        "eos_token": trainer.get(42, 2),
    }
    settings = {role: pieces[i].text for role, i in roles.items() if 0 <= i < len(pieces)}
    return Tokenizer(spec, settings, where=str(path))


def sentencepiece_spec(pieces: Sequence[ScoredPiece], *, bpe: bool, **options: Any) -> Spec:
    """The description of a SentencePiece vocabulary; options as in `columns_spec`."""
    texts, scores, types = zip(*pieces, strict=True)
    return columns_spec(texts, np.array(scores), np.array(types), bpe=bpe, **options)


def columns_spec(
    texts: Sequence[str],
    scores: np.ndarray,
    types: np.ndarray,
    *,
    bpe: bool,
    prefix: bool = True,
    squeeze: bool = False,
    charsmap: bytes = b"",
    merges: Sequence[Merge] | None = None,
    pattern: str | None = None,
) -> Spec:
    """The description of a SentencePiece vocabulary, given as one column for each field of its pieces.

    Args:
        prefix: one space is put in front of every text.
        squeeze: runs of spaces count as one, and those at the ends as none.
        charsmap: the normalisation table compiled into the model (NFKC and the like).
        merges: for BPE, where the vocabulary comes with them; else they follow from the scores.
        pattern: a regular expression that cuts text first.

    Raises:
        OrreryError: pieces too long for a vocabulary.
    """
    unknown = next(iter(np.flatnonzero(types == UNKNOWN).tolist()), None)
    fallback = bool((types == BYTE).any())
    if bpe:
        # Only normal pieces are made by merging: the others are found before, or never stand for text.
        plain = np.flatnonzero(np.isin(types, (NORMAL, UNUSED)))
        mergeable = [texts[i] for i in plain.tolist()]
        if merges is None:
            merges = merges_of_scores(mergeable, scores[plain], "the SentencePiece vocabulary")
        else:
            kept = set(mergeable)
            merges = [pair for pair in merges if pair[0] + pair[1] in kept]
        vocab = {text: i for i, text in enumerate(texts)}
        model: Spec = {
            "type": "BPE",
            "vocab": vocab,
            "merges": merges,
            "fuse_unk": True,
            "byte_fallback": fallback,
        }
        if unknown is not None:
            model["unk_token"] = texts[unknown]
    else:
        # SentencePiece keeps all but normal pieces out of its search. Here special tokens lose their names for that, and
        # the text "<0x0A>" is cut after the "<", so that only an unknown character ever becomes a byte token.
        floor = scores[types == NORMAL].min(initial=0.0)
        scored = [*map(list, zip(texts, np.where(types == NORMAL, scores, floor).tolist(), strict=True))]
        model = {"type": "Unigram", "vocab": scored, "unk_id": unknown, "byte_fallback": fallback}
    if pattern is None and fallback and not bpe:
        pattern = "<(?=0x[0-9A-F]{2}>)"
    stages: list[Spec] = []
    if charsmap:
        stages.append({"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap).decode()})
    if squeeze:
        stages.append({"type": "Replace", "pattern": {"Regex": r"\A +| +\z"}, "content": ""})
        stages.append({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "})
    if prefix:
        stages.append({"type": "Prepend", "prepend": SPACE})
    stages.append({"type": "Replace", "pattern": {"String": " "}, "content": SPACE})
    decoders: list[Spec] = [
        {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if prefix:
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    added = [
        added_token(texts[i], i, special=bool(types[i] != USER))
        for i in np.flatnonzero(np.isin(types, (UNKNOWN, CONTROL, USER))).tolist()
    ]
    return tokenizer_spec(
        model,
        added=added,
        normalizer={"type": "Sequence", "normalizers": stages},
        pre_tokenizer=split(pattern) if pattern else None,
        decoder={"type": "Sequence", "decoders": decoders},
    )


def fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """(field number, value) of one protocol buffer message: varints as int, 32 and 64 bits and strings as bytes.

    Raises:
        ValueError: cut short, or not a message.
    """
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        wire = tag & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield tag >> 3, value
            continue
        if wire == 2:
            size, at = _varint(data, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if at + size > len(data):
            raise ValueError("cut short")
        yield tag >> 3, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("cut short")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _float(data: bytes | None) -> float:
    return struct.unpack("<f", data)[0] if data else 0.0
