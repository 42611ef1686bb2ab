"""Which of two answers is better, asked in both orders.

A judge that likes what stands first likes it in both orders, once for each side: the mean over the orders cancels that, and the
difference between them measures it. A pair whose judgement in either order cannot be read has no score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from orrery.evaluate.judge.prompts import PROMPTS, Prompt, choose_prompt, fields
from orrery.evaluate.judge.questions import Answers, Question
from orrery.evaluate.judge.verdict import read_verdict, verdict_grammar
from orrery.kit.chat import ChatModel, ReplySettings
from orrery.kit.errors import OrreryError


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A pair of answers to one turn, judged in both orders.

    Attributes:
        a, b: the models. judge: who judged. turn: counted from 1.
        ab, ba: how good a's answer was found, 1 better, 0 worse, 1/2 neither, when shown first (ab) and second (ba); None: unscored.
        length_a, length_b: characters of the two answers to this turn.
        said: the judge's two texts; or why there is none.
    """

    question: str
    turn: int
    category: str
    judge: str
    a: str
    b: str
    ab: float | None
    ba: float | None
    length_a: int
    length_b: int
    said: tuple[str, str] = ("", "")

    @property
    def score(self) -> float | None:
        """How good a's answer was found, over both orders; None: unscored."""
        return None if self.ab is None or self.ba is None else (self.ab + self.ba) / 2

    @property
    def winner(self) -> str | None:
        """ "a" or "b" where both orders say so, else "tie" (MT-Bench's rule); None: unscored."""
        return None if self.score is None else {1.0: "a", 0.0: "b"}.get(self.score, "tie")

    @property
    def unscored(self) -> int:
        """How many of the two judgements could not be read."""
        return (self.ab is None) + (self.ba is None)

    def to_dict(self) -> dict[str, Any]:
        """A row of a results file."""
        return asdict(self) | {"said": list(self.said)}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Judged:
        """The inverse of `to_dict`.

        Raises:
            OrreryError: a row that is no judgement.
        """
        try:
            fields: dict[str, Any] = {**row, "said": tuple(row["said"])}
            return cls(**fields)
        except (KeyError, TypeError) as error:
            raise OrreryError(f"a row is no judgement of a pair: {error}") from None


def judge_pairs(
    judge: ChatModel,
    questions: Sequence[Question],
    a: Answers,
    b: Answers,
    *,
    prompts: Sequence[Prompt] = PROMPTS,
    explain: int = 400,
    seed: int = 0,
) -> list[Judged]:
    """Every turn that both models answered, judged in both orders, greedily.

    Args:
        prompts: what the judge reads (`prompts.read_prompts` for published ones).
        explain: characters of reasons before the verdict, where the judge can be held to it; others get as many tokens.
    """
    places = [
        (question, turn)
        for question in questions
        if question.id in a.texts and question.id in b.texts
        for turn in range(min(len(question.turns), len(a.texts[question.id]), len(b.texts[question.id])))
    ]
    asked = [
        choose_prompt(prompts, "pairwise", question, turn).messages(
            fields(question, turn, {"a": first.texts[question.id], "b": second.texts[question.id]})
        )
        for question, turn in places
        for first, second in ((a, b), (b, a))
    ]
    replies = judge.reply(asked, judge_settings(judge, explain, verdict_grammar(explain), seed))
    made = []
    for i, (question, turn) in enumerate(places):
        forward, backward = replies[2 * i : 2 * i + 2]
        ab, ba = read_verdict(forward.text), read_verdict(backward.text)
        made.append(
            Judged(
                question=question.id,
                turn=turn + 1,
                category=question.category,
                judge=judge.name,
                a=a.model,
                b=b.model,
                ab=ab,
                ba=None if ba is None else 1 - ba,
                length_a=len(a.texts[question.id][turn]),
                length_b=len(b.texts[question.id][turn]),
                said=(forward.fault or forward.text, backward.fault or backward.text),
            )
        )
    return made


def judge_settings(judge: ChatModel, explain: int, grammar: Any, seed: int) -> ReplySettings:
    """How a judge is asked: held to the form where it can be, with room for what the form allows (a character may be several tokens)."""
    if judge.obeys_grammars:
        return ReplySettings(max_tokens=4 * explain + 64, grammar=grammar, seed=seed)
    return ReplySettings(max_tokens=explain + 64, seed=seed)
