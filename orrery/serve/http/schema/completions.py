"""/v1/completions."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from orrery.serve.http.schema.common import GenerationFields, Json, ResponseFormat, TokenId, Usage

Ids = Annotated[list[TokenId], Field(min_length=1)]
Text = Annotated[str, Field(min_length=1)]
Prompts = Text | Ids | Annotated[list[Text], Field(min_length=1)] | Annotated[list[Ids], Field(min_length=1)]


class CompletionRequest(GenerationFields):
    """Text or ids to go on from."""

    prompt: Prompts
    max_tokens: Annotated[int, Field(ge=0, le=1 << 31)] | None = Field(
        None, description="null is 16, as with OpenAI; 0 only with echo."
    )
    best_of: Annotated[int, Field(ge=1, le=128)] | None = None
    logprobs: Annotated[int, Field(ge=0, le=1024)] | None = None
    echo: bool | None = None
    suffix: str | None = Field(None, description="Fill the gap before this text (models with such tokens).")
    response_format: ResponseFormat | None = None


class LegacyLogprobs(BaseModel):
    """By token."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None
    text_offset: list[int]


class CompletionChoice(BaseModel):
    """One continuation."""

    index: int
    text: str
    logprobs: LegacyLogprobs | None
    finish_reason: Literal["stop", "length"]
    orrery: Json | None = None


class TextCompletion(BaseModel):
    """The continuations."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[CompletionChoice]
    usage: Usage
    orrery: Json | None = None
