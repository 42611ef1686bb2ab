"""A language model whose every answer is known: what it reads is text, and a function says what it answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from orrery.evaluate.subject import Subject
from orrery.kit.lm import Completion, GenerateRequest, Score, ScoreRequest
from orrery.text.chat import ChatFormat
from orrery.text.tokenizer import Tokenizer


@dataclass
class Scripted:
    """`says(prompt, i)` is its i-th answer; `likes(text)` the log-probability of the end of a text."""

    tokenizer: Tokenizer
    says: Callable[[str, int], str]
    likes: Callable[[str], float] = lambda text: -1.0
    read: list[str] = field(default_factory=list)
    die_after: int | None = None

    def generate(self, requests: Sequence[GenerateRequest]) -> list[Completion]:
        made = []
        for request in requests:
            if self.die_after is not None and len(self.read) >= self.die_after:
                raise KeyboardInterrupt
            text = self.text(request.ids)
            self.read.append(text)
            said = [self._completion(self.says(text, i), request) for i in range(request.n)]
            made.append(Completion(**{**vars(said[0]), "others": tuple(said[1:])}))
        return made

    def text(self, ids: Sequence[int]) -> str:
        """What ids say, without BOS."""
        bos = self.tokenizer.bos_id
        return self.tokenizer.decode(list(ids)).removeprefix("" if bos is None else self.tokenizer.name(bos))

    def _completion(self, text: str, request: GenerateRequest) -> Completion:
        for stop in request.stop:
            text = text.split(stop)[0]
        ids = tuple(self.tokenizer.encode(text))
        reason = "length" if len(ids) > request.max_tokens else "stop"
        ids = ids[: request.max_tokens]
        return Completion(
            text=self.tokenizer.decode(list(ids)),
            ids=ids,
            logprobs=(-1.0,) * len(ids),
            finish_reason=reason,
        )

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score]:
        texts = [self.tokenizer.decode(list(request.ids)) for request in requests]
        return [
            Score(nats=-self.likes(text), tokens=1, bytes=1, logprobs=(self.likes(text),)) for text in texts
        ]

    def embed(self, requests: Sequence[Any]) -> list[Any]:
        raise AssertionError("nobody asks for vectors")

    def subject(self, *, chat: ChatFormat | None = None, context: int = 4096) -> Subject:
        return Subject(lm=self, tokenizer=self.tokenizer, context=context, name="scripted", chat=chat)
