"""Exhibits of policy losses: hand cases of the clip, who weighs how much, all algorithms on one toy, entropy, dead groups."""

from __future__ import annotations

import torch
from torch import Tensor

from orrery.glossary.exhibit import Exhibit, Series
from orrery.glossary.exhibits import _sums, _tiny
from orrery.kit.seeds import torch_generator
from orrery.tune.rl.advantage import Baseline, advantages
from orrery.tune.rl.clipped_surrogate import clipped_surrogate
from orrery.tune.rl.dynamic_sampling import informative, resample
from orrery.tune.rl.explain import explanations
from orrery.tune.rl.policy_loss import Kind, policy_loss
from orrery.tune.rl.ratio import sequence_ratio, token_ratio


def clip_by_cases() -> Exhibit:
    """The clipped surrogate in its four corners, with clip-higher and the dual clip: loss, and gradient in the ratio."""
    rows = []
    for ratio, advantage in ((1.5, 1.0), (0.5, 1.0), (1.5, -1.0), (0.5, -1.0), (1.25, 1.0), (5.0, -1.0)):
        cells: list[float] = []
        for settings in ({}, {"clip_high": 0.28}, {"dual_clip": 3.0}):
            r = torch.tensor([ratio], requires_grad=True)
            loss = clipped_surrogate(r, torch.tensor([advantage]), **settings)
            cells += [loss.item(), torch.autograd.grad(loss.sum(), r)[0].item() + 0.0]
        rows.append((ratio, advantage, *cells))
    return Exhibit(
        title="-min(rho A, clip(rho) A): each loss with its slope",
        columns=("rho", "A", "0.2 / 0.2", "slope", "0.2 / 0.28", "slope", "dual clip 3", "slope"),
        rows=rows,
        reads="The slope is 0 only where the ratio has gone beyond the bound in the direction that the advantage wants. A bad token that has become five times likelier has "
        "the full slope still, unless the dual clip ends it.",
    )


def group_relative_by_hand() -> Exhibit:
    """Five groups of rewards and what each baseline makes of them."""
    groups = {"one of four right": [1, 0, 0, 0], "half right": [1, 1, 0, 0], "all right": [1, 1, 1, 1], "all wrong": [0, 0, 0, 0], "graded": [0.1, 0.2, 0.3, 1.0]}  # fmt: skip
    rows = []
    for name, values in groups.items():
        rewards, group = torch.tensor(values, dtype=torch.float64), torch.zeros(4, dtype=torch.int64)
        cells = [
            ", ".join(f"{a:+.2f}" for a in advantages(kind, rewards, group).tolist())
            for kind in ("group", "group-centred", "leave-one-out")
        ]
        rows.append((name, *cells))
    return Exhibit(
        title="Advantages of four answers to one prompt",
        columns=("rewards", "group: (r - mean) / std", "group-centred: r - mean", "leave-one-out"),
        rows=rows,
        reads="The group is its own baseline: no critic is needed. Where all answers are worth the same there is nothing to learn, whether they are right or wrong. "
        "Divided by the deviation the only right answer of a hard prompt counts more than one of many.",
    )  # fmt: skip


def sequence_ratios_vary_less() -> Exhibit:
    """Ratios of tokens and of whole answers after the same small change of a policy: their spread, by length."""
    rows = []
    for length in (4, 16, 64, 256):
        owner = torch.arange(256).repeat_interleave(length)
        noise = 0.1 * torch.randn(len(owner), generator=torch_generator(0, "gspo", length))
        tokens, whole = token_ratio(noise), sequence_ratio(noise, owner)
        product = token_ratio(noise.view(256, length).sum(1))
        rows.append((length, float(tokens.std()), float(whole.std()), float(product.std())))
    return Exhibit(
        title="Log-ratios of tokens drawn with a deviation of 0.1",
        columns=("tokens an answer", "token ratios (GRPO)", "geometric mean (GSPO)", "product"),
        rows=rows,
        reads="The product of all ratios is the right weight of an answer and useless for long ones. Its length-th root varies less the longer the answer is, so GSPO can clip "
        "at 3e-4 and 4e-4, a whole answer at a time.",
    )  # fmt: skip


ALGORITHMS: tuple[tuple[str, Kind, Baseline], ...] = (
    ("REINFORCE, no baseline", "reinforce", "none"),
    ("RLOO", "reinforce", "leave-one-out"),
    ("REINFORCE++", "ppo", "global"),
    ("GRPO", "grpo", "group"),
    ("Dr. GRPO", "dr-grpo", "group-centred"),
    ("DAPO's clip and mean", "dapo", "group"),
    ("GSPO", "gspo", "group"),
    ("CISPO", "cispo", "group"),
)


