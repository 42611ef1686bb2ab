"""An answer as it streams, taken apart: content, reasoning, and tool calls with their arguments piece by piece.

    reply = ReplyParser(chat, tools=tools, in_reasoning=in_reasoning(chat, prompt))
    for text in stream: for delta in reply.push(text): ...
    for delta in reply.flush(): ...

What might be the beginning of a mark is held back until it is known not to be, so no part of one is ever shown. Joined, the pieces say
what `ChatFormat.parse` says of the whole (but for blanks at the ends of content and reasoning), wherever the stream is cut; what looks like a call and is none
stays content. An answer that breaks off keeps what was shown: half its reasoning, or a call with half its arguments.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from orrery.serve.grammar.json_end import JsonEnd
from orrery.serve.grammar.reply_harmony import HarmonyReply
from orrery.serve.grammar.reply_piece import Delta, first_of, overlap
from orrery.serve.grammar.syntax import call_syntax, reasoning_of
from orrery.serve.grammar.tool_calls import as_written, tool_parameters
from orrery.text.answer import CALLS, Reader
from orrery.text.chat import ChatFormat

__all__ = ["Delta", "ReplyParser", "message_of"]
_NOISE = ("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>")
"""Around a list of calls, beside the marks of each."""
_KEYS = ("name", "tool_name", "type", "id", "tool_call_id", "arguments", "parameters")
_JSON = re.compile(
    r'(?:[\s\[,}]|"id"\s*:\s*"[\w.-]*")*\{\s*(?:"(?:id|tool_call_id|type)"\s*:\s*"[\w.-]*"\s*,\s*)*'
    r'"(?:name|tool_name)"\s*:\s*"([\w./:-]+)"\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)'
)
_HEADED = re.compile(
    r"\s*(?:function<｜tool▁sep｜>)?([\w.-]+)(?:\[CALL_ID\][\w-]+)?(?:\[ARGS\]|<｜tool▁sep｜>|\s*```json)?\s*(?=\{)"
)
_NAMED = re.compile(r"([^>\s]+)>\s*(?=\{)")
_HEADS = {"[TOOL_CALLS]": (_JSON, _HEADED), "<｜tool▁call▁begin｜>": (_HEADED,), "<function=": (_NAMED,)}
_REST = re.compile(r'[\s`}\]]*(?:,\s*"id"\s*:\s*"[^"]*")?[\s`}\]]*')
_HEAD_CHARS = 2_048
"""Characters within which the arguments of a call begin; one that begins later is shown when it is whole."""


@dataclass(frozen=True)
class _Form:
    """A way to write calls: its marks, its readers of a whole call, and what stands before arguments in JSON."""

    opening: str
    closing: str | None
    readers: tuple[Reader, ...]
    heads: tuple[re.Pattern[str], ...]


class ReplyParser:
    """One answer under way."""

    def __init__(self, chat: ChatFormat, *, tools: Sequence[Any] = (), in_reasoning: bool = False) -> None:
        """
        Args:
            tools: those of the request; without any, what looks like a call is content.
            in_reasoning: the prompt opened the reasoning already.
        """
        source = "\n".join(chat.templates.values())
        self._inner: HarmonyReply | _Marked = (
            HarmonyReply(calls=bool(tools))
            if "<|channel|>" in source
            else _Marked(chat, source, tools, in_reasoning)
        )

    def push(self, text: str) -> list[Delta]:
        """What is certain by now."""
        return list(self._inner.push(text))

    def flush(self) -> list[Delta]:
        """What was held back, when no more text comes."""
        return list(self._inner.flush())


def message_of(deltas: Iterable[Delta]) -> dict[str, Any]:
    """The message that deltas make: {"role", "content", "reasoning"?, "tool_calls"?}, arguments as JSON text."""
    message: dict[str, Any] = {"role": "assistant", "content": ""}
    calls: dict[int, dict[str, str]] = {}
    for delta in deltas:
        message["content"] += delta.content
        if delta.reasoning:
            message["reasoning"] = message.get("reasoning", "") + delta.reasoning
        if delta.call is not None:
            call = calls.setdefault(delta.call, {"name": "", "arguments": ""})
            call["name"] += delta.name
            call["arguments"] += delta.arguments
    if calls:
        message["tool_calls"] = [{"type": "function", "function": call} for call in calls.values()]
    return message


class _Marked:
    """Formats that put marks around reasoning and calls."""

    def __init__(self, chat: ChatFormat, source: str, tools: Sequence[Any], in_reasoning: bool) -> None:
        self._marks = reasoning_of(chat)
        syntax = call_syntax(chat) if tools else None
        self._tags = syntax.tagged if syntax else None
        self._schemas = tool_parameters(tools)
        self._forms = [
            _Form(opening, closing, readers, _HEADS.get(opening, (_JSON,)))
            for opening, closing, readers in CALLS
            if tools and opening in source
        ]
        json_reader = CALLS[0][2][0]
        self._bare = _Form("", None, (json_reader,), (_JSON,)) if tools and '"parameters"' in source else None
        self._state = self._reasoning if in_reasoning else self._content
        self._reasoned = in_reasoning
        self._held = self._blank = ""
        self._begun = False  # whether any content or reasoning of the present part was shown
        self._form: _Form | None = None
        self._made = self._of_block = 0  # calls shown, and how many of the present block's
        self._json: JsonEnd | None = None
        self._looked = 0  # up to here the held text was looked through for the end of the block
        self._final = False

    def push(self, text: str) -> Iterator[Delta]:
        self._held += text
        while True:
            state, held = self._state, len(self._held)
            yield from self._state()
            if self._state == state and len(self._held) == held:
                return

    def flush(self) -> Iterator[Delta]:
        self._final = True
        yield from self.push("")
        if self._blank and not self._made and self._state == self._content:
            yield Delta(content=self._blank)

    # --- text

    def _content(self) -> Iterator[Delta]:
        if self._bare and not self._made and not self._begun and self._may_be_bare():
            self._enter(self._bare)
            return
        openings = [form.opening for form in self._forms] + (list(_NOISE) if self._forms else [])
        if self._marks and not self._reasoned:
            openings.append(self._marks.opening)
        at, mark = first_of(self._held, openings)
        yield from self._show(self._taken(at, openings), reasoning=False)
        if not mark:
            return
        self._held = self._held.removeprefix(mark)
        if self._marks and mark == self._marks.opening:
            self._reasoned, self._begun, self._blank = True, False, ""
            self._state = self._reasoning
        elif form := next((form for form in self._forms if form.opening == mark), None):
            self._enter(form)

    def _reasoning(self) -> Iterator[Delta]:
        assert self._marks is not None
        at, mark = first_of(self._held, [self._marks.closing])
        yield from self._show(self._taken(at, [self._marks.closing]), reasoning=True)
        if mark:
            self._held = self._held.removeprefix(mark)
            self._blank, self._begun, self._state = "", False, self._content

    def _taken(self, at: int, marks: Sequence[str]) -> str:
        """The held text up to a mark, or up to what may be the beginning of one."""
        end = at if at >= 0 else len(self._held) - (0 if self._final else overlap(self._held, marks))
        taken, self._held = self._held[:end], self._held[end:]
        return taken

    def _show(self, text: str, *, reasoning: bool) -> Iterator[Delta]:
        """Text without the line breaks that set reasoning off, and without blanks that a call may follow."""
        if not self._begun and (reasoning or self._reasoned):
            text = text.lstrip("\n")
        text = self._blank + text
        kept = text.rstrip("\n") if reasoning else text.rstrip()
        self._blank = text[len(kept) :]
        if kept:
            self._begun = True
            yield Delta(reasoning=kept) if reasoning else Delta(content=kept)

    # --- calls

    def _may_be_bare(self) -> bool:
        """Whether the answer may be a call without marks, like {"name": ..., "parameters": ...}."""
        found = re.match(r'\s*\[?\s*\{\s*(?:"([^"]*)"?)?', self._held)
        if found is None or (len(self._held) > _HEAD_CHARS and not _JSON.match(self._held)):
            return False
        return found[1] is None or any(key.startswith(found[1]) for key in _KEYS)

    def _enter(self, form: _Form) -> None:
        self._form, self._of_block, self._json, self._state = form, 0, None, self._call
        self._looked = 0

    def _call(self) -> Iterator[Delta]:
        form = self._form
        assert form is not None
        if self._json is not None:
            yield from self._arguments()
            return
        if form is self._bare and not self._of_block and not self._may_be_bare():
            self._bare, self._state = None, self._content
            return
        for head in form.heads if self._looked < _HEAD_CHARS else ():
            if found := head.match(self._held[:_HEAD_CHARS]):
                self._held = self._held[found.end() :]
                self._json, self._of_block, self._looked = JsonEnd(), self._of_block + 1, 0
                self._made += 1
                yield Delta(call=self._made - 1, name=found[1])
                return
        closings = [form.closing] if form.closing else [other.opening for other in self._forms]
        at, mark = first_of(self._held, closings, self._looked)
        self._looked = max(0, len(self._held) - max(map(len, closings), default=0))
        if at >= 0 or self._final:
            body, self._held = (self._held, "") if at < 0 else (self._held[:at], self._held[at:])
            if form.closing and mark:
                self._held = self._held.removeprefix(mark)
            yield from self._closed(form, body, mark if form.closing else "")

    def _arguments(self) -> Iterator[Delta]:
        assert self._json is not None
        end = self._json.feed(self._held)
        shown, self._held = (self._held, "") if end < 0 else (self._held[:end], self._held[end:])
        if end >= 0:
            self._json = None
        if shown:
            yield Delta(call=self._made - 1, arguments=shown)

    def _closed(self, form: _Form, body: str, closing: str) -> Iterator[Delta]:
        """The end of a block of calls."""
        self._state, self._form = self._content, None
        if self._of_block:
            rest = body[_REST.match(body).end() :]  # type: ignore[union-attr]
            yield from self._show(rest, reasoning=False)
            return
        calls = next((calls for reader in form.readers if (calls := _tried(reader, body))), None)
        if calls is None:
            self._bare = None
            yield from self._show(form.opening + body + closing, reasoning=False)
            return
        for name, arguments in calls:
            if self._tags and isinstance(arguments, dict):
                as_written(arguments, self._schemas.get(name, {}), body, 0, self._tags)
            written = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
            self._made += 1
            yield Delta(call=self._made - 1, name=name, arguments=written)


def _tried(reader: Reader, body: str) -> list[tuple[str, Any]] | None:
    try:
        return reader(body)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None
