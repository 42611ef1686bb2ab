"""/v1/embeddings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from orrery.serve.http.schema.common import Body, Label
from orrery.serve.http.schema.completions import Prompts


class EmbeddingRequest(Body):
    """Texts or ids to turn into vectors."""

    input: Prompts
    model: Label | None = None
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1, le=1 << 20)] | None = Field(
        None, description="The first so many numbers, scaled to length 1 again."
    )
    pooling: Literal["mean", "last"] = Field("mean", description="Ours: how hidden states become one vector.")
    user: Label | None = None


class Embedding(BaseModel):
    """One vector: numbers, or their little-endian float32 bytes in base64."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingUsage(BaseModel):
    """Tokens read."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(BaseModel):
    """The vectors, in the order of the input."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage
