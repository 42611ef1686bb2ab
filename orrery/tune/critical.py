"""Critical representations: at which positions of a text an edit of the stream reaches most of what follows.

    attention   s_j = mean over layers and heads of  sum_{i > j} A_ij / (number of i > j)      what later tokens read of token j
    saliency    the same of |A_ij dL/dA_ij|, the share of the loss that goes that way          (Wang et al. 2023, arXiv:2305.14160)
    own         s_j = mean of A_jj, what a token keeps of itself

    critical_positions(flow_scores(model, tokens, lengths), lengths, count=8)     # (T,) bool, for `Context.edited`

After Huang et al. 2025, "Enhancing Chain-of-Thought Reasoning with Critical Representation Fine-tuning", arXiv:2507.10085: the information
flow of attention and saliency scores tells which hidden states matter, and those alone are edited in a learned low-rank subspace while the
model stands still (`model.adapters.reft`). Ours are the details: scores are averaged over layers and heads, so that a position is edited in every layer
that the adapter names or in none; a score is divided by how many tokens could have read the position, or the first ones would always win;
and the `count` highest of a text are taken, rather than those above a threshold. Choosing needs the whole text, so the adapter runs by the
plain path (`continue_edited`): a pass to choose, a pass to edit.

T tokens of all sequences, H heads, L tokens of one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from orrery.kit.errors import OrreryError
from orrery.model.adapters import AdapterSlots
from orrery.model.cache import Cached, KVCache
from orrery.model.decoder import Decoder
from orrery.model.explicit import Explicit
from orrery.train.loss import cross_entropy
from orrery.train.objectives.apply import head_of

Score = Literal["attention", "saliency", "own"]


def flow_scores(
    model: Decoder, tokens: Tensor, lengths: Sequence[int], *, by: Score = "attention", weights: Tensor | None = None
) -> Tensor:  # fmt: skip
    """(T,) how much goes out from each position, by the model alone (without adapters).

    Args:
        by: what is counted. weights: (T,) for "saliency": which tokens' predictions of the next one the loss is of; None: all that
            have a next one.

    Raises:
        OrreryError: a model without attention.
    """
    patterns: list[Tensor] = []
    sites = [block.attn.pattern for block in model.blocks if block.attn is not None]  # type: ignore[missing-attribute]
    if not sites:
        raise OrreryError(
            "this model has no attention by which positions could be told apart; take positions=all or first"
        )

    def keep(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        pattern = (
            output.detach().requires_grad_() if by == "saliency" and not output.requires_grad else output
        )
        patterns.append(pattern)
        return pattern

    handles = [site.register_forward_hook(keep) for site in sites]
    slots = AdapterSlots.of(model)
    own, slots.default = slots.default, None
    try:
        with torch.set_grad_enabled(by == "saliency"):
            hidden = model(tokens, Explicit(lengths, device=tokens.device))
            if by == "saliency":
                loss = cross_entropy(hidden, head_of(model), *_next(tokens, lengths, weights)).sum
                slopes = torch.autograd.grad(loss, patterns)
                patterns = [(p * slope).abs().detach() for p, slope in zip(patterns, slopes, strict=True)]
    finally:
        slots.default = own
        for handle in handles:
            handle.remove()
    # A probe sees the sequences of a layer one after the other, layer by layer.
    scores = [torch.zeros(n, device=tokens.device) for n in lengths]
    for i, pattern in enumerate(patterns):
        scores[i % len(lengths)] += _of_pattern(pattern.detach().float(), by) / len(sites)
    return torch.cat(scores)


def critical_positions(scores: Tensor, lengths: Sequence[int], *, count: int) -> Tensor:
    """(T,) scores -> (T,) bool: the `count` highest of each sequence (all of a shorter one); of equal ones the earlier."""
    chosen = []
    for part in scores.split(list(lengths)):
        best = part.sort(descending=True, stable=True).indices[:count]
        chosen.append(torch.zeros(len(part), dtype=torch.bool, device=part.device).index_fill(0, best, True))
    return torch.cat(chosen)


@torch.inference_mode()
def continue_edited(
    model: Decoder, prompt: Sequence[int], *, count: int, max_tokens: int, by: Score = "attention", stop_ids: Collection[int] = ()
) -> list[int]:  # fmt: skip
    """The likeliest continuation when the `count` critical positions of the prompt are edited by the model's default adapter; the tokens that
    are made are not edited. A stop id ends it and is not part of it.

    Raises:
        OrreryError: as `flow_scores`; more tokens than the model's context holds.
    """
    ids = torch.tensor(list(prompt), device=model.device)
    if len(ids) + max_tokens > model.cfg.max_positions:
        raise OrreryError(
            f"{len(ids)} tokens and {max_tokens} new ones do not fit the model's context of {model.cfg.max_positions}; shorten them"
        )
    with torch.inference_mode(False):
        scores = flow_scores(model, ids.clone(), [len(ids)], by=by)
    cache = KVCache(model, rows=1, capacity=len(ids) + max_tokens)
    work, edited = (0, 0, len(ids)), critical_positions(scores, [len(ids)], count=count)
    made: list[int] = []
    for _ in range(max_tokens):
        ctx = Cached(cache, [work])
        ctx.edited = edited
        token = int(model.head(model(ids, ctx)[-1:]).argmax())
        if token in stop_ids:
            break
        made.append(token)
        ids, edited = ids.new_tensor([token]), edited.new_zeros(1)
        work = (0, work[1] + work[2], 1)
    return made


def _of_pattern(pattern: Tensor, by: Score) -> Tensor:
    """(H, L, L) -> (L,)."""
    mean = pattern.mean(0)
    if by == "own":
        return mean.diagonal()
    readers = torch.arange(len(mean) - 1, -1, -1, device=mean.device).clamp(min=1)
    return mean.tril(-1).sum(0) / readers


def _next(tokens: Tensor, lengths: Sequence[int], weights: Tensor | None) -> tuple[Tensor, Tensor]:
    """Targets and weights: the next token of each sequence."""
    targets, counted = tokens.roll(-1), torch.ones(len(tokens), device=tokens.device)
    counted[torch.tensor(list(lengths)).cumsum(0) - 1] = 0
    return targets, counted if weights is None else counted * weights
