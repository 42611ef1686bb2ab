"""How a chat format writes tool calls and reasoning, asked of its own template.

No table can keep up with the ways in which templates write calls, so the template is asked: it renders an answer with calls whose
names, arguments and ids are known words, and what stands between those words is its syntax.

    head name middle {"key": value} (between name middle {"key": value})* tail
    head name middle (opening key inner value stop)* ...                          where arguments are tagged, not JSON
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import zip_longest
from typing import Any

from orrery.kit.errors import OrreryError
from orrery.text.answer import CALLS, REASONING
from orrery.text.chat import ChatFormat

ID = "\0"
"""Stands in a syntax's texts for the id of a call."""
_NAMES = ("probe_first", "probe_other")
_IDS = ("callab001", "callab002")
_ARGUMENTS = {"key_one": "value_one", "key_two": "value_two"}
_JSON = re.compile(r'\{\s*"key_one"\s*:\s*"value_one"\s*,\s*"key_two"\s*:\s*"value_two"\s*\}')
_MARK = re.compile(r"<[^<>\s]+>?|\[[A-Z_]+\]")
_END = re.compile(r"\s*</[^<>]+>")


@dataclass(frozen=True)
class Reasoning:
    """The marks around reasoning, and what stands before the answer that follows it."""

    opening: str
    closing: str
    answer: str = ""


@dataclass(frozen=True)
class Tagged:
    """Arguments written one by one: what stands before a key, between it and its value, and what ends the value."""

    opening: str
    inner: str
    stop: str


@dataclass(frozen=True)
class CallSyntax:
    """The texts around the names and arguments of calls; `between` is None where a format makes one call at a time."""

    head: str
    middle: str
    between: str | None
    tail: str
    tagged: Tagged | None = None

    @property
    def mark(self) -> str:
        """What opens calls wherever it stands in a text; empty where only the whole answer can be a call."""
        found = _MARK.match(self.head)
        return found[0] if found else ""

    def spell(self, name: str, arguments: Mapping[str, Any]) -> str:
        """One call as the format writes it."""
        if (tags := self.tagged) is None:
            inside = json.dumps(arguments, ensure_ascii=False)
        else:
            inside = "".join(
                f"{tags.opening}{key}{tags.inner}{value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}{tags.stop}"
                for key, value in arguments.items()
            )
        return (self.head + name + self.middle + inside + self.tail).replace(ID, _IDS[0])


def reasoning_of(chat: ChatFormat) -> Reasoning | None:
    """The marks of the format's reasoning, if it has any."""
    source = "\n".join(chat.templates.values())
    if "<|channel|>" in source:
        return Reasoning(
            "<|channel|>analysis<|message|>", "<|end|><|start|>assistant", "<|channel|>final<|message|>"
        )
    known = (("<|think|>", "<|end_think|>"), *REASONING)
    return next((Reasoning(opening, closing) for opening, closing in known if closing in source), None)


def in_reasoning(chat: ChatFormat, prompt: Sequence[int]) -> bool:
    """Whether the prompt ends with the mark that opens reasoning, so that the answer begins inside it."""
    marks = reasoning_of(chat)
    end = chat.tokenizer.decode(list(prompt)[-16:]).rstrip()
    return marks is not None and end.endswith(marks.opening.rstrip())


@lru_cache(maxsize=16)
def call_syntax(chat: ChatFormat) -> CallSyntax | None:
    """How the format writes calls; None where what it writes is not what `ChatFormat.parse` reads back."""
    source = "\n".join(chat.templates.values())
    known = [
        CallSyntax(head, '", "arguments": ', "}" + (closing or "") + head, "}" + (closing or ""))
        for opening, closing, _ in CALLS
        if opening in source and (head := opening + '{"name": "')
    ]
    for syntax in (_asked(chat), *known):
        if syntax is not None and _reads_back(chat, syntax):
            return syntax
    return None


