"""Objectives on batches: rearrange the ids, choose what attention sees, compute the loss.

    batch = transform(objective, batch, tokenizer, rng)     # rng keyed by (seed, step, micro-batch)
    loss = compute(objective, model, batch, context_for(objective, batch))

The loss includes what layers reported to the context (a router's balance and z losses), as sums over tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from torch import nn

from orrery.data.batch import Batch
from orrery.kit.errors import OrreryError, suggest
from orrery.model.context import Context
from orrery.model.decoder import Decoder
from orrery.model.lowbit import QuantEmbedding, QuantLinear
from orrery.model.lowbit.dense import NativeEmbedding, NativeLinear
from orrery.model.packed import Packed
from orrery.train.loss import Head, LinearHead, Loss, cross_entropy
from orrery.train.objectives import config as c
from orrery.train.objectives.drafting import Drafted, drafting_loss
from orrery.train.objectives.fill_in_the_middle import FimTokens, draw
from orrery.train.objectives.masked import mask_tokens
from orrery.train.objectives.multi_token import shifted
from orrery.train.objectives.prefix import PrefixPacked
from orrery.train.objectives.span_corruption import corrupt, draw_spans, longest_text

AUXILIARY = ("balance_loss", "router_z_loss")


class Vocabulary(Protocol):
    """What an objective asks of a tokenizer."""

    vocab_size: int
    special: dict[str, int]
    bos_id: int | None
    eos_id: int | None


def transform(
    objective: c.Objective, batch: Batch, vocabulary: Vocabulary, rng: np.random.Generator
) -> Batch:
    """The batch as the objective shows it to the model; no run becomes longer.

    Raises:
        OrreryError: the tokenizer lacks a special token that the objective needs.
    """
    match objective:
        case c.CausalLM() | c.MultiToken() | c.DraftMedusa() | c.DraftEagle() | c.DraftSemi():
            return batch
        case c.FillInTheMiddle():
            return _fill_in_the_middle(objective, batch, vocabulary, rng)
        case c.PrefixLM():
            return _prefix(batch, rng)
        case c.MaskedLM():
            return _masked(objective, batch, vocabulary, rng)
        case c.SpanCorruption():
            return _span_corruption(objective, batch, vocabulary, rng)


def context_for(objective: c.Objective, batch: Batch) -> Context:
    """What each token of the transformed batch may see."""
    device = batch.tokens.device
    match objective:
        case c.MaskedLM():
            return Packed(batch.lengths, causal=False, device=device)
        case c.PrefixLM() | c.SpanCorruption(two_way=True):
            return PrefixPacked(batch.lengths, prefixes(batch), device=device)
        case _:
            return Packed(batch.lengths, device=device)


def compute(
    objective: c.Objective, model: Decoder | Drafted, batch: Batch, ctx: Context | None = None, *,
    label_smoothing: float = 0.0, z_loss: float = 0.0,
) -> Loss:  # fmt: skip
    """The loss of the model on a transformed batch; without `ctx` in the context that the objective asks for. The objective of
    a drafter is computed on a `Drafted` model.

    Raises:
        OrreryError: "multi-token" weighs another number of depths than the model has; a drafter's objective with label
            smoothing or z-loss.
    """
    ctx = context_for(objective, batch) if ctx is None else ctx
    if isinstance(objective, c.DraftObjective):
        assert isinstance(model, Drafted)
        if label_smoothing or z_loss:
            raise OrreryError(
                "a drafter learns what a model says as it is; leave label_smoothing and z_loss at 0"
            )
        return drafting_loss(objective, model, batch, ctx)
    assert isinstance(model, Decoder)
    head = head_of(model)
    hidden = model(batch.tokens, ctx)
    loss = cross_entropy(
        hidden, head, batch.targets, batch.weights, label_smoothing=label_smoothing, z_loss=z_loss
    )
    if isinstance(objective, c.MultiToken):
        loss = _further_tokens(objective, model, batch, ctx, hidden, head, loss)
    for name in AUXILIARY:
        for _, value in ctx.recorded.get(name, []):
            loss = loss.plus(name, value)
    return loss


def head_of(model: Decoder) -> Head:
    """The model's head in the form that needs no recomputation, unless something was built around it."""
    layer = model.embed if model.lm_head is None else model.lm_head
    scale = 1.0 if model.cfg.logit_scale is None else model.cfg.logit_scale
    settings = {"scale": scale, "softcap": model.cfg.logit_softcap}
    if isinstance(layer, QuantLinear | QuantEmbedding):
        bias = layer.bias if isinstance(layer, QuantLinear) else None
        return LinearHead(layer.frozen(), bias, **settings)
    if type(layer) in (nn.Linear, NativeLinear):  # exactly: an adapter around it is a function like any other
        return LinearHead(layer.weight, layer.bias, **settings)  # type: ignore[bad-argument-type]
    if type(layer) in (nn.Embedding, NativeEmbedding):
        return LinearHead(layer.weight, **settings)
    return model.head


def prefixes(batch: Batch) -> tuple[int, ...]:
    """For each run, the tokens before the first one that is predicted."""
    return tuple(
        int((w > 0).long().argmax()) + 1 if bool((w > 0).any()) else len(w)
        for w in batch.weights.split(batch.lengths)
    )


