"""Self-critique: the model looks for mistakes in its own answer and mends them, until it finds none; what it ends with is learned.

On problems that can be checked the answers before and after are counted: a model that cannot tell its mistakes makes right answers
wrong as often as wrong ones right (Huang et al. 2023, arXiv:2310.01798), and then there is nothing here to learn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from orrery.kit.config import config
from orrery.tune.selfdata.account import Account, Made, example, mean, pair
from orrery.tune.selfdata.asked import Asked
from orrery.tune.selfdata.revising import Chain, Requests, revise
from orrery.tune.selfdata.speaker import Speaker, Speech


@config
class Critique:
    """Draft, criticise, revise.

    Attributes:
        rounds: at most so many. critique, revise: what is said to the model.
        satisfied: a criticism that matches this regular expression ends the rounds.
        pairs: also write the last and the first answer as a pair, where the last is right and the first wrong (of prompts that nobody
            can check: where they differ).
    """

    kind: Literal["critique"] = "critique"
    rounds: Annotated[int, Field(ge=1)] = 2
    critique: str = "Look for mistakes in your answer: what is wrong, missing or unclear? Name each in a sentence. If there is none, say: No mistakes."
    revise: str = "Now write the answer again without these mistakes. Write nothing but the answer."
    satisfied: str = r"\bno (?:mistakes?|errors?)\b"
    pairs: bool = False


def sample_critiques(cfg: Critique, asked: Sequence[Asked], speaker: Speaker, speech: Speech) -> Made:
    """Draft, criticise, revise, keep what is right (of prompts that nobody can check: what was changed)."""
    said = Requests(cfg.critique, cfg.revise)
    chains = revise(
        asked, speaker, speech, rounds=cfg.rounds, requests=lambda one, round_: said, satisfied=cfg.satisfied
    )
    account = Account()
    examples, pairs = [], []
    before, after = [], []
    for one, chain in zip(asked, chains, strict=True):
        first, last = _verdicts(one, chain)
        if one.problem is not None:
            before.append(first)
            after.append(last)
        if chain.final.fault is not None:
            account.drop(chain.final.fault)
            continue
        if one.problem is not None and last < 1.0:
            account.drop("wrong in the end")
            continue
        if one.problem is None and not chain.changed:
            account.drop("unchanged")
            continue
        account.keep()
        examples.append(example(one.messages, chain.final.message))
        if cfg.pairs and chain.changed and chain.draft.text and (one.problem is None or first < 1.0):
            pairs.append(pair(one.messages, chain.final.text, chain.draft.text))
    account.numbers = {
        "before": mean(before),
        "after": mean(after),
        "mended": mean([float(a > b) for b, a in zip(before, after, strict=True)]),
        "spoilt": mean([float(a < b) for b, a in zip(before, after, strict=True)]),
        "satisfied": mean([float(chain.satisfied) for chain in chains]),
        "revisions": mean([float(len(chain.answers) - 1) for chain in chains]),
    }
    return Made(examples=tuple(examples), pairs=tuple(pairs), account=account)


def _verdicts(one: Asked, chain: Chain) -> tuple[float, float]:
    """How right the first and the last answer are; 0 where nobody knows."""
    if one.problem is None:
        return 0.0, 0.0
    return one.problem.judge(chain.draft.text), one.problem.judge(chain.final.text)