def algorithms_on_sums() -> Exhibit:
    """Eight critic-free algorithms on one small task with the same samples a step: reward, entropy, what was clipped."""
    rows, curves = [], []
    for name, kind, baseline in ALGORITHMS:
        _, seen = _sums.train(kind, baseline)
        rows.append((name, seen.reward[0], _sums.tail(seen.reward), _sums.tail(seen.entropy), _sums.tail(seen.dead), max(seen.clip_low), max(seen.clip_high)))  # fmt: skip
        curves.append(Series(name=name, x=list(range(len(seen.reward))), y=_tiny.smooth(seen.reward)))
    return Exhibit(
        title="Two digits whose sum ends as asked: 60 updates of 4 prompts x 16 answers, 4 passes each, plain gradient descent",
        columns=("algorithm", "right at first", "in the last ten", "entropy (nats)", "dead groups", "most clipped low", "high"),
        rows=rows,
        series=curves,
        x="update", y="share of right answers",
        reads="All learn it. They differ in how far four passes over the same answers may go, and in what is left of the ten right answers: a policy that knows "
        "one is paid as well as one that knows all. The rate is not tuned to each, so the order is not a ranking.",
    )  # fmt: skip


def fresh_and_stale_samples() -> Exhibit:
    """The same number of passes over samples that are fresh, one, three and seven updates old."""
    rows = []
    for age in (1, 2, 4, 8):
        _, free = _sums.train("reinforce", "group", passes=2, keep_every=age, lr=8.0, updates=48)
        _, held = _sums.train("grpo", "group", passes=2, keep_every=age, lr=8.0, updates=48)
        rows.append((
            age - 1, 48 // age, _sums.tail(free.reward), max(free.first_gap),
            _sums.tail(held.reward), max(held.first_gap), max(low + high for low, high in zip(held.clip_low, held.clip_high, strict=True)),
        ))  # fmt: skip
    return Exhibit(
        title="48 updates of 2 passes each; answers are drawn again every so many updates",
        columns=(
            "staleness, updates",
            "draws",
            "REINFORCE: right",
            "largest |ratio - 1| at first",
            "GRPO: right",
            "largest |ratio - 1| at first",
            "most clipped",
        ),
        rows=rows,
        reads="On policy each update begins with a ratio of exactly 1. From an old draw REINFORCE goes on as if it were fresh, up to twelve times away from what drew it; it is forgiven here because "
        "a right answer stays right. The clip lets one draw move the policy by a fifth or so and no further, so with few draws little is learned.",
    )  # fmt: skip


def entropy_collapse_and_what_holds_it() -> Exhibit:
    """GRPO until it knows one answer, and the same with an entropy bonus: entropy, and how many right answers are left."""
    rows, curves = [], []
    for name, bonus in (("GRPO", 0.0), ("entropy bonus 0.02", 0.02), ("entropy bonus 0.05", 0.05)):
        _, seen = _sums.train("grpo", "group", updates=100, passes=8, lr=10.0, entropy_bonus=bonus)
        rows.append((name, seen.entropy[0], _sums.tail(seen.entropy), _sums.tail(seen.reward), seen.answers[-1], _sums.tail(seen.dead)))  # fmt: skip
        curves.append(Series(name=name, x=list(range(100)), y=_tiny.smooth(seen.entropy)))
    return Exhibit(
        title="Ten answers are right to each prompt, and any one of them is paid in full",
        columns=("loss", "entropy at first", "at the end (nats)", "right", "right answers still known", "dead groups"),
        rows=rows,
        series=curves,
        x="update", y="nats a token",
        reads="Whichever right answer is drawn first becomes likelier and is drawn again: reward goes to 1, entropy to 0, groups die and learning ends. A "
        "price on certainty keeps several answers alive for a little reward.",
    )  # fmt: skip


def clip_higher_without_a_signal() -> Exhibit:
    """Entropy of a policy under rewards that are coin tosses, with the upper clip at 0.2, 0.28 and 0.4."""
    rows, curves = [], []
    for rate in (2.0, 8.0):
        for high in (0.2, 0.28, 0.4):
            entropies = _coin_tosses(high, rate)
            rows.append((rate, high, entropies[0], entropies[29], entropies[-1]))
            if rate == 2.0:
                curves.append(Series(name=f"high {high}", x=list(range(60)), y=entropies))
    return Exhibit(
        title="60 updates, 64 draws of 50 actions with Zipf's frequencies, 8 passes; mean of 16 policies",
        columns=("rate", "clip high", "entropy at first", "after 30", "after 60 (nats)"),
        rows=rows,
        series=curves,
        x="update", y="nats",
        reads="Nothing is to be learned here, yet the entropy falls: a token may gain a fifth and lose a fifth, and 1.2 x 0.8 is less than 1, which is worst for rare ones. A higher upper "
        "clip (DAPO) lets them come back. It is no law: at four times the step it is the other way round, as more clip means larger random steps.",
    )  # fmt: skip


