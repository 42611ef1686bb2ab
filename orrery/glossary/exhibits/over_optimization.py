"""Exhibits on pressing a proxy: what a price on the distance from the start holds, and what several proxies that err differently do.

A policy over 512 answers. Gold is what was meant; a proxy is gold with an error, which on a few answers is large.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from orrery.glossary.exhibit import Exhibit, Series
from orrery.kit.seeds import torch_generator
from orrery.tune.rl.advantage import advantages
from orrery.tune.rl.kl import proportional_beta, rewards_with_kl
from orrery.tune.rl.policy_loss import policy_loss

ANSWERS, DRAWN, STEPS, EVERY = 512, 256, 400, 20
RATE = 0.02
OVERRATED = 6
"""Answers that a proxy has never seen the like of."""

Price = Callable[[float], float]
"""The KL now -> the price of a nat of it."""


@dataclass
class Way:
    """Where a policy came by on its way, every so many steps: square root of its KL, the mean proxy and the mean gold."""

    distance: list[float] = field(default_factory=list)
    proxy: list[float] = field(default_factory=list)
    gold: list[float] = field(default_factory=list)


def _world(proxies: int = 1) -> tuple[Tensor, Tensor]:
    """Gold, (ANSWERS,), and proxies of it, (proxies, ANSWERS), each of which overrates answers of its own that are worse than most."""
    generator = torch_generator(4, "proxies")
    gold = torch.randn(ANSWERS, generator=generator)
    measures = gold + 0.5 * torch.randn(proxies, ANSWERS, generator=generator)
    for n in range(proxies):
        own = slice(n * OVERRATED, (n + 1) * OVERRATED)
        measures[n, own] += 4.0
        gold[own] -= 1.0
    return gold, measures


def _practise(proxy: Tensor, gold: Tensor, price: Price) -> Way:
    """REINFORCE from an even start; the price of distance stands in the reward (Ziegler et al. 2019)."""
    generator = torch_generator(0, "practice")
    start = torch.zeros(ANSWERS).log_softmax(0)
    logits = torch.zeros(ANSWERS, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=RATE)
    owner, group, way = torch.arange(DRAWN), torch.zeros(DRAWN, dtype=torch.int64), Way()
    for step in range(STEPS + 1):
        logp = logits.log_softmax(0)
        p = logp.detach().exp()
        kl = float(p @ (logp.detach() - start))
        if step % EVERY == 0:
            way.distance.append(max(kl, 0.0) ** 0.5)
            way.proxy.append(float(p @ proxy))
            way.gold.append(float(p @ gold))
        drawn = torch.multinomial(p, DRAWN, replacement=True, generator=generator)
        chosen = logp[drawn]
        paid = rewards_with_kl(proxy[drawn], chosen, start[drawn], owner, beta=price(kl))
        loss = policy_loss(
            "reinforce", chosen - chosen.detach(), chosen, advantages("mean", paid, group), owner
        )
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
    return way


def a_price_on_distance() -> Exhibit:
    """The same proxy pressed with four prices of KL, and with one that follows a target: where each ends, and what the formula says."""
    gold, (proxy,) = _world()
    follows = _Follows(target=0.36)
    prices: dict[str, Price] = {f"{beta:g}": lambda _, beta=beta: beta for beta in (0.0, 0.7, 1.2, 3.0)}
    rows, curves = [], []
    for name, price in {**prices, "follows": follows}.items():
        way = _practise(proxy, gold, price)
        beta = max(price(way.distance[-1] ** 2), 1e-3)
        rows.append(
            (
                name,
                beta,
                way.distance[-1],
                way.proxy[-1],
                way.gold[-1],
                max(way.gold),
                float((proxy / beta).softmax(0) @ gold),
            )
        )
        curves.append(Series(name=f"gold, beta {name}", x=way.distance, y=way.gold))
        if name == "0":
            curves.append(Series(name="proxy, beta 0", x=way.distance, y=way.proxy))
    return Exhibit(
        title="A price on the distance ends the search where another nat costs what it brings",
        columns=("price", "beta at the end", "sqrt KL at the end", "proxy", "gold", "best gold on the way", "gold of p0 exp(proxy / beta)"),
        rows=rows,
        series=curves,
        x="square root of KL from the start", y="reward",
        reads="Free of charge, gold goes past its top and down while the proxy rises. With a price the policy comes to rest where the formula says, before it is all in what the "
        "proxy overrates; too dear, and little is gained. The price does not make the proxy right: the best gold on the way, which nobody sees who has the proxy alone, "
        "is above what any price keeps here. Set by a target of KL, it needs no guess at the scale of rewards.",
    )  # fmt: skip


@dataclass
class _Follows:
    """A price that moves towards a target of KL, by 2% a step at most."""

    target: float
    beta: float = 1.0

    def __call__(self, kl: float) -> float:
        self.beta = proportional_beta(self.beta, kl, target=self.target, horizon=10 * DRAWN, samples=DRAWN)
        return self.beta


def several_proxies() -> Exhibit:
    """Five proxies that err on different answers: pressed alone, by their mean, by the least of them, and by mean less spread."""
    gold, measures = _world(5)
    joined = {
        "one alone": measures[0],
        "mean of five": measures.mean(0),
        "mean less spread": measures.mean(0) - measures.std(0),
        "least of five": measures.min(0).values,
    }
    rows, curves = [], []
    for name, proxy in joined.items():
        way = _practise(proxy, gold, lambda _: 0.0)
        rows.append(
            (name, way.proxy[-1], way.gold[-1], max(way.gold), way.distance[way.gold.index(max(way.gold))])
        )
        curves.append(Series(name=name, x=way.distance, y=way.gold))
    return Exhibit(
        title="Gold reward under pressure on one proxy and on several together, without any price on distance",
        columns=("what is maximised", "its value at the end", "gold at the end", "best gold", "at sqrt KL"),
        rows=rows,
        series=curves,
        x="square root of KL from the start", y="gold reward",
        reads="An answer that one proxy overrates is not overrated by the others. The mean thins the error out, the least of them shuts it out, and so does a price on "
        "disagreement. What all of them overrate, which is common for reward models from the same data, nothing of this would find.",
    )  # fmt: skip
