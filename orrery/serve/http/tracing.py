"""OpenTelemetry spans, one a request, by the GenAI names (extra `otel`; off by default).

Where the spans go is set as everywhere, by OTEL_EXPORTER_OTLP_ENDPOINT and its kin. No span holds a prompt or an answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from orrery.kit.errors import MissingExtra
from orrery.kit.lm import Completion, GenerateRequest


class Span(Protocol):
    """What a request tells of itself."""

    def first_token(self, seconds: float) -> None: ...

    def end(self, reason: str, completion: Completion | None) -> None: ...


class NoSpan:
    """Tracing is off."""

    def first_token(self, seconds: float) -> None:
        """Nothing."""

    def end(self, reason: str, completion: Completion | None) -> None:
        """Nothing."""


class OpenSpan:
    """A span of OpenTelemetry."""

    def __init__(self, span: Any) -> None:
        self._span = span

    def first_token(self, seconds: float) -> None:
        """The first token came."""
        self._span.add_event("gen_ai.first_token", {"gen_ai.server.time_to_first_token": seconds})

    def end(self, reason: str, completion: Completion | None) -> None:
        """The request ended."""
        if completion is not None:
            choices = (completion, *completion.others)
            self._span.set_attributes(
                {
                    "gen_ai.usage.output_tokens": sum(len(choice.ids) for choice in choices),
                    "gen_ai.usage.cache_read.input_tokens": completion.cached_tokens,
                    "gen_ai.response.finish_reasons": [choice.finish_reason for choice in choices],
                }
            )
        else:
            self._span.set_attribute("error.type", reason)
        self._span.end()


class Traces:
    """Opens spans; gives `NoSpan` where `provider` is None."""

    def __init__(self, provider: Any = None) -> None:
        """`provider`: a TracerProvider."""
        self._tracer = None if provider is None else provider.get_tracer("orrery.serve")

    def span(self, operation: str, model: str, request: GenerateRequest, headers: Mapping[str, str]) -> Span:
        """A span for one request to the engine, child of the caller's where it sent `traceparent`."""
        if self._tracer is None:
            return NoSpan()
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        sampling = request.sampling
        return OpenSpan(
            self._tracer.start_span(
                f"{operation} {model}",
                context=TraceContextTextMapPropagator().extract(dict(headers)),
                kind=SpanKind.SERVER,
                attributes={
                    "gen_ai.operation.name": operation,
                    "gen_ai.provider.name": "orrery",
                    "gen_ai.request.model": model,
                    "gen_ai.response.model": model,
                    "gen_ai.request.max_tokens": request.max_tokens,
                    "gen_ai.request.temperature": float(sampling.temperature),
                    "gen_ai.request.top_p": float(sampling.top_p),
                    "gen_ai.request.top_k": sampling.top_k,
                    "gen_ai.request.frequency_penalty": float(sampling.frequency_penalty),
                    "gen_ai.request.presence_penalty": float(sampling.presence_penalty),
                    "gen_ai.request.seed": sampling.seed,
                    "gen_ai.request.choice.count": request.n,
                    "gen_ai.usage.input_tokens": len(request.ids),
                },
            )
        )


def provider() -> Any:
    """A TracerProvider that sends spans by OTLP over HTTP.

    Raises:
        MissingExtra: the `otel` extra is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise MissingExtra("opentelemetry-sdk", "otel") from None
    made = TracerProvider(resource=Resource.create({"service.name": "orrery"}))
    made.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return made
