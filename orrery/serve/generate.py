"""Generation: one prefill, then a token at a time from the cache, each chosen by pure functions of its logits.

    ids -> prefill -> logits -> choose -> id -> one step -> logits -> choose -> ...

Nothing is random but the uniform number of (seed, request, position), so a request's bytes are always the same.

V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from orrery.kit.lm import Completion, GenerateRequest
from orrery.model.adapters.virtual import PLACEHOLDER
from orrery.model.cache import Cached, KVCache
from orrery.model.decoder import Decoder
from orrery.model.packed import Packed
from orrery.model.replay import Replay
from orrery.serve.adapters import Adapters
from orrery.serve.beam import Beam, beam_search
from orrery.serve.finite import check_finite
from orrery.serve.grammar.constraint import Constraint
from orrery.serve.request import check_request, new_tokens, read_ids
from orrery.serve.sampling import Choice, Chooser, read_logprobs
from orrery.serve.stop import StopStrings
from orrery.text.detokenizer import Detokenizer
from orrery.text.tokenizer import Tokenizer

Search = Callable[..., Iterator[Choice]]
"""(model, request, known=, constraint=) -> the new tokens, such as `sampled_tokens`."""
_ROWS = 16


PIECE = 256
"""Tokens of a prompt that are read in one pass."""


class Generation:
    """One continuation under way. Iterate for pieces of text; then `completion` says what came out.

    `ids` ends with the stop id, if one ended it, so that its probability is known too; the text does not show it.

    Raises:
        OrreryError: settings that mean nothing, a prompt that is empty or too long for the model.
    """

    def __init__(
        self,
        model: Decoder,
        tokenizer: Tokenizer,
        request: GenerateRequest,
        stop_ids: Collection[int],
        *,
        search: Search | None = None,
    ) -> None:
        check_request(model, request)
        self._alternatives = request.logprobs is not None
        self._stop_ids = frozenset() if request.ignore_eos else frozenset(stop_ids)
        self._constraint = constraint_of(model, tokenizer, request, self._stop_ids)
        self._tokens = (search or sampled_tokens)(
            model, request, known=tokenizer.vocab_size, constraint=self._constraint
        )
        self._stop = StopStrings(request.stop)
        self._detokenizer = primed_detokenizer(tokenizer, request.ids)
        self._choices: list[Choice] = []
        self._text: list[str] = []
        self._finish: Literal["stop", "length"] = "length"

    def __iter__(self) -> Iterator[str]:
        for piece in self._pieces():
            if piece:
                self._text.append(piece)
                yield piece

    def _pieces(self) -> Iterator[str]:
        for choice in self._tokens:
            self._choices.append(choice)
            if choice.id in self._stop_ids:
                self._finish = "stop"
                break
            yield self._stop.push(self._detokenizer.push(choice.id))
            if self._stop.found:
                break
        yield self._stop.push(self._detokenizer.flush())
        yield self._stop.flush()
        if self._stop.found or (self._constraint is not None and self._constraint.finished):
            self._finish = "stop"

    @property
    def completion(self) -> Completion:
        return Completion(
            text="".join(self._text),
            ids=tuple(choice.id for choice in self._choices),
            logprobs=tuple(choice.logprob for choice in self._choices),
            finish_reason=self._finish,
            top_logprobs=tuple(choice.top for choice in self._choices) if self._alternatives else (),
        )


@torch.inference_mode()
def sampled_tokens(
    model: Decoder, request: GenerateRequest, *, known: int, constraint: Constraint | None = None
) -> Iterator[Choice]:
    """Each new token, until `max_tokens`, the context is full, or the grammar's text is whole.

    Only the first `known` ids are drawn: a model may have rows beyond the tokenizer's last id.
    """
    ids, start = read_ids(model, request), 0
    n, room = len(ids), new_tokens(model, request)
    cache = KVCache(model, rows=1, capacity=n + room - 1)
    chooser = Chooser(request, model.cfg.vocab_size, known)
    step = Replay(model, cache, rows=[0])
    for position in range(n, n + room):
        if start and start == len(ids) - 1:
            logits = check_finite(step(ids[start:])[0].float().cpu(), position)
        else:
            logits = last_logits(model, cache, ids[start:], start)
        choice = chooser.choose(logits, position, None if constraint is None else constraint.mask())
        yield choice
        chooser.push(choice.id)
        ids.append(choice.id)
        if constraint is not None:
            constraint.accept(choice.id)
            if constraint.finished:
                return
        start = position if cache.serves(position, position + 1) else 0


@torch.inference_mode()
def beam_completion(
    model: Decoder, tokenizer: Tokenizer, request: GenerateRequest, stop_ids: Collection[int]
) -> Completion:
    """The continuation with the best length-normalised probability that beam search finds, and the next n - 1 in `others`."""
    check_request(model, request)
    stops = frozenset() if request.ignore_eos else frozenset(stop_ids)
    read, width, room = read_ids(model, request), request.num_beams, new_tokens(model, request)
    cache = KVCache(model, rows=width, capacity=len(read) + room - 1)
    texts = BeamTexts(tokenizer, request, stops)

    def step(parents: Sequence[int], tokens: Sequence[int]) -> Tensor:
        cache.reorder(parents)
        start = cache.lengths[0]
        work = [(row, start, 1) for row in range(len(parents))]
        hidden = model(torch.tensor(tokens, device=cache.device), Cached(cache, work))
        return model.head(hidden).float().log_softmax(-1).cpu()[:, : tokenizer.vocab_size]

    best = beam_search(
        last_logits(model, cache, read, 0).log_softmax(-1)[: tokenizer.vocab_size],
        step,
        width=width,
        max_tokens=room,
        length_penalty=request.length_penalty,
        ended=texts.ended,
    )
    return texts.completion(best)


class BeamTexts:
    """What the beams of a request say, and when one is at its end. `stops`: ids that end it."""

    def __init__(self, tokenizer: Tokenizer, request: GenerateRequest, stops: Collection[int]) -> None:
        self.tokenizer, self.request, self.stops = tokenizer, request, stops

    def text(self, ids: Sequence[int]) -> tuple[str, bool]:
        """The text of a continuation, and whether a stop string ends it."""
        detokenizer = primed_detokenizer(self.tokenizer, self.request.ids)
        stop = StopStrings(self.request.stop)
        shown = ids[:-1] if ids[-1] in self.stops else ids
        text = stop.push("".join(detokenizer.push(i) for i in shown) + detokenizer.flush())
        return text + stop.flush(), stop.found

    def ended(self, ids: Sequence[int]) -> bool:
        """Whether these ids are a finished text."""
        return ids[-1] in self.stops or (bool(self.request.stop) and self.text(ids)[1])

    def completion(self, best: Sequence[Beam]) -> Completion:
        """The first of the beams, best first, with as many others as the request wants."""
        made = [
            Completion(
                text=self.text(beam.ids)[0],
                ids=beam.ids,
                logprobs=beam.logprobs,
                finish_reason="stop" if beam.finished else "length",
            )
            for beam in best[: self.request.n]
        ]
        return replace(made[0], others=tuple(made[1:]))


def last_logits(model: Decoder, cache: KVCache, tokens: Sequence[int], start: int) -> Tensor:
    """(V,) float32 on the CPU: what follows after row 0 has read `tokens` from position `start` on.

    Raises:
        OrreryError: the model's own numbers are not finite.
    """
    # By our kernel the numbers are the same however a prompt is cut, and short pieces need less memory.
    pieces = model.native and not model.turns_by_length and not model.state_spec()
    step = PIECE if pieces else len(tokens)
    for first in range(0, len(tokens) - step, step):
        _read(model, cache, tokens[first : first + step], start + first)
    last = (len(tokens) - 1) // step * step
    hidden = _read(model, cache, tokens[last:], start + last)
    return finite_logits(model, hidden[-1], start + len(tokens))


def _read(model: Decoder, cache: KVCache, tokens: Sequence[int], start: int) -> Tensor:
    """(T, d) states of `tokens`, which continue row 0 from `start` on."""
    return model(torch.tensor(tokens, device=cache.device), Cached(cache, [(0, start, len(tokens))]))


def finite_logits(model: Decoder, hidden: Tensor, position: int) -> Tensor:
    """(d,) hidden state -> (V,) float32 on the CPU, about the token at `position`.

    Raises:
        OrreryError: the model's own numbers are not finite.
    """
    return check_finite(model.head(hidden[None])[0].float().cpu(), position)


@torch.inference_mode()
def prompt_logprobs(
    model: Decoder, ids: Sequence[int], n: int, *, known: int
) -> tuple[dict[int, float], ...]:
    """For each token of a prompt but the first: its own log-probability and those of the n likeliest in its place."""
    virtual = Adapters.of(model).virtual_tokens(None)
    read = torch.tensor([PLACEHOLDER] * virtual + list(ids), device=model.device)
    hidden = model(read, Packed([len(read)], device=model.device))[virtual:-1]
    out: list[dict[int, float]] = []
    for start in range(0, len(ids) - 1, _ROWS):  # all rows of a large vocabulary at once would be gigabytes
        rows = model.head(hidden[start : start + _ROWS]).cpu()
        out += read_logprobs(rows, ids[start + 1 : start + 1 + _ROWS], n, known=known)
    return tuple(out)


def constraint_of(
    model: Decoder, tokenizer: Tokenizer, request: GenerateRequest, stop_ids: Collection[int]
) -> Constraint | None:
    """The request's grammar at the beginning of its text.

    Raises:
        OrreryError: the grammar is malformed, or no text matches it.
    """
    if request.grammar is None:
        return None
    begins = request.ids[-1] in tokenizer.special.values()
    return Constraint.compile(
        request.grammar, tokenizer, vocab=model.cfg.vocab_size, stop_ids=stop_ids, fresh=begins
    )


def primed_detokenizer(tokenizer: Tokenizer, prompt: Sequence[int]) -> Detokenizer:
    """A detokenizer that goes on after the prompt: a space or the rest of a character belongs to the continuation.

    After a special token (the head of an answer, BOS) a text begins anew.
    """
    detokenizer = tokenizer.detokenizer()
    if prompt[-1] not in tokenizer.special.values():
        for token in prompt:
            detokenizer.push(token)
    return detokenizer
