"""Answers in channels, as gpt-oss writes them: a header that says what follows, `<|message|>`, and the words.

<|channel|>analysis<|message|>...<|end|><|start|>assistant<|channel|>final<|message|>...
<|start|>assistant to=functions.name<|channel|>commentary json<|message|>{...}<|call|>
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from orrery.serve.grammar.reply_piece import Delta, first_of, overlap

_ENDS = ("<|end|>", "<|call|>", "<|return|>")
_TO = re.compile(r"to=(?:functions\.)?([\w.-]+)")


class HarmonyReply:
    """One answer under way; see `ReplyParser`."""

    def __init__(self, *, calls: bool) -> None:
        self._calls = calls
        self._held = ""
        self._body = False
        self._kind = "content"
        self._made = 0

    def push(self, text: str) -> Iterator[Delta]:
        self._held += text
        while True:
            marks = _ENDS if self._body else ("<|message|>",)
            at, mark = first_of(self._held, marks)
            if self._body:
                end = at if mark else len(self._held) - overlap(self._held, marks)
                yield from self._words(self._held[:end])
                self._held = self._held[end:]
            if not mark:
                return
            head, _, self._held = self._held.partition(mark)
            if not self._body:
                yield from self._open(head)
            self._body = not self._body

    def flush(self) -> Iterator[Delta]:
        """A header without words is no header: it stays content, as far as it is more than the marks between messages."""
        held, self._held = self._held, ""
        if self._body:
            yield from self._words(held)
        elif held.removeprefix("<|start|>assistant"):
            yield Delta(content=held)

    def _open(self, head: str) -> Iterator[Delta]:
        if self._calls and (name := _TO.search(head)):
            self._kind, self._made = "call", self._made + 1
            yield Delta(call=self._made - 1, name=name[1])
        else:
            self._kind = "reasoning" if "<|channel|>analysis" in head else "content"

    def _words(self, text: str) -> Iterator[Delta]:
        if not text:
            return
        match self._kind:
            case "call":
                yield Delta(call=self._made - 1, arguments=text)
            case "reasoning":
                yield Delta(reasoning=text)
            case _:
                yield Delta(content=text)
