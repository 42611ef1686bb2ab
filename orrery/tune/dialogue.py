"""What every shape of data becomes: a conversation, or a passage of plain text, with the place it came from.

A conversation's messages are those of the OpenAI API: `role` (system, user, assistant, tool), `content`, and an assistant's
`tool_calls` and `reasoning`. `check` refuses what no chat format could teach, and says where and how to mend it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orrery.kit.errors import OrreryError, suggest

ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A conversation to learn from.

    Attributes:
        where: the file and line, for messages to a person.
        tools: JSON schemas of the functions that the assistant may call.
        silent: assistant turns that are read and not learned (OpenAI's `weight: 0`).
    """

    messages: tuple[dict[str, Any], ...]
    where: str
    tools: tuple[dict[str, Any], ...] = ()
    silent: frozenset[int] = frozenset()

    @property
    def learned(self) -> tuple[int, ...]:
        """The turns that the model is to write."""
        return tuple(
            turn for turn, message in enumerate(self.messages)
            if message["role"] == "assistant" and turn not in self.silent
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Passage:
    """A text to learn as it is, every token of it."""

    text: str
    where: str


Sample = Dialogue | Passage


def fingerprint(sample: Sample) -> bytes:
    """Names the question: what is asked before the first answer (of a passage: all of it).

    Rows that ask the same thing have one fingerprint, so that a split by it never trains on a held-out question.
    """
    if isinstance(sample, Passage):
        return hashlib.sha256(sample.text.encode()).digest()
    first = next((turn for turn in sample.learned), len(sample.messages))
    asked = [(message["role"], message.get("content")) for message in sample.messages[:first]]
    return hashlib.sha256(json.dumps(asked, ensure_ascii=False).encode()).digest()


def check(dialogue: Dialogue, field: str) -> Dialogue:
    """The dialogue, if it can be taught.

    Args:
        field: the name of the list of turns in the row, for messages.

    Raises:
        OrreryError: names the file, the line, the field, and the fix.
    """
    where, messages = dialogue.where, dialogue.messages
    if not messages:
        raise OrreryError(f"{where}: '{field}' is empty; give at least a question and an answer")
    calls = False
    for turn, message in enumerate(messages):
        place, role = f"{where}: '{field}[{turn}]'", message["role"]
        if role == "system" and turn:
            raise OrreryError(
                f"{place} is a system message after the beginning; put it first or make it a user's"
            )
        if role == "tool" and not calls:
            raise OrreryError(
                f"{place} is a tool's answer, but no assistant called a tool before it; add the call or remove the turn"
            )
        calls = calls or bool(message.get("tool_calls"))
        told = message.get("content") or message.get("tool_calls") or message.get("reasoning")
        if role == "assistant" and not told and turn not in dialogue.silent:
            raise OrreryError(f"{place} is an empty answer; write one or remove the row")
    if not dialogue.learned:
        raise OrreryError(
            f"{where}: '{field}' has no assistant's turn to learn; add an answer or remove the row"
        )
    return dialogue


def text_of(value: Any, place: str) -> str:
    """The text of a message's content: a string, or a list of text parts.

    Raises:
        OrreryError: something else; names the place.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence) and all(isinstance(p, Mapping) and p.get("type") == "text" for p in value):
        return "".join(str(part.get("text", "")) for part in value)
    raise OrreryError(
        f"{place} is {kind_of(value)}; a text is needed (pictures and sounds are not learned here)"
    )


def role_of(name: Any, names: Mapping[str, str], place: str) -> str:
    """Our name of a role as a file spells it.

    Raises:
        OrreryError: an unknown one; names the nearest.
    """
    if isinstance(name, str) and name.lower() in names:
        return names[name.lower()]
    known = ", ".join(names)
    raise OrreryError(f"{place} is {str(name)[:40]!r}; roles are {known}.{suggest(str(name)[:40], names)}")


def kind_of(value: Any) -> str:
    """What a JSON value is, in words."""
    names = {
        str: "a text",
        bool: "true or false",
        int: "a number",
        float: "a number",
        list: "a list",
        dict: "an object",
    }
    return names.get(type(value), "null" if value is None else f"a {type(value).__name__}")
