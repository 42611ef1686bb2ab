"""Exhibits of policy gradients: estimates against exact ones, baselines, GAE's dial, the trust region, other policies' samples."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from orrery.glossary.exhibit import Exhibit, Series
from orrery.kit.seeds import torch_generator
from orrery.tune.rl.advantage import Baseline
from orrery.tune.rl.classic.policy_gradient import exact_gradient, gradient_estimates
from orrery.tune.rl.gae import gae, length_adaptive_lambda
from orrery.tune.rl.importance import effective_sample_size, importance_weights
from orrery.tune.rl.returns import reward_to_go
from orrery.tune.rl.trpo import trpo_step

LOGITS = torch.tensor([0.5, 0.0, -1.0, 0.2], dtype=torch.float64)
REWARDS = torch.tensor([1.0, 3.0, 2.0, 0.0], dtype=torch.float64)


def score_function_estimates() -> Exhibit:
    """The gradient of an expected reward from samples alone, beside the exact one."""
    exact = exact_gradient(LOGITS, REWARDS)
    rows, errors, counts = [], [], [10, 100, 1000, 10_000, 100_000]
    for n in counts:
        found = gradient_estimates(LOGITS, REWARDS, "none", samples=1, trials=n).mean(0)
        errors.append(float((found - exact).norm()))
        rows.append((n, *found.tolist(), errors[-1]))
    return Exhibit(
        title="Four actions worth 1, 3, 2, 0: mean of R grad log pi over samples",
        columns=("samples", "d / d z1", "z2", "z3", "z4", "distance from the exact gradient"),
        rows=[*rows, ("exact", *exact.tolist(), 0.0)],
        series=[Series(name="distance", x=counts, y=errors)],
        x="samples", y="distance", log_x=True, log_y=True,
        reads="The reward is never differentiated: a table of four numbers here, a program's verdict elsewhere. The error falls with the root of the number of "
        "samples and no faster.",
    )  # fmt: skip


def baselines_and_variance() -> Exhibit:
    """What each baseline does to the mean and to the variance of the gradient, with rewards near 0 and near 10."""
    kinds: tuple[Baseline, ...] = ("none", "mean", "leave-one-out", "group-centred", "group")
    rows = []
    for shift in (0.0, 10.0):
        exact = exact_gradient(LOGITS, REWARDS)  # a constant reward has no gradient
        for kind in kinds:
            found = gradient_estimates(LOGITS, REWARDS + shift, kind, samples=4, trials=20_000)
            mean = found.mean(0)
            along = float(mean @ exact / (exact @ exact))
            cosine = float(torch.cosine_similarity(mean, exact, dim=0))
            rows.append((f"{shift:.0f} to {shift + 3:.0f}", kind, along, cosine, float(found.var(0).sum())))
    return Exhibit(
        title="Groups of 4 actions, 20,000 of them",
        columns=("rewards", "baseline", "mean, as a multiple of the exact gradient", "cosine with it", "variance"),
        rows=rows,
        reads="Without a baseline adding 10 to every reward changes nothing about what is best and drowns the gradient in noise. Leaving oneself out keeps the mean exact; "
        "a mean with oneself in it shrinks it to (G - 1) / G, which a step size mends. Dividing by the group's deviation is another gradient.",
    )  # fmt: skip


def gae_dial() -> Exhibit:
    """Error of advantages from lambda 0 to 1 where rewards come late and the critic knows nothing; the limits against their definitions."""
    generator = torch_generator(0, "gae")
    runs, length = 2000, 12
    owner = torch.arange(runs).repeat_interleave(length)
    effect = (
        2.0 * torch.randint(2, (runs, length), generator=generator) - 1
    )  # what an action brings, over the three steps after it
    padded = torch.nn.functional.pad(effect, (3, 0))
    late = (padded[:, 2:-1] + padded[:, 1:-2] + padded[:, :-3]) / 3
    rewards = (late + 0.3 * torch.randn(runs, length, generator=generator)).flatten()
    critic = torch.zeros(runs * length)
    share = (length - 1 - torch.arange(length)).clamp(max=3) / 3  # of an effect that is paid before the end
    lams = [0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0]
    rows = []
    for lam in lams:
        found = gae(rewards, critic, owner, 1.0, lam).advantages.view(runs, length)
        seen = (found * effect).mean(0)  # how much of its own effect an advantage shows
        total = (found - share * effect).square().mean()
        bias = (seen - share).square().mean()
        rows.append(
            (
                lam,
                float(seen[:9].mean()),
                float(bias.sqrt()),
                float((total - bias).clamp(min=0).sqrt()),
                float(total.sqrt()),
            )
        )
    following = rewards.new_zeros(len(rewards))
    one_step = gae(rewards, critic, owner, 1.0, 0.0).advantages - (rewards + following - critic)
    whole = gae(rewards, critic, owner, 1.0, 1.0).advantages - (reward_to_go(rewards, owner) - critic)
    return Exhibit(
        title=f"lambda 0 is the one-step difference (to {float(one_step.abs().max()):.0e}), lambda 1 return minus value (to {float(whole.abs().max()):.0e})",
        columns=("lambda", "own effect seen", "bias", "deviation", "error in all"),
        rows=rows,
        series=[Series(name=name, x=lams, y=[row[i] for row in rows]) for i, name in ((2, "bias"), (3, "deviation"), (4, "error"))],
        x="lambda", y="error of the advantage",
        reads="At 0 an action is judged by what the critic says one step later, and this critic says nothing; at 1 by everything that follows, most of which others did. "
        "The least error lies between, the further to the left the better the critic is.",
    )  # fmt: skip


def length_adaptive_lambdas() -> Exhibit:
    """How far back the reward of the last token reaches under one lambda for all, and under VAPO's, for several lengths."""
    lengths = torch.tensor([20, 50, 100, 400, 2000])
    adapted = length_adaptive_lambda(lengths)
    rows = []
    for n, lam in zip(lengths.tolist(), adapted.tolist(), strict=True):
        owner, rewards = torch.zeros(n, dtype=torch.int64), torch.zeros(n)
        rewards[-1] = 1.0
        reached = [
            int((gae(rewards, torch.zeros(n), owner, 1.0, x).advantages > math.exp(-1)).sum())
            for x in (0.95, lam, 1.0)
        ]
        rows.append((n, lam, *reached, reached[0] / n, reached[1] / n))
    return Exhibit(
        title="Tokens whose advantage keeps more than 1 / e of a reward at the end, when the critic says nothing",
        columns=("tokens", "its lambda", "lambda 0.95 reaches", "its own reaches", "lambda 1", "share, 0.95", "share, its own"),
        rows=rows,
        reads="One lambda reaches back the same twenty tokens whatever the length: all of a short answer, one in a hundred of a long one. 1 - 1 / (0.05 l) reaches a twentieth of any. "
        "The rest is the critic's to say, which is why VAPO trains it first, and with lambda 1.",
    )  # fmt: skip


