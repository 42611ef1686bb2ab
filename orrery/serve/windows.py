"""Scoring texts longer than the model's context: windows that overlap, every token scored exactly once.

A window of at most `context` inputs moves on by `stride`; of each only what no earlier window scored counts. So a
token is predicted from at least `context - stride` tokens before it (fewer only near the text's beginning): a small
stride costs more and flatters less than cutting the text into pieces.

Legend: T tokens of a document, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from orrery.kit.errors import OrreryError
from orrery.model.adapters.virtual import PLACEHOLDER
from orrery.model.decoder import Decoder
from orrery.model.packed import Packed
from orrery.serve.adapters import Adapters
from orrery.serve.mode import evaluating


@dataclass(frozen=True)
class Window:
    """Inputs [begin, end) of one document; its predictions from input `first` on count."""

    document: int
    begin: int
    first: int
    end: int

    @property
    def length(self) -> int:
        return self.end - self.begin


def sliding_windows(n_inputs: int, *, context: int, stride: int, document: int = 0) -> Iterator[Window]:
    """Windows over inputs 0 .. n_inputs - 1, each with as much left context as fits."""
    done = 0
    while done < n_inputs:
        end = min(context if done == 0 else done + stride, n_inputs)
        yield Window(document, max(0, end - context), done, end)
        done = end


@torch.inference_mode()
def windowed_logprobs(
    model: Decoder,
    documents: Sequence[ArrayLike],
    *,
    context: int | None = None,
    stride: int | None = None,
    start: int | None = None,
    batch_tokens: int = 4096,
) -> list[NDArray[np.float32]]:
    """Natural log p of every token of every document, (T,) each.

    Args:
        context: inputs in a window; None: all that the model was made for (`max_positions`).
        stride: how far a window moves; None: half the context.
        start: id that stands before every document; without one nothing precedes a document's first token, and that
            token is charged as one of V equals, log 1/V.
        batch_tokens: windows that run together hold about this many tokens.

    Raises:
        OrreryError: a context the model does not have, a stride outside 1 .. context, an id outside the vocabulary.
    """
    limit = model.cfg.max_positions - Adapters.of(model).virtual_tokens(None)
    vocab_size = model.cfg.vocab_size
    context = limit if context is None else context
    stride = max(context // 2, 1) if stride is None else stride
    if not 1 <= context <= limit:
        raise OrreryError(f"windows of {context} tokens do not fit this model, whose context is {limit}")
    if not 1 <= stride <= context:
        raise OrreryError(f"a stride of {stride} would leave tokens unscored; choose 1 to {context}")
    prefix = [] if start is None else [start]
    inputs = [np.concatenate([prefix, np.asarray(ids, dtype=np.int64)]).astype(np.int64) for ids in documents]
    for ids in inputs:
        check_ids(ids, vocab_size)
    scored = [np.full(max(len(ids) - 1, 0), np.nan, dtype=np.float32) for ids in inputs]
    windows = [
        window
        for i, ids in enumerate(inputs)
        for window in sliding_windows(len(ids) - 1, context=context, stride=stride, document=i)
    ]
    windows.sort(
        key=lambda window: window.length
    )  # equal lengths side by side: one attention call serves them
    with evaluating(model):
        for batch in _batches(windows, batch_tokens):
            for window, logprobs in zip(batch, _run(model, inputs, batch), strict=True):
                scored[window.document][window.first : window.end] = logprobs
    if start is None:
        first = np.array([-math.log(vocab_size)], dtype=np.float32)
        return [
            np.concatenate([first[: len(ids)], logprobs])
            for ids, logprobs in zip(inputs, scored, strict=True)
        ]
    return scored


def check_ids(ids: NDArray[np.int64], vocab_size: int) -> None:
    """Refuse ids the model has no row for.

    Raises:
        OrreryError: names the id.
    """
    if len(ids) and not (ids.min() >= 0 and ids.max() < vocab_size):
        bad = int(ids.min() if ids.min() < 0 else ids.max())
        raise OrreryError(
            f"token id {bad} is outside the model's vocabulary of {vocab_size}; encode with its own tokenizer"
        )


def target_logprobs(model: Decoder, hidden: Tensor, targets: Tensor, rows: int = 512) -> Tensor:
    """(T,) log p(targets | hidden), `rows` rows of logits at a time so that (T, V) never exists at once."""
    parts = [
        model.head(h).float().log_softmax(-1).gather(1, t[:, None])[:, 0]
        for h, t in zip(hidden.split(rows), targets.split(rows), strict=True)
    ]
    return torch.cat(parts)


def _run(model: Decoder, inputs: list[NDArray[np.int64]], batch: list[Window]) -> list[NDArray[np.float32]]:
    """One forward pass over a batch of windows; (n,) log-probabilities of what counts in each."""
    device, virtual = model.device, Adapters.of(model).virtual_tokens(None)
    begun = np.full(virtual, PLACEHOLDER, dtype=np.int64)
    tokens = np.concatenate([part for w in batch for part in (begun, inputs[w.document][w.begin : w.end])])
    targets = np.concatenate([inputs[w.document][w.first + 1 : w.end + 1] for w in batch])
    counts = np.concatenate([np.arange(w.begin - virtual, w.end) >= w.first for w in batch])
    lengths = [virtual + w.length for w in batch]
    hidden = model(torch.from_numpy(tokens).to(device), Packed(lengths, device=device))
    kept = hidden[torch.from_numpy(np.flatnonzero(counts)).to(device)]
    logprobs = target_logprobs(model, kept, torch.from_numpy(targets).to(device)).cpu().numpy()
    return np.split(logprobs, np.cumsum([w.end - w.first for w in batch])[:-1])


def _batches(windows: list[Window], batch_tokens: int) -> Iterator[list[Window]]:
    batch: list[Window] = []
    size = 0
    for window in windows:
        if batch and size + window.length > batch_tokens:
            yield batch
            batch, size = [], 0
        batch.append(window)
        size += window.length
    if batch:
        yield batch
