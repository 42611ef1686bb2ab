"""A model that says what a script has it say, and stops where it was asked to: for strategies, whose every step can then be foreseen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from orrery.evaluate.subject import Subject
from orrery.kit.lm import Completion, FinishReason, GenerateRequest, ScoreRequest
from orrery.text import ChatFormat, Tokenizer

Script = Callable[[str, int], str]


@dataclass
class Fake:
    """`say(prompt, sample)` is the text that would follow; what comes is cut at stop ids, stop texts and max_tokens."""

    tokenizer: Tokenizer
    say: Script
    logprob: Callable[[str], float] = lambda text: -1.0
    requests: list[GenerateRequest] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)

    def generate(self, requests: Sequence[GenerateRequest]) -> list[Completion]:
        self.batches.append(len(requests))
        made = []
        for request in requests:
            prompt = self.tokenizer.decode(request.ids)
            self.requests.append(request)
            self.asked.append(prompt)
            first, *others = [self._one(request, self.say(prompt, sample)) for sample in range(request.n)]
            made.append(Completion(**{**vars(first), "others": tuple(others)}))
        return made

    def _one(self, request: GenerateRequest, text: str) -> Completion:
        stop_ids = self.tokenizer_stops if request.stop_ids is None else request.stop_ids
        ids = self.tokenizer.encode(text, special="allow")
        finish = "stop" if len(ids) < request.max_tokens else "length"
        ids = ids[: request.max_tokens]
        if at := [i for i, id in enumerate(ids) if id in stop_ids]:
            ids, finish = ids[: at[0] + 1], "stop"
        shown = self.tokenizer.decode(ids[:-1] if at else ids)
        if places := [shown.find(stop) for stop in request.stop if stop in shown]:
            whole = next(
                n
                for n in range(1, len(ids) + 1)
                if any(s in self.tokenizer.decode(ids[:n]) for s in request.stop)
            )
            ids, shown, finish = ids[:whole], shown[: min(places)], "stop"
        reason: FinishReason = "stop" if finish == "stop" else "length"
        return Completion(
            text=shown, ids=tuple(ids), logprobs=(self.logprob(text),) * len(ids), finish_reason=reason
        )

    @property
    def tokenizer_stops(self) -> tuple[int, ...]:
        special = self.tokenizer.special
        return tuple(special[name] for name in ("<|end|>",) if name in special)

    def score(self, requests: Sequence[ScoreRequest]) -> list[object]:
        raise NotImplementedError

    def embed(self, requests: Sequence[object]) -> list[object]:
        raise NotImplementedError

    def subject(self, *, chat: bool = False, context: int = 512) -> Subject:
        format = ChatFormat(self.tokenizer) if chat else None
        return Subject(lm=self, tokenizer=self.tokenizer, context=context, name="fake", chat=format)  # type: ignore[bad-argument-type]
