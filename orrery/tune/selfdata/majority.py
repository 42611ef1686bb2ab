"""Self-consistency as a label: of n answers the one given most often is taken for right, and learned.

Huang et al. 2022, arXiv:2210.11610 ("Large language models can self-improve"); the vote is Wang et al. 2022, arXiv:2203.11171. No right
answer is needed. Where there is one, it is only used to measure how often the vote is right: the more votes agree, the oftener.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from orrery.evaluate.scorers.samples import majority_vote
from orrery.evaluate.scorers.table import KEYS
from orrery.kit.config import config
from orrery.kit.errors import OrreryError, suggest
from orrery.tune.selfdata.account import Account, Made, example, mean
from orrery.tune.selfdata.asked import Asked
from orrery.tune.selfdata.speaker import Ask, Speaker, Speech


@config
class SelfConsistency:
    """The majority's answers.

    Attributes:
        reads: the scorer as which an answer is read out of a text, so that votes can be counted (numeric, math, choice, boolean, exact
            ...); empty: each problem's own, and numeric of prompts.
        agreement: the share of all n answers that must agree.
        most: answers kept of each prompt, at most; those of the majority, in the order in which they were drawn.
    """

    kind: Literal["self-consistency"] = "self-consistency"
    n: Annotated[int, Field(ge=2)] = 8
    reads: str = ""
    agreement: Annotated[float, Field(ge=0, le=1)] = 0.5
    most: Annotated[int, Field(ge=1)] = 1

    def __post_init__(self) -> None:
        if self.reads and self.reads not in KEYS:
            raise OrreryError(
                f"no votes can be read as '{self.reads}'; they are read as {', '.join(KEYS)}.{suggest(self.reads, KEYS)}"
            )


def sample_majority(cfg: SelfConsistency, asked: Sequence[Asked], speaker: Speaker, speech: Speech) -> Made:
    """Draw, vote, keep the winners where enough agree."""
    account = Account()
    examples: list[Any] = []
    shares, labels, right = [], [], []
    asks = [Ask(("vote", one.id), one.messages, n=cfg.n) for one in asked]
    for one, answers in zip(asked, speaker.answers(asks, speech), strict=True):
        votes = [vote(cfg, one, said.text) if said.fault is None else None for said in answers]
        winner = majority_vote(votes)
        share = votes.count(winner) / cfg.n if winner is not None else 0.0
        shares.append(share)
        won = [
            said for said, cast in zip(answers, votes, strict=True) if winner is not None and cast == winner
        ]
        if one.problem is not None and won:
            labels.append(one.problem.judge(won[0].text))
            right += [one.problem.judge(said.text) for said in answers]
        account.drop("no vote", votes.count(None))
        account.drop("outvoted", cfg.n - len(won) - votes.count(None))
        if share < cfg.agreement:
            account.drop("too little agreement", len(won))
            continue
        account.keep(len(won[: cfg.most]))
        account.drop(f"more than {cfg.most} of a prompt", len(won[cfg.most :]))
        examples += [example(one.messages, said.message) for said in won[: cfg.most]]
    account.filtered = +account.filtered
    account.numbers = {"agreement": mean(shares), "label_accuracy": mean(labels), "pass_rate": mean(right)}
    return Made(examples=tuple(examples), account=account)


def vote(cfg: SelfConsistency, one: Asked, text: str) -> Hashable | None:
    """The answer that a text arrives at; None: it has no vote.

    Raises:
        OrreryError: the problem's scorer reads no answers that could be counted.
    """
    name = cfg.reads or ("numeric" if one.problem is None else one.problem.score)
    if name not in KEYS:
        raise OrreryError(
            f"answers that '{name}' scores cannot be counted as votes; set method.reads to one of {', '.join(KEYS)}"
        )
    return KEYS[name](text, {} if one.problem is None else one.problem.row)