def trust_region_holds() -> Exhibit:
    """Twelve steps of TRPO and of plain gradient ascent on a small network: the KL of each, measured."""
    rows, curves = [], []
    for name, rate in (
        ("TRPO, delta 0.02", None),
        ("gradient, rate 0.3", 0.3),
        ("gradient, rate 3", 3.0),
        ("gradient, rate 30", 30.0),
    ):
        rewards, divergences = _climb(rate)
        rows.append((name, rewards[0], rewards[-1], max(divergences), sum(d > 0.02 for d in divergences)))
        curves.append(Series(name=name, x=list(range(12)), y=[max(d, 1e-7) for d in divergences]))
    return Exhibit(
        title="64 states, two actions, one of which pays 1",
        columns=("step", "reward before", "reward after", "largest KL(old || new) of a step", "steps above 0.02"),
        rows=rows,
        series=curves,
        x="step", y="KL(old || new), nats", log_y=True,
        reads="How far a fixed rate moves a policy depends on where it stands, and the right rate is found by trial. TRPO fixes the distance instead and looks for the best "
        "step of that length, measured afterwards and halved until it holds.",
    )  # fmt: skip


def _climb(rate: float | None, *, steps: int = 12, delta: float = 0.02) -> tuple[list[float], list[float]]:
    """Expected reward before each step and after the last, and the KL of each step; without a rate by TRPO."""
    generator = torch_generator(0, "trust")
    states = torch.randn(64, 4, generator=generator)
    good = (states @ torch.tensor([1.0, -1.0, 0.5, 0.0]) > 0).long()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.Tanh(), torch.nn.Linear(16, 2))
    parameters = list(net.parameters())

    def logp() -> Tensor:
        return net(states).log_softmax(-1)

    rewards, divergences = [], []
    for _ in range(steps):
        old = logp().detach()
        drawn = torch.multinomial(old.exp(), 1, generator=generator)
        paid = (drawn.squeeze(1) == good).float()
        surrogate = partial(_surrogate, logp, old, drawn, paid - paid.mean())
        kl = partial(_divergence, logp, old)
        if rate is None:
            trpo_step(parameters, surrogate, kl, delta=delta)
        else:
            slopes = torch.autograd.grad(surrogate(), parameters)
            with torch.no_grad():
                for parameter, slope in zip(parameters, slopes, strict=True):
                    parameter += rate * slope
        rewards.append(old.exp().gather(1, good[:, None]).mean().item())
        divergences.append(kl().item())
    rewards.append(logp().exp().gather(1, good[:, None]).mean().item())
    return rewards, divergences


