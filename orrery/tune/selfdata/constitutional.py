"""Constitutional AI: a model criticises and mends its answers by written principles (rows to learn), then says by the same principles
which of several answers is better (pairs to prefer). Bai et al. 2022, arXiv:2212.08073.

    prompt -> draft -> criticism by a principle -> revision -> by another principle -> ...            examples
    prompt -> answers -> which is better by some principles, both orders, soft labels                 pairs

Which principle is used where is drawn by (seed, prompt, round). Nobody but the model, or a stronger one that is given as the judge, says
what is better: that is all of the supervision there is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field

from orrery.kit.config import config
from orrery.kit.seeds import key
from orrery.tune.selfdata.account import Account, Made, example, mean, pair
from orrery.tune.selfdata.asked import Asked
from orrery.tune.selfdata.preferences import Candidates, Label, label
from orrery.tune.selfdata.principles import Constitution, Principle, read_constitution
from orrery.tune.selfdata.revising import Chain, Requests, revise
from orrery.tune.selfdata.speaker import Ask, Speaker, Speech


@config
class Constitutional:
    """Examples and pairs by a constitution.

    Attributes:
        file: the principles (in the form of `constitution.yaml`); empty: those that come with orrery.
        revisions: how often an answer is criticised and mended; 0: no examples are made.
        shown: worked examples of the file in front of a criticism.
        compare: what is compared: "samples", two answers drawn; "revision", the last revision and the draft; "none": no pairs are made.
        principles: by how many principles a pair is judged.
        least: pairs are kept whose label is at least this far from 1/2, in [0, 1/2).
        agree: also leave pairs out of which the two orders prefer different answers.
    """

    kind: Literal["constitution"] = "constitution"
    file: str = ""
    revisions: Annotated[int, Field(ge=0)] = 2
    shown: Annotated[int, Field(ge=0)] = 1
    compare: Literal["samples", "revision", "none"] = "samples"
    principles: Annotated[int, Field(ge=1)] = 3
    least: Annotated[float, Field(ge=0, lt=0.5)] = 0.05
    agree: bool = True


def sample_constitution(
    cfg: Constitutional,
    asked: Sequence[Asked],
    speaker: Speaker,
    speech: Speech,
    *,
    judge: Speaker | None = None,
) -> Made:
    """Criticise, revise, compare. judge: who compares; None: the speaker does."""
    constitution = read_constitution(cfg.file)
    account = Account()
    chains: list[Chain] = []
    examples: list[Any] = []
    if cfg.revisions:
        chains = chains_of(cfg, constitution, asked, speaker, speech)
        examples = _examples(asked, chains, account)
    pairs: list[Any] = []
    if cfg.compare != "none":
        candidates, of = _candidates(cfg, asked, chains, speaker, speech, account)
        pairs = _pairs(cfg, constitution, candidates, of, judge or replace(speaker, system=""), account)
    return Made(examples=tuple(examples), pairs=tuple(pairs), account=account)


def chains_of(
    cfg: Constitutional, constitution: Constitution, asked: Sequence[Asked], speaker: Speaker, speech: Speech
) -> list[Chain]:
    """The answers of every prompt, revised round by round by a principle drawn for it."""

    def requests(one: Asked, round_: int) -> Requests:
        (principle,) = drawn(constitution, 1, speaker.seed, "revise", one.id, round_)
        return Requests(principle.critique, principle.revise)

    shown = constitution.shown(cfg.shown)
    return revise(asked, speaker, speech, rounds=cfg.revisions, requests=requests, shown=shown)


def drawn(constitution: Constitution, n: int, seed: int, *parts: int | str) -> list[Principle]:
    """n different principles (all, where there are fewer), by the seed."""
    order = sorted(constitution.principles, key=lambda p: key(seed, "principle", p.name, *parts))
    return order[:n]


def _examples(asked: Sequence[Asked], chains: Sequence[Chain], account: Account) -> list[dict[str, Any]]:
    """What was revised, to be learned."""
    made = []
    for one, chain in zip(asked, chains, strict=True):
        if len(chain.answers) == 1 or not chain.changed:
            account.drop("example: never revised" if len(chain.answers) == 1 else "example: unchanged")
            continue
        account.keep()
        made.append(example(one.messages, chain.final.message))
    changed = [len(chain.final.ids) / max(len(chain.draft.ids), 1) for chain in chains if chain.changed]
    account.numbers |= {
        "revisions": mean([float(len(chain.answers) - 1) for chain in chains]),
        "length_ratio": mean(changed),
    }
    return made


def _candidates(
    cfg: Constitutional, asked: Sequence[Asked], chains: Sequence[Chain], speaker: Speaker, speech: Speech, account: Account
) -> tuple[list[Candidates], list[Asked]]:  # fmt: skip
    """Two different answers to each prompt, where there are two."""
    if cfg.compare == "revision" and chains:
        both = [(chain.final, chain.draft) for chain in chains]
    else:
        asks = [Ask(("candidates", one.id), one.messages, n=2, dialogue=True) for one in asked]
        both = [(first, second) for first, second in speaker.answers(asks, speech)]
    made, of = [], []
    for one, (first, second) in zip(asked, both, strict=True):
        fault = first.fault or second.fault
        if fault is None and first.text == second.text:
            fault = "both answers are the same"
        if fault is not None:
            account.drop(f"pair: {fault}")
            continue
        made.append(Candidates(one.id, one.messages, first.text, second.text))
        of.append(one)
    return made, of


def _pairs(
    cfg: Constitutional, constitution: Constitution, candidates: Sequence[Candidates], of: Sequence[Asked], judge: Speaker, account: Account
) -> list[dict[str, Any]]:  # fmt: skip
    """The pairs that the judge is sure enough of."""
    held = [drawn(constitution, cfg.principles, judge.seed, "prefer", one.id) for one in of]
    made = []
    labels: list[tuple[Candidates, Label]] = []
    for two, found in zip(candidates, label(candidates, judge, held), strict=True):
        if found is None:
            account.drop("pair: no room in the judge's context")
            continue
        labels.append((two, found))
        if cfg.agree and not found.agrees:
            account.drop("pair: the two orders disagree")
        elif abs(found.share - 0.5) < cfg.least:
            account.drop("pair: not sure")
        else:
            account.keep()
            better, worse = (two.first, two.second) if found.share > 0.5 else (two.second, two.first)
            sure = max(found.share, 1 - found.share)
            made.append(pair(two.messages, better, worse, preferred=sure))
    account.numbers |= {
        "orders_agree": mean([float(found.agrees) for _, found in labels]),
        "first_place": mean([found.first_place for _, found in labels]),
        "sureness": mean([max(found.share, 1 - found.share) for _, found in labels]),
        "longer_preferred": mean([
            float((found.share > 0.5) == (len(two.first) > len(two.second)))
            for two, found in labels
        ]),
    }  # fmt: skip
    return made
