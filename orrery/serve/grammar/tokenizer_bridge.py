"""A `Tokenizer` as the grammar library sees it: the bytes of every token, none of them our library's guess.

A grammar speaks of bytes, so it needs to know what each token spells. `text/pieces.py` knows that for every kind of tokenizer: once
for a token inside a text and once for the first one, which in SentencePiece's convention loses its leading space. Special
tokens spell nothing a grammar's text could match; one further id, `end`, stands for every id that may end the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from orrery.kit.errors import MissingExtra, OrreryError
from orrery.text.pieces import decoder_kinds
from orrery.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llguidance import LLTokenizer


@dataclass(frozen=True)
class Bridge:
    """Both tables of a tokenizer's bytes as tries.

    Attributes:
        rest: tokens as they are spelled inside a text. first: as they are at its start; the same object where nothing differs.
        end: the id that stands for the end of the text, one above the tokenizer's last.
        holes: ids that no token has.
        starts: {id: the ids that inside a text spell what this one spells at its start}, for the tokens that differ.
    """

    tokenizer: Tokenizer
    rest: LLTokenizer
    first: LLTokenizer
    end: int
    holes: list[int]
    starts: dict[int, tuple[int, ...]]

    def encode(self, data: bytes) -> list[int]:
        """Ids that spell `data` inside a text; none where the tokenizer would put a space in front."""
        if not data:
            return []
        ids = self.tokenizer.encode_bytes(data)
        return ids if b"".join(map(self.tokenizer.token_bytes, ids)) == data else []


@lru_cache(maxsize=2)
def bridge(tokenizer: Tokenizer) -> Bridge:
    """The tries of a tokenizer, made once (1 s and 90 MB for 262,144 tokens).

    Raises:
        OrreryError: WordPiece, whose tokens put a space between words whatever the grammar says; or llguidance is missing.
    """
    try:
        from llguidance import LLTokenizer
    except ImportError:
        raise MissingExtra("llguidance", "serve") from None
    if "WordPiece" in decoder_kinds(tokenizer.spec) | {tokenizer.spec["model"].get("type")}:
        raise OrreryError(
            "a WordPiece tokenizer cannot be held to a grammar: its tokens put a space between any two words; use a model "
            "with a BPE or SentencePiece tokenizer"
        )
    end = tokenizer.vocab_size
    first, rest = tokenizer._pieces
    special = {*tokenizer.special.values()}

    def trie(table: Sequence[bytes | None]) -> LLTokenizer:
        return LLTokenizer(_Vocabulary(tokenizer, table, special), n_vocab=end + 1, eos_token=[end])  # type: ignore[arg-type]

    inside = trie(rest)
    differ = [i for i in range(end) if first[i] != rest[i]]
    starts = {i: tuple(inside.greedy_tokenize((first[i] or b"").decode(errors="replace"))) for i in differ}
    holes = [i for i, data in enumerate(rest) if data is None]
    return Bridge(tokenizer, inside, trie(first) if differ else inside, end, holes, starts)


class _Vocabulary:
    """What the library reads of a tokenizer: the bytes of each token, which of them are special, and text to ids."""

    bos_token_id = None

    def __init__(self, tokenizer: Tokenizer, table: Sequence[bytes | None], special: set[int]) -> None:
        self.tokens = [*map(_spelling, table), b"<\0end>"]
        self.special_token_ids = [*sorted(special), len(table)]
        self.eos_token_id = len(table)
        self.is_tokenizer_wrapper = True
        self._tokenizer = tokenizer

    def __call__(self, text: str | bytes) -> list[int]:
        return self._tokenizer.encode_bytes(text.encode() if isinstance(text, str) else text)


def _spelling(data: bytes | None) -> bytes:
    """No token where there is none; and none for the byte 0xFF, which no text has and the library marks special tokens with."""
    return b"" if data is None or data[:1] == b"\xff" else data
