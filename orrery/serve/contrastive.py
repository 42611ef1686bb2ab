"""Contrastive search: of the k likeliest tokens take the one that is likely and unlike what was said.

    x_t = argmax over v in the k likeliest of  (1 - alpha) p(v | x) - alpha max_j cos(h_v, h_j)        Su et al. 2022, arXiv:2202.06417, eq. 5

h_v is the last hidden state of the model when it has read v after x, h_j those of the tokens of x. So each step runs the model
on k candidates at once, each in a row of the cache; the row of the one that is taken becomes all of them. Nothing is drawn; of
equals the likelier token is taken.

k candidates, d model width, L tokens read in a step, T tokens so far, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from orrery.kit.lm import GenerateRequest
from orrery.model.cache import Cached, KVCache
from orrery.model.decoder import Decoder
from orrery.serve.generate import finite_logits
from orrery.serve.grammar.constraint import Constraint
from orrery.serve.request import new_tokens, read_ids
from orrery.serve.sampling import Choice, Chooser, greedy, largest


@torch.inference_mode()
def contrastive_tokens(
    model: Decoder, request: GenerateRequest, *, known: int, constraint: Constraint | None = None
) -> Iterator[Choice]:
    """Each new token, until `max_tokens`, the context is full, or the grammar's text is whole.

    Grammar, bias and penalties change p, which is over ids below `known`.
    """
    read, s, room = read_ids(model, request), request.sampling, new_tokens(model, request)
    n = len(read)
    k = min(s.top_k, known, model.cfg.vocab_size)
    chooser = Chooser(request, model.cfg.vocab_size, known)
    cache = KVCache(model, rows=k, capacity=n + room)
    hidden = model(torch.tensor(read, device=cache.device), Cached(cache, [(0, 0, n)]))  # (T, d)
    cache.reorder([0] * k)
    states, last = F.normalize(hidden.float(), dim=-1), hidden[-1]
    for position in range(n, n + room):
        logits = finite_logits(model, last, position)
        scores = chooser.scores(logits, None if constraint is None else constraint.mask())
        ids = largest(scores, k)
        start = position if cache.serves(position, position + 1) else 0
        tokens = [[*read[start:], id] for id in ids.tolist()]
        work = [(row, start, position + 1 - start) for row in range(k)]
        hidden = model(torch.tensor(tokens, device=cache.device).flatten(), Cached(cache, work))
        hidden = hidden.unflatten(0, (k, -1))  # (k, L, d)
        if not start:
            states = F.normalize(hidden[0, :-1].float(), dim=-1)
        fresh = F.normalize(hidden[:, -1].float(), dim=-1)  # (k, d)
        row = greedy(contrast(scores, ids, fresh @ states.T, s.contrastive_alpha))
        choice = chooser.report(logits, int(ids[row]))
        yield choice
        chooser.push(choice.id)
        read.append(choice.id)
        if constraint is not None:
            constraint.accept(choice.id)
            if constraint.finished:
                return
        cache.reorder([row] * k)
        states, last = torch.cat([states, fresh[row : row + 1]]), hidden[row, -1]


def contrast(logits: Tensor, ids: Tensor, similarity: Tensor, alpha: float) -> Tensor:
    """What contrastive search maximises, (k,) float64 on the CPU.

    Args:
        logits: (V,), -inf for what is forbidden, which then is worth -inf.
        ids: (k,) the candidates.
        similarity: (k, T) cosine of each candidate's state with those before.
    """
    confidence = logits.double().softmax(-1)[ids]
    value = (1 - alpha) * confidence - alpha * similarity.double().cpu().amax(-1)
    return value.masked_fill(confidence == 0, -math.inf)