def _coin_tosses(
    high: float, rate: float, *, policies: int = 16, draws: int = 64, actions: int = 50
) -> list[float]:
    generator = torch_generator(0, "coin tosses")
    logits = (-torch.arange(1, actions + 1).double().log()).repeat(policies, 1).requires_grad_()
    owner, group = torch.arange(policies * draws), torch.arange(policies).repeat_interleave(draws)
    entropies = []
    for _ in range(60):
        old = logits.detach().log_softmax(-1)
        entropies.append(float(-(old.exp() * old).sum(-1).mean()))
        drawn = torch.multinomial(old.exp(), draws, replacement=True, generator=generator)
        tosses = (torch.rand(policies * draws, generator=generator) < 0.5).double()
        a, before = advantages("group", tosses, group), old.gather(1, drawn).flatten()
        for _ in range(8):
            now = logits.log_softmax(-1).gather(1, drawn).flatten()
            loss = policy_loss("dapo", now - before, now, a, owner, clip_high=high).mean() * policies
            (slope,) = torch.autograd.grad(loss, logits)
            with torch.no_grad():
                logits -= rate * slope
    return entropies


def dead_groups_and_resampling() -> Exhibit:
    """Prompts of several difficulties: how many groups teach, and how many must be drawn to fill a batch with such."""
    rows = []
    for chance in (0.02, 0.1, 0.5, 0.9, 0.98):
        generator = torch_generator(0, "dead groups", str(chance))

        def draw(
            _: int, n: int, chance: float = chance, generator: torch.Generator = generator
        ) -> list[Tensor]:
            return list((torch.rand(n, 8, generator=generator) < chance).float())

        found = resample(
            draw, lambda rewards: bool(informative(rewards, torch.zeros(8)).all()), wanted=64, rounds=200
        )
        plain = draw(0, 2000)
        dead = sum(not bool(informative(rewards, torch.zeros(8)).any()) for rewards in plain) / len(plain)
        rows.append((chance, chance**8 + (1 - chance) ** 8, dead, found.drawn, len(found.groups)))
    said = explanations(
        rewards=torch.ones(8), group=torch.zeros(8), advantages=torch.zeros(8), log_ratio=torch.zeros(8), owner=torch.arange(8),
        aggregation="token",
    )  # fmt: skip
    return Exhibit(
        title="Groups of 8 answers, right with the probability given",
        columns=("chance of a right answer", "dead, expected", "dead, of 2,000", "drawn for 64 live groups", "got"),
        rows=rows,
        reads=f"Too easy and too hard look alike to a group-relative loss. A batch of dead groups alone is explained in the log: '{said[0]}'. Drawing others keeps the batch full, "
        "and costs answers that are thrown away.",
    )  # fmt: skip


def best_of_n_by_a_proxy() -> Exhibit:
    """Goodhart's law in one draw: the best of n by a measure that is the truth plus an error, as n grows."""
    generator = torch_generator(0, "goodhart")
    trials = 2000
    rows = []
    sizes = [1, 2, 4, 16, 64, 256, 1024]
    for n in sizes:
        gold = torch.randn(trials, n, generator=generator)
        light = gold + torch.randn(trials, n, generator=generator)
        heavy = (
            gold
            + 0.3
            * torch.randn(trials, n, generator=generator)
            / torch.rand(trials, n, generator=generator).sqrt()
        )
        cells: list[float] = []
        for proxy in (light, heavy):
            at = proxy.argmax(1, keepdim=True)
            cells += [float(proxy.gather(1, at).mean()), float(gold.gather(1, at).mean())]
        rows.append((n, *cells))
    names = (
        (1, "measure, light tails"),
        (2, "truth, light tails"),
        (3, "measure, heavy tails"),
        (4, "truth, heavy tails"),
    )
    return Exhibit(
        title="The truth is a standard normal; the measure adds a normal error, or one with heavy tails",
        columns=("best of n", "measure", "truth", "measure, heavy tails", "truth"),
        rows=rows,
        series=[Series(name=name, x=sizes, y=[row[i] for row in rows]) for i, name in names],
        x="n", y="mean of the chosen", log_x=True,
        reads="What is chosen for its score is chosen for the score's error too. With light tails half of what is gained is real at any pressure; with heavy tails, past some n the best scores are "
        "errors, and pressing harder makes the truth worse while the measure soars.",
    )  # fmt: skip
