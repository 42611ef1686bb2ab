"""Exhibits of the length of answers: whose tokens weigh how much, what makes wrong answers grow, what length costs."""

from __future__ import annotations

import torch
from torch import Tensor

from orrery.glossary.exhibit import Exhibit, Series
from orrery.glossary.exhibits import _tiny
from orrery.kit.seeds import torch_generator
from orrery.tune.rl.advantage import Baseline, advantages
from orrery.tune.rl.aggregate import Aggregation, aggregate
from orrery.tune.rl.classic.policy import SoftmaxTable, act, score
from orrery.tune.rl.overlong import overlong_penalty
from orrery.tune.rl.policy_loss import Kind, policy_loss
from orrery.tune.rl.rewards import Answered, Format, Length, has_form, rewards


def who_weighs_how_much() -> Exhibit:
    """Weight of one token of a short and of a long answer in one batch, under each way to add up."""
    lengths = [10, 100, 1000]
    owner = torch.arange(3).repeat_interleave(torch.tensor(lengths))
    kinds: tuple[Aggregation, ...] = ("sequence-mean", "token", "sequence-sum", "fixed-length")
    rows = []
    for kind in kinds:
        values = torch.zeros(len(owner), dtype=torch.float64, requires_grad=True)
        loss = aggregate(values, owner, kind, max_length=1000).mean()
        weight = torch.autograd.grad(loss, values)[0]
        at = [0, lengths[0], lengths[0] + lengths[1]]
        rows.append(
            (kind, *(float(weight[i]) for i in at), *(float(weight[owner == r].sum()) for r in range(3)))
        )
    return Exhibit(
        title="Answers of 10, 100 and 1,000 tokens in one batch",
        columns=("aggregation", "a token of 10", "of 100", "of 1,000", "the answer of 10", "of 100", "of 1,000"),
        rows=rows,
        reads="With the mean over each answer first, a token of the long one counts a hundredth of the short one's: a long wrong answer is hardly punished, and long wrong "
        "answers are what grows. Over all tokens, or divided by a constant, tokens are equal, and long answers weigh more.",
    )  # fmt: skip


def length_bias_measured() -> Exhibit:
    """How fast a policy's wrong answers lengthen under GRPO and Dr. GRPO, in a game where length is worth nothing."""
    rows, curves = [], []
    for name, kind, baseline in (
        ("GRPO", "grpo", "group"),
        ("Dr. GRPO", "dr-grpo", "group-centred"),
        ("token-level", "dapo", "group"),
    ):
        wrong, right = _lengths(kind, baseline)  # type: ignore[arg-type]
        rows.append((name, wrong[0], wrong[-1], right[0], right[-1]))
        curves.append(Series(name=name, x=list(range(len(wrong))), y=wrong))
    return Exhibit(
        title="An answer's first token says how it ends (right 1 in 3); then the policy may go on or stop",
        columns=("loss", "wrong: mean length at first", "at the end", "right: at first", "at the end"),
        rows=rows,
        series=curves,
        x="update", y="mean length of wrong answers",
        reads="Going on changes no reward. Under the mean over each answer, wrong answers are pushed down less a token the longer they are and right ones pushed up more the shorter, "
        "so one learns to ramble when wrong and to be brief when right. With tokens equal the push to stop is the same at every length.",
    )  # fmt: skip


def _lengths(
    kind: Kind, baseline: Baseline, *, updates: int = 60, group: int = 64, most: int = 20
) -> tuple[list[float], list[float]]:
    """Exact mean lengths of wrong and right answers, update by update; averaged over 8 policies that learn apart."""
    generator = torch_generator(0, "lengths")
    policies = 8
    stop = torch.zeros(
        policies, 2, requires_grad=True
    )  # logit of stopping, after a wrong and after a right beginning
    with torch.no_grad():
        stop -= 1.5
    curves: tuple[list[float], list[float]] = ([], [])
    for _ in range(updates):
        p = stop.detach().sigmoid()
        for which, curve in enumerate(curves):
            curve.append(float(((1 - (1 - p[:, which]) ** most) / p[:, which]).mean()))
        total = torch.zeros(())
        for n in range(policies):
            fate = (torch.rand(group, generator=generator) < 1 / 3).long()
            u = torch.rand(group, generator=generator)
            lengths = (1 + (u.log() / (1 - p[n, fate]).log()).floor()).clamp(max=most).long()  # geometric
            owner = torch.arange(group).repeat_interleave(lengths)
            last = lengths.cumsum(0) - 1
            ended = torch.zeros(len(owner), dtype=torch.bool)
            ended[last] = lengths < most
            logit = stop[n, fate[owner]]
            logprobs = torch.where(
                ended, torch.nn.functional.logsigmoid(logit), torch.nn.functional.logsigmoid(-logit)
            )
            a = advantages(baseline, fate.float(), torch.zeros(group, dtype=torch.int64))[owner]
            total = (
                total
                + policy_loss(kind, logprobs - logprobs.detach(), logprobs, a, owner, max_length=most).mean()
            )
        (slope,) = torch.autograd.grad(total, stop)
        with torch.no_grad():
            stop -= 0.5 * slope
    return curves


