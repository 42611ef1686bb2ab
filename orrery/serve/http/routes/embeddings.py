"""/v1/embeddings: texts to vectors."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from numpy.typing import NDArray

from orrery.kit.lm import EmbedRequest
from orrery.serve.http.limits import at_most
from orrery.serve.http.routes import ERRORS, service_of
from orrery.serve.http.routes.completions import prompts_of
from orrery.serve.http.schema.embeddings import EmbeddingList, EmbeddingRequest
from orrery.serve.http.service import Service
from orrery.serve.http.sse import or_gone

router = APIRouter()


@router.post("/v1/embeddings", responses={200: {"model": EmbeddingList}, **ERRORS})
async def embeddings(body: EmbeddingRequest, request: Request) -> Response:
    """One vector of length 1 for each input."""
    service = service_of(request)
    caller = await service.caller(request, "embeddings", body.model)
    requests = await asyncio.to_thread(_requests, service, body)
    vectors = await or_gone(request.receive, service.embed(requests))
    read = sum(len(r.ids) for r in requests)
    return JSONResponse(
        {
            "object": "list",
            "data": [
                {"object": "embedding", "index": index, "embedding": _shown(vector, body)}
                for index, vector in enumerate(vectors)
            ],
            "model": caller.model,
            "usage": {"prompt_tokens": read, "total_tokens": read},
        }
    )


def _requests(service: Service, body: EmbeddingRequest) -> list[EmbedRequest]:
    prompts = prompts_of(body.input)
    at_most(len(prompts), service.settings.max_batch, "input (how many)")
    at_most(body.dimensions, service.lm.model.cfg.d_model, "dimensions")
    return [EmbedRequest(ids=service.lm.prompt_ids(p), pooling=body.pooling) for p in prompts]


def _shown(vector: NDArray[np.float32], body: EmbeddingRequest) -> Any:
    if body.dimensions is not None:
        vector = vector[: body.dimensions]
        vector = vector / np.maximum(np.linalg.norm(vector), np.float32(1e-12))
    if body.encoding_format == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return vector.tolist()
