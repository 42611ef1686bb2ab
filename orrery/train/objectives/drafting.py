"""Teaching a drafter to guess what a frozen model will say: the model reads the text, and only the drafter learns.

    Medusa, semi-autoregressive    sum_k decay^k CE(guess of place k, what the model itself finds likeliest there)
    EAGLE                          SmoothL1(f, h) + c CE(softmax head(h), softmax head(f))

    Cai et al. 2024, arXiv:2401.10774, eq. 1 (decay 0.8); Li et al. 2024, arXiv:2401.15077, section 4.2 (c = 0.1), with noise on
    the states it reads, because in use it will read its own.

T tokens, N tokens that carry weight, d model width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from orrery.data.batch import Batch
from orrery.model.config import DecoderConfig
from orrery.model.context import Context
from orrery.model.drafters import RANKS, DraftNet, Eagle, Medusa
from orrery.model.packed import Packed
from orrery.train.loss import CHUNK_BYTES, Loss
from orrery.train.objectives import config as c
from orrery.train.objectives.multi_token import shifted


class Drafted(nn.Module):
    """What the training loop is given in a model's place: the drafter's parameters alone, and the frozen model's shape."""

    def __init__(self, net: DraftNet) -> None:
        super().__init__()
        self.net = net

    @property
    def cfg(self) -> DecoderConfig:
        """The frozen model's, by which the run's speed is measured."""
        return self.net.model.cfg

    @property
    def blocks(self) -> list[nn.Module]:
        """The layers to compile or to compute again: the drafter's own."""
        return [] if isinstance(self.net, Medusa) else [self.net.block]


def drafting_loss(objective: c.DraftObjective, drafted: Drafted, batch: Batch, ctx: Context) -> Loss:
    """The loss of a drafter on a batch; `weight` counts the places for which it has something to guess."""
    net = drafted.net
    hidden = frozen_states(net, batch)
    if isinstance(net, Eagle):
        assert isinstance(objective, c.DraftEagle)
        loss = _eagle(objective, net, hidden, batch, ctx)
    else:
        assert not isinstance(objective, c.DraftEagle)
        loss = _guessing(net, hidden, batch, objective.decay)
    # What is logged as nats a token, and compared with the validation, is the loss itself.
    return Loss(loss.sum, loss.weight, {"nll": loss.sum.detach(), **loss.stats})


def _guessing(net: DraftNet, hidden: Tensor, batch: Batch, decay: float) -> Loss:
    wanted = likeliest(net, hidden)
    loss = Loss(hidden.new_zeros(()), shifted(batch.weights, batch.lengths, 1, 0.0).sum())
    for k, (states, targets, weights) in enumerate(guesses(net, hidden, wanted, batch)):
        nll = sum_over_chunks(
            lambda h, y, w, k=k: w @ F.cross_entropy(logits_of(net, k, h).float(), y, reduction="none"),
            net.model.cfg.vocab_size, states, targets, weights,
        )  # fmt: skip
        loss = loss.plus(f"guess_{k + 1}", decay**k * nll)
    return loss


@torch.no_grad()
def frozen_states(net: DraftNet, batch: Batch) -> Tensor:
    """(T, d) the model's last states. What its layers report goes nowhere: it does not learn."""
    return net.model(batch.tokens, Packed(batch.lengths, device=batch.tokens.device))


@torch.no_grad()
def likeliest(net: DraftNet, hidden: Tensor) -> Tensor:
    """(T,) what the model itself would say next at each place."""
    rows = max(1, CHUNK_BYTES // (4 * net.model.cfg.vocab_size))
    return torch.cat([net.model.head(part).argmax(-1) for part in hidden.split(rows)])


def guesses(
    net: DraftNet, hidden: Tensor, wanted: Tensor, batch: Batch
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """For each token of a draft: states (N, d) for its head, what the model will say there (N,), and weights (N,)."""
    following = batch.targets.clamp(min=0)  # where there is none, nothing looks at what follows
    columns = net(hidden) if isinstance(net, Medusa) else net(hidden, following).unbind(1)  # type: ignore[missing-argument]
    for k, states in enumerate(columns):
        targets = shifted(wanted, batch.lengths, k + 1, 0)
        weights = shifted(batch.weights, batch.lengths, k + 1, 0.0)
        kept = weights.nonzero().squeeze(1)
        yield states[kept], targets[kept], weights[kept]


def logits_of(net: DraftNet, k: int, states: Tensor) -> Tensor:
    """(N, V) of token k of a draft."""
    return net.logits(k, states) if isinstance(net, Medusa) else net.head(states)


@torch.no_grad()
def accuracy(net: DraftNet, batches: list[Batch]) -> Tensor:
    """(k, RANKS): for each token of a draft and each rank, how often the guess of that rank is what the model says next."""
    right = total = torch.zeros(())
    for batch in batches:
        hidden = frozen_states(net, batch)
        found = guesses(net, hidden, likeliest(net, hidden), batch)
        rows = [
            (logits_of(net, k, states).topk(RANKS).indices == targets[:, None]).float().sum(0)
            for k, (states, targets, _) in enumerate(found)
        ]
        counts = [shifted(batch.weights, batch.lengths, k + 1, 0.0).count_nonzero() for k in range(len(rows))]
        right, total = right + torch.stack(rows).cpu(), total + torch.stack(counts).cpu()
    return right / total.clamp(min=1)[:, None]


def _eagle(objective: c.DraftEagle, net: Eagle, hidden: Tensor, batch: Batch, ctx: Context) -> Loss:
    noise = objective.noise * (2 * torch.rand_like(hidden) - 1) if objective.noise and net.training else 0.0
    made = net(hidden + noise, batch.targets.clamp(min=0), ctx)
    weights = shifted(batch.weights, batch.lengths, 1, 0.0)
    kept = weights.nonzero().squeeze(1)  # a run's last state has no next one
    made, true, weights = made[kept], hidden[kept + 1], weights[kept]
    near = weights @ F.smooth_l1_loss(made.float(), true.float(), reduction="none").mean(-1)
    same = sum_over_chunks(
        lambda f, h, w: w @ soft_cross_entropy(net.head(f), net.head(h)),
        net.model.cfg.vocab_size, made, true, weights,
    )  # fmt: skip
    return Loss(near, weights.sum(), {"state": near.detach()}).plus("guess", objective.classification * same)


def soft_cross_entropy(logits: Tensor, teacher: Tensor) -> Tensor:
    """(N, V), (N, V) -> (N,) -sum_v softmax(teacher)_v log softmax(logits)_v, in nats."""
    return -(teacher.float().softmax(-1) * logits.float().log_softmax(-1)).sum(-1)


def sum_over_chunks(part: object, vocab: int, *columns: Tensor) -> Tensor:
    """The sum of part(rows of each column) over chunks of rows; several chunks are computed again in the backward pass, so
    that only one holds logits at a time."""
    assert callable(part)
    rows = max(1, CHUNK_BYTES // (4 * vocab))
    total = columns[0].new_zeros((), dtype=torch.float32)
    for start in range(0, len(columns[0]), rows):
        piece = [column[start : start + rows] for column in columns]
        total = total + (
            part(*piece) if rows >= len(columns[0]) else checkpoint(part, *piece, use_reentrant=False)
        )
    return total
