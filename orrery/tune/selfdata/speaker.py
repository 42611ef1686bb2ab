"""The model as the one who makes data: many questions at once, each answer recorded as it comes.

    speaker = Speaker(Subject.of(lm), records, seed=7)
    answers = speaker.answers([Ask(("answer", problem.id), messages, n=8)], Speech(max_tokens=64))

It knows a model as a `kit.lm.LanguageModel` with its tokenizer. The answers to one question share one reading of it where an engine
does the work. Their draws are keyed by (seed, the question's name, the number of the answer), so what is said depends neither on the
company a question is in nor on what was said before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
from pydantic import Field

from orrery.evaluate.subject import Subject, text_of
from orrery.kit.config import config, digest
from orrery.kit.lm import Completion, GenerateRequest, Sampling
from orrery.kit.log import Progress, Silent
from orrery.kit.seeds import key
from orrery.serve.chat_model import USER, plain_text
from orrery.train.signals import Interrupted, StopRequest
from orrery.tune.selfdata.records import Name, Records

Message = Mapping[str, Any]
EMPTY, NO_ROOM = "empty", "no room in the context"
_NOTHING = {
    "message": {"role": "assistant", "content": ""},
    "raw": "",
    "ids": [],
    "logprob": 0.0,
    "whole": False,
}


@config
class Speech:
    """How the model is asked.

    stop: texts that end an answer, for models without a chat format.
    """

    max_tokens: Annotated[int, Field(ge=1)] = 256
    temperature: Annotated[float, Field(ge=0)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ask:
    """A question.

    Attributes:
        name: what its draws are keyed by, and its place in the records.
        messages: the conversation up to where the model is to speak.
        n: how many answers. dialogue: how a model without a chat format reads it: as questions and answers, or as one plain text.
    """

    name: Name
    messages: Sequence[Message]
    n: int = 1
    dialogue: bool = False

    def record(self, how: Any) -> Name:
        """What its answer is recorded as: the name with a hash of what is asked and how, which may depend on other answers."""
        return (*self.name, digest([self.messages, self.n, self.dialogue, how], 12))


@dataclass(frozen=True)
class Said:
    """An answer.

    Attributes:
        message: the assistant's message; `text` is what it says. raw: as it was written, with control tokens.
        ids: the tokens written. logprob: of all of them, nats. whole: it came to its own end.
    """

    message: dict[str, Any]
    raw: str
    ids: tuple[int, ...]
    logprob: float
    whole: bool

    @property
    def text(self) -> str:
        return str(self.message.get("content") or "")

    @property
    def fault(self) -> str | None:
        """Why it is nothing to learn from, whatever it says; None where it may be."""
        if not self.text:
            return EMPTY if self.ids or self.whole else NO_ROOM
        return None if self.whole else "cut off"


@dataclass
class Speaker:
    """Somebody who answers, and whose answers are kept.

    Attributes:
        subject: the model. records: what was said. seed: of all draws.
        system: a system message in front of conversations without one.
        progress: told how many answers of the present work there are.
    """

    subject: Subject
    records: Records = field(default_factory=Records)
    seed: int = 0
    system: str = ""
    progress: Progress = field(default_factory=Silent)
    tokens: int = 0

    def answers(self, asks: Sequence[Ask], speech: Speech) -> list[list[Said]]:
        """The answers to every question, in order. Where a question fills the model's context, they are nothing (`Said.fault`).

        Raises:
            Interrupted: a signal asked to stop; what was said is recorded.
        """
        names = [ask.record(speech) for ask in asks]
        found = [self.records.get(name) for name in names]
        left, requests = [], []
        for i in [i for i, row in enumerate(found) if row is None]:
            request = self._request(asks[i], speech)
            if request is None:
                found[i] = {"said": [_NOTHING] * asks[i].n}
            else:
                left.append(i)
                requests.append(request)
        done, total = len(asks) - len(left), len(asks)
        with StopRequest() as stop:
            for place, completion in self.subject.generate(requests):
                row = {"said": [self._row(one) for one in (completion, *completion.others)]}
                self.records.put(names[left[place]], row)
                found[left[place]] = row
                done += 1
                self.progress.update(done, total, tokens=self.tokens)
                if stop.asked:
                    raise Interrupted(done, total)
        return [[_said(one) for one in row["said"]] for row in found if row is not None]

    def choice(self, asks: Sequence[Ask], options: Sequence[str]) -> list[list[float] | None]:
        """How likely the model is to answer with each option, normalised over them: softmax of log p(option | question). None where the
        question fills the model's context.

        This is the soft label of RLAIF (Lee et al. 2023, arXiv:2309.00267, section 3.1): no word is drawn.
        """
        spelt = [self.subject.tokenizer.encode(self._spelt(option)) for option in options]
        names = [ask.record(options) for ask in asks]
        left = [
            (name, self.ids(ask))
            for name, ask in zip(names, asks, strict=True)
            if self.records.get(name) is None
        ]
        left = [one for one in left if len(one[1]) + max(map(len, spelt)) <= self.subject.context]
        requests = [(ids, option) for _, ids in left for option in spelt]
        found = self.subject.likelihoods(self.subject.scorer(2048), requests)
        for i, (name, _) in enumerate(left):
            of = [likelihood.logprob for likelihood in found[i * len(options) : (i + 1) * len(options)]]
            self.records.put(name, {"shares": torch.tensor(of, dtype=torch.float64).softmax(0).tolist()})
        rows = [self.records.get(name) for name in names]
        return [None if row is None else row["shares"] for row in rows]

    def ids(self, ask: Ask) -> list[int]:
        """What the model reads of a question."""
        messages = list(ask.messages)
        if self.system and messages[0]["role"] != "system":
            messages.insert(0, {"role": "system", "content": self.system})
        if self.subject.chat is not None:
            return self.subject.chat_ids(messages)
        plain = plain_text(messages) if ask.dialogue else "\n\n".join(str(m["content"]) for m in messages)
        tokenizer = self.subject.tokenizer
        return tokenizer.wrap(tokenizer.encode(plain), bos=tokenizer.bos_id is not None)

    def _spelt(self, option: str) -> str:
        """Behind a plain text an option begins with the space that parts it from the word before."""
        return option if self.subject.chat is not None else f" {option}"

    def _request(self, ask: Ask, speech: Speech) -> GenerateRequest | None:
        """None where there is no room for an answer."""
        ids = self.ids(ask)
        room = self.subject.context - len(ids)
        if room < 1:
            return None
        plain = self.subject.chat is None
        return GenerateRequest(
            ids=ids, max_tokens=min(speech.max_tokens, room), n=ask.n,
            stop=(*speech.stop, *((f"\n{USER}",) if ask.dialogue else ())) if plain else (),
            sampling=Sampling(temperature=speech.temperature, top_p=speech.top_p, seed=key(self.seed, *ask.name)),
        )  # fmt: skip

    def _row(self, completion: Completion) -> dict[str, Any]:
        chat = self.subject.chat
        said = (
            {"role": "assistant", "content": text_of(self.subject.tokenizer, completion).strip()}
            if chat is None
            else chat.parse(completion.ids)
        )
        self.tokens += len(completion.ids)
        return {
            "message": said, "raw": completion.text, "ids": list(completion.ids), "logprob": math.fsum(completion.logprobs),
            "whole": completion.finish_reason == "stop",
        }  # fmt: skip


def _said(row: Mapping[str, Any]) -> Said:
    return Said(row["message"], row["raw"], tuple(row["ids"]), row["logprob"], row["whole"])


def question(text: str) -> list[dict[str, Any]]:
    """A conversation that begins with this."""
    return [{"role": "user", "content": text}]
