"""/v1/chat/completions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StringConstraints

from orrery.serve.http.schema.common import (
    Body,
    Count,
    FunctionName,
    GenerationFields,
    Json,
    Label,
    NamedTool,
    OnlyFalse,
    ResponseFormat,
    Tool,
    Usage,
)


class TextPart(Body):
    """Text. Parts of other kinds (images, sound, files) are refused: nothing is fetched, this model reads text."""

    type: Literal["text"]
    text: str


Content = str | list[TextPart]


class SystemMessage(Body):
    """What the model is told first."""

    role: Literal["system"]
    content: Content
    name: Label | None = None


class DeveloperMessage(Body):
    """The same, by the name that newer clients give it."""

    role: Literal["developer"]
    content: Content
    name: Label | None = None


class UserMessage(Body):
    """What the person says."""

    role: Literal["user"]
    content: Content
    name: Label | None = None


class CalledFunction(Body):
    """A call: arguments are JSON, as text."""

    name: FunctionName
    arguments: str


class ToolCall(Body):
    """A call the model made."""

    id: Label
    type: Literal["function"] = "function"
    function: CalledFunction
    index: int | None = None


class AssistantMessage(Body):
    """What the model said; an answer of ours can be sent back as it is."""

    role: Literal["assistant"]
    content: Content | None = None
    reasoning_content: str | None = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=256)] | None = None
    name: Label | None = None
    refusal: None = None
    annotations: list[Any] | None = None
    audio: None = None
    function_call: None = None


class ToolMessage(Body):
    """What a tool gave back."""

    role: Literal["tool"]
    content: Content
    tool_call_id: Label
    name: Label | None = None


Message = Annotated[
    SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage,
    Field(discriminator="role"),
]
Messages = Annotated[list[Message], Field(min_length=1, max_length=10_000)]


class ChatRequest(GenerationFields):
    """A conversation to go on with."""

    messages: Messages
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=1024)] | None = None
    tools: Annotated[list[Tool], Field(min_length=1, max_length=1024)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    chat_template_kwargs: Annotated[
        dict[
            Annotated[str, StringConstraints(pattern=r"^[a-z_]{1,64}$")],
            bool | int | float | Annotated[str, StringConstraints(max_length=4096)],
        ],
        Field(max_length=16),
    ] = Field(
        default_factory=dict, description="Variables for the model's own template (enable_thinking ...)."
    )
    metadata: dict[str, str] | None = None
    store: OnlyFalse | None = Field(None, description="Nothing is stored.")


class TopLogprob(BaseModel):
    """One alternative."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(TopLogprob):
    """One token with its alternatives."""

    top_logprobs: list[TopLogprob]


class ChoiceLogprobs(BaseModel):
    """By token of the text."""

    content: list[TokenLogprob]
    refusal: None = None


class Answer(BaseModel):
    """The model's message."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCall] | None = None


class ChatChoice(BaseModel):
    """One answer."""

    index: int
    message: Answer
    logprobs: ChoiceLogprobs | None
    finish_reason: Literal["stop", "length", "tool_calls"]
    orrery: Json | None = None


class ChatCompletion(BaseModel):
    """The answers."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: Usage
    orrery: Json | None = None
