"""Cutting long texts at paragraph boundaries, so that a whole book is many documents and memory stays flat.

A document of more than LONG characters becomes parts of at most PART characters, each ending after a blank line where
there is one in the second half of its room, else after a line, else after a space. Parts joined give the text back,
and each keeps its place: `book.txt#65536` begins at character 65,536 of book.txt.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

LONG = 1 << 18
PART = 1 << 16
_BREAKS = ("\n\n", "\r\n\r\n", "\n", "\r", " ")


@dataclass(frozen=True, slots=True)
class Document:
    """A text and where it came from; `start` is its first character within the document it is a part of."""

    id: str
    text: str
    path: str
    start: int = 0
    is_part: bool = False

    @property
    def name(self) -> str:
        """The id, with the place of the part when it is one."""
        return f"{self.id}#{self.start}" if self.is_part else self.id


def boundary(text: str, limit: int) -> int:
    """Where to cut `text` (longer than `limit`) so that the first part has at most `limit` characters."""
    for mark in _BREAKS:
        found = text.rfind(mark, limit // 2, limit)
        if found >= 0:
            return found + len(mark)
    return limit


def cut(document: Document, limit: int) -> Iterator[Document]:
    """Parts of at most `limit` characters; the document itself when it is no longer than that."""
    if len(document.text) <= limit:
        yield document
        return
    yield from _parts(document, iter(()), limit)


def documents_from_blocks(
    blocks: Iterable[str], *, id: str, path: str, long: int = LONG, part: int = PART
) -> Iterator[Document]:
    """One document, or its parts as soon as it proves longer than `long` characters; holds no more than that."""
    source = iter(blocks)
    text = next(source, "")
    for block in source:
        text += block
        if len(text) > long:
            break
    document = Document(id, text, path)
    if len(text) <= long:
        yield document
    else:
        yield from _parts(document, source, part)


def _parts(document: Document, blocks: Iterator[str], limit: int) -> Iterator[Document]:
    text, start = document.text, document.start
    more = True
    while text:
        while more and len(text) <= 2 * limit:
            block = next(blocks, None)
            more = block is not None
            text += block or ""
        if len(text) > 2 * limit:
            at = boundary(text, limit)
        elif len(text) > limit:  # share what is left, so that the last part is no mere tail
            at = boundary(text, min(limit, len(text) // 2 + limit // 4))
        else:
            at = len(text)
        yield replace(document, text=text[:at], start=start, is_part=True)
        text, start = text[at:], start + at
