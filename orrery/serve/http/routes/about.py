"""What is served and how it is: /v1/models, /health, /ready, /metrics."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from orrery.serve.http.errors import ApiError
from orrery.serve.http.routes import ERRORS, service_of
from orrery.serve.http.schema.tokenize import Alive, Model, ModelList
from orrery.serve.http.service import Service

router = APIRouter()
TEXT = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}


@router.get("/v1/models", responses={200: {"model": ModelList}, **ERRORS})
async def models(request: Request) -> Response:
    """The model, then its adapters."""
    service = service_of(request)
    names = (service.name, *service.adapters)
    return JSONResponse({"object": "list", "data": [_model(service, name) for name in names]})


@router.get("/v1/models/{name}", responses={200: {"model": Model}, **ERRORS})
async def model(name: str, request: Request) -> Response:
    """One of them."""
    service = service_of(request)
    caller = await service.caller(request, "models", name)
    return JSONResponse(_model(service, caller.model))


@router.get("/health", responses={200: {"model": Alive}, **ERRORS})
async def health(request: Request) -> Response:
    """200 while the process and its engine live. Needs no key."""
    if not service_of(request).engine.alive:
        raise ApiError(503, "the engine has stopped", code="engine_stopped")
    return JSONResponse({"status": "ok"})


@router.get("/ready", responses={200: {"model": Alive}, **ERRORS})
async def ready(request: Request) -> Response:
    """200 while new requests are taken: not when the server is shutting down. Needs no key."""
    if request.app.state.gate.draining or not service_of(request).engine.alive:
        raise ApiError(503, "no new requests are taken", code="not_ready")
    return JSONResponse({"status": "ready"})


@router.get("/metrics", responses={**TEXT, **ERRORS}, response_class=Response)
async def metrics(request: Request) -> Response:
    """Prometheus' text format."""
    return Response(service_of(request).metrics.text(), media_type=CONTENT_TYPE_LATEST)


def _model(service: Service, name: str) -> dict[str, Any]:
    lm, shape = service.lm, service.lm.model.cfg
    return {
        "id": name,
        "object": "model",
        "created": service.created,
        "owned_by": "orrery",
        "orrery": {
            "context": lm.context,
            "vocab_size": shape.vocab_size,
            "layers": shape.n_layers,
            "heads": shape.n_heads,
            "d_model": shape.d_model,
            "chat": lm.chat is not None,
            "adapter": name != service.name,
            "defaults": lm.defaults,
            "mode": service.fingerprint,
        },
    }
