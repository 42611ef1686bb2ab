"""The application: `make_app(engine, settings=ServerSettings(), name="gemma-3-270m")`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI

import orrery
from orrery.serve.http.door import Door
from orrery.serve.http.errors import install
from orrery.serve.http.lifecycle import Gate
from orrery.serve.http.metrics import Metrics
from orrery.serve.http.routes import about, chat, completions, embeddings, responses, tokens
from orrery.serve.http.routes import shadow as shadow_route
from orrery.serve.http.routes.page import page_router
from orrery.serve.http.service import Service
from orrery.serve.http.settings import PUBLIC, ServerSettings
from orrery.serve.http.tracing import Traces, provider

if TYPE_CHECKING:
    from orrery.serve.engine.async_engine import AsyncEngine
    from orrery.serve.http.shadow import Shadow

ABOUT = "An OpenAI-compatible server. Every error has the shape of ErrorBody; unknown fields are refused."


def make_app(
    engine: AsyncEngine,
    *,
    settings: ServerSettings | None = None,
    name: str,
    tracer_provider: Any = None,
    shadow: Shadow | None = None,
) -> FastAPI:
    """An ASGI application that starts the engine with itself and stops it at its end.

    Args:
        name: what the model is called in requests.
        tracer_provider: where spans go; None: by `settings.tracing`, the exporter that the environment names.
        shadow: a second model that is given what was answered; it starts and stops with the application.

    Raises:
        MissingExtra: tracing is on, but its extra is not installed.
    """
    settings = settings or ServerSettings()
    if tracer_provider is None and settings.tracing:
        tracer_provider = provider()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        engine.start()
        if shadow is not None:
            shadow.start(lambda: gate.running > 0)
        try:
            yield
        finally:
            if shadow is not None:
                shadow.stop()
            engine.stop()
            if tracer_provider is not None:
                tracer_provider.shutdown()

    app = FastAPI(
        title="orrery",
        version=orrery.__version__,
        description=ABOUT,
        lifespan=lifespan,
        docs_url=None,  # these pages load their scripts from another host
        redoc_url=None,
        redirect_slashes=False,
        separate_input_output_schemas=False,
    )
    gate = Gate(settings.max_requests)
    metrics = Metrics(engine.stats, gate, *([] if shadow is None else [shadow.registry]))
    app.state.gate = gate
    service = Service(
        engine, settings=settings, name=name, metrics=metrics, traces=Traces(tracer_provider), shadow=shadow
    )
    app.state.service = service
    install(app)
    for module in (chat, completions, responses, embeddings, tokens, about):
        app.include_router(module.router)
    if shadow is not None:
        app.include_router(shadow_route.router)
    app.include_router(page_router())
    _describe(app, (name, *service.adapters), keys=bool(settings.api_keys))
    app.add_middleware(Door, settings=settings, gate=gate, metrics=metrics)
    return app


def _describe(app: FastAPI, names: Sequence[str], *, keys: bool) -> None:
    """Tell in the OpenAPI document what only this server knows: the names that `model` may have, and whether a key is needed."""
    document = app.openapi()
    for schema in document["components"]["schemas"].values():
        field = schema.get("properties", {}).get("model", {})
        if "anyOf" in field:  # a request's: an answer's is a plain text
            del field["anyOf"]
            field["enum"] = [*names, None]
    if not keys:
        return
    document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            operation["security"] = [] if path in PUBLIC else [{"key": []}]
