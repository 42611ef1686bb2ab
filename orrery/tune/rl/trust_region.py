"""The step of `trpo` on a batch of episodes: the surrogate and the KL as functions of the weights.

    surrogate = mean_t rho_t A_t           kl = mean_t sum_v pi_old(v) (log pi_old(v) - log pi(v))

The KL is over the whole vocabulary and not an estimate, since its second derivative is what shapes the step. So a pass is made by
attention that can be differentiated twice (`Explicit`), and all logits of the written tokens are kept: it is for small models.

T written tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from orrery.model.explicit import Explicit
from orrery.tune.rl.algorithms import Trpo
from orrery.tune.rl.learning import Task, Updates
from orrery.tune.rl.packing import Micro
from orrery.tune.rl.policy_loss import policy_loss
from orrery.tune.rl.reading import Reader
from orrery.tune.rl.trpo import TrustRegionStep, trpo_step


def take_step(
    cfg: Trpo, task: Task, reader: Reader, parameters: Sequence[Tensor]
) -> tuple[TrustRegionStep, Updates]:
    """Move the weights, and the statistics of the policy after it against the one before."""
    micros = [micro for part in task.parts for micro in part]
    owner, advantages = (
        torch.cat([values[micro.at] for micro in micros])
        for values in (task.axis.owner, task.credit.advantages)
    )
    targets = torch.cat([micro.targets for micro in micros])

    def logp() -> Tensor:  # (T, V)
        found = [_logits(reader, micro) for micro in micros]
        return (torch.cat(found) / reader.temperature).log_softmax(-1)

    def written(table: Tensor) -> Tensor:
        return table.gather(1, targets[:, None]).squeeze(1)

    with torch.no_grad():
        before = logp()
    old = written(before)

    def surrogate() -> Tensor:
        return ((written(logp()) - old).exp() * advantages).mean()

    def kl() -> Tensor:
        return (before.exp() * (before - logp())).sum(-1).mean()

    taken = trpo_step(
        parameters, surrogate, kl,
        delta=cfg.delta, damping=cfg.damping, iterations=cfg.iterations, halvings=cfg.halvings,
    )  # fmt: skip
    with torch.no_grad():
        after = logp()
    moved = policy_loss("ppo", written(after) - old, written(after), advantages, owner)
    entropy = -(after.exp() * after).sum()
    sums = {name: value.double() for name, value in {**moved.stats, "entropy": entropy}.items()}
    seen = torch.zeros_like(task.axis.sampler)
    seen[torch.cat([micro.at for micro in micros])] = old
    return taken, Updates(seen=seen, sums=sums)


def _logits(reader: Reader, micro: Micro) -> Tensor:
    return reader.model.head(reader.hidden(micro, micro.context(Explicit))).float()