def _further_tokens(
    objective: c.MultiToken,
    model: Decoder,
    batch: Batch,
    ctx: Context,
    hidden: torch.Tensor,
    head: Head,
    loss: Loss,
) -> Loss:
    if len(objective.weights) != len(model.mtp):
        raise OrreryError(
            f"the objective weighs {len(objective.weights)} further depths and the model has mtp_heads={len(model.mtp)}; "
            "give one weight for each"
        )
    for k, (module, weight) in enumerate(zip(model.mtp, objective.weights, strict=True)):
        next_tokens = shifted(batch.targets, batch.lengths, k, 0).clamp(
            min=0
        )  # where there is none, no loss looks at it
        hidden = module(hidden, next_tokens, ctx)
        targets = shifted(batch.targets, batch.lengths, k + 1, -1)
        weights = shifted(batch.weights, batch.lengths, k + 1, 0.0)
        deeper = cross_entropy(hidden, head, targets, weights)
        loss = loss.plus(f"depth_{k + 1}", weight * deeper.sum)
    return loss


def _fill_in_the_middle(
    objective: c.FillInTheMiddle, batch: Batch, vocabulary: Vocabulary, rng: np.random.Generator
) -> Batch:
    tokens = FimTokens(*_special(vocabulary, objective.prefix, objective.suffix, objective.middle))
    changed = []
    for ids in _runs(batch):
        begin = int(ids[0] == vocabulary.bos_id)
        end = len(ids) - int(ids[-1] == vocabulary.eos_id)
        body = ids[begin : max(begin, end - 3)]  # the control tokens take the place of the last three
        if len(body) < 2:
            changed.append(ids)
            continue
        drawn = draw(body, rng, tokens, rate=objective.rate, spm_rate=objective.spm_rate)
        changed.append(ids if drawn is body else np.concatenate([ids[:begin], drawn, ids[end:]]))
    return _from_runs(batch, changed)


def _prefix(batch: Batch, rng: np.random.Generator) -> Batch:
    cuts = [int(rng.integers(1, length)) if length > 1 else 1 for length in batch.lengths]
    places = torch.cat([torch.arange(length) for length in batch.lengths])
    read = places < torch.tensor(cuts).repeat_interleave(torch.tensor(batch.lengths)) - 1
    return replace(batch, weights=batch.weights.masked_fill(read, 0.0))


def _masked(objective: c.MaskedLM, batch: Batch, vocabulary: Vocabulary, rng: np.random.Generator) -> Batch:
    (mask,) = _special(vocabulary, objective.mask)
    ordinary = np.setdiff1d(np.arange(vocabulary.vocab_size), list(vocabulary.special.values()))
    parts = [
        mask_tokens(
            ids,
            rng,
            mask=mask,
            ordinary=ordinary,
            rate=objective.rate,
            random=objective.random,
            keep=objective.keep,
        )
        for ids in np.split(batch.tokens.numpy(), np.cumsum(batch.lengths)[:-1])
    ]
    shown, chosen = (torch.from_numpy(np.concatenate(column)) for column in zip(*parts, strict=True))
    return replace(batch, tokens=shown, targets=torch.where(chosen, batch.tokens, -1), weights=chosen.float())


def _span_corruption(
    objective: c.SpanCorruption, batch: Batch, vocabulary: Vocabulary, rng: np.random.Generator
) -> Batch:
    runs, answers, pieces = [], [], []
    for i, ids in enumerate(_runs(batch)):
        length = longest_text(len(ids), rate=objective.rate, mean_length=objective.mean_length)
        if length < 2 or len(ids) < 5:  # too short to hide a token and say so
            continue
        spans = draw_spans(length, rng, rate=objective.rate, mean_length=objective.mean_length)
        sentinels = _special(vocabulary, *(objective.sentinel.format(i=n) for n in range(len(spans) + 1)))
        text, answer = corrupt(ids[:length], spans, sentinels)
        runs.append(np.concatenate([text, answer]))
        answers.append(len(answer))
        pieces += [replace(batch.pieces[i], length=length)] if batch.pieces else []
    if not runs:
        raise OrreryError("every run of this batch is too short for span corruption; use a longer context")
    weights = [
        np.arange(len(ids) - 1) >= len(ids) - 1 - answer for ids, answer in zip(runs, answers, strict=True)
    ]
    return Batch(
        tokens=torch.from_numpy(np.concatenate([ids[:-1] for ids in runs])),
        targets=torch.from_numpy(np.concatenate([ids[1:] for ids in runs])),
        weights=torch.from_numpy(np.concatenate(weights)).float(),
        lengths=tuple(len(ids) - 1 for ids in runs),
        pieces=tuple(pieces),
    )


def _runs(batch: Batch) -> list[np.ndarray]:
    """Each run with the token after its last, if that is known."""
    ends = np.cumsum(batch.lengths)[:-1]
    pairs = zip(np.split(batch.tokens.numpy(), ends), np.split(batch.targets.numpy(), ends), strict=True)
    return [np.append(tokens, targets[-1:][targets[-1:] >= 0]) for tokens, targets in pairs]


def _from_runs(batch: Batch, runs: list[np.ndarray]) -> Batch:
    """The batch with other ids in runs of the same lengths."""
    tokens = torch.from_numpy(
        np.concatenate([ids[:length] for ids, length in zip(runs, batch.lengths, strict=True)])
    )
    following = [np.append(ids[1:], -1)[:length] for ids, length in zip(runs, batch.lengths, strict=True)]
    targets = torch.from_numpy(np.concatenate(following))
    return replace(batch, tokens=tokens, targets=targets)


def _special(vocabulary: Vocabulary, *names: str) -> list[int]:
    special: Mapping[str, int] = vocabulary.special
    for name in names:
        if name not in special:
            raise OrreryError(
                f"the tokenizer has no special token '{name}', which the objective needs; add it to the tokenizer's special "
                f"tokens and train it again.{suggest(name, list(special))}"
            )
    return [special[name] for name in names]
