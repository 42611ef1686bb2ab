"""A conversation with tools as a request to the engine, and the text that comes back taken apart as it streams."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from orrery.kit.lm import GenerateRequest, Grammar
from orrery.serve.grammar.reply import ReplyParser
from orrery.serve.grammar.reply_piece import Delta as Piece
from orrery.serve.grammar.syntax import in_reasoning
from orrery.serve.grammar.tool_calls import reasoned_grammar, tool_grammar
from orrery.serve.http.conversation import chat_of, check_tools, prompt_ids, tools_of
from orrery.serve.http.limits import refuse
from orrery.serve.http.service import new_id

if TYPE_CHECKING:
    from orrery.serve.http.schema.common import SamplingFields, Tool
    from orrery.serve.http.service import Caller, Service
    from orrery.text.chat import ChatFormat


@dataclass
class CallDelta:
    """A piece of a tool call; id and name come with its first piece."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""

    def view(self, *, piece: bool = True) -> dict[str, Any]:
        """OpenAI's shape: of a piece in a stream, or of a whole call."""
        function = {"name": self.name, "arguments": self.arguments}
        if not piece:
            return {"id": self.id, "type": "function", "function": function}
        if self.id is None:
            return {"index": self.index, "function": {"arguments": self.arguments}}
        return {"index": self.index, "id": self.id, "type": "function", "function": function}


@dataclass
class Delta:
    """What is new of an answer."""

    content: str = ""
    reasoning: str = ""
    calls: list[CallDelta] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.content or self.reasoning or self.calls)

    def __add__(self, other: Delta) -> Delta:
        calls = [replace(call) for call in self.calls]
        for call in other.calls:
            if calls and calls[-1].index == call.index:
                calls[-1].arguments += call.arguments
            else:
                calls.append(call)
        return Delta(self.content + other.content, self.reasoning + other.reasoning, calls)

    def view(self) -> dict[str, Any]:
        """As the delta of a chunk."""
        view: dict[str, Any] = {}
        if self.reasoning:
            view["reasoning_content"] = self.reasoning
        if self.content or not (self.reasoning or self.calls):
            view["content"] = self.content
        if self.calls:
            view["tool_calls"] = [call.view() for call in self.calls]
        return view


class Reader:
    """One choice's text as it comes: content, reasoning and calls apart. `called`: whether there was a call."""

    def __init__(self, chat: ChatFormat, *, inside_reasoning: bool, tools: Sequence[Any]) -> None:
        self._parser = ReplyParser(chat, tools=tools, in_reasoning=inside_reasoning)
        self._seen: set[int] = set()

    @property
    def called(self) -> bool:
        return bool(self._seen)

    def push(self, text: str) -> Delta:
        """What is certain with this text."""
        return self._joined(self._parser.push(text))

    def end(self) -> Delta:
        """What was held back."""
        return self._joined(self._parser.flush())

    def all(self, text: str) -> Delta:
        """A whole answer at once, its calls whole."""
        return self.push(text) + self.end()

    def _joined(self, pieces: Iterable[Piece]) -> Delta:
        made = Delta()
        for piece in pieces:
            made.content += piece.content
            made.reasoning += piece.reasoning
            if piece.call is None:
                continue
            if piece.call not in self._seen:
                self._seen.add(piece.call)
                made.calls.append(CallDelta(piece.call, new_id("call_"), piece.name, piece.arguments))
            elif made.calls and made.calls[-1].index == piece.call:
                made.calls[-1].arguments += piece.arguments
            else:
                made.calls.append(CallDelta(piece.call, arguments=piece.arguments))
        return made


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the engine is asked, and how its answer is read."""

    request: GenerateRequest
    chat: ChatFormat
    tools: tuple[Any, ...]
    inside_reasoning: bool

    def reader(self) -> Reader:
        """A reader for one choice."""
        return Reader(self.chat, inside_reasoning=self.inside_reasoning, tools=self.tools)


def prepare(
    service: Service,
    body: SamplingFields,
    caller: Caller,
    *,
    messages: Sequence[Any],
    tools: Sequence[Tool] | None,
    tool_choice: str | None,
    named: bool,
    parallel: bool | None,
    variables: Mapping[str, Any],
    grammar: Grammar | None,
    max_tokens: int | None,
    logprobs: int | None,
) -> Asked:
    """Render, tokenize, and say what the answer must match.

    Args:
        tool_choice: "none", "auto", "required", None; or with `named`, the name of a function.

    Raises:
        ApiError, OrreryError: 400, something of it cannot be done.
    """
    chat = chat_of(service.lm)
    if tools is None and tool_choice not in (None, "none", "auto"):
        raise refuse("tool_choice needs tools", "tool_choice")
    if tools is not None:
        check_tools(tools, service.settings)
        tools = None if tool_choice == "none" and not named else tools
    ids = prompt_ids(service.lm, messages, tools, variables)
    inside = in_reasoning(chat, ids)
    schemas = tools_of(tools) or []
    if tools is not None:
        choice = {"type": "function", "function": {"name": tool_choice}} if named else tool_choice or "auto"
        called = tool_grammar(chat, schemas, choice, parallel=parallel is not False, in_reasoning=inside)
        if grammar is not None:
            raise refuse(
                "response_format and tools that may be called exclude each other; set tool_choice='none', or leave one out",
                "response_format",
            )
        grammar = called
    elif grammar is not None:
        grammar = reasoned_grammar(chat, grammar, in_reasoning=inside)
    request = service.request(
        body,
        ids,
        caller=caller,
        max_tokens=max_tokens,
        extra=body.orrery,  # type: ignore[attr-defined]
        grammar=grammar,
        logprobs=logprobs,
    )
    return Asked(request=request, chat=chat, tools=tuple(schemas), inside_reasoning=inside)
