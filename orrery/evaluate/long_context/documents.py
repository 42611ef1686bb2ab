"""Questions with one document that answers them among many that do not.

`qa` fills the context with documents up to a length (RULER's QA); `multi_document` takes a set number of them, with the right one at a set
place (lost in the middle). Rows of a data set serve, and where there are none, made-up lives: every person has a town, a year and a
trade that no knowledge could give.

Sources: Hsieh et al. 2024, arXiv:2404.06654, section 3.4; Liu et al. 2023, arXiv:2307.03172, section 2.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from orrery.evaluate.long_context.item import Item
from orrery.evaluate.long_context.words import ADJECTIVES, NAMES, NOUNS, draw
from orrery.kit.errors import OrreryError
from orrery.kit.seeds import numpy_generator

_LIST = """
astronomer baker botanist brewer cartographer chemist conductor dentist diver engraver glazier goldsmith gunsmith jeweller joiner
locksmith mason miller notary optician perfumer pilot potter printer sculptor stonecutter surgeon surveyor tailor tanner thatcher
translator undertaker upholsterer veterinarian watchmaker weaver zoologist
"""
_TRADES = tuple(_LIST.split())
_FACTS = (
    ("town", "Where was {name} born?"),
    ("year", "In which year was {name} born?"),
    ("trade", "What did {name} work as?"),
)


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question, every spelling of its answer, and the document that answers it."""

    question: str
    answers: tuple[str, ...]
    document: str


def made_up_lives(n: int, *, seed: int) -> list[Question]:
    """`n` short lives of invented people, each with a question for one of three facts."""
    people = draw(NAMES, max(n, len(NAMES) + 1), seed, "lives")[:n]
    rng = numpy_generator(seed, "lives")
    out = []
    for name in people:
        town = f"{ADJECTIVES[rng.integers(len(ADJECTIVES))].capitalize()}{NOUNS[rng.integers(len(NOUNS))]}"
        facts = {
            "town": town,
            "year": str(rng.integers(1700, 1990)),
            "trade": _TRADES[rng.integers(len(_TRADES))],
        }
        text = (
            f"{name} was born in {facts['town']} in the year {facts['year']}, the youngest of {rng.integers(3, 9)} children. "
            f"After some years at sea {name} took up the trade of {facts['trade']} and was known for {_habit(rng)}."
        )
        asked, question = _FACTS[rng.integers(len(_FACTS))]
        out.append(Question(question=question.format(name=name), answers=(facts[asked],), document=text))
    return out


def qa(rows: Sequence[Question], *, seed: int, index: int = 0, task: str = "qa") -> Item:
    """Row `index` asked over as many documents of the other rows as fit, the right one at a drawn place.

    Raises:
        OrreryError: the others' documents hold no answer-free one.
    """
    gold, others = _gold_and_others(rows, index)
    depth = float(numpy_generator(seed, "qa", index).random())
    order = numpy_generator(seed, "qa-order", index).permutation(len(others)).tolist()

    def context(size: int) -> str:
        taken = [others[order[i % len(order)]] for i in range(size)]
        return _numbered([*taken[: round(depth * size)], gold.document, *taken[round(depth * size) :]])

    return _item(gold, context, index=index, task=task, tags={"depth": depth})


def multi_document(
    rows: Sequence[Question], *, seed: int, index: int = 0, position: int, task: str = "documents"
) -> Item:
    """Row `index` over `size` documents of which number `position` (from 0) is the right one; the others and their order stay the same
    at every position.

    Raises:
        OrreryError: a context of no more documents than `position` is asked for.
    """
    gold, others = _gold_and_others(rows, index)
    order = numpy_generator(seed, "documents", index).permutation(len(others)).tolist()

    def context(size: int) -> str:
        if not position < size <= len(others) + 1:
            raise OrreryError(
                f"{size} documents with the right one at place {position} cannot be made of {len(rows)} rows"
            )
        taken = [others[i] for i in order[: size - 1]]
        return _numbered([*taken[:position], gold.document, *taken[position:]])

    return _item(gold, context, index=index, task=task, tags={"position": position}, least=position + 1)


def _gold_and_others(rows: Sequence[Question], index: int) -> tuple[Question, list[str]]:
    gold = rows[index % len(rows)]
    others = [
        row.document
        for row in rows
        if row.document != gold.document
        and not any(a.casefold() in row.document.casefold() for a in gold.answers)
    ]
    if not others:
        raise OrreryError("a question needs other documents that do not hold its answer; give more rows")
    return gold, list(dict.fromkeys(others))


def _numbered(documents: Sequence[str]) -> str:
    return "\n".join(f"Document {i}: {text}" for i, text in zip(itertools.count(1), documents, strict=False))


def _item(
    gold: Question,
    context: Callable[[int], str],
    *,
    index: int,
    task: str,
    tags: dict[str, object],
    least: int = 0,
) -> Item:
    return Item(
        task=task,
        index=index,
        context=context,
        intro="Answer the question from the documents below. Only one of them tells the answer.",
        question=f"Question: {gold.question} Answer in a few words.",
        answers=(gold.answers,),
        least=least,
        max_tokens=16,
        stop=("\n",),
        tags=tags,
    )


def _habit(rng: np.random.Generator) -> str:
    return f"keeping a {ADJECTIVES[rng.integers(len(ADJECTIVES))]} {NOUNS[rng.integers(len(NOUNS))]}"
