"""Generation: one prefill, then a token at a time from the cache, each chosen by pure functions of its logits.

    ids -> prefill -> logits -> choose -> id -> one step -> logits -> choose -> ...

Nothing is random but the uniform number of (seed, request, position), so a request's bytes are always the same.

V vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

from orrery.kit.errors import OrreryError
from orrery.kit.lm import Completion, GenerateRequest
from orrery.model.cache import Cached, KVCache
from orrery.model.decoder import Decoder
from orrery.serve.beam import beam_search
from orrery.serve.sampling import check_sampling, choose, position_uniform
from orrery.serve.stop import StopStrings
from orrery.text.detokenizer import Detokenizer
from orrery.text.tokenizer import Tokenizer


class Generation:
    """One request under way. Iterate for pieces of text; then `completion` says what came out.

    `ids` ends with the stop id, if one ended it, so that its probability is known too; the text does not show it.

    Raises:
        OrreryError: settings that mean nothing, a prompt that is empty or too long for the model.
    """

    def __init__(
        self, model: Decoder, tokenizer: Tokenizer, request: GenerateRequest, stop_ids: Collection[int]
    ) -> None:
        check_request(model, request)
        self._tokens = sampled_tokens(model, request, known=tokenizer.vocab_size)
        self._stop_ids = frozenset() if request.ignore_eos else frozenset(stop_ids)
        self._stop = StopStrings(request.stop)
        self._detokenizer = primed_detokenizer(tokenizer, request.ids)
        self._ids: list[int] = []
        self._logprobs: list[float] = []
        self._text: list[str] = []
        self._finish: Literal["stop", "length"] = "length"

    def __iter__(self) -> Iterator[str]:
        for piece in self._pieces():
            if piece:
                self._text.append(piece)
                yield piece

    def _pieces(self) -> Iterator[str]:
        for token, logprob in self._tokens:
            self._ids.append(token)
            self._logprobs.append(logprob)
            if token in self._stop_ids:
                self._finish = "stop"
                break
            yield self._stop.push(self._detokenizer.push(token))
            if self._stop.found:
                self._finish = "stop"
                return
        yield self._stop.push(self._detokenizer.flush())
        yield self._stop.flush()

    @property
    def completion(self) -> Completion:
        return Completion(
            text="".join(self._text),
            ids=tuple(self._ids),
            logprobs=tuple(self._logprobs),
            finish_reason=self._finish,
        )


@torch.inference_mode()
def sampled_tokens(model: Decoder, request: GenerateRequest, *, known: int) -> Iterator[tuple[int, float]]:
    """(id, log-probability under the model itself) of each new token, until `max_tokens` or the context is full.

    Only the first `known` ids are drawn: a model may have rows beyond the tokenizer's last id.
    """
    sampling, n = request.sampling, len(request.ids)
    room = new_tokens(model, request)
    cache = KVCache(model, rows=1, capacity=n + room - 1)
    before = torch.bincount(torch.tensor(request.ids), minlength=model.cfg.vocab_size)[:known]
    made = torch.zeros_like(before)
    ids, start = list(request.ids), 0
    for position in range(n, n + room):
        logits = last_logits(model, cache, ids[start:], start)
        u = position_uniform(sampling.seed, request.request_id, position)
        token = choose(logits[:known], sampling, before=before, made=made, u=u)
        yield token, float(logits.log_softmax(-1)[token])
        made[token] += 1
        ids.append(token)
        start = position if cache.serves(position, position + 1) else 0


@torch.inference_mode()
def beam_completion(
    model: Decoder, tokenizer: Tokenizer, request: GenerateRequest, stop_ids: Collection[int]
) -> Completion:
    """The continuation with the best length-normalised probability that beam search finds."""
    check_request(model, request)
    stops = frozenset() if request.ignore_eos else frozenset(stop_ids)
    width, n, room = request.num_beams, len(request.ids), new_tokens(model, request)
    cache = KVCache(model, rows=width, capacity=n + room - 1)

    def text_of(ids: Sequence[int]) -> tuple[str, bool]:
        """The text of a continuation, and whether a stop string ends it."""
        detokenizer, stop = primed_detokenizer(tokenizer, request.ids), StopStrings(request.stop)
        shown = ids[:-1] if ids[-1] in stops else ids
        text = stop.push("".join(detokenizer.push(i) for i in shown) + detokenizer.flush())
        return text + stop.flush(), stop.found

    def step(parents: Sequence[int], tokens: Sequence[int]) -> Tensor:
        cache.reorder(parents)
        start = cache.lengths[0]
        work = [(row, start, 1) for row in range(len(parents))]
        hidden = model(torch.tensor(tokens, device=cache.device), Cached(cache, work))
        return model.head(hidden).float().log_softmax(-1).cpu()[:, : tokenizer.vocab_size]

    best = beam_search(
        last_logits(model, cache, request.ids, 0).log_softmax(-1)[: tokenizer.vocab_size],
        step,
        width=width,
        max_tokens=room,
        length_penalty=request.length_penalty,
        ended=lambda ids: ids[-1] in stops or (bool(request.stop) and text_of(ids)[1]),
    )[0]
    finish: Literal["stop", "length"] = "stop" if best.finished else "length"
    return Completion(text=text_of(best.ids)[0], ids=best.ids, logprobs=best.logprobs, finish_reason=finish)


def last_logits(model: Decoder, cache: KVCache, tokens: Sequence[int], start: int) -> Tensor:
    """(V,) float32 on the CPU: what follows after row 0 has read `tokens` from position `start` on.

    Raises:
        OrreryError: the model's own numbers are not finite.
    """
    hidden = model(torch.tensor(tokens, device=cache.device), Cached(cache, [(0, start, len(tokens))]))
    logits = model.head(hidden[-1:])[0].float().cpu()
    if not bool(logits.isfinite().all()):
        raise OrreryError(
            f"the model gives logits that are no numbers at position {start + len(tokens)}; its weights are damaged or "
            "its training diverged"
        )
    return logits


def primed_detokenizer(tokenizer: Tokenizer, prompt: Sequence[int]) -> Detokenizer:
    """A detokenizer that goes on after the prompt: a space or the rest of a character belongs to the continuation.

    After a special token (the head of an answer, BOS) a text begins anew.
    """
    detokenizer = tokenizer.detokenizer()
    if prompt[-1] not in tokenizer.special.values():
        for token in prompt:
            detokenizer.push(token)
    return detokenizer


def new_tokens(model: Decoder, request: GenerateRequest) -> int:
    """How many tokens can be made: the last one is never read, so it needs no place in the context."""
    return min(request.max_tokens, model.cfg.max_positions - len(request.ids) + 1)


def check_request(model: Decoder, request: GenerateRequest) -> None:
    """Refuse what cannot be done.

    Raises:
        OrreryError: names the setting or the limit.
    """
    limit, vocab_size = model.cfg.max_positions, model.cfg.vocab_size
    check_sampling(request.sampling, vocab_size)
    if request.max_tokens < 1 or request.num_beams < 1:
        raise OrreryError(
            f"max_tokens and num_beams must be 1 or more, not {request.max_tokens} and {request.num_beams}"
        )
    if not len(request.ids):
        raise OrreryError("the prompt is empty; give at least one token to go on from")
    outside = [i for i in request.ids if not 0 <= i < vocab_size]
    if outside:
        raise OrreryError(
            f"token id {outside[0]} is outside the model's vocabulary of {vocab_size}; encode with its own tokenizer"
        )
    if len(request.ids) > limit:
        raise OrreryError(
            f"the prompt has {len(request.ids)} tokens but the model's context is {limit}; shorten it, or cut it with "
            "truncation='left', which keeps the end"
        )
    s = request.sampling
    penalties = (s.repetition_penalty, s.presence_penalty, s.frequency_penalty, s.logit_bias)
    filters = (s.temperature, s.top_k, s.top_p, s.min_p, s.typical_p)
    if request.num_beams > 1 and (
        penalties != (1, 0, 0, {}) or (s.temperature != 0 and filters != (1, 0, 1, 0, 1))
    ):
        raise OrreryError(
            "beam search does not sample: set temperature=0 and leave penalties and logit_bias out, or num_beams=1"
        )
