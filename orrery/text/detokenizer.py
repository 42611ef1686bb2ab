"""Ids to text, a token at a time: the one place where single ids become characters.

A token may hold half a character (byte-level BPE splits "é" or an emoji anywhere), so the state is the bytes that wait
for their other half, and whether anything has been written. Nothing is shown before its character is whole; `flush`
gives what is left (U+FFFD for bytes that never became a character).
"""

from __future__ import annotations

import codecs
from collections.abc import Collection

from orrery.kit.errors import OrreryError
from orrery.text.pieces import Pieces


class Detokenizer:
    """`"".join(push(id) for id in ids) + flush()` equals `Tokenizer.decode(ids)`, whatever the ids."""

    def __init__(self, pieces: Pieces, *, skip: Collection[int] = ()) -> None:
        """`skip`: ids that spell nothing (special tokens, when they are not to be shown)."""
        self._pieces = pieces
        self._skip = skip
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._table = pieces.first

    def push(self, id: int) -> str:
        """The text that this token completes; often empty in the middle of a character.

        Raises:
            OrreryError: no token has this id.
        """
        if not 0 <= id < len(self._table) or (data := self._table[id]) is None:
            raise OrreryError(
                f"{id} is not a token id of this tokenizer (it has ids below {len(self._table)})"
            )
        if id in self._skip:
            return ""
        self._table = self._pieces.rest
        return self._utf8.decode(data)

    def flush(self) -> str:
        """What is still waiting; the detokenizer is then as new."""
        self._table = self._pieces.first
        text = self._utf8.decode(b"", final=True)
        self._utf8.reset()
        return text
