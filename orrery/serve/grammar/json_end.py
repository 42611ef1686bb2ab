"""Where a JSON value ends, in text that comes in pieces."""

from __future__ import annotations

import re

_MARKS = re.compile(r'["\\{}\[\]]')
_STRING = re.compile(r'["\\]')


class JsonEnd:
    """Feed the text of an object or a list as it comes; brackets and strings are all that is looked at, each character once."""

    def __init__(self) -> None:
        self._depth, self._inside, self._escaped = 0, False, False

    def feed(self, text: str) -> int:
        """The place in `text` behind the value's last bracket, or -1 while it is open."""
        at = 0
        if self._escaped and text:
            at, self._escaped = 1, False
        while found := (_STRING if self._inside else _MARKS).search(text, at):
            at = found.end()
            match found[0]:
                case "\\":
                    if at == len(text):
                        self._escaped = True
                    at += 1
                case '"':
                    self._inside = not self._inside
                case "{" | "[":
                    self._depth += 1
                case _:
                    self._depth -= 1
                    if self._depth <= 0:
                        return at
        return -1
