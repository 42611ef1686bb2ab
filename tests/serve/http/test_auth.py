"""Keys, hosts, and that no route was forgotten."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Iterator

import pytest
from fastapi.routing import APIRoute
from starlette.routing import Route

from orrery.serve.http.auth import Keys
from orrery.serve.http.errors import ApiError
from orrery.serve.http.settings import PUBLIC, ServerSettings
from tests.serve.http.conftest import serving
from tests.serve.http.fake import FakeEngine
from tests.serve.http.raw import ask, head

KEY = "sk-test-0123456789"


def routes_of(router) -> Iterator[tuple[str, str]]:
    """(method, path) of every route, those of included routers too."""
    for route in router.routes:
        if isinstance(route, Route | APIRoute):
            yield from ((method, route.path) for method in route.methods or ())
        else:
            yield from routes_of(route.original_router)


@pytest.fixture(scope="module")
def server(chat_lm):
    with serving(FakeEngine(chat_lm), api_keys=(KEY, "sk-other")) as server:
        yield server


def test_every_route_but_two_needs_a_key(server) -> None:
    walked = set(routes_of(server.app.router))
    walked |= {("GET", "/openapi.json"), ("GET", "/nothing"), ("POST", "/")}
    assert len(walked) > 12
    for method, path in sorted(walk for walk in walked if walk[0] != "HEAD"):
        path = path.replace("{name}", "tiny").replace("{name:path}", "index.html")
        answer = ask(server.port, head(method, path, "Content-Length: 0"))
        assert (answer.status == 401) == (path not in PUBLIC), (method, path, answer.status)
        if answer.status == 401:
            assert answer.json["error"]["code"] == "invalid_api_key"
            assert answer.headers["www-authenticate"].split()[0] in ("Bearer", "Basic")
    assert {"/health", "/ready"} == PUBLIC


BASIC = base64.b64encode(f"me:{KEY}".encode()).decode()


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([f"Authorization: Bearer {KEY}"], 200),
        (["Authorization: Bearer sk-other"], 200),
        ([f"Authorization: Basic {BASIC}"], 200),
        ([f"Authorization: Bearer {KEY} "], 200),  # blanks around a header are no part of it
        ([f"Authorization: Bearer  {KEY}"], 401),
        ([f"Authorization: bearer {KEY}"], 401),
        ([f"Authorization: {KEY}"], 401),
        (["Authorization: Bearer"], 401),
        (["Authorization: Bearer sk-test"], 401),
        ([f"Authorization: Bearer {KEY}x"], 401),
        (["Authorization: Bearer \xe9"], 401),
        (["Authorization: Basic !!!"], 401),
        ([f"Authorization: Bearer {KEY}", f"Authorization: Bearer {KEY}"], 401),
        ([f"Authorization: Bearer {KEY}", "Authorization: Bearer wrong"], 401),
        ([f"X-Api-Key: {KEY}"], 401),
        ([], 401),
    ],
)
def test_ways_to_send_a_key(server, lines, status) -> None:
    assert ask(server.port, head("GET", "/v1/models", *lines)).status == status


@pytest.mark.parametrize(
    "path",
    [
        f"/v1/models?key={KEY}",
        f"/v1/models?Authorization=Bearer%20{KEY}",
        "//v1/models",
        "/v1/../health/../v1/models",
        "/health/../v1/models",
        "/v1/%2e%2e/v1/models",
        "/v1/models;/health",
        "/V1/MODELS",
        "/v1/models/",
        "/health/",
        "//health",
        "/health;",
        "http://127.0.0.1/v1/models",
        "/v1/models%00/health",
    ],
)
def test_no_spelling_of_a_path_goes_around_the_key(server, path) -> None:
    assert ask(server.port, head("GET", path)).status == 401


def test_a_key_is_compared_in_constant_time(monkeypatch) -> None:
    """All keys, whole digests, by compare_digest, whatever was guessed."""
    keys = Keys(ServerSettings(api_keys=("a" * 40, "b" * 40)))
    compared = []
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append((len(a), len(b))) or a == b)
    for guess in (b"a" * 40, b"a" * 39, b"", b"z"):
        compared.clear()
        try:
            keys.tenant("/v1/models", [(b"authorization", b"Bearer " + guess)])
        except ApiError:
            assert guess != b"a" * 40
        assert compared == [(32, 32), (32, 32)]


def test_callers_of_different_keys_are_different_tenants(server, chat_lm) -> None:
    import openai

    for key in (KEY, "sk-other", KEY):
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0) as client:
            client.completions.create(model="tiny", prompt="the", max_tokens=1)
    first, second, third = (request.tenant for request in server.engine.requests)
    assert first == third != second
    assert KEY not in first


def test_strange_hosts_are_refused_on_loopback(chat_lm) -> None:
    with serving(FakeEngine(chat_lm)) as server:
        for host, status in [
            ("127.0.0.1", 200), ("localhost", 200), ("LOCALHOST:99", 200), ("[::1]:80", 200),
            ("evil.example", 403), ("127.0.0.1.evil.example", 403), ("", 403),
        ]:  # fmt: skip
            request = f"GET /health HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
            assert ask(server.port, request).status == status, host
        preflight = head("OPTIONS", "/v1/models", "Origin: https://evil.example", "Access-Control-Request-Method: POST")  # fmt: skip
        answer = ask(server.port, preflight)
        assert answer.status == 405
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_settings_know_which_hosts() -> None:
    assert ServerSettings(host="0.0.0.0").allowed_hosts is None
    assert ServerSettings(host="0.0.0.0", hosts=("a.example",)).allowed_hosts == {"a.example"}
    assert ServerSettings().allowed_hosts == {"127.0.0.1", "localhost", "::1"}
    assert len(PUBLIC) == 2
