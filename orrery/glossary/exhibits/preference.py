"""Exhibits on preferences: losses as functions of the margin, gains and losses, the price of KL in a small world, pairs on a small model."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from orrery.evaluate import generators
from orrery.glossary.exhibit import Exhibit, Series
from orrery.glossary.exhibits._choosing import loop, taught
from orrery.kit.config import resolve
from orrery.kit.json_lines import write_rows
from orrery.kit.log import console, read_jsonl
from orrery.kit.seeds import torch_generator
from orrery.train.loss import Loss
from orrery.tune.examples import Renderer
from orrery.tune.preference.config import PreferenceConfig, needs_reference
from orrery.tune.preference.direct import dpo, hinge, implicit_rewards, ipo, robust_dpo
from orrery.tune.preference.kto import kto_value, prospect_value
from orrery.tune.preference.material import gather_comparisons
from orrery.tune.preference.pair_shapes import records_of
from orrery.tune.preference.pairs import PreferenceSet
from orrery.tune.preference.records import Ranked, pairs_of, pairs_of_thumbs, ranked_of, thumbs_of
from orrery.tune.preference.reference_free import orpo, simpo
from orrery.tune.preference.trainer import Preferred, prefer
from orrery.tune.rows import Row

BETA = 0.1
ANSWERS, PAIRS = 24, 4000
STEPS = 15
"""Of the small model on pairs."""


def losses_of_a_margin() -> Exhibit:
    """DPO, its smoothed and robust forms, IPO and hinge over the margin of log-ratios, at beta 0.1."""
    forms: dict[str, Callable[..., Loss]] = {
        "DPO": dpo,
        "smoothed by 0.1": lambda *four, beta: dpo(*four, beta=beta, label_smoothing=0.1),
        "robust to 0.1": lambda *four, beta: robust_dpo(*four, beta=beta, flipped=0.1),
        "hinge": hinge,
        "IPO / 25": lambda *four, beta: _scaled(ipo(*four, beta=beta), 1 / 25),
    }
    margins = torch.linspace(-20, 40, 61, dtype=torch.float64)
    zero = torch.zeros(1, dtype=torch.float64)
    curves = [
        Series(
            name=name,
            x=margins.tolist(),
            y=[float(form(m[None], zero, zero, zero, beta=BETA).sum) for m in margins],
        )
        for name, form in forms.items()
    ]
    rows = []
    for name, form in forms.items():
        at = torch.tensor([-10.0, 0.0, 5.0, 10.0, 40.0], dtype=torch.float64, requires_grad=True)
        none = torch.zeros(5, dtype=torch.float64)
        (slope,) = torch.autograd.grad(form(at, none, none, none, beta=BETA).sum, at)
        rows.append((name, *(round(value, 4) + 0.0 for value in slope.tolist())))
    return Exhibit(
        title="Losses of a pair whose better answer leads by d nats more than in the reference",
        columns=("slope at d =", "-10", "0", "5", "10", "40"),
        rows=rows,
        series=curves,
        x="d, nats",
        y="loss",
        reads="DPO never stops pushing, only less and less. Smoothing turns it round where it would be surer than the labels are, IPO at 1 / (2 beta) = 5, hinge stops at "
        "1 / beta = 10.",
    )  # fmt: skip


def gains_and_losses() -> Exhibit:
    """What KTO supposes a reward is worth to a person, beside the value that people gave to money (Tversky & Kahneman 1992)."""
    rewards = torch.linspace(-5, 5, 51, dtype=torch.float64)
    scale = float(prospect_value(torch.ones(1, dtype=torch.float64)))
    curves = [
        Series(name="KTO, both weigh 1", x=rewards.tolist(), y=kto_value(rewards).tolist()),
        Series(name="KTO, losses weigh 1.5", x=rewards.tolist(), y=kto_value(rewards, loss=1.5).tolist()),
        Series(
            name="people and money, scaled",
            x=rewards.tolist(),
            y=(0.2 * prospect_value(rewards) / scale).tolist(),
        ),
    ]
    rows = [
        (
            r,
            *(
                round(float(f(torch.tensor([r], dtype=torch.float64))), 3)
                for f in (kto_value, prospect_value)
            ),
        )
        for r in (-4.0, -1.0, 0.0, 1.0, 4.0)
    ]
    return Exhibit(
        title="Value against the reference point",
        columns=("gain", "KTO", "people and money"),
        rows=rows,
        series=curves,
        x="reward minus reference point",
        y="value",
        reads="Both bend the same way: each further gain and each further loss counts less. For people a loss of 1 weighs 2.25 gains of 1; KTO leaves that to two weights, and its "
        "value is bounded, so that an answer that is hopeless teaches little.",
    )  # fmt: skip


def price_of_distance() -> Exhibit:
    """DPO on noisy pairs in a world of 24 answers, for six prices beta: true reward against KL to the reference."""
    world = _World()
    rows, reached = [], []
    for beta in (2.0, 1.0, 0.5, 0.25, 0.1, 0.03):
        logits = world.learned(functools.partial(dpo, beta=beta))
        reward, kl = world.judged(logits)
        best = world.judged(world.start + world.reward / beta)
        implicit = implicit_rewards(logits.log_softmax(0), world.start, beta=beta)
        agreement = float(torch.corrcoef(torch.stack([implicit, world.reward]))[0, 1])
        reached.append((kl, reward))
        rows.append((beta, kl, reward, best[1], best[0], agreement))
    by_form = [world.judged(world.start + world.reward / b) for b in torch.logspace(1.3, -1.6, 40).tolist()]
    return Exhibit(
        title="The frontier of reward and KL",
        columns=("beta", "KL", "true reward", "KL of the best policy", "its reward", "implicit reward ~ true"),
        rows=[tuple(round(value, 3) for value in row) for row in rows],
        series=[
            Series(name="DPO", x=[kl for kl, _ in reached], y=[reward for _, reward in reached]),
            Series(name="start x exp(reward / beta)", x=[kl for _, kl in by_form], y=[reward for reward, _ in by_form]),
        ],
        x="KL to the reference, nats",
        y="mean true reward",
        reads="A lower price goes farther and earns more, less for each nat. DPO comes near the best policies without ever seeing a reward, and its implicit reward agrees with "
        "the true one as far as the pairs tell. At the lowest price it settles on an answer that the pairs overrate.",
    )  # fmt: skip


def certain_preferences() -> Exhibit:
    """Two answers, one of which always wins: the margin of DPO and of IPO, step by step."""
    curves, rows = [], []
    for name, loss in (("DPO", dpo), ("IPO", ipo)):
        logits = torch.zeros(2, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.Adam([logits], lr=0.05)
        start = torch.zeros(2, dtype=torch.float64).log_softmax(0)
        margins = []
        for _ in range(600):
            logp = logits.log_softmax(0)
            optimizer.zero_grad()
            loss(logp[:1], logp[1:], start[:1], start[1:], beta=BETA).sum.backward()
            optimizer.step()
            margins.append(float((logits[0] - logits[1]).detach()))
        curves.append(Series(name=name, x=list(range(600)), y=margins))
        chance = float(logits.detach().softmax(0)[1])
        rows.append(
            (name, round(margins[99], 2), round(margins[299], 2), round(margins[-1], 2), f"{chance:.1e}")
        )
    return Exhibit(
        title="A preference without exception, beta 0.1",
        columns=("loss", "margin after 100", "300", "600 steps", "chance of the worse answer"),
        rows=rows,
        series=curves,
        x="step",
        y="margin of log-ratios",
        reads="Whatever beta is, DPO drives the answer that never wins towards probability 0: a preference that is always the same asks for an infinite reward. IPO goes to "
        "1 / (2 beta) = 5 and stays.",
    )  # fmt: skip


def without_a_reference() -> Exhibit:
    """SimPO and ORPO worked by hand on four pairs that differ in length and in likelihood."""
    cases = {
        "clear lead": (-2.0, 4, -9.0, 6), "longer and likelier a token": (-6.0, 12, -5.0, 5), "shorter, less likely a token": (-4.0, 4, -6.0, 10),
        "wrong way round": (-12.0, 6, -2.0, 4),
    }  # fmt: skip
    rows = []
    for name, (won, n, lost, m) in cases.items():
        two = torch.tensor([won], dtype=torch.float64), torch.tensor([lost], dtype=torch.float64)
        lengths = torch.tensor([float(n)]), torch.tensor([float(m)])
        one, other = simpo(*two, lengths, beta=2.0, gamma=1.0), orpo(*two, lengths, weight=0.1)
        rows.append(
            (name, f"{won:g} / {n}", f"{lost:g} / {m}", float(one.stats["margin"]), float(one.sum), float(other.stats["log_odds_ratio"]),
             float(other.sum))
        )  # fmt: skip
    return Exhibit(
        title="Nats and tokens of the better and the worse answer, and what two losses make of them",
        columns=("pair", "better", "worse", "SimPO margin", "SimPO loss", "log odds ratio", "ORPO loss"),
        rows=[tuple(round(x, 3) if isinstance(x, float) else x for x in row) for row in rows],
        reads="Both look at means a token, so an answer does not lose for being long. SimPO wants a lead of gamma and has no other hold; most of ORPO's loss is that of learning "
        "the better answer.",
    )  # fmt: skip


def one_judgement_in_three_forms() -> Exhibit:
    """A ranking of four answers, two of them tied, as pairs and as thumbs, and the ranking that pairs give back."""
    (ranked,) = records_of(
        Row("example", {"prompt": "q", "answers": ["A", "B", "C", "D"], "ranks": [1, 0, 2, 1]})
    )
    assert isinstance(ranked, Ranked)
    rows = []
    for opposed in ("best-worst", "adjacent", "all"):
        pairs = pairs_of(ranked, opposed)
        thumbs = [thumb for pair in pairs for thumb in thumbs_of(pair)]
        back = ranked_of(pairs)[0]
        order = sorted(zip(back.ranks, (a[0]["content"] for a in back.answers), strict=True))
        rows.append(
            (opposed, " ".join(f"{p.chosen[0]['content']}>{p.rejected[0]['content']}" for p in pairs), len(thumbs),
             len(pairs_of_thumbs(thumbs)), " ".join(f"{name}:{rank}" for rank, name in order))
        )  # fmt: skip
    return Exhibit(
        title="B first, A and D tied, C last",
        columns=("opposed", "pairs", "thumbs", "pairs of those thumbs", "ranking of the pairs"),
        rows=rows,
        reads="All pairs say the most and weigh a prompt with many answers the heaviest. Thumbs forget what was compared with what: the pairs made of them again oppose every "
        "answer that was once liked to every one that was once not.",
    )  # fmt: skip


def pairs_on_a_small_model() -> Exhibit:
    """Four losses on a model that says a right and a wrong answer with equal chances: 15 steps, measured on pairs it never saw."""
    rows = []
    for loss in (
        {"kind": "dpo", "beta": 0.5},
        {"kind": "kto", "beta": 0.5},
        {"kind": "simpo"},
        {"kind": "orpo"},
    ):
        cfg, result, lines = _practised(loss)
        assert result.before is not None and result.after is not None
        sides = ("up", "down") if loss["kind"] == "kto" else ("chosen", "rejected")
        drift = [lines[-1][f"logp_{side}"] - lines[0][f"logp_{side}"] for side in sides]
        rows.append(
            (str(loss["kind"]), "yes" if needs_reference(cfg.loss) else "no", result.before.accuracy, result.after.accuracy, *drift, result.kl)
        )  # fmt: skip
    return Exhibit(
        title="Which answer does it rank higher, and where did the likelihoods go?",
        columns=("loss", "reference", "accuracy before", "after", "better answers, nats", "worse answers, nats", "KL to the start"),
        rows=[tuple(round(x, 3) if isinstance(x, float) else x for x in row) for row in rows],
        reads="All of them come to rank nearly every pair rightly, and the better answers grow likelier. DPO, KTO and SimPO push the worse ones down as well; ORPO hardly does: "
        "most of its loss is that of learning the better ones. (Nats: the last batch against the first.)",
    )  # fmt: skip


def _scaled(loss: Loss, factor: float) -> Loss:
    return Loss(loss.sum * factor, loss.weight, loss.stats)


class _World:
    """One prompt, answers with true rewards, a reference policy, and pairs judged with the noise of Bradley and Terry."""

    def __init__(self) -> None:
        generator = torch_generator(0, "preferences")
        self.reward = torch.randn(ANSWERS, generator=generator)
        self.start = torch.randn(ANSWERS, generator=generator).log_softmax(0)
        two = torch.multinomial(self.start.exp().expand(PAIRS, -1), 2, generator=generator)
        first = (
            torch.rand(PAIRS, generator=generator)
            < (self.reward[two[:, 0]] - self.reward[two[:, 1]]).sigmoid()
        )
        self.won = torch.where(first, two[:, 0], two[:, 1])
        self.lost = torch.where(first, two[:, 1], two[:, 0])

    def learned(self, loss: Callable[[Tensor, Tensor, Tensor, Tensor], Loss]) -> Tensor:
        """Logits of the policy that the loss makes of all pairs."""
        logits = self.start.clone().requires_grad_()
        optimizer = torch.optim.LBFGS([logits], max_iter=60)

        def closure() -> Tensor:
            optimizer.zero_grad()
            logp = logits.log_softmax(0)
            mean = loss(logp[self.won], logp[self.lost], self.start[self.won], self.start[self.lost]).mean()
            mean.backward()
            return mean

        optimizer.step(closure)
        return logits.detach()

    def judged(self, logits: Tensor) -> tuple[float, float]:
        """Mean true reward and KL to the reference."""
        logp = logits.log_softmax(0)
        return float(logp.exp() @ self.reward), float(logp.exp() @ (logp - self.start))


def _practised(loss: dict[str, Any]) -> tuple[PreferenceConfig, Preferred, list[dict[str, Any]]]:
    """The small model of the exhibits after some steps on pairs: capitals are right, small letters are wrong."""
    start = taught()
    cfg = resolve(PreferenceConfig, {"loss": loss, "loader": {"context": 64, "pairs": 8}})
    made = generators.rows("python_expression", n=80, seed=5, difficulty=1, split="train", kinds=["upper"])
    rows = [{"prompt": r["question"], "chosen": r["answer"], "rejected": r["answer"].lower()} for r in made]
    quiet, console.quiet = console.quiet, True
    with tempfile.TemporaryDirectory() as name:
        write_rows(Path(name) / "pairs.jsonl", rows)
        found = gather_comparisons(
            [PreferenceSet(paths=("pairs.jsonl",))], Renderer(tokenizer=start.tokenizer, chat=start.chat), cfg.loss, cfg.loader,
            root=Path(name), heldout=0.25,
        )  # fmt: skip
        try:
            result = prefer(cfg, loop(STEPS), lm=start.lm(), comparisons=found, out=Path(name) / "run")
        finally:
            console.quiet = quiet
        return cfg, result, read_jsonl(Path(name) / "run" / "metrics.jsonl")
