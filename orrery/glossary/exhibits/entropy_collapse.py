"""Exhibits on certainty that comes too soon: what a policy can still learn afterwards, and what the upper clip holds back."""

from __future__ import annotations

import torch
from torch import Tensor

from orrery.glossary.exhibit import Exhibit, Series
from orrery.kit.seeds import torch_generator
from orrery.tune.rl.advantage import advantages
from orrery.tune.rl.dynamic_sampling import dead_groups
from orrery.tune.rl.entropy import entropy_of
from orrery.tune.rl.kl import token_kl
from orrery.tune.rl.policy_loss import policy_loss

PROMPTS, ANSWERS, DRAWN = 16, 40, 16
RIGHT = 8
"""Answers that are right to each prompt at first."""


class _Table:
    """A row of logits for each prompt, answers of one token, and updates by policy_loss from groups of answers."""

    def __init__(self, logits: Tensor, name: str) -> None:
        self.logits = logits.clone().requires_grad_()
        self.start = logits.log_softmax(-1)
        self.generator = torch_generator(0, name)
        self.dead = 0.0

    def entropy(self) -> float:
        return float(entropy_of(self.logits.detach().log_softmax(-1)).mean())

    def share(self, right: Tensor) -> float:
        """How often an answer that is `right`, (prompts, answers) of 0 and 1, is drawn."""
        return float((self.logits.detach().softmax(-1) * right).sum(-1).mean())

    def update(
        self, right: Tensor, *, drawn: int = DRAWN, passes: int = 4, rate: float = 1.0, clip_high: float = 0.2,
        bonus: float = 0.0, beta: float = 0.0,
    ) -> None:  # fmt: skip
        """Draw a group to each prompt, then so many steps of plain gradient descent on it."""
        prompts = len(self.logits)
        old = self.logits.detach().log_softmax(-1)
        picked = torch.multinomial(old.exp(), drawn, replacement=True, generator=self.generator)
        rewards = right.gather(1, picked).flatten().double()
        owner, group = torch.arange(prompts * drawn), torch.arange(prompts).repeat_interleave(drawn)
        self.dead = float(dead_groups(rewards, group).double().mean())
        gained, before = advantages("group", rewards, group), old.gather(1, picked).flatten()
        reference = self.start.gather(1, picked).flatten()
        for _ in range(passes):
            logp = self.logits.log_softmax(-1)
            now = logp.gather(1, picked).flatten()
            ratio = now - before
            loss = policy_loss("dapo", ratio, now, gained, owner, clip_high=clip_high).mean()
            loss = (
                loss
                - bonus * entropy_of(logp).mean()
                + beta * token_kl(now, reference, log_ratio=ratio).mean()
            )
            (slope,) = torch.autograd.grad(loss * prompts, self.logits)
            with torch.no_grad():
                self.logits -= rate * slope


WAYS: tuple[tuple[str, dict[str, float]], ...] = (
    ("GRPO", {}),
    ("clip high 0.28", {"clip_high": 0.28}),
    ("entropy bonus 0.05", {"bonus": 0.05}),
    ("KL to the start 0.1", {"beta": 0.1}),
)


def learning_after_the_collapse() -> Exhibit:
    """Eight answers to each prompt are right; later only one of these is: who can still find it, and how certain each had become."""
    first = torch.zeros(PROMPTS, ANSWERS).double()
    first[:, :RIGHT] = 1
    later = torch.zeros_like(first)
    later[torch.arange(PROMPTS), torch.arange(PROMPTS) % RIGHT] = 1
    rows, curves = [], []
    for name, terms in WAYS:
        table = _Table(torch.zeros(PROMPTS, ANSWERS).double(), "collapse")
        right, entropy, dead = [], [], []
        for step in range(160):
            wanted = first if step < 100 else later
            table.update(wanted, **terms)  # type: ignore[bad-argument-type]
            right.append(table.share(wanted))
            entropy.append(table.entropy())
            dead.append(table.dead)
        rows.append((name, entropy[99], right[99], right[100], dead[100], right[-1]))
        curves.append(Series(name=name, x=list(range(160)), y=right))
    return Exhibit(
        title="16 prompts, 40 answers, groups of 16; from update 100 on, one of the eight right answers is right",
        columns=("loss", "entropy at 100 (nats)", "right at 100", "right just after", "dead groups just after", "right at 160"),
        rows=rows,
        series=curves,
        x="update", y="share of right answers",
        reads="By their reward the four are alike at update 100. By what they can still learn they are not: a policy that says one thing draws groups that agree, and such groups "
        "teach nothing. A higher clip alone holds nothing where every right answer is paid alike; a price on certainty, or on distance from the start, does.",
    )  # fmt: skip


def clip_higher_on_a_rare_answer() -> Exhibit:
    """A right answer of probability 0.01 beside a wrong one of 0.8: its probability over updates, by the upper clip."""
    policies = 16
    p = torch.full((policies, 20), 0.19 / 18).double()
    p[:, 0], p[:, 1] = 0.8, 0.01
    right = torch.zeros_like(p)
    right[:, 1] = 1
    rows, curves = [], []
    for high in (0.2, 0.28, 0.4, 1.0):
        table = _Table(p.log(), "rare")
        chance, grown = [table.share(right)], [1.0]
        for _ in range(40):
            before = table.logits.detach().softmax(-1)[:, 1]
            table.update(right, drawn=64, passes=16, rate=0.2, clip_high=high)
            chance.append(table.share(right))
            grown.append(float((table.logits.detach().softmax(-1)[:, 1] / before).max()))
        half = next((n for n, share in enumerate(chance) if share >= 0.5), None)
        rows.append((high, chance[10], chance[20], "not in 40" if half is None else half, max(grown)))
        curves.append(Series(name=f"high {high:g}", x=list(range(41)), y=chance))
    return Exhibit(
        title="A rare right answer, groups of 64, 16 passes an update; mean of 16 policies",
        columns=("clip high", "probability after 10", "after 20", "updates to one half", "largest growth in an update"),
        rows=rows,
        series=curves,
        x="update", y="probability of the right answer",
        reads="Where a token's ratio passes the bound its own gradient is gone, so a bound of 0.2 holds back what is rare, however right it is (it grows further only as wrong answers sink), "
        "while what is common never meets a bound. A higher one is worth most where something rare is right.",
    )  # fmt: skip
