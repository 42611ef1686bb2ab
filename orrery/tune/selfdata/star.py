"""STaR: learn from the reasons that led to right answers, and where none did, from reasons given once the answer was told.

    1. reason     n answers to each problem; those that arrive at the right answer are kept
    2. rationalise  where none did: the same problem with the answer as a hint; reasons that now arrive at it are kept, too
    3. what is learned has the problem as it was asked: the hint is not in it
    4. fine-tune (from the model that everything began with, not the last one), and again

Zelikman et al. 2022, arXiv:2203.14465, algorithm 1. Without the second step the problems that are never solved teach nothing, and each
round learns more of what was easy. A reason that talks about the hint would teach to speak of one that is not there: it is left out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from orrery.evaluate.template import check_template, render
from orrery.kit.config import config
from orrery.kit.errors import OrreryError
from orrery.tune.rl.problems import Problem
from orrery.tune.selfdata.account import Account, Made, example, mean
from orrery.tune.selfdata.asked import Asked
from orrery.tune.selfdata.speaker import Ask, Said, Speaker, Speech, question


@config
class Star:
    """Reasons that led to right answers.

    Attributes:
        n: answers to each problem, of which the first right one is kept (`most`: at most so many).
        rationalise: whether problems without a right answer are asked again with a hint.
        hint: how: a template over the row's fields, `prompt` (the problem as it was asked) and `target` (the right answer).
        tells: texts (regular expressions) by which a reason shows that it was told the answer.
        least_words: shorter answers give no reason and are left out.
    """

    kind: Literal["star"] = "star"
    n: Annotated[int, Field(ge=1)] = 4
    most: Annotated[int, Field(ge=1)] = 1
    rationalise: bool = True
    hint: str = "{{ prompt }}\n(The answer is {{ target }}. Show how one arrives at it.)"
    tells: tuple[str, ...] = (
        r"\bhints?\b",
        r"\b(?:given|provided|stated|known|correct|expected) answer\b",
        r"\bas (?:given|told)\b",
    )
    least_words: Annotated[int, Field(ge=0)] = 0

    def __post_init__(self) -> None:
        check_template(self.hint)
        for pattern in self.tells:
            try:
                re.compile(pattern)
            except re.error as error:
                raise OrreryError(f"'{pattern}' in tells is no regular expression: {error}") from None


def sample_star(cfg: Star, asked: Sequence[Asked], speaker: Speaker, speech: Speech) -> Made:
    """Reason, rationalise, keep what arrives at the right answer.

    Raises:
        OrreryError: something asked is no problem.
    """
    problems = [_problem(one) for one in asked]
    account = Account()
    kept: list[list[Said]] = []
    rates: list[float] = []
    asks = [Ask(("reason", one.id), one.messages, n=cfg.n) for one in asked]
    for problem, answers in zip(problems, speaker.answers(asks, speech), strict=True):
        right = [problem.judge(said.text) == 1.0 for said in answers]
        rates.append(sum(right) / len(right))
        kept.append(_take(cfg, answers, right, account, told=False))
    missed = [i for i, found in enumerate(kept) if not found] if cfg.rationalise else []
    hinted = [
        Ask(("rationalise", asked[i].id), [*asked[i].messages[:-1], *question(_hint(cfg, problems[i]))], n=cfg.n)
        for i in missed
    ]  # fmt: skip
    for i, answers in zip(missed, speaker.answers(hinted, speech), strict=True):
        right = [problems[i].judge(said.text) == 1.0 for said in answers]
        kept[i] = _take(cfg, answers, right, account, told=True)
    account.numbers = {
        "pass_rate": mean(rates),
        "solved": mean([float(rate > 0) for rate in rates]),
        "rationalised": sum(bool(kept[i]) for i in missed) / len(asked),
    }
    examples = [
        example(one.messages, said.message) for one, found in zip(asked, kept, strict=True) for said in found
    ]
    return Made(examples=tuple(examples), account=account)


def _take(
    cfg: Star, answers: Sequence[Said], right: Sequence[bool], account: Account, *, told: bool
) -> list[Said]:
    """The reasons of one problem that are learned; `told`: they were given with the answer in sight."""
    taken: list[Said] = []
    for said, passed in zip(answers, right, strict=True):
        if said.fault is not None:
            account.drop(said.fault)
        elif not passed:
            account.drop("wrong, although the answer was told" if told else "wrong")
        elif len(said.text.split()) < cfg.least_words:
            account.drop("no reason given")
        elif told and any(re.search(pattern, said.text, re.IGNORECASE) for pattern in cfg.tells):
            account.drop("speaks of the hint")
        elif len(taken) == cfg.most:
            account.drop(f"more than {cfg.most} of a problem")
        else:
            account.keep()
            taken.append(said)
    return taken


def _hint(cfg: Star, problem: Problem) -> str:
    known: dict[str, Any] = {**problem.row, "prompt": problem.prompt, "target": problem.target}
    return render(cfg.hint, known)


def _problem(one: Asked) -> Problem:
    if one.problem is None:
        raise OrreryError(
            "reasons are kept by the answers they lead to, which a mere prompt does not have; give problems"
        )
    return one.problem
