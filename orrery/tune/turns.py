"""The turns of a conversation as files spell them: OpenAI's messages, and ShareGPT's `from` and `value`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from orrery.kit.errors import OrreryError
from orrery.tune.dialogue import kind_of, role_of, text_of
from orrery.tune.rows import Row

OPENAI = {
    "system": "system", "developer": "system", "user": "user", "human": "user", "assistant": "assistant", "model": "assistant",
    "tool": "tool", "function": "tool",
}  # fmt: skip
SHAREGPT = {
    "system": "system", "human": "user", "user": "user", "prompter": "user", "gpt": "assistant", "assistant": "assistant",
    "chatgpt": "assistant", "model": "assistant", "bot": "assistant", "function_call": "call", "tool_call": "call",
    "observation": "tool", "function_response": "tool", "tool": "tool", "tool_response": "tool",
}  # fmt: skip
REASONING = ("reasoning", "reasoning_content", "thinking")


def openai_turns(
    turns: Sequence[Any], where: str, field: str
) -> tuple[tuple[dict[str, Any], ...], frozenset[int]]:
    """Messages with the keys we know, and the assistant's turns that are not to be learned (`weight: 0`, `train: false`).

    Raises:
        OrreryError: a turn that is no message; names the place and the fix.
    """
    messages: list[dict[str, Any]] = []
    silent: set[int] = set()
    for turn, given in enumerate(turns):
        place = f"{where}: '{field}[{turn}]'"
        if not isinstance(given, Mapping):
            raise OrreryError(f"{place} is {kind_of(given)}; a message is an object with role and content")
        if "role" not in given:
            raise OrreryError(f"{place} has no role; give it one, such as user or assistant")
        role = role_of(given["role"], OPENAI, f"{place}: 'role'")
        calls = [
            _call(call, f"{place}: 'tool_calls[{n}]'", f"call{turn:03}{n:02}")
            for n, call in enumerate(given.get("tool_calls") or [])
        ]
        if given.get("function_call"):  # the API's first form
            calls.append(_call(given["function_call"], f"{place}: 'function_call'", f"call{turn:03}00"))
        reasoning = next((given[key] for key in REASONING if isinstance(given.get(key), str)), None)
        content = given.get("content")
        if content is None and not (role == "assistant" and (calls or reasoning)):
            raise OrreryError(f"{place} has no content; write one or remove the turn")
        message: dict[str, Any] = {
            "role": role, "content": "" if content is None else text_of(content, f"{place}: 'content'"),
        }  # fmt: skip
        if role == "assistant":
            message |= {"tool_calls": calls} if calls else {}
            message |= {"reasoning": reasoning} if reasoning else {}
            if given.get("weight", 1) == 0 or given.get("train", True) is False:
                silent.add(turn)
        messages.append(message)
    return _answered(messages, turns), frozenset(silent)


def sharegpt_turns(turns: Sequence[Any], where: str, field: str) -> tuple[dict[str, Any], ...]:
    """The same from `from` and `value`; a call right after the assistant's words belongs to its turn.

    Raises:
        OrreryError: a turn of another form, or a call that is no JSON; names the place and the fix.
    """
    messages: list[dict[str, Any]] = []
    for turn, given in enumerate(turns):
        place = f"{where}: '{field}[{turn}]'"
        if not isinstance(given, Mapping) or "from" not in given or "value" not in given:
            raise OrreryError(f"{place} is no turn; write an object with from and value")
        role = role_of(given["from"], SHAREGPT, f"{place}: 'from'")
        if role != "call":
            messages.append({"role": role, "content": text_of(given["value"], f"{place}: 'value'")})
            continue
        calls = [
            _call(call, f"{place}: 'value'", f"call{turn:03}{n:02}")
            for n, call in enumerate(_calls(given["value"], f"{place}: 'value'"))
        ]
        if messages and messages[-1]["role"] == "assistant" and "tool_calls" not in messages[-1]:
            messages[-1]["tool_calls"] = calls
        else:
            messages.append({"role": "assistant", "content": "", "tool_calls": calls})
    return _answered(messages, [])


def given_tools(row: Row) -> tuple[dict[str, Any], ...]:
    """The row's `tools` (or `functions`): a list of schemas, or JSON text of one; a bare function is put in its usual wrapping.

    Raises:
        OrreryError: neither; names the place and the fix.
    """
    name = "functions" if "functions" in row.fields and "tools" not in row.fields else "tools"
    value, place = row.fields.get(name), f"{row.where}: '{name}'"
    if isinstance(value, str):
        value = _json(value, place) if value.strip() else []
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(tool, Mapping) for tool in value):
        raise OrreryError(f"{place} is {kind_of(value)}; a list of JSON schemas of functions is needed")
    tools = [tool if "function" in tool else {"type": "function", "function": dict(tool)} for tool in value]
    nameless = next((n for n, tool in enumerate(tools) if not _named(tool["function"])), None)
    if nameless is not None:
        raise OrreryError(f"{place}: function {nameless} has no name; give it one")
    return tuple(dict(tool) for tool in tools)


def _named(function: Any) -> bool:
    return isinstance(function, Mapping) and isinstance(function.get("name"), str)


def _calls(value: Any, place: str) -> list[Any]:
    """One call, or a list of calls made together, as JSON text or already parsed."""
    parsed = _json(value, place) if isinstance(value, str) else value
    return parsed if isinstance(parsed, list) else [parsed]


def _call(given: Any, place: str, number: str) -> dict[str, Any]:
    """A call in the API's form, its arguments an object."""
    function = given.get("function", given) if isinstance(given, Mapping) else None
    if not isinstance(function, Mapping) or not _named(function):
        raise OrreryError(f"{place} is no call; write an object with name and arguments")
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        arguments = _json(arguments, f"{place}: arguments") if arguments.strip() else {}
    if not isinstance(arguments, Mapping):
        raise OrreryError(
            f"{place}: the arguments of '{function['name']}' are {kind_of(arguments)}; an object is needed"
        )
    identity = given["id"] if isinstance(given.get("id"), str) else number
    return {
        "type": "function",
        "id": identity,
        "function": {"name": function["name"], "arguments": dict(arguments)},
    }


def _answered(messages: list[dict[str, Any]], given: Sequence[Any]) -> tuple[dict[str, Any], ...]:
    """Tools' answers with the name and the id of the call they answer, in order where they do not say."""
    waiting: list[dict[str, Any]] = []
    for turn, message in enumerate(messages):
        if message.get("tool_calls"):
            waiting = list(message["tool_calls"])
        elif message["role"] == "tool" and waiting:
            wanted = given[turn].get("tool_call_id") if given else None
            call = next((call for call in waiting if call["id"] == wanted), waiting[0])
            if len(waiting) > 1:
                waiting.remove(call)
            message |= {"tool_call_id": call["id"], "name": call["function"]["name"]}
    return tuple(messages)


def _json(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise OrreryError(f"{place} is no JSON ({error}); write it as JSON") from None
