"""The load test: its arithmetic by hand, its requests against a scripted server, and all of it against our own."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.cli.bench import _rates, serve
from orrery.kit.errors import OrreryError
from orrery.serve.engine.async_engine import AsyncEngine
from orrery.serve.engine.config import EngineConfig
from orrery.serve.engine.engine import Engine
from orrery.serve.lm import LM
from orrery.serve.load import LoadTest, Run, load_test, schedule
from orrery.serve.load_client import WORDS, Endpoint, Job, Outcome
from orrery.serve.load_lengths import SHAREGPT_ANSWER, SHAREGPT_PROMPT, Lengths, Lognormal
from orrery.serve.load_report import BAR, LoadReport, Objective, Percentiles, bar, summarise
from tests.serve.http.conftest import serving

SHORT = Lengths(prompt=Lognormal(mean=40, sigma=0.3), answer=Lognormal(mean=5, sigma=0.0), longest=200)


# --- lengths and arrivals


def test_the_mean_is_the_mean() -> None:
    rng = random.Random(3)
    for wanted in (SHAREGPT_PROMPT, SHAREGPT_ANSWER):
        drawn = [wanted.draw(rng) for _ in range(20_000)]
        assert sum(drawn) / len(drawn) == pytest.approx(wanted.mean, rel=0.05)
    assert {Lognormal(mean=7.0, sigma=0.0).draw(rng) for _ in range(5)} == {7}


@given(longest=st.integers(8, 4096), seed=st.integers(0, 100), mean=st.floats(1, 5000))
@settings(max_examples=50, deadline=None)
def test_prompt_and_answer_fit_the_context(longest: int, seed: int, mean: float) -> None:
    lengths = Lengths(prompt=Lognormal(mean=mean, sigma=1.0), answer=Lognormal(mean=mean, sigma=1.0), longest=longest)  # fmt: skip
    prompt, answer = lengths.draw(random.Random(seed))
    assert prompt >= 1 and answer >= 1 and prompt + answer <= longest


def test_arrivals_are_a_poisson_process_and_the_seed_decides() -> None:
    jobs = schedule(4000, rate=8.0, lengths=Lengths(), seed=1)
    gaps = [b.at - a.at for a, b in pairwise(jobs)]
    mean = sum(gaps) / len(gaps)
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert mean == pytest.approx(1 / 8, rel=0.06) and deviation == pytest.approx(mean, rel=0.06)
    assert jobs == schedule(4000, rate=8.0, lengths=Lengths(), seed=1)
    slower = schedule(4000, rate=4.0, lengths=Lengths(), seed=1)
    assert [(j.prompt, j.answer) for j in slower] == [(j.prompt, j.answer) for j in jobs]
    assert [j.at for j in slower] == pytest.approx([2 * j.at for j in jobs])
    assert schedule(9, rate=8.0, lengths=Lengths(), seed=2) != jobs[:9]


# --- the numbers


def answered(*pieces: float, tokens: int | None = None) -> Outcome:
    return Outcome(status="ok", pieces=pieces, end=pieces[-1], tokens=tokens or len(pieces), prompt=10)


def test_a_request_by_hand() -> None:
    outcome = answered(0.5, 0.6, 0.9, tokens=5)
    assert outcome.ttft == 0.5 and outcome.gaps == pytest.approx([0.1, 0.3])
    assert outcome.itl == pytest.approx(0.1) and outcome.tps == pytest.approx(10.0)
    assert answered(0.5).itl == 0.0 and answered(0.5).tps is None
    assert Outcome(status="ok", end=0.7).ttft == 0.7  # no text at all


def test_a_run_by_hand() -> None:
    ok = [answered(0.1, 0.2, 0.3), answered(0.3, 0.5, 0.7)]
    refused = Outcome(status="refused", end=0.01, why="429 busy")
    failed = Outcome(status="failed", pieces=(0.1,), end=0.2, tokens=1, why="500 no")
    run = Run(rate=2.0, due=6, outcomes=(*ok, refused, failed), seconds=2.0)
    report = summarise(run, Objective(ttft_ms=200.0))
    assert report.counts == {"ok": 2, "refused": 1, "failed": 1, "unfinished": 0} and report.unsent == 2
    assert report.ttft_ms is not None and report.ttft_ms.p50 == pytest.approx(200.0)
    assert report.ttft_ms.p95 == pytest.approx(290.0) and report.ttft_ms.p99 == pytest.approx(298.0)
    assert report.itl_ms is not None and report.itl_ms.p50 == pytest.approx(150.0)
    assert report.latency_ms is not None and report.latency_ms.p50 == pytest.approx(500.0)
    assert report.tps is not None and report.tps.p50 == pytest.approx(7.5)
    assert report.tokens_per_s == 3.0 and report.requests_per_s == 1.0 and report.prompt_tokens == 20
    assert report.goodput == 0.25 and report.good_per_s == 0.5
    assert report.reasons == {"429 busy": 1, "500 no": 1}


def test_goodput_looks_at_both_limits_and_at_nothing_unless_asked() -> None:
    run = Run(rate=1.0, due=2, outcomes=(answered(0.1, 0.2, 0.3), answered(0.1, 0.5, 0.9)), seconds=1.0)
    assert summarise(run, Objective()).goodput is None
    assert summarise(run, Objective(itl_ms=110)).goodput == 0.5
    assert summarise(run, Objective(ttft_ms=50, itl_ms=110)).goodput == 0.0
    nothing = summarise(Run(rate=1.0, due=1, outcomes=(), seconds=1.0), Objective(ttft_ms=1))
    assert nothing.goodput is None and nothing.ttft_ms is None and nothing.unsent == 1


@given(st.lists(st.floats(0, 1e4), min_size=1, max_size=40))
@settings(deadline=None)
def test_percentiles_lie_in_order_among_the_values(values: list[float]) -> None:
    found = Percentiles.of(values)
    assert found is not None
    assert min(values) <= found.p50 <= found.p95 <= found.p99 <= max(values)


def test_bars() -> None:
    assert bar(1.0, 1.0) == "█" * BAR and bar(0.0, 1.0) == "" and bar(0.0, 0.0) == ""
    assert bar(1.5, float(BAR)) == "█▌"


# --- a scripted server


class Pieces(httpx2.AsyncByteStream):
    """A body that comes in parts, with pauses."""

    def __init__(self, parts: list[str | float]) -> None:
        self.parts = parts

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self.parts:
            if isinstance(part, float):
                await asyncio.sleep(part)
            else:
                yield part.encode()


def event(**data: Any) -> str:
    return f"data: {json.dumps(data)}\n\n"


def piece(text: str) -> str:
    return event(choices=[{"index": 0, "text": text, "finish_reason": None}])


END = event(choices=[{"text": "", "finish_reason": "length"}]) + event(choices=[], usage={"prompt_tokens": 9, "completion_tokens": 3}) + "data: [DONE]\n\n"  # fmt: skip


class Scripted(httpx2.AsyncBaseTransport):
    """Two tokens a word and one for BOS; `streams` are the answers to streamed requests, in their order."""

    def __init__(self, streams: Callable[[int], httpx2.Response]) -> None:
        self.streams, self.bodies = streams, list[dict[str, Any]]()
        self.headers = httpx2.Headers()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.headers = request.headers
        if request.url.path == "/v1/models":
            return httpx2.Response(200, json={"data": [{"id": "scripted"}]})
        body = json.loads(await request.aread())
        if not body.get("stream"):
            text = body["prompt"] if "prompt" in body else body["messages"][0]["content"]
            return httpx2.Response(200, json={"usage": {"prompt_tokens": 1 + 2 * len(text.split())}})
        self.bodies.append(body)
        return self.streams(len(self.bodies) - 1)


def streamed(*parts: str | float) -> httpx2.Response:
    return httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=Pieces(list(parts)))


def run(transport: httpx2.AsyncBaseTransport, *, chat: bool = False, **how: Any) -> LoadTest:
    endpoint = Endpoint("http://x/", transport=transport, chat=chat, api_key="secret")
    return asyncio.run(load_test(endpoint, **{"rates": [200.0], "requests": 4, "lengths": SHORT, **how}))


def test_prompts_have_the_tokens_that_were_drawn() -> None:
    transport = Scripted(lambda i: streamed(piece("a"), END))
    run(transport, requests=8)
    wanted = [job.prompt for job in schedule(8, rate=200.0, lengths=SHORT)]
    tokens = [1 + 2 * len(body["prompt"].split()) for body in transport.bodies]
    assert all(abs(a - b) <= 1 for a, b in zip(sorted(tokens), sorted(wanted), strict=True))
    assert all(set(body["prompt"].split()) <= set(WORDS) for body in transport.bodies)
    assert len({body["prompt"] for body in transport.bodies}) == 8
    assert transport.bodies[0]["max_tokens"] == 5 and transport.bodies[0]["ignore_eos"] is True
    assert transport.headers["authorization"] == "Bearer secret"


def test_pieces_are_timed() -> None:
    test = run(Scripted(lambda i: streamed(piece("a"), 0.05, piece("b"), 0.1, piece("c"), END)), requests=2)
    for outcome in test.runs[0].outcomes:
        assert outcome.status == "ok" and outcome.tokens == 3 and outcome.prompt == 9
        assert outcome.gaps == pytest.approx([0.05, 0.1], abs=0.04)
        assert outcome.end == pytest.approx(outcome.pieces[-1], abs=0.04)


def test_arrivals_do_not_wait_for_answers() -> None:
    """Ten requests whose answers take 0.2 s each, all sent within 0.1 s: together they take little more than one."""
    started = time.perf_counter()
    test = run(Scripted(lambda i: streamed(0.2, piece("a"), END)), requests=10, rates=[500.0])
    assert time.perf_counter() - started < 1.5 and len(test.runs[0].outcomes) == 10


def test_refusals_and_failures_are_counted() -> None:
    answers = [
        lambda: httpx2.Response(429, json={"error": {"message": "come back"}}),
        lambda: httpx2.Response(500, text="oh"),
        lambda: streamed(piece("a")),  # breaks off
        lambda: streamed(piece("a"), event(error={"message": "engine died"})),
        lambda: streamed("data: {\n\n"),
        lambda: httpx2.Response(200, json={"choices": []}),  # no stream at all
        lambda: streamed(piece("a"), END),
    ]
    test = run(Scripted(lambda i: answers[i]()), requests=7)
    report = summarise(test.runs[0], Objective(ttft_ms=1e6))
    assert report.counts == {"ok": 1, "refused": 1, "failed": 5, "unfinished": 0}
    assert report.goodput == pytest.approx(1 / 7) and report.reasons["429 come back"] == 1
    assert any("before the answer did" in why for why in report.reasons)
    assert any("engine died" in why for why in report.reasons)


def test_a_connection_that_breaks_is_a_failure() -> None:
    def broken(i: int) -> httpx2.Response:
        raise httpx2.ConnectError("gone")

    assert [o.why for o in run(Scripted(broken), requests=2).runs[0].outcomes] == ["gone", "gone"]


def test_chat_deltas() -> None:
    def chunk(**delta: Any) -> str:
        return event(choices=[{"delta": delta, "finish_reason": None}])

    transport = Scripted(
        lambda i: streamed(
            chunk(role="assistant"), 0.03, chunk(reasoning_content="hm"), chunk(content="a"), END
        )
    )
    (outcome,) = run(transport, requests=1, chat=True).runs[0].outcomes
    assert outcome.status == "ok" and len(outcome.pieces) == 2 and outcome.ttft >= 0.03
    assert transport.bodies[0]["messages"][0]["role"] == "user"


def test_breaking_off_tells_what_there_is() -> None:
    async def broken_off() -> LoadTest:
        transport = Scripted(lambda i: streamed(piece("a"), END) if i < 3 else streamed(piece("a"), 60.0))
        endpoint = Endpoint("http://x", transport=transport)
        testing = load_test(endpoint, rates=[20.0, 40.0], requests=40, lengths=SHORT)
        task = asyncio.create_task(testing)
        await asyncio.sleep(0.8)
        task.cancel()
        return await task

    test = asyncio.run(broken_off())
    assert test.interrupted and len(test.runs) == 1
    report = summarise(test.runs[0], Objective(ttft_ms=1e6))
    assert report.counts["ok"] == 3 and report.counts["unfinished"] > 0 and report.unsent > 0
    assert sum(report.counts.values()) + report.unsent == 40 and report.goodput == 1.0


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda: httpx2.Response(200, json={"data": []}), "lists no model"),
        (lambda: httpx2.Response(401, json={"error": {"message": "no key"}}), "401: no key; give its key"),
        (lambda: httpx2.Response(200, text="<html>"), "something else than JSON"),
        (lambda: httpx2.Response(404, text="nothing"), "404: nothing; is it an OpenAI-compatible"),
    ],
)
def test_a_server_of_another_kind_is_told_in_a_sentence(
    answer: Callable[[], httpx2.Response], words: str
) -> None:
    with pytest.raises(OrreryError, match=words):
        run(httpx2.MockTransport(lambda request: answer()))


def test_nobody_answers() -> None:
    with pytest.raises(OrreryError, match=r"nobody answers at http://127.0.0.1:9/v1"):
        asyncio.run(load_test(Endpoint("http://127.0.0.1:9"), rates=[1.0], requests=1))


@pytest.mark.parametrize("how", [{"rates": []}, {"rates": [0.0]}, {"requests": 0}])
def test_settings_that_mean_nothing(how: dict[str, Any]) -> None:
    with pytest.raises(OrreryError, match="rates above 0"):
        run(Scripted(lambda i: streamed(END)), **how)


def test_rates_on_the_command_line() -> None:
    assert _rates("2,4.5, 8") == [2.0, 4.5, 8.0]
    with pytest.raises(OrreryError, match="'two'"):
        _rates("two")


def test_urls() -> None:
    assert Endpoint("http://x").url == Endpoint("http://x/v1/").url == "http://x/v1"
    assert Endpoint("http://x/api/v2").url == "http://x/api/v2"


# --- our own server


@pytest.fixture(scope="module")
def server(tokenizer: Any, make_model: Callable[..., Any]) -> Iterator[Any]:
    """Two sequences at once, eight requests under way."""
    lm = LM(model=make_model(tokenizer.vocab_size, max_positions=2048), tokenizer=tokenizer)
    engine = AsyncEngine(Engine(lm, EngineConfig(max_sequences=2)))
    with serving(engine, max_requests=8, api_keys=("secret",)) as running:
        yield running


HOW: dict[str, Any] = {
    "slo_ttft_ms": 60_000.0, "slo_itl_ms": 60_000.0, "model": None, "api_key": "secret", "chat": False, "ignore_eos": True,
    "prompt_mean": 40.0, "answer_mean": 12.0, "longest": 160, "seed": 0, "timeout": 60.0, "json": True,
}  # fmt: skip


def test_our_server_under_load(server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    serve(server.url, **HOW, rate="20,2000", requests=20)
    report = json.loads(capsys.readouterr().out)
    easy, hard = report["rates"]
    assert report["model"] == "tiny" and easy["counts"]["ok"] + easy["counts"]["refused"] == 20
    assert (
        hard["counts"]["refused"] > 0 and hard["counts"]["failed"] == 0
    )  # twenty at once at a gate of eight
    assert sum(hard["counts"].values()) == 20 and hard["goodput"] == hard["counts"]["ok"] / 20
    assert easy["answer_tokens"] > 0 and easy["ttft_ms"]["p50"] <= easy["latency_ms"]["p50"]
    lengths = Lengths(
        prompt=Lognormal(mean=40, sigma=0.83), answer=Lognormal(mean=12, sigma=1.08), longest=160
    )
    jobs: list[Job] = schedule(20, rate=20.0, lengths=lengths)
    if easy["counts"]["ok"] == 20:
        assert easy["answer_tokens"] == sum(job.answer for job in jobs)
        assert easy["prompt_tokens"] == pytest.approx(sum(job.prompt for job in jobs), rel=0.15)


def test_the_tables(server: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    serve(server.url, **{**HOW, "json": False}, rate="500,1000", requests=12)
    shown = capsys.readouterr().out
    for words in (
        "TTFT ms, p50 / p95 / p99",
        "refused (429) / failed",
        "goodput, TTFT <= 60000 ms",
        "curve",
        "█",
        "429",
    ):
        assert words in shown


def test_a_wrong_key(server: Any) -> None:
    with pytest.raises(OrreryError, match="give its key with --api-key"):
        serve(server.url, **{**HOW, "api_key": "wrong"}, rate="1", requests=1)


def test_ctrl_c_prints_what_there_is(server: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-c", "from orrery.cli import main; main()", "bench", "serve", server.url]
    given = [
        "--rate",
        "4",
        "--requests",
        "200",
        "--answer-mean",
        "4",
        "--prompt-mean",
        "20",
        "--longest",
        "60",
        "--json",
    ]
    with out.open("w") as sink:
        bench = subprocess.Popen(
            [*command, *given], stdout=sink, cwd=Path(__file__).parents[2],
            env={**os.environ, "ORRERY_API_KEY": "secret", "COLUMNS": "200"},
        )  # fmt: skip
        time.sleep(6)
        bench.send_signal(signal.SIGINT)
        assert bench.wait(20) == 130
    report = json.loads(out.read_text())
    (rate,) = report["rates"]
    assert report["interrupted"] and rate["unsent"] > 0 and rate["counts"]["ok"] > 0


def test_a_report_is_plain_values() -> None:
    test = LoadTest(runs=(Run(rate=1.0, due=1, outcomes=(answered(0.1, 0.2),), seconds=1.0),))
    report = LoadReport.of(test, url="u", model="m", seed=0, objective=Objective(ttft_ms=5))
    assert json.loads(json.dumps(report.to_dict()))["objective"] == {"ttft_ms": 5, "itl_ms": None}
