"""Messages and tools as the chat format takes them, and the ids the model reads for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orrery.kit.errors import OrreryError
from orrery.kit.json import JsonFault, parse_json
from orrery.serve.http.limits import at_most, check_schema, refuse
from orrery.serve.http.schema.chat import AssistantMessage, TextPart, ToolMessage
from orrery.serve.http.schema.common import Tool
from orrery.serve.http.settings import ServerSettings
from orrery.serve.lm import LM
from orrery.text.chat import ChatFormat


def chat_of(lm: LM) -> ChatFormat:
    """The model's chat format.

    Raises:
        OrreryError: it has none, or a damaged one.
    """
    if lm.chat is None:
        raise lm._chat_fault or OrreryError(
            "this is a base model, with no chat format; it continues text at /v1/completions"
        )
    return lm.chat


def prompt_ids(
    lm: LM, messages: Sequence[Any], tools: Sequence[Tool] | None, variables: Mapping[str, Any] | None = None
) -> list[int]:
    """What the model reads before it answers.

    Raises:
        OrreryError: a base model, or its template refuses the conversation.
    """
    return chat_of(lm).prompt(messages_of(messages), tools=tools_of(tools), **(variables or {}))


def messages_of(messages: Sequence[Any]) -> list[dict[str, Any]]:
    """Bodies' messages as plain ones.

    Raises:
        ApiError: 400, arguments of an earlier call are not a JSON object, or an assistant's message is empty.
    """
    return [_message(message, at) for at, message in enumerate(messages)]


def tools_of(tools: Sequence[Tool] | None) -> list[dict[str, Any]] | None:
    """Bodies' tools as JSON schemas of functions."""
    return None if tools is None else [tool.model_dump(exclude_none=True) for tool in tools]


def check_tools(tools: Sequence[Tool], settings: ServerSettings) -> None:
    """
    Raises:
        ApiError: 400, too many, two of one name, or a schema beyond the limit.
    """
    at_most(len(tools), settings.max_tools, "tools (how many)")
    names = [tool.function.name for tool in tools]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise refuse(f"there are two tools of the name '{twice}'", "tools")
    for tool in tools:
        check_schema(tool.function.parameters or {}, settings, "tools.parameters")


def _message(message: Any, at: int) -> dict[str, Any]:
    role = "system" if message.role == "developer" else message.role
    made: dict[str, Any] = {"role": role, "content": _text(message.content)}
    if isinstance(message, ToolMessage):
        made |= {"tool_call_id": message.tool_call_id}
        if message.name is not None:
            made["name"] = message.name
    if isinstance(message, AssistantMessage):
        if message.reasoning_content:
            made["reasoning"] = message.reasoning_content
        if message.tool_calls:
            made["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {
                        "name": call.function.name,
                        "arguments": _arguments(call.function.arguments, at),
                    },
                }
                for call in message.tool_calls
            ]
        if message.content is None and len(made) == 2:
            raise refuse(f"messages.{at} has neither content nor tool_calls", f"messages.{at}")
    return made


def _text(content: str | list[TextPart] | None) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part.text for part in content)


def _arguments(text: str, at: int) -> dict[str, Any]:
    try:
        value = parse_json(text.encode())
    except JsonFault:
        value = None
    if not isinstance(value, dict):
        raise refuse(f"messages.{at}: the arguments of a tool call are no JSON object", f"messages.{at}")
    return value
