"""Exhibits on reward models: comparisons that become strengths and scores, what a judge gains, and how an ensemble holds it honest."""

from __future__ import annotations

import functools
import tempfile
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from orrery.evaluate.statistics.bradley_terry import strengths
from orrery.glossary.exhibit import Exhibit, Series
from orrery.glossary.exhibits._choosing import loop
from orrery.glossary.exhibits._stepping import (
    careless,
    judge_from,
    labeller,
    outcomes_of,
    pairs_by_capitals,
    problems,
)
from orrery.kit.config import resolve
from orrery.kit.log import console, read_jsonl
from orrery.tune.preference.records import Thumb
from orrery.tune.reward.losses import ranking_loss
from orrery.tune.reward.model import RewardModel, as_learned, combined
from orrery.tune.reward.trainer import RewardResult
from orrery.tune.rl.config import RlConfig
from orrery.tune.rl.problems import Problems
from orrery.tune.rl.trainer import reinforce

PLANTED = (-1.5, -0.5, 0.0, 0.7, 1.3)


def strengths_from_comparisons() -> Exhibit:
    """Five strengths are planted, comparisons drawn from them, and the strengths fitted back from who won."""
    true = np.array(PLANTED)
    chance = 1 / (1 + np.exp(true[None, :] - true[:, None]))  # row beats column
    fitted = []
    for each in (10, 100, 10_000):
        draws = np.random.default_rng(0).binomial(each, np.triu(chance, 1))
        fitted.append(strengths((draws + np.triu(each - draws, 1).T).astype(np.float64)))
    rows = [[str(i + 1), f"{s:+.2f}", *(f"{found[i]:+.2f}" for found in fitted)] for i, s in enumerate(true)]
    off = [float(np.abs(found - true).max()) for found in fitted]
    return Exhibit(
        title="strengths, planted and fitted",
        reads=f"A strength is worth nothing alone: the chance to win is the sigmoid of a difference, so all are told up to a constant. The "
        f"largest error falls from {off[0]:.2f} to {off[2]:.2f} nats as comparisons become many.",
        columns=["item", "planted", "10 a pair", "100 a pair", "10,000 a pair"],
        rows=rows,
    )


def order_by_pairs() -> Exhibit:
    """A linear scorer learns the order of short lists by RankNet's loss; how often it has two items of new lists the right way round."""
    g = torch.Generator().manual_seed(0)
    true = torch.randn(8, generator=g)
    lists = torch.randn(60, 5, 8, generator=g)
    grades = (lists @ true + 0.5 * torch.randn(60, 5, generator=g)).argsort(1).argsort(1)
    weight = torch.zeros(8, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.5)
    losses, right = [], []
    steps = list(range(0, 60, 3))
    for step in range(60):
        if step in steps:
            with torch.no_grad():
                found = [ranking_loss(x @ weight, y) for x, y in zip(lists[40:], grades[40:], strict=True)]
            losses.append(float(sum(one.sum for one in found) / 20))
            right.append(float(sum(one.stats["accuracy"] for one in found) / 20))
        made = [ranking_loss(x @ weight, y) for x, y in zip(lists[:40], grades[:40], strict=True)]
        optimizer.zero_grad()
        (sum(one.sum for one in made) / sum(one.weight for one in made)).backward()  # type: ignore[union-attr]
        optimizer.step()
    return Exhibit(
        title="learning to rank by pairs",
        reads=f"Only orders were shown, never scores. Of two items in lists it has not seen, {right[-1]:.0%} stand the right way round; the "
        "rest is noise in the orders themselves. Before the first step all scores are equal, which counts as half right.",
        series=[
            Series(name="pair accuracy", x=steps, y=right),
            Series(name="loss, nats a pair", x=steps, y=losses),
        ],
        x="step",
        y="held-out lists",
    )


def noisy_judges_together() -> Exhibit:
    """Best of n by one noisy judge, and by five that agree in three ways: the reward they saw and the reward there was."""
    g = torch.Generator().manual_seed(3)
    questions, answers, members = 400, 128, 5
    gold = torch.randn(questions, answers, generator=g)
    noise = torch.randn(members, questions, answers, generator=g) * (
        1 + 4 * (torch.rand(members, questions, answers, generator=g) < 0.03)
    )  # each judge badly overrates a few answers of its own
    seen = gold + noise
    judges = {
        "one judge": seen[0], "mean of five": combined(seen, "mean"), "worst of five": combined(seen, "min"),
        "mean less one std": combined(seen, "pessimist", 1.0),
    }  # fmt: skip
    rows, gaps = [], {}
    for name, scores in judges.items():
        found = []
        for n in (1, 8, 128):
            best = scores[:, :n].argmax(1, keepdim=True)
            found.append((float(scores.gather(1, best).mean()), float(gold.gather(1, best).mean())))
        gaps[name] = found[-1][0] - found[-1][1] - (found[0][0] - found[0][1])
        rows.append([name, *(f"{true:.2f}" for _, true in found), f"{gaps[name]:.2f}"])
    return Exhibit(
        title="best of n against judges that err",
        reads=f"Choosing among 128 by one judge finds its errors: its reward has grown {gaps['one judge']:.1f} further than the true one. What "
        f"one member overrates the others do not, so for the mean of five that gap is {gaps['mean of five']:.1f}, and the true reward is higher.",
        columns=["judge", "true reward, n=1", "n=8", "n=128", "gap grown by n=128"],
        rows=rows,
    )


@functools.cache
def _preferred() -> tuple[RewardModel, RewardResult]:
    learned, heldout = (pairs_by_capitals(heldout=side) for side in (False, True))
    return judge_from(learned, heldout, "pair")


