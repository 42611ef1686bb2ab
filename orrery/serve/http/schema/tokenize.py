"""/tokenize and /detokenize, and what /v1/models tells."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field, model_validator

from orrery.serve.http.schema.chat import Messages
from orrery.serve.http.schema.common import Body, Json, Label, TokenId, Tool


class TokenizeRequest(Body):
    """A text, or a conversation as the model would read it."""

    text: str | None = None
    messages: Messages | None = None
    tools: Annotated[list[Tool], Field(min_length=1, max_length=1024)] | None = None
    add_bos: bool = Field(False, description="With text: put the beginning-of-sequence id in front.")
    model: Label | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> TokenizeRequest:
        if (self.text is None) == (self.messages is None):
            raise ValueError("give either text or messages")
        return self


class TokenOf(BaseModel):
    """One token: its text alone (U+FFFD where it holds part of a character) and its bytes."""

    id: int
    text: str
    bytes: list[int]


class Tokens(BaseModel):
    """Ids and what each spells."""

    ids: list[int]
    tokens: list[TokenOf]
    count: int


class DetokenizeRequest(Body):
    """Ids."""

    ids: list[TokenId]
    model: Label | None = None


class Detokenized(BaseModel):
    """Their text, and what each spells."""

    text: str
    tokens: list[TokenOf]


class Model(BaseModel):
    """One model or adapter."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "orrery"
    orrery: Json


class ModelList(BaseModel):
    """All that `model` may name."""

    object: Literal["list"] = "list"
    data: list[Model]


class Alive(BaseModel):
    """The server runs, or takes requests."""

    status: str
