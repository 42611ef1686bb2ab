"""A model behind an OpenAI-compatible chat endpoint as somebody who replies (`kit.chat.ChatModel`).

    with_key = RemoteChat("https://example.org/v1", model="large", api_key="...")
    with_key.reply([[{"role": "user", "content": "Hello"}]])

Conversations are sent a few at a time. What the server asks to be sent again (429, 5xx, a broken connection) is, after a pause that
grows; what it refuses (400: a prompt too long) is a fault of that one reply; a missing key or model ends the whole run at once.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from orrery.kit.chat import Conversation, Reply, ReplySettings
from orrery.kit.errors import MissingExtra, OrreryError

if TYPE_CHECKING:
    import httpx2

AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
"""Answers that another try may change."""
HOPELESS = {
    401: "; give its key in the environment variable OPENAI_API_KEY",
    403: "; the key may not do this",
    404: "; is it an OpenAI-compatible server, and is the model's name right?",
}
"""Answers that every conversation would get."""
LONGEST_PAUSE_S = 60.0


class RemoteChat:
    """Attributes:
    name: the model's name at the endpoint; None there takes the first one it lists.
    """

    obeys_grammars = False

    def __init__(
        self,
        url: str,
        *,
        model: str | None = None,
        api_key: str | None = None,
        concurrency: int = 8,
        tries: int = 5,
        pause_s: float = 1.0,
        timeout_s: float = 600.0,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        """Args:
            url: with or without /v1 at its end.
            api_key: None: the environment variable OPENAI_API_KEY, if it is set.
            concurrency: conversations under way at once. tries: how often one is sent. pause_s: before the second time, then doubled.
            transport: for tests: what answers instead of the network.

        Raises:
            MissingExtra: the `serve` extra is not installed. OrreryError: no model is named and the endpoint lists none.
        """
        base = url.rstrip("/")
        self.url = base if re.search(r"/v\d+$", base) else f"{base}/v1"
        self._key = api_key or os.environ.get("OPENAI_API_KEY") or ""
        self._concurrency, self._tries, self._pause_s, self._timeout_s = (
            concurrency,
            tries,
            pause_s,
            timeout_s,
        )
        self._transport = transport
        self.name = model or asyncio.run(self._first_model())

    def reply(
        self, conversations: Sequence[Conversation], settings: ReplySettings | None = None
    ) -> list[Reply]:
        """One reply to each; a conversation that fails for good has a fault.

        Raises:
            OrreryError: nobody answers, the key or the model is unknown, or a grammar was asked for, which no common field carries.
        """
        settings = settings or ReplySettings()
        if settings.grammar is not None:
            raise OrreryError("a model behind an endpoint is held to no grammar; ask it without one")
        return asyncio.run(self._all(conversations, settings))

    async def _all(self, conversations: Sequence[Conversation], settings: ReplySettings) -> list[Reply]:
        room = asyncio.Semaphore(self._concurrency)
        async with self._client() as client:

            async def one(conversation: Conversation) -> Reply:
                async with room:
                    return await self._ask(client, conversation, settings)

            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(one(conversation)) for conversation in conversations]
            except ExceptionGroup as faults:
                # How many have failed by now is chance; one says it for all.
                known = [fault for fault in faults.exceptions if isinstance(fault, OrreryError)]
                if not known:
                    raise
                raise known[0] from None
        return [task.result() for task in tasks]

    async def _ask(self, client: Any, conversation: Conversation, settings: ReplySettings) -> Reply:
        body = {
            "model": self.name,
            "messages": [dict(message) for message in conversation],
            "max_tokens": settings.max_tokens,
            "temperature": settings.temperature,
            "seed": settings.seed,
        }
        fault, pause = "", self._pause_s
        for left in range(self._tries - 1, -1, -1):
            response, fault = await self._send(client, "POST", "chat/completions", body)
            if response is not None:
                return _reply(response)
            if not fault.startswith("again "):
                break
            if left:
                await asyncio.sleep(pause * (0.5 + random.random()))  # not all at the same time again
                pause = min(2 * pause, LONGEST_PAUSE_S)
        if "nobody answers" in fault:
            raise OrreryError(fault.removeprefix("again "))
        return Reply("", fault.removeprefix("again "))

    async def _send(self, client: Any, method: str, path: str, body: Any = None) -> tuple[Any, str]:
        """(the JSON it answered, "") or (None, why not); a reason that begins with "again" may pass."""
        import httpx2

        try:
            response = await client.request(method, f"{self.url}/{path}", json=body)
        except (httpx2.ConnectError, httpx2.InvalidURL) as error:
            return (
                None,
                f"again nobody answers at {self.url} ({error}); start a server there, or mend the address",
            )
        except httpx2.HTTPError as error:
            return None, f"again {type(error).__name__}"
        status = response.status_code
        if status in HOPELESS:
            raise OrreryError(f"{self.url} answers {status}: {_said(response)}{HOPELESS[status]}")
        if status != 200:
            return None, f"{'again ' if status in AGAIN else ''}{status}: {_said(response)}"
        try:
            return response.json(), ""
        except ValueError:
            return None, "an answer that is no JSON"

    async def _first_model(self) -> str:
        async with self._client() as client:
            listed, fault = await self._send(client, "GET", "models")
        try:
            return str(listed["data"][0]["id"])
        except (KeyError, IndexError, TypeError):
            why = fault.removeprefix("again ") or f"{self.url}/models lists no model; name one"
            raise OrreryError(why) from None

    def _client(self) -> httpx2.AsyncClient:
        try:
            import httpx2
        except ModuleNotFoundError:
            raise MissingExtra("httpx2", "serve") from None
        return httpx2.AsyncClient(
            headers={"authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=httpx2.Timeout(self._timeout_s, connect=10.0),
            transport=self._transport,
        )


def _reply(told: Any) -> Reply:
    try:
        return Reply(str(told["choices"][0]["message"]["content"] or "").strip())
    except (KeyError, IndexError, TypeError):
        return Reply("", "an answer without a message")


def _said(response: Any) -> str:
    """The error's message, in one line that is not too long."""
    try:
        text = str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        text = response.text
    return " ".join(text.split())[:200]
