"""The default chat format: a conversation as token ids, with a role for every id.

    <|begin_of_text|><|tools|>[...]<|end|><|system|>...<|end|><|user|>...<|end|><|assistant|>...<|end|>

Each turn is one special token that says who speaks, the text, and `<|end|>`. Nothing else stands between turns, so where
a turn begins and ends is a matter of ids: text is encoded turn by turn with `special="never"`, and what a user types can
neither open a turn nor close one. An assistant's turn may hold, in this order,

    <|think|>reasoning<|end_think|>   text   <|tool_call|>{"name": ..., "arguments": {...}}   (one or more)

Rendering only appends: a longer conversation's ids begin with the shorter one's, so what was computed for a prefix stays
valid, and what the model is trained on is what it will be shown.

`TEMPLATE` says the same in Jinja for other tools. They parse special tokens anywhere in the text, also in what a user
typed; with these ids there is nothing to parse.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from orrery.kit.errors import OrreryError, suggest
from orrery.text.rendered import Message, Rendered, Role
from orrery.text.tokenizer import Tokenizer

ROLES = ("system", "user", "assistant", "tool")
CONTROL = (
    *(f"<|{role}|>" for role in ROLES),
    "<|tools|>",
    "<|tool_call|>",
    "<|think|>",
    "<|end_think|>",
    "<|end|>",
)

TEMPLATE = """\
{{- bos_token -}}
{%- if tools -%}
    {{- '<|tools|>' + (tools | tojson) + '<|end|>' -}}
{%- endif -%}
{%- for message in messages -%}
    {{- '<|' + message.role + '|>' -}}
    {%- if message.role == 'assistant' -%}
        {%- generation -%}
        {%- if message.reasoning -%}
            {{- '<|think|>' + message.reasoning + '<|end_think|>' -}}
        {%- endif -%}
        {{- message.content or '' -}}
        {%- for call in message.tool_calls or [] -%}
            {%- set call = call.function or call -%}
            {{- '<|tool_call|>{"name": ' + (call.name | tojson) + ', "arguments": ' -}}
            {{- (call.arguments if call.arguments is string else call.arguments | tojson) + '}' -}}
        {%- endfor -%}
        {{- '<|end|>' -}}
        {%- endgeneration -%}
    {%- else -%}
        {{- (message.content or '') + '<|end|>' -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|assistant|>' -}}
{%- endif -%}
"""


class DefaultFormat:
    """Renders conversations for one tokenizer. Messages are dicts with `role` and `content`, as in the OpenAI API."""

    append_only = True

    def __init__(self, tokenizer: Tokenizer) -> None:
        """
        Raises:
            OrreryError: the tokenizer lacks one of the format's special tokens.
        """
        missing = [name for name in CONTROL if name not in tokenizer.special]
        if missing:
            raise OrreryError(
                f"the tokenizer lacks the chat tokens {', '.join(missing)}; add them with add_tokens(..., special=True)"
            )
        self.tokenizer = tokenizer
        self._id = {name: tokenizer.special[name] for name in CONTROL}
        self._end = self._id["<|end|>"]

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Ids that end an assistant's turn."""
        eos = self.tokenizer.eos_id
        return (self._end,) if eos is None else (self._end, eos)

    # --- conversation to ids

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        generate: bool = False,
    ) -> Rendered:
        """Ids and roles of a conversation.

        Args:
            messages: `{"role": "system"|"user"|"assistant"|"tool", "content": text}`; an assistant's may have
                `tool_calls` and `reasoning`. `name` and `tool_call_id` are accepted and not rendered: answers of tools
                stand in the order of the calls.
            tools: JSON schemas of the functions the model may call.
            generate: end with the assistant's header, ready for the model to go on.

        Raises:
            OrreryError: no messages, an unknown role or key, content that is no text, or a malformed tool call.
        """
        if not messages:
            raise OrreryError("there are no messages to render; give at least one")
        out = Rendered()
        if (bos := self.tokenizer.bos_id) is not None:
            out.add([bos], Role.STRUCTURE, -1, self.tokenizer.name(bos))
        if tools:
            self._mark(out, "<|tools|>", Role.STRUCTURE, -1)
            self._say(out, _json(list(tools)), Role.SYSTEM, -1)
            self._mark(out, "<|end|>", Role.STRUCTURE, -1)
        for turn, message in enumerate(messages):
            role = _role(message, turn)
            self._mark(out, f"<|{role}|>", Role.STRUCTURE, turn)
            if role == "assistant":
                self._answer(out, message, turn)
            else:
                self._say(out, _content(message, turn), Role[role.upper()], turn)
            self._mark(out, "<|end|>", Role.ASSISTANT if role == "assistant" else Role.STRUCTURE, turn)
        if generate:
            self._mark(out, "<|assistant|>", Role.STRUCTURE, len(messages))
        return out

    def _answer(self, out: Rendered, message: Message, turn: int) -> None:
        if reasoning := message.get("reasoning"):
            self._mark(out, "<|think|>", Role.ASSISTANT, turn)
            self._say(out, str(reasoning), Role.ASSISTANT, turn)
            self._mark(out, "<|end_think|>", Role.ASSISTANT, turn)
        self._say(out, _content(message, turn), Role.ASSISTANT, turn)
        for call in message.get("tool_calls") or []:
            self._mark(out, "<|tool_call|>", Role.ASSISTANT, turn)
            self._say(out, _call(call, turn), Role.ASSISTANT, turn)

    def _mark(self, out: Rendered, name: str, role: Role, turn: int) -> None:
        out.add([self._id[name]], role, turn, name)

    def _say(self, out: Rendered, text: str, role: Role, turn: int) -> None:
        out.add(self.tokenizer.encode(text, special="never"), role, turn, text)

    # --- ids to message

    def parse(self, ids: Sequence[int]) -> dict[str, Any]:
        """The assistant's message that generated ids spell, up to a stop id; the inverse of rendering one.

        A tool call that is not valid JSON is kept in the content, so nothing the model wrote is lost.
        """
        stop = next((i for i, token in enumerate(ids) if token in self.stop_ids), len(ids))
        kinds = {
            self._id["<|think|>"]: "reasoning",
            self._id["<|end_think|>"]: "content",
            self._id["<|tool_call|>"]: "call",
        }
        message: dict[str, Any] = {"role": "assistant", "content": ""}
        calls: list[dict[str, Any]] = []
        for mark, part in _sections([int(i) for i in ids[:stop]], kinds):
            kind, text = kinds.get(mark, "content"), self.tokenizer.decode(part)
            if kind == "call":
                call = _parsed_call(text)
                if call is None:
                    message["content"] += "<|tool_call|>" + text
                else:
                    calls.append(call)
            else:
                message[kind] = message.get(kind, "") + text
        return message | ({"tool_calls": calls} if calls else {})

    def keeps_prefixes(
        self, messages: Sequence[Message], *, tools: Sequence[Mapping[str, Any]] | None = None
    ) -> bool:
        """Whether this conversation's ids begin with those of each of its beginnings, prompts for the assistant included."""
        whole = self.render(messages, tools=tools).ids
        for n in range(1, len(messages)):
            prompt = messages[n]["role"] == "assistant"
            start = self.render(messages[:n], tools=tools, generate=prompt).ids
            if whole[: len(start)] != start:
                return False
        return True


def _role(message: Message, turn: int) -> str:
    known = {"role", "content", "tool_calls", "reasoning", "name", "tool_call_id"}
    role = message.get("role")
    if role not in ROLES:
        raise OrreryError(
            f"message {turn} has the role {role!r}; roles: {', '.join(ROLES)}.{suggest(str(role), ROLES)}"
        )
    for key in message:
        if key not in known:
            raise OrreryError(f"message {turn} has the unknown key {key!r}.{suggest(str(key), known)}")
    if role != "assistant" and (message.get("tool_calls") or message.get("reasoning")):
        raise OrreryError(f"message {turn}: only an assistant has tool_calls or reasoning, not a {role}")
    return role


def _content(message: Message, turn: int) -> str:
    """The text of a message: a string, None beside tool calls, or a list of text parts."""
    content = message.get("content")
    if content is None and (message.get("tool_calls") or message.get("reasoning")):
        return ""
    if isinstance(content, list) and all(isinstance(p, Mapping) and p.get("type") == "text" for p in content):
        content = "".join(str(part.get("text", "")) for part in content)
    if not isinstance(content, str):
        raise OrreryError(f"message {turn} has no text content (got {type(content).__name__})")
    return content


def _call(call: Any, turn: int) -> str:
    function = call.get("function", call) if isinstance(call, Mapping) else None
    if (
        not isinstance(function, Mapping)
        or not isinstance(function.get("name"), str)
        or "arguments" not in function
    ):
        raise OrreryError(f"message {turn}: a tool call needs a name and arguments, got {call!r}")
    arguments = function["arguments"]
    if isinstance(arguments, str):
        try:
            json.loads(arguments)
        except json.JSONDecodeError:
            raise OrreryError(
                f"message {turn}: the arguments of '{function['name']}' are not JSON: {arguments!r}"
            ) from None
    else:
        arguments = _json(arguments)
    return f'{{"name": {_json(function["name"])}, "arguments": {arguments}}}'


def _parsed_call(text: str) -> dict[str, Any] | None:
    try:
        call = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return None
    if not isinstance(call, dict) or not isinstance(call.get("name"), str) or "arguments" not in call:
        return None
    return {"type": "function", "function": {"name": call["name"], "arguments": call["arguments"]}}


def _sections(ids: Sequence[int], marks: Mapping[int, str]) -> list[tuple[int, list[int]]]:
    """Cut ids at the marks: (the mark in front, or -1, and the ids after it)."""
    sections: list[tuple[int, list[int]]] = [(-1, [])]
    for token in ids:
        if token in marks:
            sections.append((token, []))
        else:
            sections[-1][1].append(token)
    return sections


def _json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise OrreryError(f"tools and arguments must be plain JSON values ({error})") from None
