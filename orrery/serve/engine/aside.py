"""Contrastive search beside the pool: it reads several candidates for every token, in a contiguous cache of its own shape, and takes
one step of it in every step of the engine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from orrery.kit.lm import Completion, GenerateRequest
from orrery.serve.contrastive import contrastive_tokens
from orrery.serve.engine.sequence import Update
from orrery.serve.generate import Generation, prompt_logprobs
from orrery.serve.lm import LM
from orrery.serve.sampling import choice_requests, given


def contrastive_updates(lm: LM, request: GenerateRequest, ticket: int) -> Iterator[Update]:
    """The request by the plain path, a piece of text at a time; the last update has the completion."""
    done: list[Completion] = []
    for choice, one in enumerate(choice_requests(request)):
        stops = lm.stop_ids if one.stop_ids is None else one.stop_ids
        generation = Generation(lm.model, lm.tokenizer, one, stops, search=contrastive_tokens)
        for text in generation:
            yield Update(ticket=ticket, choice=choice, text="" if request.best_of else text)
        done.append(generation.completion)
    completion = given(request, done)
    if (n := request.prompt_logprobs) is not None:
        read = prompt_logprobs(lm.model, request.ids, n, known=lm.tokenizer.vocab_size)
        completion = replace(completion, prompt_logprobs=read)
    yield Update(ticket=ticket, finish_reason=completion.finish_reason, completion=completion)
