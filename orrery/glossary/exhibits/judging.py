"""Exhibits of judging answers: judges with known habits and a small real one, people who vote, scores that only count characters."""

from __future__ import annotations

import math
import random
import re

from orrery.evaluate.arena.tally import tally
from orrery.evaluate.arena.votes import Vote
from orrery.evaluate.judge.bias import length_bias, position_bias
from orrery.evaluate.judge.controls import judge_controls
from orrery.evaluate.judge.pairwise import Judged, judge_pairs
from orrery.evaluate.judge.questions import Answers, Question
from orrery.evaluate.judge.reward import AnswerPair, likelihood_scorer, pair_accuracy
from orrery.evaluate.judge.summary import pair_summary
from orrery.glossary.exhibit import Exhibit
from orrery.glossary.exhibits import _library
from orrery.glossary.exhibits._coder import coder
from orrery.kit.chat import Conversation, ScriptedChat
from orrery.serve.chat_model import LocalChat

QUESTIONS = [Question(id=str(i), turns=(f"Question {i}?",)) for i in range(150)]
GOOD = Answers(model="good", texts={q.id: (f"A right answer to {q.id}.",) for q in QUESTIONS})
POOR = Answers(model="poor", texts={q.id: (f"A wrong answer to {q.id}.",) for q in QUESTIONS})


def judge_that_likes_the_first() -> Exhibit:
    """A scripted judge that says what is better, or with a known chance just takes the first: both orders find that chance again."""
    rows = []
    for chance in (0.0, 0.2, 0.5, 1.0):
        rng = random.Random(f"judge {chance}")

        def script(said: Conversation, rng: random.Random = rng, chance: float = chance) -> str:
            text = str(said[-1]["content"])
            first = rng.random() < chance or text.index("right") < text.index("wrong")
            return "[[A]]" if first else "[[B]]"

        judged = judge_pairs(ScriptedChat(script), QUESTIONS, GOOD, POOR)
        one_order = sum(j.ba or 0.0 for j in judged) / len(judged)
        bias = position_bias(judged)
        rows.append(
            (
                chance,
                chance / 2,
                bias.first.mean,
                f"{bias.first.low:.2f} to {bias.first.high:.2f}",
                bias.consistent.mean,
                one_order,
                pair_summary(judged)["win_rate"]["mean"],
            )
        )
    return Exhibit(
        title="150 pairs in which one answer is right, by a judge that takes the first one with a known chance",
        columns=(
            "chance",
            "place is worth",
            "measured",
            "95%",
            "consistent",
            "won, shown second",
            "won, both orders",
        ),
        rows=rows,
        reads="Judged in one order only, the right answer would win less and less often, because it stands second. The difference between "
        "the orders gives the chance back; their mean makes the habit cost both sides the same.",
    )


def judge_that_likes_length() -> Exhibit:
    """Verdicts drawn from a known model of quality and length: win rates as they are, and at equal length."""
    rows = []
    for quality, liking in ((0.0, 0.0), (0.0, 1.5), (0.8, 0.0), (0.8, 1.5)):
        rng = random.Random(f"length {quality} {liking}")
        judged = []
        for i in range(400):
            gap = rng.gauss(60, 100)  # the first model writes more
            wins = float(rng.random() < 1 / (1 + math.exp(-quality - liking * math.tanh(gap / 100))))
            lengths = {"length_a": 500 + int(gap), "length_b": 500}
            judged.append(
                Judged(
                    question=str(i), turn=1, category="", judge="j", a="a", b="b", ab=wins, ba=wins, **lengths
                )
            )
        found = length_bias(judged, resamples=100)
        rows.append(
            (
                quality,
                liking,
                1 / (1 + math.exp(-quality)),
                found.raw.mean,
                found.controlled.mean,
                f"{found.controlled.low:.2f} to {found.controlled.high:.2f}",
                found.coefficient.mean,
            )
        )
    return Exhibit(
        title="400 verdicts on a model that writes longer answers",
        columns=(
            "quality",
            "liking for length",
            "true rate at equal length",
            "raw",
            "controlled",
            "95%",
            "liking found",
        ),
        rows=rows,
        reads="With a judge that likes length, the raw win rate is too high for whoever writes more. The fitted model takes that share out "
        "again and leaves the raw rate alone where length is of no account.",
    )


