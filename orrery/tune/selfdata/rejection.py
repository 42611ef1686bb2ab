"""Rejection sampling: n answers to each prompt, of which the verified ones or the best by reward are learned.

    verified   every different answer whose verdict is right, `most` a prompt at most      STaR without reasons; Yuan et al. 2023,
                                                                                           arXiv:2308.01825 (RFT)
    best       the one of highest reward                                                   RAFT, Dong et al. 2023, arXiv:2304.06767

Repeated round by round with the model that learned, the mean reward rises: the best of n of one round is the usual answer of the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from orrery.kit.config import config
from orrery.kit.errors import OrreryError
from orrery.tune.rl.rewards import Answered, Learned, LearnedReward, Reward, Term, Verifier, rewards
from orrery.tune.selfdata.account import Account, Made, example, mean, pair
from orrery.tune.selfdata.asked import Asked
from orrery.tune.selfdata.best_of_n import best_of_n_kl
from orrery.tune.selfdata.speaker import Ask, Said, Speaker, Speech


@config
class Best:
    """n answers to each prompt, of which the best are kept.

    Attributes:
        keep: "verified" answers (of problems), or the "best" by reward.
        most: verified answers kept of one prompt, at most: the first drawn.
        rewards: what an answer is worth; a learned one needs the stage's `reward_model`.
        floor: the best answer must be worth more than this to be kept; None: it need not.
        too_easy: with "verified", leave prompts out whose answers were all right: they teach nothing new.
        pairs: also write the best and the worst answer of each prompt as a pair.
    """

    kind: Literal["best"] = "best"
    n: Annotated[int, Field(ge=1)] = 8
    keep: Literal["verified", "best"] = "verified"
    most: Annotated[int, Field(ge=1)] = 4
    rewards: tuple[Term, ...] = (Verifier(),)
    floor: float | None = None
    too_easy: Literal["keep", "drop"] = "keep"
    pairs: bool = False


@dataclass(frozen=True)
class Judged:
    """An answer and what it is worth. verdict: 0 to 1 where it could be checked."""

    said: Said
    reward: Reward
    verdict: float


def sample_best(cfg: Best, asked: Sequence[Asked], speaker: Speaker, speech: Speech, *, learned: Learned | None = None) -> Made:  # fmt: skip
    """Draw, judge, keep.

    Raises:
        OrreryError: answers are to be verified that nobody can check, or a learned reward is missing.
    """
    if any(isinstance(term, Verifier) for term in cfg.rewards) or cfg.keep == "verified":
        _must_be_problems(asked)
    asks = [Ask(("answer", one.id), one.messages, n=cfg.n) for one in asked]
    groups = [
        judged(cfg.rewards, one, said, speech, learned=learned)
        for one, said in zip(asked, speaker.answers(asks, speech), strict=True)
    ]
    account = Account(numbers=numbers(cfg, groups))
    examples, pairs = [], []
    for one, group in zip(asked, groups, strict=True):
        examples += [example(one.messages, answer.said.message) for answer in _kept(cfg, group, account)]
        ordered = sorted(group, key=lambda answer: answer.reward.total)
        worst, best = ordered[0], ordered[-1]
        if cfg.pairs and best.reward.total > worst.reward.total and worst.said.text:
            pairs.append(pair(one.messages, best.said.text, worst.said.text))
    return Made(examples=tuple(examples), pairs=tuple(pairs), account=account)


def judged(
    terms: Sequence[Term],
    one: Asked,
    answers: Sequence[Said],
    speech: Speech,
    *,
    learned: Learned | None = None,
) -> list[Judged]:
    """Answers to one prompt with their rewards."""
    verdicts = [0.0 if one.problem is None else one.problem.judge(said.text) for said in answers]
    looked = [
        Answered(
            text=said.text, raw=said.raw, verdict=verdict, tokens=said.ids, conversation=(*one.messages, said.message)
        )
        for said, verdict in zip(answers, verdicts, strict=True)
    ]  # fmt: skip
    worth = rewards(terms, looked, room=speech.max_tokens, learned=learned)
    return [Judged(*of) for of in zip(answers, worth, verdicts, strict=True)]


def numbers(cfg: Best, groups: Sequence[Sequence[Judged]]) -> dict[str, float | None]:
    """What a round measured: the model as it is, and the best of its n."""
    totals = [[answer.reward.total for answer in group] for group in groups]
    right = [[answer.verdict == 1.0 for answer in group] for group in groups]
    return {
        "mean_reward": mean([sum(group) / len(group) for group in totals]),
        "best_reward": mean([max(group) for group in totals]),
        "pass_rate": mean([sum(group) / len(group) for group in right]),
        "solved": mean([float(any(group)) for group in right]),
        "kl_bound": best_of_n_kl(cfg.n),
    }


def _kept(cfg: Best, group: Sequence[Judged], account: Account) -> list[Judged]:
    """The answers of a prompt that are learned; the others are accounted for."""
    if cfg.keep == "verified" and cfg.too_easy == "drop" and all(a.verdict == 1.0 for a in group):
        account.drop("too easy: all answers right", len(group))
        return []
    fit: list[Judged] = []
    seen: set[str] = set()
    for answer in group:
        why = _fault(cfg, answer)
        if why is None and answer.said.raw in seen:
            why = "said before"
        if why is None:
            seen.add(answer.said.raw)
            fit.append(answer)
        else:
            account.drop(why)
    if cfg.keep == "verified":
        most, spare = cfg.most, f"more than {cfg.most} of a prompt"
    else:
        fit.sort(key=lambda answer: -answer.reward.total)
        most, spare = 1, "not the best"
    account.keep(len(fit[:most]))
    if fit[most:]:
        account.drop(spare, len(fit[most:]))
    return fit[:most]


def _fault(cfg: Best, answer: Judged) -> str | None:
    """Why an answer cannot be learned."""
    if answer.said.fault is not None:
        return answer.said.fault
    if cfg.keep == "verified" and answer.verdict < 1.0:
        return "wrong"
    if cfg.floor is not None and answer.reward.total <= cfg.floor:
        return "reward at or below the floor"
    return None


def _must_be_problems(asked: Sequence[Asked]) -> None:
    if any(one.problem is None for one in asked):
        raise OrreryError(
            "prompts have no right answer to check against; give problems, or keep: best with rewards that need none "
            f"(for example [{{kind: {LearnedReward().kind}}}] and a reward_model)"
        )
