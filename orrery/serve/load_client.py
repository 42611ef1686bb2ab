"""One request of a load test: sent to an OpenAI-compatible endpoint, its pieces timed as they arrive.

Prompts are text, of which any endpoint says in `usage` how many tokens it was: two probes before the test find how many tokens a
word has there, and how many are added to every prompt (BOS, a chat template). They also warm the server up.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Literal

import httpx2

from orrery.kit.errors import OrreryError

WORDS = tuple(
    [
        "time",
        "year",
        "people",
        "way",
        "day",
        "man",
        "thing",
        "woman",
        "life",
        "child",
        "world",
        "school",
        "state",
        "family",
        "student",
        "group",
        "country",
        "problem",
        "hand",
        "part",
        "place",
        "case",
        "week",
        "company",
        "system",
        "program",
        "question",
        "work",
        "government",
        "number",
        "night",
        "point",
    ]
)

Status = Literal["ok", "refused", "failed", "unfinished"]


@dataclass(frozen=True, kw_only=True)
class Job:
    """A request to send `at` seconds after the start of the test."""

    at: float
    prompt: int
    answer: int


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a request. Times are seconds since it was due, so that a server that is too slow to be asked pays for it.

    Attributes:
        status: "refused" is 429: the server says that it has too much to do. "unfinished": the test was broken off.
        pieces: when each piece of text came. end: when the answer was over.
        prompt, tokens: of the prompt and of the answer, as the server counts them.
        why: of what failed.
    """

    status: Status
    pieces: tuple[float, ...] = ()
    end: float = 0.0
    prompt: int = 0
    tokens: int = 0
    why: str = ""

    @property
    def ttft(self) -> float:
        """Seconds to the first piece; an answer without text has none before its end."""
        return self.pieces[0] if self.pieces else self.end

    @property
    def gaps(self) -> list[float]:
        """Seconds between pieces."""
        return [b - a for a, b in zip(self.pieces, self.pieces[1:], strict=False)]

    @property
    def itl(self) -> float:
        """Mean seconds between tokens behind the first one; a piece may be several tokens."""
        return (
            (self.pieces[-1] - self.pieces[0]) / (self.tokens - 1) if self.pieces and self.tokens > 1 else 0.0
        )

    @property
    def tps(self) -> float | None:
        """Tokens a second that a reader sees, behind the first; None for an answer of one."""
        return 1 / self.itl if self.itl else None


class Broken(Exception):
    """A stream that did not come to its end; the message says why."""