def _surrogate(logp: Callable[[], Tensor], old: Tensor, drawn: Tensor, advantages: Tensor) -> Tensor:
    return ((logp() - old).gather(1, drawn).squeeze(1).exp() * advantages).mean()


def _divergence(logp: Callable[[], Tensor], old: Tensor) -> Tensor:
    return (old.exp() * (old - logp())).sum(-1).mean()


def reweighted_samples() -> Exhibit:
    """An expectation under one distribution from samples of another, as the two part: estimate, spread, effective samples."""
    target = torch.distributions.Normal(torch.tensor(0.0, dtype=torch.float64), 1.0)
    truth = 1.0  # E[x^2]
    generator = torch_generator(0, "reweighted")
    rows = []
    n, trials = 200, 300
    for shift in (0.0, 0.5, 1.0, 1.5, 2.0, 3.0):
        x = torch.randn(trials * n, generator=generator, dtype=torch.float64) + shift
        sampler = torch.distributions.Normal(torch.tensor(shift, dtype=torch.float64), 1.0)
        one = torch.arange(len(x))  # every sample is a response of its own
        cells: list[float] = []
        shares: list[float] = []
        for high in (math.exp(20), 2.0):
            w = importance_weights(target.log_prob(x), sampler.log_prob(x), one, high=high).weights
            each = (w * x.square()).view(trials, n).mean(1)
            cells += [float(each.mean()), float(each.std())]
            shares.append(sum(effective_sample_size(part) for part in w.view(trials, n)) / trials / n)
        rows.append((shift, *cells, shares[0]))
    return Exhibit(
        title=f"E[x^2] = {truth:.0f} of a standard normal, from 200 samples of one shifted, 300 times over",
        columns=("shift", "mean, all weights", "deviation", "mean, weights up to 2", "deviation", "effective share of samples"),
        rows=rows,
        reads="Weights put the expectation right at any distance, in the limit. With a finite number of samples a few of them carry all the weight, "
        "and the estimate is mostly too low and now and then far too high. Bounded weights are calm and wrong.",
    )  # fmt: skip


def learning_from_another_policy() -> Exhibit:
    """The gradient of one policy from actions that another chose: uncorrected, reweighted, and with bounded weights."""
    exact = exact_gradient(LOGITS, REWARDS)
    logp = LOGITS.log_softmax(0)
    other = torch.tensor([1.0, -1.0, 0.5, 0.0], dtype=torch.float64).log_softmax(0)
    trials, samples = 4000, 16
    drawn = torch.multinomial(
        other.exp(), trials * samples, replacement=True, generator=torch_generator(0, "another")
    )
    scores = (torch.eye(4, dtype=torch.float64) - logp.exp())[drawn]
    one = torch.arange(len(drawn))
    rows = []
    for name, settings in (
        ("as if they were its own", None),
        ("all weights", {"high": math.exp(20)}),
        ("weights up to 1.5", {"high": 1.5}),
        ("weights above 1.5 left out", {"high": 1.5, "rule": "mask"}),
    ):
        weights = torch.ones(len(drawn), dtype=torch.float64)
        bounded = 0
        if settings is not None:
            found = importance_weights(logp[drawn], other[drawn], one, **settings)  # type: ignore[arg-type]
            weights, bounded = found.weights, found.bounded
        centred = REWARDS[drawn] - REWARDS @ logp.exp()
        each = (weights * centred)[:, None] * scores
        each = each.view(trials, samples, 4).mean(1)
        mean = each.mean(0)
        cosine = float(torch.cosine_similarity(mean, exact, dim=0))
        rows.append((name, float((mean - exact).norm()), cosine, float(each.var(0).sum()), bounded / len(drawn), effective_sample_size(weights) / len(drawn)))  # fmt: skip
    return Exhibit(
        title="4,000 estimates from 16 actions each, chosen by a policy that prefers others",
        columns=("weights", "bias of the mean", "cosine with the gradient", "variance", "bounded", "effective share"),
        rows=rows,
        reads="Old or foreign samples taken for one's own give another gradient. The ratio puts the mean right and costs variance; bounds give some of the bias back for less of it. Which is "
        "best depends on how far the two policies are apart, so the effective share is worth a look every step.",
    )  # fmt: skip
