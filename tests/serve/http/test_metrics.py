"""What Prometheus and OpenTelemetry are told."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families

from tests.serve.http.conftest import serving
from tests.serve.http.fake import FakeEngine
from tests.serve.http.raw import ask, head, post


def scrape(port: int) -> dict[str, float]:
    """{name{labels}: value}"""
    text = ask(port, head("GET", "/metrics")).body.decode()
    return {
        sample.name + "".join(f"[{value}]" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_count_what_happened(chat_lm) -> None:
    engine = FakeEngine(chat_lm)
    engine.token_s = 0.02
    with serving(engine, max_requests=3) as server:
        before = scrape(server.port)
        made = 0
        for stream in (False, True):
            body = {"prompt": "the cat sat", "max_tokens": 5, "ignore_eos": True, "stream": stream}
            ask(server.port, post("/v1/completions", body, "Connection: close"))
            made += 5
        ask(server.port, post("/v1/completions", {"prompt": []}))
        after = scrape(server.port)
    read = 2 * len(chat_lm.prompt_ids("the cat sat"))

    def grew(name: str) -> float:
        return after[name] - before.get(name, 0)

    assert grew("orrery_generated_tokens_total") == made
    assert grew("orrery_prompt_tokens_total") == read
    assert grew("orrery_time_to_first_token_seconds_count") == 2
    assert grew("orrery_inter_token_seconds_count") == made - 2
    assert 0.02 * (made - 2) <= grew("orrery_inter_token_seconds_sum") < 5
    assert grew("orrery_request_seconds_count") == 2
    assert grew("orrery_tokens_per_second_count") == 2
    assert grew("orrery_finished_total[length]") == 2
    assert grew("orrery_http_answers_total[200]") >= 2
    assert grew("orrery_http_answers_total[400]") == 1
    for name in ("queue", "running", "kv_blocks_used", "kv_blocks", "kv_use_ratio", "requests_under_way"):
        assert f"orrery_{name}" in after
    for name in ("prefix_cache_hit_tokens", "prefix_cache_query_tokens", "preemptions", "accepted_tokens"):
        assert f"orrery_{name}_total" in after
    assert after["orrery_kv_blocks"] == 100
    assert after["orrery_requests_under_way"] == 0


@pytest.fixture
def spans():
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider, exporter


def test_a_request_is_a_span(chat_lm, spans) -> None:
    provider, exporter = spans
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    with serving(FakeEngine(chat_lm), tracer_provider=provider) as server:
        body = {
            "messages": [{"role": "user", "content": "private"}],
            "max_tokens": 3,
            "temperature": 0.5,
            "ignore_eos": True,
        }
        ask(server.port, post("/v1/chat/completions", body, f"Traceparent: 00-{trace}-{parent}-01"))
        (span,) = exporter.get_finished_spans()
    assert span.name == "chat tiny"
    assert f"{span.context.trace_id:032x}" == trace
    assert f"{span.parent.span_id:016x}" == parent
    told = dict(span.attributes)
    assert told["gen_ai.operation.name"] == "chat"
    assert told["gen_ai.request.temperature"] == 0.5
    assert told["gen_ai.request.max_tokens"] == told["gen_ai.usage.output_tokens"] == 3
    assert told["gen_ai.response.finish_reasons"] == ("length",)
    assert [event.name for event in span.events] == ["gen_ai.first_token"]
    assert "private" not in span.to_json()


def test_no_spans_unless_asked_for(chat_lm) -> None:
    from orrery.serve.http.settings import ServerSettings
    from orrery.serve.http.tracing import NoSpan, Traces

    assert ServerSettings().tracing is False
    from orrery.kit.lm import GenerateRequest

    assert isinstance(Traces().span("chat", "m", GenerateRequest(ids=[1]), {}), NoSpan)
