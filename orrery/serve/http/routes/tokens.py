"""/tokenize and /detokenize: what the model reads for a text or a conversation, and back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from orrery.serve.http.conversation import prompt_ids
from orrery.serve.http.limits import refuse
from orrery.serve.http.routes import ERRORS, service_of
from orrery.serve.http.schema.tokenize import Detokenized, DetokenizeRequest, TokenizeRequest, Tokens
from orrery.serve.http.service import Service
from orrery.serve.http.views import token_view
from orrery.text.tokenizer import Tokenizer

router = APIRouter()


@router.post("/tokenize", responses={200: {"model": Tokens}, **ERRORS})
async def tokenize(body: TokenizeRequest, request: Request) -> Response:
    """Ids of a text, or of a conversation by the model's chat format, ready for its answer."""
    service = service_of(request)
    await service.caller(request, "tokenize", body.model)
    return JSONResponse(await asyncio.to_thread(_tokens, service, body))


@router.post("/detokenize", responses={200: {"model": Detokenized}, **ERRORS})
async def detokenize(body: DetokenizeRequest, request: Request) -> Response:
    """The text of ids."""
    service = service_of(request)
    await service.caller(request, "detokenize", body.model)
    return JSONResponse(await asyncio.to_thread(_spelled, service.lm.tokenizer, body.ids))


def _tokens(service: Service, body: TokenizeRequest) -> dict[str, object]:
    tokenizer = service.lm.tokenizer
    if body.messages is not None:
        ids = prompt_ids(service.lm, body.messages, body.tools)
    else:
        if body.tools is not None:
            raise refuse("tools belong to messages", "tools")
        bos = body.add_bos and tokenizer.bos_id is not None
        ids = tokenizer.encode(body.text or "", bos=bos)
    return {"ids": ids, "tokens": _views(tokenizer, ids), "count": len(ids)}


def _spelled(tokenizer: Tokenizer, ids: Sequence[int]) -> dict[str, object]:
    return {"text": tokenizer.decode(ids), "tokens": _views(tokenizer, ids)}


def _views(tokenizer: Tokenizer, ids: Sequence[int]) -> list[dict[str, object]]:
    views = [token_view(tokenizer, id, 0.0) for id in ids]
    return [
        {"id": id, "text": view["token"], "bytes": view["bytes"]} for id, view in zip(ids, views, strict=True)
    ]
