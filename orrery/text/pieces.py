"""What each token id spells in bytes, and the one way this package turns ids back into text.

Every kind of tokenizer comes down to two tables of bytes per id: what it spells as the first token of a text and what it
spells anywhere else. They differ where a leading space is a matter of convention:

    byte-level BPE         `Ġword` spells b" word" in both places
    SentencePiece style    `▁word` spells b"word" first and b" word" later; `<0xE2>` is one byte
    WordPiece              `word` spells b"word" first and b" word" later; `##ing` spells b"ing"

Text is then UTF-8 decoding of concatenated bytes, so decoding a stream piece by piece cannot differ from decoding it
whole. Bytes that are not UTF-8 become U+FFFD; `token_bytes` keeps them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import tokenizers

from orrery.kit.errors import OrreryError
from orrery.text.patterns import SPACE
from orrery.text.spec import Spec

_DECODERS = {
    "ByteLevel",
    "Metaspace",
    "WordPiece",
    "Sequence",
    "Replace",
    "ByteFallback",
    "Fuse",
    "Strip",
    "BPEDecoder",
}
BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class Pieces(NamedTuple):
    """`first[id]` and `rest[id]`: the bytes of a token at the start of a text and later. None where no token has the id."""

    first: list[bytes | None]
    rest: list[bytes | None]


def byte_to_char() -> dict[int, str]:
    """GPT-2's map from each byte to a printable character, so that byte strings can be written as text.

    Bytes that print as themselves (`!`..`~`, `¡`..`¬`, `®`..`ÿ`) do; the other 68 take the code points from 256 on.
    """
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in plain]
    return {b: chr(b) for b in plain} | {b: chr(256 + i) for i, b in enumerate(others)}


CHAR_OF_BYTE = byte_to_char()
BYTE_OF_CHAR = {char: byte for byte, char in CHAR_OF_BYTE.items()}


def bytes_of(piece: str) -> bytes:
    """The bytes that a byte-level piece stands for (`Ġthe` -> b" the")."""
    return bytes(BYTE_OF_CHAR[char] for char in piece)


def chars_of(data: bytes) -> str:
    """The byte-level piece for some bytes (b" the" -> `Ġthe`)."""
    return "".join(CHAR_OF_BYTE[byte] for byte in data)


def decoder_kinds(spec: Spec) -> set[str]:
    """The types in the decoder of a tokenizer description."""
    decoder = spec.get("decoder") or {}
    return {decoder.get("type", "")} | {part.get("type", "") for part in decoder.get("decoders", [])} - {""}


def piece_tables(spec: Spec, vocabulary: Mapping[str, int], backend: tokenizers.Tokenizer) -> Pieces:
    """Both tables, for all ids up to the highest in `vocabulary`.

    Raises:
        OrreryError: a decoder whose tokens cannot be spelled one by one.
    """
    kinds = decoder_kinds(spec) - {""}
    if not kinds <= _DECODERS:
        raise OrreryError(
            f"cannot stream text through the decoder {sorted(kinds - _DECODERS)}; re-export the tokenizer"
        )
    spaced, cut = _sentencepiece(spec)
    added = {token["content"] for token in spec.get("added_tokens") or []}
    size = max(vocabulary.values(), default=-1) + 1
    first: list[bytes | None] = [None] * size
    rest: list[bytes | None] = [None] * size
    for piece, i in vocabulary.items():
        if piece in added:
            first[i] = rest[i] = piece.encode()
        elif "ByteLevel" in kinds:
            known = all(char in BYTE_OF_CHAR for char in piece)
            first[i] = rest[i] = bytes_of(piece) if known else piece.encode()
        elif "ByteFallback" in kinds and (byte := BYTE_PIECE.fullmatch(piece)):
            first[i] = rest[i] = bytes([int(byte[1], 16)])
        elif spaced:  # as the library would spell it, but there may be 262,144
            rest[i] = later = piece.replace(SPACE, " ").encode()
            first[i] = later[1:] if cut and later[:1] == b" " else later
        else:
            start, later = _spelled(piece, spec, backend)
            first[i], rest[i] = start.encode(), later.encode()
    return Pieces(first, rest)


def _sentencepiece(spec: Spec) -> tuple[bool, bool]:
    """Whether the decoder is SentencePiece's (`▁` for a space, bytes joined), and whether it drops the first space."""
    replace = {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}
    plain: list[Spec] = [replace, {"type": "ByteFallback"}, {"type": "Fuse"}]
    held = (spec.get("decoder") or {}).get("decoders")
    strip: Spec = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    return held in (plain, [*plain, strip]), held == [*plain, strip]


def _spelled(piece: str, spec: Spec, backend: tokenizers.Tokenizer) -> tuple[str, str]:
    """The text of one piece at the start and after another: asked of the library's own decoder."""
    decoder = spec.get("decoder")
    if decoder is None:
        return piece, " " + piece
    if (
        decoder["type"] == "BPEDecoder"
    ):  # `word</w>`: the space comes after, so the library needs to see the end
        return (text := piece.replace(decoder.get("suffix", "</w>"), " ")), text
    library = backend.decoder
    return library.decode([piece]), library.decode(["a", piece])[1:]
