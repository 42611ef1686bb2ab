"""From the rewards of a step to an advantage for every written token.

    without a critic   a reward is compared with others (`advantage`): that of a whole episode, given to all its tokens; or, by turns, what
                       came after each thing said, compared with the same turn of the other episodes of its group
    with a critic      rewards stand at the last token of each thing said, and GAE spreads them over the tokens before (`gae`)

A KL penalty in the reward is taken off before either. T written tokens, R episodes, U things said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from orrery.tune.rl.advantage import advantages, whiten
from orrery.tune.rl.algorithms import Method, Ppo, Vapo
from orrery.tune.rl.config import RlConfig
from orrery.tune.rl.gae import Estimates, gae, length_adaptive_gae
from orrery.tune.rl.kl import token_kl
from orrery.tune.rl.overlong import overlong_filter
from orrery.tune.rl.packing import Axis
from orrery.tune.rl.responses import at_last_token, response_sums
from orrery.tune.rl.returns import reward_to_go
from orrery.tune.rl.trajectory import Trajectory


@dataclass(frozen=True, kw_only=True)
class Credit:
    """`rewards` (R,) of episodes, NaN for those left out; `advantages` (T,); `returns` (T,), what a critic should have said."""

    rewards: Tensor
    advantages: Tensor
    returns: Tensor | None = None


def assign(
    cfg: RlConfig,
    axis: Axis,
    trajectories: Sequence[Trajectory],
    *,
    old: Tensor | None = None,
    values: Tensor | None = None,
    reference: Tensor | None = None,
    beta: float = 0.0,
) -> Credit:
    """The advantages of a step.

    Args:
        old: (T,) log-probabilities before the first update, reference: at the start of the run; with `beta` their distance is a
            penalty in the reward.
        values: (T,) a critic's, before the first update.
    """
    device = axis.owner.device
    turn_rewards = torch.tensor([r for one in trajectories for r in one.rewards], device=device)  # (U,)
    rewards = torch.zeros(len(trajectories), device=device).index_add(0, axis.turn_owner, turn_rewards)
    if cfg.rollout.truncated == "leave out":
        rewards = overlong_filter(
            rewards, torch.tensor([one.truncated for one in trajectories], device=device)
        )
    scored = rewards.isfinite()[axis.owner]
    penalty = torch.zeros_like(axis.sampler)
    if beta and old is not None and reference is not None:
        penalty = beta * token_kl(old, reference, cfg.kl.estimator or "k1")
    if values is not None:
        tokens = at_last_token(turn_rewards, axis.turn) - penalty
        found = _by_critic(cfg.algorithm, tokens, values, axis.owner)
        spread = whiten(found.advantages[scored])
        advantage = torch.zeros_like(penalty).masked_scatter(scored, spread)
        return Credit(rewards=rewards, advantages=advantage, returns=found.returns)
    return Credit(
        rewards=rewards, advantages=_by_comparison(cfg, axis, turn_rewards, rewards, penalty, scored)
    )


def _by_critic(algorithm: Method, rewards: Tensor, values: Tensor, owner: Tensor) -> Estimates:
    match algorithm:
        case Vapo(gamma=gamma, alpha=alpha, critic_lam=lam):
            return length_adaptive_gae(rewards, values, owner, gamma, alpha=alpha, critic_lam=lam)
        case Ppo(gamma=gamma, lam=lam):
            return gae(rewards, values, owner, gamma, lam)
    raise AssertionError(algorithm)


def _by_comparison(
    cfg: RlConfig, axis: Axis, turn_rewards: Tensor, rewards: Tensor, penalty: Tensor, scored: Tensor
) -> Tensor:
    kind = cfg.parts.baseline
    assert kind is not None
    if (
        kind == "global" and cfg.credit == "episode"
    ):  # whitened over tokens, each with the penalties that come after it
        earned = at_last_token(rewards.nan_to_num(), axis.owner) - penalty
        return torch.zeros_like(penalty).masked_scatter(
            scored, whiten(reward_to_go(earned, axis.owner)[scored])
        )
    if cfg.credit == "episode":
        return advantages(kind, rewards - response_sums(penalty, axis.owner), axis.group)[axis.owner]
    after = reward_to_go(turn_rewards - response_sums(penalty, axis.turn), axis.turn_owner)  # (U,)
    after = after.masked_fill(~rewards.isfinite()[axis.turn_owner], torch.nan)
    same = (
        axis.group[axis.turn_owner] * (int(axis.turn_place.max()) + 1) + axis.turn_place
    )  # one number a group and turn
    return advantages(kind, after, same)[axis.turn]
