"""The items of /v1/responses: those of a request as messages, those of an answer as they grow, event by event."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from orrery.serve.http.answer import CallDelta, Delta
from orrery.serve.http.schema.chat import (
    AssistantMessage,
    CalledFunction,
    SystemMessage,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from orrery.serve.http.schema.common import Function, Tool
from orrery.serve.http.schema.responses import (
    FunctionCallItem,
    FunctionOutputItem,
    InputMessage,
    ReasoningItem,
    ResponseRequest,
)
from orrery.serve.http.service import new_id

Event = tuple[str, dict[str, Any]]


def messages_of_items(body: ResponseRequest) -> list[Any]:
    """Items as messages: calls and reasoning that stand beside an assistant's text belong to one message with it."""
    messages: list[Any] = []
    if body.instructions is not None:
        messages.append(SystemMessage(role="system", content=body.instructions))
    if isinstance(body.input, str):
        return [*messages, UserMessage(role="user", content=body.input)]
    for item in body.input:
        match item:
            case InputMessage(role="assistant"):
                said = _assistant(messages)
                said.content = (said.content or "") + _text(item.content)  # type: ignore[operator]
            case InputMessage(role="user"):
                messages.append(UserMessage(role="user", content=_text(item.content)))
            case InputMessage():
                messages.append(SystemMessage(role="system", content=_text(item.content)))
            case FunctionCallItem():
                function = CalledFunction(name=item.name, arguments=item.arguments)
                said = _assistant(messages)
                said.tool_calls = [
                    *(said.tool_calls or []),
                    ToolCall(id=item.call_id, type="function", function=function),
                ]
            case FunctionOutputItem():
                messages.append(
                    ToolMessage(role="tool", content=_text(item.output), tool_call_id=item.call_id)
                )
            case ReasoningItem():
                text = "".join(part.text for part in item.content or item.summary)
                messages.append(AssistantMessage(role="assistant", reasoning_content=text or None))
    return [
        m for m in messages if not isinstance(m, AssistantMessage) or m.content is not None or m.tool_calls
    ]


def tools_of_items(body: ResponseRequest) -> list[Tool] | None:
    """Tools as chat has them."""
    if not body.tools:
        return None
    return [
        Tool(
            type="function",
            function=Function(
                name=t.name, description=t.description, parameters=t.parameters, strict=t.strict
            ),
        )
        for t in body.tools
    ]


def _assistant(messages: list[Any]) -> AssistantMessage:
    """The message that an assistant's item belongs to."""
    if not messages or not isinstance(messages[-1], AssistantMessage):
        messages.append(AssistantMessage(role="assistant"))
    return messages[-1]


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content)


class Items:
    """The items of an answer. `take` and `close` yield the events that build them; `done` are the finished ones."""

    def __init__(self) -> None:
        self.done: list[dict[str, Any]] = []
        self._open: dict[str, Any] | None = None
        self._call: int | None = None

    def take(self, delta: Delta, logprobs: list[dict[str, Any]]) -> list[Event]:
        """What is new. The log-probabilities go with the text, if there is any."""
        events: list[Event] = []
        if delta.reasoning:
            events += self._reasoning(delta.reasoning)
        if delta.content and (delta.content.strip() or self._is("message") or logprobs):
            events += self._message(delta.content, logprobs)
        for call in delta.calls:
            events += self._called(call)
        return events

    def close(self, status: str) -> list[Event]:
        """Nothing more comes: the open item ends, with the answer's status."""
        return list(self._close(status))

    def _is(self, kind: str) -> bool:
        return self._open is not None and self._open["type"] == kind

    def _begin(self, item: dict[str, Any]) -> Iterator[Event]:
        yield from self._close("completed")
        self._open = item
        yield "response.output_item.added", {"output_index": len(self.done), "item": _copy(item)}

    def _message(self, text: str, logprobs: list[dict[str, Any]]) -> Iterator[Event]:
        if not self._is("message"):
            yield from self._begin(
                {
                    "id": new_id("msg_"),
                    "type": "message",
                    "status": "in_progress",
                    "role": "assistant",
                    "content": [],
                }
            )
            part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
            yield "response.content_part.added", self._at(content_index=0, part=dict(part))
            self._open["content"].append(part)  # type: ignore[index]
        part = self._open["content"][0]  # type: ignore[index]
        part["text"] += text
        part["logprobs"] += logprobs
        yield "response.output_text.delta", self._at(content_index=0, delta=text, logprobs=logprobs)

    def _reasoning(self, text: str) -> Iterator[Event]:
        if not self._is("reasoning"):
            yield from self._begin(
                {
                    "id": new_id("rs_"),
                    "type": "reasoning",
                    "status": "in_progress",
                    "summary": [],
                    "content": [{"type": "reasoning_text", "text": ""}],
                }
            )
        self._open["content"][0]["text"] += text  # type: ignore[index]
        yield "response.reasoning_text.delta", self._at(content_index=0, delta=text)

    def _called(self, call: CallDelta) -> Iterator[Event]:
        if not self._is("function_call") or self._call != call.index:
            yield from self._begin(
                {
                    "id": new_id("fc_"),
                    "type": "function_call",
                    "status": "in_progress",
                    "call_id": call.id,
                    "name": call.name,
                    "arguments": "",
                }
            )
            self._call = call.index
        if call.arguments:
            self._open["arguments"] += call.arguments  # type: ignore[index]
            yield "response.function_call_arguments.delta", self._at(delta=call.arguments)

    def _close(self, status: str) -> Iterator[Event]:
        item = self._open
        if item is None:
            return
        item["status"] = status
        match item["type"]:
            case "message":
                part = item["content"][0]
                text = {"text": part["text"], "logprobs": part["logprobs"]}
                yield "response.output_text.done", self._at(content_index=0, **text)
                yield "response.content_part.done", self._at(content_index=0, part=part)
            case "reasoning":
                yield (
                    "response.reasoning_text.done",
                    self._at(content_index=0, text=item["content"][0]["text"]),
                )
            case "function_call":
                named = {"name": item["name"], "arguments": item["arguments"]}
                yield "response.function_call_arguments.done", self._at(**named)
        yield "response.output_item.done", {"output_index": len(self.done), "item": item}
        self.done.append(item)
        self._open = None

    def _at(self, **fields: Any) -> dict[str, Any]:
        return {"item_id": self._open["id"], "output_index": len(self.done), **fields}  # type: ignore[index]


def _copy(item: dict[str, Any]) -> dict[str, Any]:
    """As it is now: the item grows after the event is made."""
    return {**item, "content": []} if "content" in item else dict(item)