def small_model_as_judge() -> Exhibit:
    """A small model that has only seen code, held to a verdict by a grammar: every judgement can be read, and says little of the answers."""
    judge = LocalChat(coder(), name="small")
    asked = QUESTIONS[:4]
    pair = pair_summary(judge_pairs(judge, asked, GOOD, POOR, explain=8))
    found = judge_controls(judge, asked, GOOD, explain=8)
    rows = [
        ("right against wrong: win rate of the right", pair["win_rate"]["mean"]),
        ("right against wrong: standing first is worth", pair["position_bias"]["first"]["mean"]),
        ("an answer against itself: standing first is worth", found.place.first.mean),
        ("an answer against itself said twice: saying it twice is worth", found.padded.mean),
        ("judgements that could not be read", pair["unscored"] + found.unscored),
    ]
    return Exhibit(
        title="A small model of Python as the judge of 4 questions",
        columns=("", "measured"),
        rows=rows,
        reads="The form of a verdict can be forced, its content cannot: a right answer does no better than a wrong one. Controls with equal "
        "answers show what decides instead, before anybody believes such a judge.",
    )


def people_who_vote() -> Exhibit:
    """Three simulated people of known care vote on 60 answers of three models: kappas, ratings with intervals, and the left side."""
    care = {"careful": 0.95, "hasty": 0.7, "left-handed": 0.55}
    order = ["large", "base", "small"]
    votes = []
    for who, chance in care.items():
        rng = random.Random(f"votes {who}")
        for i in range(60):
            left, right = rng.sample((order[i % 3], order[(i + 1) % 3]), 2)
            if rng.random() < chance:
                choice = "left" if order.index(left) < order.index(right) else "right"
            else:
                choice = "left" if who == "left-handed" or rng.random() < 0.5 else "right"
            votes.append(Vote(annotator=who, question=str(i), left=left, right=right, choice=choice))
    found = tally(votes)
    rows = [(f"{r.first} and {r.second}", f"kappa {r.kappa:.2f} on {r.n}") for r in found.raters]
    rows += [
        ("all three", f"Fleiss' kappa {found.fleiss:.2f}"),
        ("share of votes for the left side", f"{found.left.mean:.2f}"),
    ]
    rows += [
        (f"{s.model} (rank {s.rank})", f"{s.rating.mean:.0f}, {s.rating.low:.0f} to {s.rating.high:.0f}")
        for s in found.standings
    ]
    return Exhibit(
        title="Votes of three people, whose care is known",
        columns=("", "found"),
        rows=rows,
        reads="Agreement beyond chance is highest where both took care. Votes that are partly noise still order the models, with wider "
        "intervals; and a person who clicks left shows in the share of the left side, which drawn sides keep from helping anybody.",
    )


def scores_that_count_length() -> Exhibit:
    """Real code against the same code with its words mixed up, shorter or longer: which score finds the real one."""
    lm, rng = coder(), random.Random(0)
    pairs = []
    for text in _pieces():
        parts = re.split(r"(\s+)", text.strip())  # words, and the space between them
        parts[::2] = rng.sample(parts[::2], len(parts[::2]))
        for name, wrong in (("mixed, shorter", parts[: len(parts) * 2 // 3]), ("mixed, as long", parts)):
            prompt = ({"role": "user", "content": "Some Python."},)
            pairs.append(
                AnswerPair(prompt=prompt, chosen=text.strip(), rejected="".join(wrong), category=name)
            )
    rows = []
    for name, scorer in (
        ("log p of the whole text", likelihood_scorer(lm, per="text")),
        ("log p a token", likelihood_scorer(lm, per="token")),
        ("log p a byte", likelihood_scorer(lm, per="byte")),
        ("number of characters", lambda said: [float(len(s[-1]["content"])) for s in said]),
    ):
        found = pair_accuracy(pairs, scorer)
        rows.append((name, *(found.categories[c].mean for c in ("mixed, shorter", "mixed, as long"))))
    return Exhibit(
        title=f"How often {len(pairs) // 2} real pieces of code score above their mixed-up words",
        columns=("score", "mixed, shorter", "mixed, as long"),
        rows=rows,
        reads="The probability of a whole text favours whatever is shorter; by token or byte it does not. A score that only counts characters "
        "is perfect where length gives the answer away and a coin where it does not, so look at categories before the average.",
    )


def _pieces() -> list[str]:
    """Paragraphs of a module that the decoder was not trained on."""
    return [part for part in _library.texts()[1].split("\n\n") if 60 < len(part) < 240][:24]
