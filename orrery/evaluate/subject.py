"""The model under test: what answers, and what is needed to ask it in its own ids.

Subject.of(orrery.load(MODEL))        # log-probabilities with shared beginnings, generation by an engine
Subject.of(Engine(lm))                # the same engine that serves
Subject(lm=any_language_model, tokenizer=tokenizer, context=2048, name="...")
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from orrery.evaluate.likelihood import Continuations, Likelihood
from orrery.kit.artifact import RECEIPT, read_receipt
from orrery.kit.config import digest
from orrery.kit.errors import OrreryError
from orrery.kit.files import sha256_file
from orrery.kit.lm import Completion, GenerateRequest, LanguageModel, ScoreRequest
from orrery.model.decoder import Decoder
from orrery.serve.chat_model import without_system
from orrery.serve.engine.engine import Engine
from orrery.serve.lm import LM
from orrery.serve.windows import windowed_logprobs
from orrery.text.chat import ChatFormat
from orrery.text.tokenizer import Tokenizer

TOGETHER = 32
"""Requests that a model without an engine gets at once."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model and its token contract. `decoder`: the network itself, where it is here to be run."""

    lm: LanguageModel
    tokenizer: Tokenizer
    context: int
    name: str
    chat: ChatFormat | None = None
    decoder: Decoder | None = None
    folder: Path | None = None

    @classmethod
    def of(cls, model: LM | Engine | Subject) -> Subject:
        """What is known of an opened model or its engine."""
        if isinstance(model, Subject):
            return model
        opened = model.lm if isinstance(model, Engine) else model
        return cls(
            lm=model,  # type: ignore[bad-argument-type]  # an LM takes a text as well as requests
            tokenizer=opened.tokenizer, context=opened.context, chat=opened.chat, decoder=opened.model,
            folder=opened.folder, name="a model in memory" if opened.folder is None else opened.folder.name,
        )  # fmt: skip

    @cached_property
    def engine(self) -> Engine | None:
        """What generates; None where `lm` does it itself."""
        if isinstance(self.lm, Engine):
            return self.lm
        return Engine(self.lm) if isinstance(self.lm, LM) else None

    def scorer(self, batch_tokens: int) -> Continuations | None:
        """A new scorer over the network, where it is here."""
        return None if self.decoder is None else Continuations(self.decoder, batch_tokens=batch_tokens)

    def likelihoods(
        self, scorer: Continuations | None, requests: Sequence[tuple[list[int], list[int]]]
    ) -> list[Likelihood]:
        """log p of continuations; by `lm.score` where there is no network (which cannot say what is likeliest)."""
        if scorer is not None:
            return scorer.score(requests)
        asked = [ScoreRequest(ids=[*before, *after], start=len(before)) for before, after in requests]
        return [Likelihood(score.logprobs, greedy=False) for score in self.lm.score(asked)]

    def rolling(self, texts: Sequence[list[int]], start: list[int], *, batch_tokens: int) -> list[float]:
        """log p of whole texts in nats. Longer than the context they go in windows that do not overlap in what they predict.

        Behind `start`; without it the first token only gives context.
        """
        begin = start[0] if start else None
        if self.decoder is not None:
            rows = windowed_logprobs(
                self.decoder, texts, start=begin, stride=self.context, batch_tokens=batch_tokens
            )
            first = 0 if start else 1
            return [float(row[first:].sum(dtype="float64")) for row in rows]
        return [-score.nats for score in self.lm.score([ScoreRequest(ids=[*start, *ids]) for ids in texts])]

    def generate(self, requests: Sequence[GenerateRequest]) -> Iterator[tuple[int, Completion]]:
        """Completions with the places of their requests, as they become ready.

        Raises:
            OrreryError: the first request that cannot be done.
        """
        engine = self.engine
        if engine is None:
            for begin in range(0, len(requests), TOGETHER):
                yield from enumerate(self.lm.generate(requests[begin : begin + TOGETHER]), start=begin)
            return
        left = list(enumerate(requests))[::-1]
        places: dict[int, int] = {}
        try:
            while left or places:
                while left and engine.waiting < engine.config.max_sequences:
                    place, request = left.pop()
                    places[engine.add(request)] = place
                for update in engine.step():
                    if update.ticket in places and (outcome := update.completion or update.error) is not None:
                        place = places.pop(update.ticket)
                        if isinstance(outcome, Exception):
                            raise outcome
                        yield place, outcome
        finally:
            for ticket in places:
                engine.cancel(ticket)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the weights in memory, and of the file behind them where they stay quantised: which model this is."""
        if self.decoder is None:
            return "unknown"
        hash = hashlib.sha256(digest(self.decoder.cfg).encode())
        for name, tensor in self.decoder.state_dict().items():
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            hash.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            hash.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
        if self.folder is not None and self.folder.is_file():
            hash.update(sha256_file(self.folder).encode())
        return hash.hexdigest()

    def describe(self) -> dict[str, Any]:
        """What a result says of the model."""
        decoder = self.decoder
        told: dict[str, Any] = {
            "name": self.name,
            "path": None if self.folder is None else str(self.folder),
            "fingerprint": self.fingerprint,
            "tokenizer": self.tokenizer.fingerprint,
            "chat_template": None if self.chat is None else digest(self.chat.templates, 16),
            "context": self.context,
        }
        if decoder is not None:
            told |= {
                "parameters": decoder.num_parameters(),
                "dtype": str(decoder.dtype).removeprefix("torch."),
                "device": decoder.device.type,
            }
        if self.folder is not None and (self.folder / RECEIPT).is_file():
            told["artifact"] = read_receipt(self.folder).id
        return told

    def chat_ids(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Any] = ()) -> list[int]:
        """The ids of a chat up to where its answer begins. Where a format has no system message, the first user's begins with it.

        Raises:
            OrreryError: the model has no chat format, or it refuses the conversation.
        """
        chat = self.chat_format()
        try:
            return chat.prompt(messages, tools=list(tools) or None)
        except OrreryError:
            if messages[0]["role"] != "system":
                raise
            return chat.prompt(without_system(messages), tools=list(tools) or None)

    def chat_format(self) -> ChatFormat:
        """The model's chat format.

        Raises:
            OrreryError: it has none.
        """
        if self.chat is None:
            raise OrreryError(f"'{self.name}' is a base model without a chat format; ask with --chat false")
        return self.chat


def text_of(tokenizer: Tokenizer, completion: Completion) -> str:
    """What a completion says, without the names of the control tokens in it."""
    text, control = completion.text, set(tokenizer.special.values())
    for id in set(completion.ids) & control:
        text = text.replace(tokenizer.name(id), "")
    return text