def _reads_back(chat: ChatFormat, syntax: CallSyntax) -> bool:
    arguments = {"key_one": "some words", "key_two": 7}
    text = syntax.spell(_NAMES[0], arguments)
    calls = chat.parse(chat.tokenizer.encode(text, special="allow")).get("tool_calls")
    return calls == [{"type": "function", "function": {"name": _NAMES[0], "arguments": arguments}}]


def _asked(chat: ChatFormat) -> CallSyntax | None:
    one = _answer(chat, 1)
    if one is None or _NAMES[0] not in one:
        return None
    two = _answer(chat, 2) or ""
    head, _, rest = one.partition(_NAMES[0])
    if marks := reasoning_of(chat):
        head = head.rpartition(marks.closing)[2]
    if written := _JSON.search(rest):
        between = _between(two, lambda text: (found := _JSON.search(text)) and found.end())
        return CallSyntax(head.lstrip(), rest[: written.start()], between, rest[written.end() :])
    return _tagged(head.lstrip(), rest, two)


def _tagged(head: str, rest: str, two: str) -> CallSyntax | None:
    words = re.split("(?:key|value)_(?:one|two)", rest)
    if len(words) != 5 or not (ends := _END.match(words[2])):
        return None
    middle, inner, join, _, tail = words
    stop, opening = ends[0], join.removeprefix(ends[0])
    if not middle.endswith(opening):
        return None
    between = _between(two, lambda text: text.find("value_two") + len("value_two"))
    return CallSyntax(
        head,
        middle.removesuffix(opening),
        None if between is None else between.removeprefix(stop),
        tail.removeprefix(stop),
        Tagged(opening, inner, stop),
    )


def _between(two: str, end_of: Any) -> str | None:
    """What stands between the first call's arguments and the second's name."""
    _, found, rest = two.partition(_NAMES[0])
    at = end_of(rest) if found else None
    if not at or _NAMES[1] not in rest[at:]:
        return None
    return rest[at:].partition(_NAMES[1])[0]


def _answer(chat: ChatFormat, count: int) -> str | None:
    """The rendered answer of `count` calls, from behind the assistant's header to the stop token."""
    ask = [{"role": "user", "content": "Question"}]
    parameters = {"type": "object", "properties": {key: {"type": "string"} for key in _ARGUMENTS}}
    tools = [
        {"type": "function", "function": {"name": name, "description": "Probe.", "parameters": parameters}}
        for name in _NAMES
    ]
    for given in (_ARGUMENTS, json.dumps(_ARGUMENTS)):
        calls = [
            {"type": "function", "id": id, "function": {"name": name, "arguments": given}}
            for name, id in zip(_NAMES[:count], _IDS, strict=False)
        ]
        try:
            prompt = chat.text(ask, tools, now="2000")
            said = {"role": "assistant", "content": "", "tool_calls": calls}
            whole = chat.text([*ask, said], tools, False, now="2000")
        except OrreryError:
            continue  # arguments as JSON text, as older templates want them
        text = whole[_start(prompt, whole) :]
        for id in _IDS:
            text = text.replace(id, ID)
        names = [chat.tokenizer.name(stop) for stop in chat.stop_ids]
        at = max(text.find(_NAMES[count - 1]), 0)
        ends = [end for name in names if (end := text.find(name, at)) >= 0]
        return text[: min(ends, default=len(text))].rstrip()
    return None


def _start(prompt: str, whole: str) -> int:
    """Where the answer begins: behind the prompt, or at the mark where the two part (a prompt may open reasoning)."""
    if whole.startswith(prompt):
        return len(prompt)
    same = next(at for at, (a, b) in enumerate(zip_longest(prompt, whole)) if a != b)
    shared = whole[:same]
    return len(shared) - len(re.search(r"(?:[<\[][^<>\[\]\s]*)?$", shared)[0])  # type: ignore[index]
