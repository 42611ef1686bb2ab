"""/v1/responses: items in, items out (nothing is stored, so a conversation is sent whole)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StringConstraints

from orrery.serve.http.schema.common import (
    Body,
    Count,
    FunctionName,
    Json,
    Label,
    OnlyFalse,
    OrreryField,
    SamplingFields,
)

ItemStatus = Literal["in_progress", "completed", "incomplete"]


class InputText(Body):
    """Text of a person, or of an earlier answer."""

    type: Literal["input_text", "output_text", "text"]
    text: str
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None


class InputMessage(Body):
    """A turn."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[InputText]
    id: Label | None = None
    status: ItemStatus | None = None
    phase: Label | None = None


class FunctionCallItem(Body):
    """A call the model made."""

    type: Literal["function_call"]
    call_id: Label
    name: FunctionName
    arguments: str
    id: Label | None = None
    status: ItemStatus | None = None


class FunctionOutputItem(Body):
    """What the function gave back."""

    type: Literal["function_call_output"]
    call_id: Label
    output: str | list[InputText]
    id: Label | None = None
    status: ItemStatus | None = None


class ReasoningText(Body):
    """Reasoning of an earlier answer."""

    type: Literal["reasoning_text", "summary_text"]
    text: str


class ReasoningItem(Body):
    """Reasoning of an earlier answer; it stands before the message it led to."""

    type: Literal["reasoning"]
    id: Label | None = None
    summary: list[ReasoningText] = Field(default_factory=list)
    content: list[ReasoningText] | None = None
    encrypted_content: None = None
    status: ItemStatus | None = None


Item = InputMessage | FunctionCallItem | FunctionOutputItem | ReasoningItem


class FunctionTool(Body):
    """A function that the model may call."""

    type: Literal["function"]
    name: FunctionName
    description: str | None = None
    parameters: Json | None = None
    strict: bool | None = None


class NamedFunctionTool(Body):
    """The one function that is to be called."""

    type: Literal["function"]
    name: FunctionName


class PlainText(Body):
    """Anything."""

    type: Literal["text"]


class JsonObjectText(Body):
    """Any JSON object."""

    type: Literal["json_object"]


class JsonSchemaText(Body):
    """JSON that the schema allows."""

    type: Literal["json_schema"]
    name: FunctionName
    description: str | None = None
    schema_: Json = Field(alias="schema")
    strict: bool | None = None


class TextSetting(Body):
    """What the text must be."""

    format: Annotated[PlainText | JsonObjectText | JsonSchemaText, Field(discriminator="type")] | None = None


class ReasoningSetting(Body):
    """Passed to templates that know a `reasoning_effort`."""

    effort: Annotated[str, StringConstraints(max_length=16)] | None = None
    summary: Annotated[str, StringConstraints(max_length=16)] | None = None


class ResponseRequest(SamplingFields):
    """Items to answer."""

    input: Annotated[str, Field(min_length=1)] | Annotated[list[Item], Field(min_length=1, max_length=10_000)]
    model: Label | None = None
    instructions: str | None = None
    max_output_tokens: Count | None = None
    tools: Annotated[list[FunctionTool], Field(max_length=1024)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedFunctionTool | None = None
    parallel_tool_calls: bool | None = None
    text: TextSetting | None = None
    reasoning: ReasoningSetting | None = None
    stream: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=1024)] | None = None
    include: list[Literal["message.output_text.logprobs"]] | None = None
    truncation: Literal["disabled"] | None = None
    metadata: Annotated[dict[str, str], Field(max_length=16)] | None = None
    store: OnlyFalse | None = Field(None, description="Nothing is stored.")
    background: OnlyFalse | None = None
    user: Label | None = None
    orrery: OrreryField | None = None


class ResponseUsage(BaseModel):
    """Tokens read and made."""

    input_tokens: int
    input_tokens_details: dict[str, int]
    output_tokens: int
    output_tokens_details: dict[str, int]
    total_tokens: int


class ResponseObject(BaseModel):
    """The answer: its items in the order they were made."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    status: Literal["completed", "incomplete", "in_progress", "failed"]
    model: str
    output: list[Json]
    error: Json | None
    incomplete_details: Json | None
    instructions: str | None
    max_output_tokens: int | None
    parallel_tool_calls: bool
    temperature: float
    top_p: float
    tool_choice: Any
    tools: list[Json]
    text: Json
    metadata: dict[str, str]
    usage: ResponseUsage | None
    system_fingerprint: str | None = None
    orrery: Json | None = None
