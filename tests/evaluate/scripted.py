"""A model whose answers are known: the fake that evaluation is tested with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from orrery.evaluate.subject import Subject
from orrery.kit.lm import Completion, GenerateRequest, Score, ScoreRequest
from orrery.text import ChatFormat, Tokenizer, TokenizerConfig, train_tokenizer

TEXTS = ["what is the sum of one and two? it is three. ", "Q: yes or no?\nA: yes\n"] * 30


def make_tokenizer() -> Tokenizer:
    return train_tokenizer(TEXTS, TokenizerConfig(vocab_size=360))


@dataclass
class Scripted:
    """`say(prompt text, sample)` answers; `surprise(token text)` is what a token costs in nats."""

    tokenizer: Tokenizer
    say: Callable[[str, int], str] = lambda prompt, sample: "yes"
    surprise: Callable[[str], float] = len
    asked: list[str] = field(default_factory=list)
    requests: list[GenerateRequest] = field(default_factory=list)

    def generate(self, requests: Sequence[GenerateRequest]) -> list[Completion]:
        made = []
        for request in requests:
            prompt = self.tokenizer.decode(request.ids)
            self.asked.append(prompt)
            self.requests.append(request)
            first, *others = [self._completion(prompt, sample) for sample in range(request.n)]
            made.append(Completion(**{**vars(first), "others": tuple(others)}))
        return made

    def _completion(self, prompt: str, sample: int) -> Completion:
        ids = tuple(self.tokenizer.encode(self.say(prompt, sample), special="allow"))
        text = self.tokenizer.decode(ids, special=False)
        return Completion(text=text, ids=ids, logprobs=(0.0,) * len(ids), finish_reason="stop")

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score]:
        scores = []
        for request in requests:
            self.asked.append(self.tokenizer.decode(request.ids))
            costs = tuple(
                -float(self.surprise(self.tokenizer.decode([id]))) for id in request.ids[request.start :]
            )
            scores.append(Score(nats=-sum(costs), tokens=len(costs), bytes=1, logprobs=costs))
        return scores

    def embed(self, requests: Sequence[Any]) -> list[Any]:
        raise NotImplementedError

    def subject(self, *, chat: bool = False, context: int = 512) -> Subject:
        """This model with its token contract."""
        format = ChatFormat(self.tokenizer) if chat else None
        return Subject(lm=self, tokenizer=self.tokenizer, context=context, name="scripted", chat=format)
