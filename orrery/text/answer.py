"""An assistant's generated text taken apart: reasoning, text and tool calls, in the syntaxes that published templates use.

Tables of marks, and a reader for each way to write a call. What no table knows, or is malformed, stays in the text: nothing the
model wrote is lost.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from typing import Any

Call = tuple[str, Any]
Reader = Callable[[str], list[Call] | None]

REASONING = (
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|channel>thought\n", "<channel|>"),
    ("<seed:think>", "</seed:think>"),
)
_NOISE = re.compile(r"</?｜tool▁calls▁(begin|end)｜>|<｜tool▁calls▁(?:begin|end)｜>")
_HARMONY = re.compile(
    r"(?:<\|start\|>assistant)?(?P<head>[^<]{0,200}<\|channel\|>.*?)<\|message\|>(?P<body>.*?)(?:<\|(?:end|call|return)\|>|\Z)",
    re.S,
)


def parse_answer(text: str, template: str) -> dict[str, Any]:
    """The message {"role", "content", "reasoning"?, "tool_calls"?} of an answer without its end-of-turn token.

    Args:
        template: the format's source; only marks that it mentions, or that it can make, are looked for.
    """
    if "<|channel|>" in template:
        return _harmony(text)
    reasoning, rest = _reasoning(text, template)
    content, calls = _calls(rest, template)
    message: dict[str, Any] = {"role": "assistant", "content": content}
    if reasoning:
        message["reasoning"] = reasoning
    if calls:
        message["tool_calls"] = [_as_call(call) for call in calls]
        message["content"] = content.strip()
    return message


def _as_call(call: Call) -> dict[str, Any]:
    return {"type": "function", "function": {"name": call[0], "arguments": call[1]}}


def _reasoning(text: str, template: str) -> tuple[str, str]:
    """The prompt may have opened the reasoning already, so the closing mark alone counts too."""
    for opening, closing in REASONING:
        if closing in template and closing in text:
            before, _, after = text.partition(closing)
            said, opened, reasoning = before.rpartition(opening)
            return reasoning.strip("\n"), (said + after if opened and said.strip() else after.lstrip("\n"))
    return "", text


def _calls(text: str, template: str) -> tuple[str, list[Call]]:
    found: list[Call] = []
    for opening, closing, readers in CALLS:
        if opening not in template or opening not in text or (closing or "") not in text:
            continue
        kept, at = [], 0
        while (start := text.find(opening, at)) >= 0:
            inside = start + len(opening)
            end = text.find(opening if closing is None else closing, inside)
            if end < 0 and closing is not None:
                break
            end = len(text) if end < 0 else end
            behind = end + len(closing or "")
            body = text[inside:end]
            calls = next((calls for reader in readers if (calls := _tried(reader, body))), None)
            found.extend(calls or [])
            kept.append(text[at : behind if calls is None else start])
            at = behind
        text = "".join(kept) + text[at:]
    if found:
        return _NOISE.sub("", text), found
    if '"parameters"' in template and (calls := _json(text)):  # Llama 3: the whole answer is one call
        return "", calls
    return text, []


def _tried(reader: Reader, body: str) -> list[Call] | None:
    try:
        return reader(body)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None


def _json(body: str) -> list[Call]:
    """{"name": ..., "arguments" | "parameters": {...}}, or a list of them."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return []
    calls = []
    for call in value if isinstance(value, list) else [value]:
        name = call.get("name", call.get("tool_name")) if isinstance(call, dict) else None
        arguments = call.get("arguments", call.get("parameters")) if isinstance(call, dict) else None
        if not isinstance(name, str) or arguments is None:
            return []
        calls.append((name, arguments))
    return calls


def _function(body: str) -> list[Call] | None:
    """<function=name><parameter=key>value</parameter></function>."""
    match = re.fullmatch(r"\s*<function=([^>]+)>(.*?)</function>\s*", body, re.S)
    return None if match is None else _named(f"{match[1]}>{match[2]}")


