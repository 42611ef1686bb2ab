"""Ids of a rendered template: control tokens only where the template wrote them, everything else exactly as in one piece.

The tokenizers library finds control tokens anywhere in a text. Here they bear names that no text contains; those that the
template itself wrote are renamed in the text as well, so they are found, and what merely looks like one stays text. Nothing is
cut into pieces, so merges, prefixes and whitespace rules at the borders are the library's own.
"""

from __future__ import annotations

import json
import re
import secrets
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

import tokenizers
from tokenizers import AddedToken

from orrery.text.backend import explain
from orrery.text.jinja.marked import FLAG, Text
from orrery.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Piece:
    """One id and the characters of the text it covers."""

    id: int
    start: int
    end: int


class MarkedEncoder:
    """Text with marks to ids, for one tokenizer and one template."""

    def __init__(self, tokenizer: Tokenizer, template: str) -> None:
        self.tokenizer = tokenizer
        added = sorted(tokenizer.spec.get("added_tokens") or [], key=lambda token: token["id"])
        self._added: list[dict[str, Any]] = added
        self.hard = [token["content"] for token in added if token.get("special")]
        self.soft = [
            token["content"] for token in added if not token.get("special") and token["content"].strip()
            and token["content"] in template
        ]  # fmt: skip
        self.names = pattern(self.hard)

    def encode(self, text: Text, assistant: frozenset[int] = frozenset()) -> list[Piece]:
        """The ids and where each stands.

        Args:
            assistant: turns of the assistant; tokens the template uses that are not special (`<think>` in many vocabularies)
                may also stand in its words, for the model wrote them.
        """
        found = self._control(text, assistant)
        renamed, at, moves = [], 0, [(0, 0)]  # (start in the renamed text, start in the text)
        length = 0
        for start, end in found:
            name = self._secret[text[start:end]]
            renamed += [str(text)[at:start], name]
            length += start - at
            moves += [(length, start), (length + len(name), end)]
            length, at = length + len(name), end
        renamed.append(str(text)[at:])
        try:
            encoding = self._library.encode("".join(renamed), add_special_tokens=False)
        except BaseException as error:
            explain(str(text), error)
        starts = [new for new, _ in moves]

        def back(place: int) -> int:
            new, old = moves[bisect_right(starts, place) - 1]
            return old + place - new

        return [
            Piece(self._ids.get(i, i), back(start), back(end))
            for i, (start, end) in zip(encoding.ids, encoding.offsets, strict=True)
        ]

    def _control(self, text: Text, assistant: frozenset[int]) -> list[tuple[int, int]]:
        """Where the template wrote control tokens: no character of them may come from outside."""
        found = _matches(self._written, text, lambda mark: not mark & 1)
        if self.soft and assistant:
            taken = {at for start, end in found for at in range(start, end)}
            more = _matches(self._soft, text, lambda mark: not mark & 1 or (mark - 3) // 2 in assistant)
            found += [span for span in more if not taken & {*range(*span)}]
        return sorted(found)

    @cached_property
    def _written(self) -> re.Pattern[str]:
        return pattern([*self.hard, *self.soft])

    @cached_property
    def _soft(self) -> re.Pattern[str]:
        return pattern(self.soft)

    @cached_property
    def _secret(self) -> dict[str, str]:
        secret = secrets.token_hex(8)
        return {name: f"\uffff{secret}{at}\uffff" for at, name in enumerate([*self.hard, *self.soft])}

    @cached_property
    def _library(self) -> tokenizers.Tokenizer:
        """The tokenizer with its control tokens renamed; it shares the vocabulary, and leaves offsets as they are."""
        empty = {"type": "BPE", "vocab": {}, "merges": []}
        spec = self.tokenizer.spec | {"model": empty, "added_tokens": [], "post_processor": None}
        library = tokenizers.Tokenizer.from_str(json.dumps(spec, ensure_ascii=False))
        library.model = self.tokenizer._plain.model
        library.add_tokens([self._renamed(token) for token in self._added])
        return library

    def _renamed(self, token: dict[str, Any]) -> AddedToken:
        flags = {name: token[name] for name in ("single_word", "lstrip", "rstrip", "normalized")}
        secret = self._secret.get(token["content"])
        if secret is None:
            return AddedToken(token["content"], special=False, **flags)
        return AddedToken(secret, special=False, **flags | {"normalized": False})

    @cached_property
    def _ids(self) -> dict[int, int]:
        """The library numbers renamed tokens anew; their own ids."""
        names = [(self._secret.get(token["content"], token["content"]), token["id"]) for token in self._added]
        return {new: old for name, old in names if (new := self._library.token_to_id(name)) is not None}


def pattern(names: list[str]) -> re.Pattern[str]:
    """Any of the names, the longest first, as the library looks for them."""
    return re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True))) or r"(?!)")


def _matches(names: re.Pattern[str], text: Text, allowed: Callable[[int], bool]) -> list[tuple[int, int]]:
    """Places of the names inside stretches of allowed marks."""
    found, at = [], 0
    for own, group in groupby(text.marks, key=lambda mark: allowed(ord(mark) & ~FLAG)):
        end = at + len(list(group))
        if own:
            found += [(at + match.start(), at + match.end()) for match in names.finditer(str(text)[at:end])]
        at = end
    return found