def a_judge_of_two_answers() -> Exhibit:
    """A model learns from pairs which of its answers are preferred; on questions it has not seen."""
    model, result = _preferred()
    assert result.before is not None and result.after is not None
    asked = {"role": "user", "content": "stone garden"}
    said = ["STONE\nGARDEN", "STONE\ngarden", "stone\ngarden"]
    scores = model.score([[asked, {"role": "assistant", "content": text}] for text in said]).tolist()
    shown = ", ".join(
        f"{text.replace(chr(10), ' ')} {value:+.1f}" for text, value in zip(said, scores, strict=True)
    )
    rows = [
        [name, *(f"{value:.2f}" for value in (j.accuracy.mean, j.accuracy.low, j.margin, j.nll, j.ece))]
        for name, j in (("before", result.before), ("after", result.after))
    ]
    return Exhibit(
        title="pairs told apart",
        reads=f"Preferred are answers with more capitals; nobody said so, pairs did. Scores of three answers to one question: {shown}. "
        f"Measured on {result.after.accuracy.n} pairs of held-out questions.",
        columns=["", "pair accuracy", "95% from", "mean lead, nats", "loss", "calibration error"],
        rows=rows,
    )


def _by_question(answers: Sequence[Thumb]) -> Mapping[str, list[Thumb]]:
    asked: dict[str, list[Thumb]] = defaultdict(list)
    for one in answers:
        asked[str(one.messages[0]["content"])].append(one)
    return asked


def judges_of_ends_and_steps() -> Exhibit:
    """The same answers with a label at the end, or on every step by rollouts: two judges, and what choosing by each gains."""
    rows, heldout = (labeller(int(side)).steps(problems(heldout=side)) for side in (False, True))
    steps, judged = judge_from(rows, heldout, "process")
    ends, told = judge_from(outcomes_of(rows), outcomes_of(heldout), "outcome")
    groups = _by_question(labeller(7, responses=16).verdicts(problems(heldout=True))).values()

    def share(choose: Any) -> str:
        return f"{sum(choose(group) for group in groups) / len(groups):.2f}"

    def majority(group: Sequence[Thumb]) -> bool:
        text = Counter(one.answer[0]["content"] for one in group).most_common(1)[0][0]
        return next(one.up for one in group if one.answer[0]["content"] == text)

    def best(model: RewardModel) -> Any:
        return lambda group: (
            group[int(model.score([[*one.messages, *one.answer] for one in group]).argmax())].up
        )

    assert told.after is not None and judged.after is not None
    table = [
        ["one answer", "", "", share(lambda group: sum(one.up for one in group) / len(group))],
        ["the most frequent answer", "", "", share(majority)],
        ["best by a judge of ends", f"{told.after.accuracy.mean:.2f}", f"{told.after.auc:.2f}", share(best(ends))],
        ["best by a judge of steps", f"{judged.after.accuracy.mean:.2f}", f"{judged.after.auc:.2f}", share(best(steps))],
        ["any of them is right", "", "", share(lambda group: any(one.up for one in group))],
    ]  # fmt: skip
    return Exhibit(
        title="16 answers to each question, one taken",
        reads=f"The model slips on most steps, always in the same way, so the majority is wrong. From the same {len(rows)} answers the judge of "
        "ends learns that most are wrong; the judge of steps, whose labels are whether any of 8 rollouts from there came out right, learns "
        "which step was.",
        columns=["choice", "held-out accuracy", "AUC", "questions right"],
        rows=table,
    )


def preferences_to_policy() -> Exhibit:
    """Lessons, a reward model from pairs, PPO with a KL price: the learned reward that was paid, and the capitals that were wanted."""
    lines = practised_for(_preferred()[0], rounds=16)
    return Exhibit(
        title="a policy that practises for a learned reward",
        reads=f"The share of capital words, which no one pays for directly, goes from {lines[0]['true']:.2f} to {lines[-1]['true']:.2f}; the KL to "
        f"the start is {lines[-1]['kl_start']:.2f} nats a token at the end.",
        series=[
            Series(name=name, x=[line["step"] for line in lines], y=[line[key] for line in lines])
            for name, key in (("learned reward", "reward"), ("capitals (true)", "true"), ("KL to the start", "kl_start"))
        ],
        x="round",
        y="mean over answers",
    )  # fmt: skip


def practised_for(model: RewardModel, *, rounds: int, beta: float = 0.05) -> list[dict[str, Any]]:
    """Metrics of rounds of PPO from the careless model, with the true reward of each round's answers as "true"."""
    true: list[float] = []
    learned = as_learned(model)

    def heard(conversations: Sequence[Sequence[Mapping[str, Any]]]) -> Sequence[float]:
        words = [str(said[-1]["content"]).split() for said in conversations]
        true.append(sum(sum(word.isupper() for word in one[:2]) / 2 for one in words) / len(words))
        return learned(conversations)

    cfg = resolve(
        RlConfig,
        {
            "problems": [{"paths": ["words.jsonl"]}], "heldout": 0, "rewards": [{"kind": "learned"}],
            "algorithm": {"kind": "ppo"}, "kl": {"beta": beta, "place": "reward", "measure_every": 1},
            "rollout": {"prompts": 8, "responses": 4, "max_tokens": 12},
        },
    )  # fmt: skip
    asked = Problems(sets=(problems(heldout=False),), heldout=())
    quiet, console.quiet = console.quiet, True
    try:
        with tempfile.TemporaryDirectory() as folder:
            reinforce(cfg, loop(rounds), lm=careless().lm(), problems=asked, out=folder, learned=heard)
            lines = read_jsonl(Path(folder) / "metrics.jsonl")
    finally:
        console.quiet = quiet
    return [{**line, "true": value} for line, value in zip(lines, true, strict=True)]