def overlong_ramp() -> Exhibit:
    """What an answer pays for its length under the soft punishment, and under a hard limit."""
    lengths = torch.arange(0, 121, 5)
    soft, hard = (overlong_penalty(lengths, limit=100, buffer=b).tolist() for b in (20, 0))
    return Exhibit(
        title="Limit 100 tokens, the last 20 of them the ramp",
        columns=("tokens", "soft", "hard"),
        rows=[(int(n), soft[i], hard[i]) for i, n in enumerate(lengths) if n in (0, 75, 80, 85, 90, 95, 100, 105)],
        series=[Series(name=name, x=lengths.tolist(), y=y) for name, y in (("soft", soft), ("hard", hard))],
        x="tokens", y="added to the reward",
        reads="At the hard limit nothing tells an answer of 99 tokens that it was close, and one of 101 is as wrong as can be whatever it said. The ramp gives the gradient of length something "
        "to hold on to.",
    )  # fmt: skip


PIECES = ("<think>", "</think>", " so", " 4", " 2", "<end>")


def form_and_length_paid_for() -> Exhibit:
    """A policy of six pieces of text that is paid for a form and for brevity: the share of answers that comply, as it learns."""
    terms = (Format(weight=1.0, when="always"), Length(weight=1.0, limit=9, buffer=3))
    room, group, end = 12, 128, len(PIECES) - 1
    rows, curves = [], []
    for name, kept in (("form only", terms[:1]), ("form and length", terms)):
        policy, generator = SoftmaxTable(len(PIECES) * room, len(PIECES)), torch_generator(0, "form")
        form, lengths = [], []
        for _ in range(150):
            states, drawn, owner = _write(policy, group, room, generator)
            texts = [drawn[owner == r].tolist() for r in range(group)]
            answers = [
                Answered(text=text, raw=text, verdict=0.0, tokens=ids)
                for ids in texts
                for text in ["".join(PIECES[i] for i in ids if i != end)]
            ]
            paid = torch.tensor([reward.total for reward in rewards(kept, answers, room=room)])
            form.append(sum(has_form(answer.raw, terms[0].pattern) for answer in answers) / group)
            lengths.append(sum(map(len, texts)) / group)
            logprobs = score(policy, states, drawn).logprobs
            a = advantages("leave-one-out", paid, torch.zeros(group))[owner]
            loss = policy_loss("reinforce", logprobs - logprobs.detach(), logprobs, a, owner)
            (slope,) = torch.autograd.grad(loss.mean(), [policy.logits])
            with torch.no_grad():
                policy.logits.sub_(8.0 * slope)
        last = " ".join("".join(PIECES[i] for i in texts[0]).split())
        rows.append((name, form[0], form[-1], lengths[0], lengths[-1], last))
        curves.append(Series(name=name, x=list(range(150)), y=_tiny.smooth(form)))
    return Exhibit(
        title="150 updates of 128 answers; nothing asks whether an answer is right",
        columns=("paid for", "in form at first", "at the end", "length at first", "at the end", "an answer"),
        rows=rows,
        series=curves,
        x="update", y="share in form",
        reads="Rules a program can check are learned quickly and to the letter: that is their use, and the danger. What is said inside the form is nobody's concern here, so form should "
        "count only where a verdict is right, and length should cost nothing until it is too much.",
    )  # fmt: skip


def _write(
    policy: SoftmaxTable, count: int, room: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """States, pieces and owners of answers that end with the last piece or at `room`; a state is the place and the piece before."""
    v = len(PIECES)
    before, alive, columns = torch.full((count,), v - 1), torch.ones(count, dtype=torch.bool), []
    for place in range(room):
        states = place * v + before
        drawn = act(policy, states, generator)
        columns.append((states, drawn, alive))
        alive = alive & (drawn != v - 1)
        before = drawn
    states, drawn, kept = (torch.stack(column, 1) for column in zip(*columns, strict=True))
    return states[kept], drawn[kept], torch.arange(count)[:, None].expand(-1, room)[kept]
