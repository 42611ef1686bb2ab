"""What a chat template is given: messages, tools and variables as plain marked values, the way transformers prepares them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from orrery.kit.errors import OrreryError
from orrery.text.jinja.marked import OUTSIDE, MarkedDict, MarkedList, message_mark, take_in
from orrery.text.rendered import Message
from orrery.text.tool_schema import tool_schemas

REASONING = ("reasoning_content", "thinking", "reasoning")
RESERVED = frozenset(
    (
        "messages",
        "conversation",
        "conversations",
        "chat_template",
        "tokenize",
        "padding",
        "truncation",
        "max_length",
        "return_tensors",
        "return_dict",
        "return_assistant_tokens_mask",
        "continue_final_message",
        "tokenizer_kwargs",
    )
)
NAMED_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_ROLE = re.compile(r"[A-Za-z][\w .-]{0,63}")


def variables_of(
    messages: Sequence[Message],
    tools: Any,
    *,
    add_generation_prompt: bool,
    tokens: Mapping[str, str],
    extra: Mapping[str, Any],
    special: Mapping[str, int],
) -> dict[str, Any]:
    """The template's variables. `tokens` (bos_token ...) are the template's own words, all else comes from outside.

    Raises:
        OrreryError: no messages, one that is no dict, tools that are no schemas, or a variable with a reserved name.
    """
    if isinstance(messages, str | Mapping) or not len(messages):
        raise OrreryError("there are no messages to render; give a list of at least one message (a dict)")
    if refused := RESERVED & extra.keys():
        raise OrreryError(f"'{min(refused)}' is not a variable that a chat template can be given")
    try:
        rows, schemas = _messages(messages), take_in(tool_schemas(tools), OUTSIDE)
        given = {
            name: str(value) if isinstance(value, str) and value in special else take_in(value, OUTSIDE)
            for name, value in extra.items()
        }
    except RecursionError:
        raise OrreryError("the messages, tools or variables are nested too deeply to be rendered") from None
    return {
        **tokens,
        "documents": None,
        **given,
        "messages": rows,
        "tools": schemas,
        "add_generation_prompt": add_generation_prompt,
    }


def _messages(messages: Sequence[Message]) -> MarkedList:
    rows = MarkedList(_message(message, turn) for turn, message in enumerate(messages))
    rows.mark = OUTSIDE
    return rows


def _message(message: Any, turn: int) -> MarkedDict:
    """One message: keys whose value is None left out, reasoning under each of the names that templates read."""
    mark = message_mark(turn)
    table = take_in(message, mark, turn)
    if not isinstance(table, MarkedDict):
        raise OrreryError(
            f"message {turn} is a {type(message).__name__}; a message is a dict with role and content"
        )
    for key in [key for key, value in table.items() if value is None]:
        del table[key]
    reasoning = next((table[key] for key in REASONING if key in table), None)
    if reasoning is not None:
        table.setdefault("thinking", reasoning)
        table["reasoning_content"] = reasoning
    role = table.get("role")
    if isinstance(role, str) and _ROLE.fullmatch(role):
        table["role"] = str(role)  # a plain word: part of the template's own marks, like <|user|>
    return table
