"""What a person's judgement of answers becomes: a pair, a thumb up or down, or a ranking; and how one becomes another.

    Pair      one prompt, a better and a worse answer             DPO, IPO, ORPO, SimPO, reward models
    Thumb     one prompt, one answer, up or down                  KTO
    Ranked    one prompt, several answers with ranks              both, by `pairs_of` and `thumbs_of`

A prompt is a conversation up to where an answer is due; an answer is one message of the assistant, or several turns that it begins.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any, Literal, TypeVar

from orrery.kit.errors import OrreryError
from orrery.tune.dialogue import Dialogue, check, fingerprint

Messages = tuple[dict[str, Any], ...]
Opposed = Literal["best-worst", "adjacent", "all"]
"""Which answers of a ranking are opposed: the best and the worst, each and the next worse, or any two of different rank."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A comparison: to `messages` the answer `chosen` is better than `rejected`.

    Attributes:
        where: the file and line, for messages to a person.
        tools: JSON schemas of the functions that the assistant may call.
        margin: by how much, in the file's own scores; None: it does not say.
    """

    messages: Messages
    chosen: Messages
    rejected: Messages
    where: str
    tools: tuple[dict[str, Any], ...] = ()
    margin: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Thumb:
    """A judgement of one answer, `up` or down."""

    messages: Messages
    answer: Messages
    up: bool
    where: str
    tools: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """Several answers to one prompt. `ranks[i]` is that of `answers[i]`: 0 is the best, equal ranks are ties.

    Attributes:
        scores: one an answer, more is better; None: there are ranks only.
    """

    messages: Messages
    answers: tuple[Messages, ...]
    ranks: tuple[int, ...]
    where: str
    tools: tuple[dict[str, Any], ...] = ()
    scores: tuple[float, ...] | None = None


Record = Pair | Thumb | Ranked
R = TypeVar("R", bound=Record)


def answers_of(record: Record) -> tuple[Messages, ...]:
    """All answers of a record."""
    match record:
        case Pair(chosen=chosen, rejected=rejected):
            return chosen, rejected
        case Thumb(answer=answer):
            return (answer,)
    return record.answers


def question_of(record: Record) -> bytes:
    """Names what is asked first, as `dialogue.fingerprint` does, so that a conversation's turns are never on both sides of a split."""
    return fingerprint(Dialogue((*record.messages, *answers_of(record)[0]), record.where))


def valid(record: R) -> R:
    """The record, if it can be learned from.

    Raises:
        OrreryError: no question, an answer that is empty or no answer, two that are the same; names place and fix.
    """
    where, told = record.where, [m for m in record.messages if m["role"] != "system"]
    if not told:
        raise OrreryError(f"{where}: the prompt is empty; write what was asked, or remove the row")
    if told[-1]["role"] == "assistant":
        raise OrreryError(
            f"{where}: the prompt ends with the assistant's turn; end it where the compared answers begin"
        )
    found = answers_of(record)
    silent = frozenset(range(len(record.messages)))
    for number, answer in enumerate(found):
        name = _name(record, number)
        if not answer or answer[0]["role"] != "assistant":
            raise OrreryError(f"{where}: '{name}' does not begin with the assistant's turn; write an answer")
        if not any(_said(message) for message in answer if message["role"] == "assistant"):
            raise OrreryError(f"{where}: '{name}' is an empty answer; write one or remove the row")
        check(Dialogue((*record.messages, *answer), where, record.tools, silent), f"prompt + {name}")
    if isinstance(record, Pair) and record.chosen == record.rejected:
        raise OrreryError(
            f"{where}: 'chosen' and 'rejected' are the same answer, which says nothing; remove the row"
        )
    return record


def pairs_of(ranked: Ranked, opposed: Opposed = "best-worst") -> list[Pair]:
    """The comparisons in a ranking, better against worse; none where all are tied."""
    order = sorted(range(len(ranked.answers)), key=lambda i: ranked.ranks[i])
    two = {
        "best-worst": [(order[0], order[-1])] if order else [],
        "adjacent": list(pairwise(order)),
        "all": list(combinations(order, 2)),
    }[opposed]
    return [
        Pair(
            messages=ranked.messages, chosen=ranked.answers[a], rejected=ranked.answers[b], where=ranked.where, tools=ranked.tools,
            margin=None if ranked.scores is None else ranked.scores[a] - ranked.scores[b],
        )
        for a, b in two
        if ranked.ranks[a] < ranked.ranks[b] and ranked.answers[a] != ranked.answers[b]
    ]  # fmt: skip


def thumbs_of(pair: Pair) -> list[Thumb]:
    """A pair as two judgements: the better answer up, the worse down (Ethayarajh et al. 2024, section 4.3)."""
    return [
        Thumb(messages=pair.messages, answer=answer, up=up, where=pair.where, tools=pair.tools)
        for answer, up in ((pair.chosen, True), (pair.rejected, False))
    ]


def pairs_of_thumbs(thumbs: Iterable[Thumb]) -> list[Pair]:
    """Each answer that was liked against each that was not, once, where both are to one prompt."""
    asked: dict[Hashable, tuple[dict[str, Thumb], dict[str, Thumb]]] = defaultdict(lambda: ({}, {}))
    for thumb in thumbs:
        asked[_key(thumb.messages)][thumb.up].setdefault(_key(thumb.answer), thumb)
    return [
        Pair(messages=up.messages, chosen=up.answer, rejected=down.answer, where=up.where, tools=up.tools)
        for downs, ups in asked.values()
        for liked, up in ups.items()
        for disliked, down in downs.items()
        if liked != disliked
    ]


def ranked_of(pairs: Sequence[Pair]) -> list[Ranked]:
    """A ranking a prompt with the fewest ranks that agree with all its pairs: an answer's rank is the longest chain of better ones.

    Raises:
        OrreryError: the pairs of a prompt contradict each other (a over b over a); names the prompt's place.
    """
    asked: dict[Hashable, list[Pair]] = defaultdict(list)
    for pair in pairs:
        asked[_key(pair.messages)].append(pair)
    return [_ranked(group) for group in asked.values()]


def _ranked(pairs: Sequence[Pair]) -> Ranked:
    answers = {_key(answer): answer for pair in pairs for answer in (pair.chosen, pair.rejected)}
    beats = {(_key(pair.chosen), _key(pair.rejected)) for pair in pairs}
    ranks = dict.fromkeys(answers, 0)
    for _ in range(len(answers)):
        raised = {worse: ranks[better] + 1 for better, worse in beats if ranks[worse] <= ranks[better]}
        if not raised:
            break
        ranks |= raised
    else:
        raise OrreryError(
            f"{pairs[0].where}: the pairs of this prompt contradict each other, so its answers have no order; remove one of them"
        )
    first = pairs[0]
    return Ranked(
        messages=first.messages, answers=tuple(answers.values()), ranks=tuple(ranks.values()), where=first.where, tools=first.tools
    )  # fmt: skip


def _said(message: dict[str, Any]) -> bool:
    return bool(
        str(message.get("content") or "").strip() or message.get("tool_calls") or message.get("reasoning")
    )


def _key(messages: Messages) -> str:
    return json.dumps(messages, sort_keys=True, ensure_ascii=False)


def _name(record: Record, number: int) -> str:
    match record:
        case Pair():
            return ("chosen", "rejected")[number]
        case Thumb():
            return "completion"
    return f"answers[{number}]"