def _named(body: str) -> list[Call] | None:
    """name>{...}, or name> and parameters as above."""
    name, _, inside = body.partition(">")
    pairs = re.findall(r"<parameter=([^>]+)>\n?(.*?)\n?</parameter>", inside, re.S)
    if pairs or not inside.strip():
        return [(name, {key: _value(value) for key, value in pairs})]
    return [(name, json.loads(inside))]


def _keyed(body: str) -> list[Call] | None:
    """name <arg_key>key</arg_key><arg_value>value</arg_value> (GLM)."""
    pair = r"<arg_key>(.*?)</arg_key>\s*<arg_value>(.*?)</arg_value>"
    name = re.sub(pair, "", body, flags=re.S).strip()
    if not re.fullmatch(r"[\w.-]+", name):
        return None
    return [(name, {key: _value(value) for key, value in re.findall(pair, body, re.S)})]


def _headed(body: str) -> list[Call] | None:
    """name[CALL_ID]id[ARGS]{...} (Mistral), name<｜tool▁sep｜>{...}, function<｜tool▁sep｜>name ```json {...}``` (DeepSeek)."""
    match = re.fullmatch(
        r"\s*(?:function<｜tool▁sep｜>)?([\w.-]+)(?:\[CALL_ID\][\w-]+)?(?:\[ARGS\]|<｜tool▁sep｜>|\s*```json)?\s*(\{.*\})[\s`]*",
        body,
        re.S,
    )
    return None if match is None else [(match[1], json.loads(match[2]))]


def _python(body: str) -> list[Call] | None:
    """[name(key=value, ...), ...] (LFM2): read as literals, never run."""
    tree = ast.parse(body.strip(), mode="eval").body
    calls = []
    for node in tree.elts if isinstance(tree, ast.List) else [tree]:
        if not isinstance(node, ast.Call) or node.args or not isinstance(node.func, ast.Name):
            return None
        calls.append((node.func.id, {str(word.arg): ast.literal_eval(word.value) for word in node.keywords}))
    return calls


CALLS: tuple[tuple[str, str | None, tuple[Reader, ...]], ...] = (
    ("<tool_call>", "</tool_call>", (_json, _function, _keyed)),  # Hermes and Qwen, Qwen-Coder, GLM
    ("<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", (_headed,)),  # DeepSeek
    ("<|START_ACTION|>", "<|END_ACTION|>", (_json,)),  # Cohere
    ("<|tool_call_start|>", "<|tool_call_end|>", (_python, _json)),  # LFM2
    ("<TOOLCALL>", "</TOOLCALL>", (_json,)),  # Nemotron
    ("[TOOL_CALLS]", None, (_json, _headed)),  # Mistral
    ("<|tool_call|>", None, (_json,)),  # Granite
    ("<|python_tag|>", None, (_json,)),  # Llama 3
    ("<function=", "</function>", (_named,)),  # Functionary
)


def _value(text: str) -> Any:
    """An argument written as text: JSON where it is some, else the text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _harmony(text: str) -> dict[str, Any]:
    """Channels of gpt-oss: analysis is reasoning, commentary to a function is a call, final is the text."""
    message: dict[str, Any] = {"role": "assistant", "content": ""}
    calls: list[Call] = []
    at = 0
    for match in _HARMONY.finditer(text):
        head, body = match["head"], match["body"]
        message["content"] += text[at : match.start()]
        at = match.end()
        if name := re.search(r"to=(?:functions\.)?([\w.-]+)", head):
            calls.append((name[1], _value(body)))
        elif "<|channel|>analysis" in head:
            message["reasoning"] = message.get("reasoning", "") + body
        else:
            message["content"] += body
    message["content"] += text[at:]
    return message | ({"tool_calls": [_as_call(call) for call in calls]} if calls else {})