class Endpoint:
    """Where requests go, and what each looks like.

    Args:
        url: with or without /v1 at its end.
        model: None: the first one that the server lists.
        chat: /v1/chat/completions instead of /v1/completions.
        ignore_eos: ask for answers of the full length, a setting that many open servers know and others refuse.
        transport: for tests: what answers instead of the network.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str | None = None,
        api_key: str | None = None,
        chat: bool = False,
        ignore_eos: bool = True,
        timeout_s: float = 600.0,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        base = url.rstrip("/")
        self.url = base if re.search(r"/v\d+$", base) else f"{base}/v1"
        self.model, self.chat, self.ignore_eos = model, chat, ignore_eos
        self._per_word, self._added = 1.0, 0.0
        self._client = httpx2.AsyncClient(
            headers={"authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=httpx2.Timeout(timeout_s, connect=10.0),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=None),
            trust_env=False,
            transport=transport,
        )

    async def __aenter__(self) -> Endpoint:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._client.aclose()

    async def get_ready(self) -> None:
        """Find the model's name and how many tokens a word has.

        Raises:
            OrreryError: nobody answers, or not as an OpenAI-compatible server does.
        """
        if self.model is None:
            listed = await self._json("GET", "models")
            try:
                self.model = str(listed["data"][0]["id"])
            except (KeyError, IndexError, TypeError):
                raise OrreryError(f"{self.url}/models lists no model; name one with --model") from None
        counts = [await self._count(" ".join(WORDS * times)) for times in (1, 3)]
        self._per_word = max((counts[1] - counts[0]) / (2 * len(WORDS)), 0.1)
        self._added = max(counts[0] - len(WORDS) * self._per_word, 0.0)

    def text(self, tokens: int, rng: random.Random) -> str:
        """Words that are about so many tokens there."""
        return " ".join(rng.choices(WORDS, k=max(1, round((tokens - self._added) / self._per_word))))

    async def ask(self, job: Job, text: str, due: float) -> Outcome:
        """Send a request and time the answer; `due` in the event loop's time. Being cancelled is an outcome too."""
        now, pieces = asyncio.get_running_loop().time, list[float]()
        usage: dict[str, Any] = {}
        status, why = "ok", ""
        try:
            body = self._body(text, job.answer) | {"stream": True, "stream_options": {"include_usage": True}}
            async for piece, told in self._stream(body):
                usage = told or usage
                if piece:
                    pieces.append(now() - due)
        except asyncio.CancelledError:
            status = "unfinished"
        except httpx2.HTTPStatusError as error:
            status = "refused" if error.response.status_code == 429 else "failed"
            why = f"{error.response.status_code} {_reason(error.response)}"
        except (httpx2.HTTPError, Broken, OSError) as error:
            status, why = "failed", str(error) or type(error).__name__
        return Outcome(
            status=status,  # type: ignore[bad-argument-type]
            pieces=tuple(pieces),
            end=now() - due,
            prompt=int(usage.get("prompt_tokens", 0)),
            tokens=int(usage.get("completion_tokens", len(pieces))),
            why=why,
        )

    async def _stream(self, body: dict[str, Any]) -> AsyncIterator[tuple[str, dict[str, Any] | None]]:
        """(text, usage) of each event.

        Raises:
            HTTPStatusError: the answer is no 200. Broken: the stream tells of an error, or ends before the answer does.
        """
        async with self._client.stream("POST", f"{self.url}/{self._path}", json=body) as response:
            if response.status_code != 200:
                await response.aread()
                raise httpx2.HTTPStatusError("", request=response.request, response=response)
            ended = False
            async for event in httpx2.EventSource(response):
                if event.data == "[DONE]":
                    return
                told = _parsed(event.data)
                for choice in told.get("choices") or [{}]:
                    ended = ended or bool(choice.get("finish_reason"))
                    yield _text(choice), told.get("usage")
            if not ended:
                raise Broken("the stream ended before the answer did")

    @property
    def _path(self) -> str:
        return "chat/completions" if self.chat else "completions"

    def _body(self, text: str, tokens: int) -> dict[str, Any]:
        prompt = {"messages": [{"role": "user", "content": text}]} if self.chat else {"prompt": text}
        full = {"ignore_eos": True} if self.ignore_eos else {}
        return {"model": self.model, **prompt, "max_tokens": tokens, **full}

    async def _count(self, text: str) -> int:
        """Tokens of a prompt, by a request for one token."""
        told = await self._json("POST", self._path, self._body(text, 1))
        try:
            return int(told["usage"]["prompt_tokens"])
        except (KeyError, TypeError, ValueError):
            raise OrreryError(
                f"{self.url}/{self._path} does not say in `usage` how many tokens a prompt has, so lengths cannot be chosen; "
                "give a server that does"
            ) from None

    async def _json(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        try:
            response = await self._client.request(method, f"{self.url}/{path}", json=body)
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            why = str(error).rstrip(".") or type(error).__name__
            raise OrreryError(
                f"nobody answers at {self.url}: {why}; start a server there, or mend the address"
            ) from None
        if response.status_code == 200:
            try:
                return response.json()
            except ValueError:
                raise OrreryError(f"{self.url}/{path} answers with something else than JSON; is it an OpenAI-compatible server?") from None  # fmt: skip
        advice = {
            400: "; a server that does not know ignore_eos needs --no-ignore-eos, a base model --no-chat",
            401: "; give its key with --api-key",
            404: "; is it an OpenAI-compatible server?",
        }.get(response.status_code, "")
        raise OrreryError(f"{self.url}/{path} answers {response.status_code}: {_reason(response)}{advice}")


def _parsed(data: str) -> dict[str, Any]:
    try:
        told = json.loads(data)
    except ValueError:
        raise Broken("an event of the stream is no JSON") from None
    if not isinstance(told, dict) or "error" in told:
        raise Broken(f"the stream says: {data[:200]}")
    return told


def _text(choice: dict[str, Any]) -> str:
    """What a piece adds, in either form; calls and reasoning are text too."""
    if "text" in choice:
        return choice["text"] or ""
    delta = choice.get("delta") or {}
    calls = delta.get("tool_calls")
    return (delta.get("content") or "") + (delta.get("reasoning_content") or "") + ("call" if calls else "")


def _reason(response: httpx2.Response) -> str:
    """The error's message, in OpenAI's shape or as it is."""
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return response.text[:200] or response.reason_phrase
