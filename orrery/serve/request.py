"""What a request may ask of a model, and how many tokens it can get: said before anything runs."""

from __future__ import annotations

from dataclasses import replace

from orrery.kit.errors import OrreryError
from orrery.kit.lm import GenerateRequest, Sampling
from orrery.model.adapters.virtual import PLACEHOLDER
from orrery.model.decoder import Decoder
from orrery.serve.adapters import Adapters
from orrery.serve.sampling import check_sampling


def read_ids(model: Decoder, request: GenerateRequest) -> list[int]:
    """What the model reads: the prompt, behind placeholders for the virtual tokens of its adapter.

    Raises:
        OrreryError: the request names an adapter that is not loaded.
    """
    virtual = Adapters.of(model).virtual_tokens(request.adapter)
    return [PLACEHOLDER] * virtual + list(request.ids)


def new_tokens(model: Decoder, request: GenerateRequest) -> int:
    """How many tokens can be made: the last one is never read, so it needs no place in the context. Contrastive search reads
    each token before it takes it."""
    last = 0 if request.sampling.contrastive_alpha else 1
    return min(request.max_tokens, model.cfg.max_positions - len(read_ids(model, request)) + last)


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
    if len(read_ids(model, request)) > limit:
        raise OrreryError(
            f"the prompt has {len(request.ids)} tokens but the model's context is {limit}; shorten it, or cut it with "
            "truncation='left', which keeps the end"
        )
    if new_tokens(model, request) < 1:
        raise OrreryError(
            f"contrastive search reads what it may say next, and the prompt fills the context of {limit} tokens; shorten it "
            "by one token or more"
        )
    _check_choices(request, vocab_size)
    if request.num_beams > 1:
        _check_beams(request)


def refuse_engine_only(request: GenerateRequest) -> None:
    """Refuse what `LM.generate` has no part for.

    Raises:
        OrreryError: names the setting.
    """
    for name in ("adapter", "steering", "observe"):
        if getattr(request, name):
            raise OrreryError(
                f"{name} is for the engine, and this is the plain model; use Engine(lm).generate([request])"
            )


def _check_choices(request: GenerateRequest, vocab_size: int) -> None:
    if request.n < 1 or (request.best_of is not None and request.best_of < request.n):
        raise OrreryError(
            f"n must be 1 or more and best_of at least n, not n={request.n} and best_of={request.best_of}"
        )
    for name in ("logprobs", "prompt_logprobs"):
        wanted = getattr(request, name)
        if wanted is not None and not 0 <= wanted <= vocab_size:
            raise OrreryError(
                f"{name} must be from 0 to {vocab_size} alternatives, or None for no report, not {wanted}"
            )


def _check_beams(request: GenerateRequest) -> None:
    s = replace(request.sampling, seed=0)
    if s.temperature == 0:  # which the filters do not change
        s = replace(s, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, typical_p=1.0, xtc_probability=0.0)
    if s != Sampling():
        raise OrreryError(
            "beam search does not sample: set temperature=0 and leave penalties, logit_bias, bad_words and contrastive_alpha "
            "out, or num_beams=1"
        )
    if request.n > request.num_beams or (request.best_of, request.logprobs, request.grammar) != (None,) * 3:
        raise OrreryError(
            "beam search gives its n best beams, at most num_beams, reports no alternatives and follows no grammar: set "
            "num_beams to n or more and leave best_of, logprobs and grammar out, or set num_beams=1"
        )
