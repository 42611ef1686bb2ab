"""What a tuned model is measured by: the loss on held-out examples, and how far its distribution has moved from its parent's.

loss    mean nats a supervised token
KL      mean over probe positions of KL(tuned || parent), in nats a token
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from orrery.data.batch import Batch, Piece
from orrery.model.decoder import Decoder
from orrery.model.packed import Packed
from orrery.train.basic_losses import kl_divergence
from orrery.train.loss import CHUNK_BYTES
from orrery.train.objectives import CausalLM
from orrery.train.objectives.apply import compute
from orrery.tune.example_set import ExampleSet


def batches_of(examples: ExampleSet, *, positions: int, most: int | None = None) -> Iterator[Batch]:
    """The examples in order, in batches of about so many positions, until `most` supervised targets are reached."""
    pieces: list[Piece] = []
    learned = 0
    for number, length in enumerate((examples.lengths() - 1).tolist()):
        if most is not None and learned >= most:
            break
        if pieces and sum(piece.length for piece in pieces) + length > positions:
            yield _batch(examples, pieces)
            pieces = []
        pieces.append(Piece(number, 0, length))
        learned += int(examples.supervised[number])
    yield _batch(examples, pieces)


@torch.no_grad()
def heldout_loss(model: Decoder, batches: Sequence[Batch]) -> float:
    """Mean nats a supervised token."""
    losses = [compute(CausalLM(), model, batch.to(model.device)) for batch in batches]
    return float(sum(loss.stats["nll"] for loss in losses) / sum(loss.weight for loss in losses))


@torch.no_grad()
def mean_kl(
    learned: Callable[[Batch], tuple[Tensor, Tensor]],
    heads: tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]],
    batches: Sequence[Batch],
    *,
    vocab_size: int,
) -> float:
    """Mean KL(tuned || parent) over the supervised positions of batches, in nats.

    Args:
        learned: a batch -> `learned_states` (N, d) of the tuned model and of its parent.
        heads: states -> logits, of both; the first `vocab_size` logits are compared (a parent may know fewer tokens).
    """
    rows = max(1, CHUNK_BYTES // (4 * vocab_size))
    total, count = 0.0, 0
    for batch in batches:
        pair = learned(batch)
        for start in range(0, len(pair[0]), rows):
            own, other = (
                head(x[start : start + rows]).float()[:, :vocab_size]
                for head, x in zip(heads, pair, strict=True)
            )
            total += float(kl_divergence(own, other).sum())
        count += len(pair[0])
    return total / max(count, 1)


def learned_states(model: Decoder, batch: Batch) -> Tensor:
    """(N, d) final states at the N supervised positions of a batch."""
    return states(model, batch)[batch.weights.nonzero().squeeze(1)]


def without_placeholders(batch: Batch, count: int) -> Batch:
    """The batch without the first `count` ids of every run, for a model without the virtual tokens they stand for."""
    if not count:
        return batch
    kept = torch.cat([torch.arange(length) >= count for length in batch.lengths])
    return Batch(
        tokens=batch.tokens[kept],
        targets=batch.targets[kept],
        weights=batch.weights[kept],
        lengths=tuple(length - count for length in batch.lengths),
    )


def states(model: Decoder, batch: Batch) -> Tensor:
    """(T, d) final states of a batch."""
    return model(batch.tokens.to(model.device), Packed(batch.lengths, device=model.device))


def _batch(examples: ExampleSet, pieces: list[Piece]) -> Batch:
    chosen = [examples[piece.document] for piece in pieces]
    return Batch(
        tokens=torch.from_numpy(np.concatenate([ids[:-1] for ids, _ in chosen], dtype=np.int64)),
        targets=torch.from_numpy(np.concatenate([ids[1:] for ids, _ in chosen], dtype=np.int64)),
        weights=torch.from_numpy(np.concatenate([weights[1:] for _, weights in chosen])),
        lengths=tuple(piece.length for piece in pieces),
        pieces=tuple(pieces),
    )
