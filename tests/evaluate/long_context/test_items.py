"""What the generators make: needles at their depth, answers nowhere else, counts as they are told."""

from __future__ import annotations

import json
import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.evaluate.content_words import content_stems
from orrery.evaluate.long_context.aggregation import common_words, frequent_words
from orrery.evaluate.long_context.documents import Question, made_up_lives, multi_document, qa
from orrery.evaluate.long_context.filler import Filler
from orrery.evaluate.long_context.item import holds, score_answer, share_held
from orrery.evaluate.long_context.key_values import key_values
from orrery.evaluate.long_context.needle import grid, needle
from orrery.evaluate.long_context.nolima import ASSOCIATIONS, lexical_overlap, nolima
from orrery.evaluate.long_context.tasks import TASKS, items
from orrery.evaluate.long_context.tracing import variable_tracing
from orrery.kit.errors import OrreryError

HAY = Filler.of(["One two three. Four five!\n\nSix seven? Eight."])


def test_hay_by_hand() -> None:
    assert HAY.sentences == ("One two three.", "Four five!", "Six seven?", "Eight.")
    assert [HAY.boundary(n) for n in (0, 2, 3, 4, 5, 8, 10, 11)] == [0, 0, 3, 3, 5, 8, 8, 11]
    assert HAY.context(4) == "One two three. Four"
    assert HAY.context(10) == "One two three. Four five! Six seven? Eight. One two"
    assert HAY.context(5, [(0.0, "A."), (1.0, "Z."), (0.7, "M.")]) == "A. One two three. M. Four five! Z."
    assert HAY.without(["SEVEN"]).sentences == ("One two three.", "Four five!", "Eight.")
    with pytest.raises(OrreryError, match="every sentence"):
        Filler.of(["Only seven."]).without(["seven"])
    with pytest.raises(OrreryError, match="no words"):
        Filler.of(["...", ""])


def test_score_by_hand() -> None:
    assert share_held("It is 17, I think; or 18.", (("17",), ("19", "18"))) == 1.0
    assert share_held("1170", (("17",),)) == 0.0
    assert share_held("the RED   fox", (("red fox",), ("dog",))) == 0.5
    assert share_held("12, 12, 34, 56", (("12",), ("56",)), pattern=r"\d+") == 0.5
    assert holds("€5.", "€5") and not holds("under_score", "score")


@settings(max_examples=40, deadline=None)
@given(depth=st.floats(0, 1), size=st.integers(60, 400), index=st.integers(0, 1000))
def test_a_needle_stands_at_its_depth_and_its_answer_nowhere_else(
    depth: float, size: int, index: int
) -> None:
    item = needle(Filler.made_up(), seed=3, index=index, depth=depth)
    text = item.context(size)
    ((answer,),) = item.answers
    assert len(re.findall(answer, text)) == 1
    before = len(text[: text.index("The secret number")].split())
    assert depth * size - 8 <= before <= depth * size + 1  # a sentence of hay has seven words


def test_the_same_needle_at_every_depth() -> None:
    made = grid(HAY, seed=0, depths=3, items=2)
    assert [item.tags["depth"] for item in made] == [1, 0.5, 0, 1, 0.5, 0]
    assert len({item.answers for item in made[:3]}) == 1
    assert made[0].answers != made[3].answers


def test_several_keys_values_and_queries() -> None:
    item = needle(HAY, seed=0, n_keys=3, values=2, queries=2)
    text = item.context(10)
    assert text.count("The secret number of the") == 2 + 2 + 1
    assert len(item.answers) == 4
    assert all(answer in text for (answer,) in item.answers)
    with pytest.raises(OrreryError, match="queries"):
        needle(HAY, seed=0, n_keys=1, queries=2)
    with pytest.raises(OrreryError, match="depth"):
        needle(HAY, seed=0, depth=1.5)


def test_nolima_shares_no_content_word() -> None:
    assert content_stems("She lives and works in the mountains") == {"liv", "work", "mountain"}
    assert lexical_overlap("Who is living in Rome?", "Ann lives near Rome's wall.") == {"liv", "rom"}
    assert lexical_overlap("Who is a resident of Rome?", "Ann looks at the Colosseum.") == set()
    for i, pair in enumerate(ASSOCIATIONS):
        for hops, question in ((1, pair.one_hop), (2, pair.two_hop)):
            item = nolima(Filler.made_up(), seed=0, index=i, hops=hops)
            ((name,),) = item.answers
            assert lexical_overlap(question, pair.needle.format(name=name)) == set()
            assert item.question.startswith(question)
            assert item.context(100).count(name) == 1 and name not in item.question


def test_tracing_can_be_followed() -> None:
    """An interpreter of the assignments, reading forwards once, finds the wanted names."""
    item = variable_tracing(Filler.made_up(), seed=1, hops=4, chains=3)
    held: dict[str, str] = {}
    for name, value in re.findall(r"VAR (\w+) = (?:VAR )?(\w+)\.", item.context(300)):
        held[name] = held.get(value, value)
    asked = re.search(r"value (\d+)", item.question)
    assert asked is not None
    assert {name for name, value in held.items() if value == asked[1]} == {a for (a,) in item.answers}
    assert len(held) == 15


@pytest.mark.parametrize("size", [40, 100, 700, 2000])
def test_common_words_are_the_most_common(size: int) -> None:
    item = common_words(seed=0, index=2)
    counts = Counter(re.findall(r"\d+\. (\w+)", item.context(size)))
    top = {word for word, _ in counts.most_common(10)}
    assert top == {a for (a,) in item.answers}
    least, most = (
        min(counts[w] for w in top),
        max(n for w, n in counts.items() if w not in top) if size > 40 else 0,
    )
    assert least > most
    assert sum(counts.values()) == size


@pytest.mark.parametrize("size", [0, 10, 300, 5000])
def test_frequent_words_follow_zipf_and_their_order_is_certain(size: int) -> None:
    item = frequent_words(seed=0, index=1)
    counts = Counter(item.context(size).split())
    dots = counts.pop("...", 0)
    assert {word for word, _ in counts.most_common(3)} == {a for (a,) in item.answers}
    if size == 5000:  # p(1), p(2) = 1/zeta(2), 1/(4 zeta(2)), of 501 ranks nearly so
        assert dots / size == pytest.approx(0.608, abs=0.03)
        assert counts[item.answers[0][0]] / size == pytest.approx(0.152, abs=0.02)
    with pytest.raises(OrreryError, match="above 1"):
        frequent_words(seed=0, alpha=1.0)


@pytest.mark.parametrize(
    "task", ["needle", "multi-value", "tracing", "common-words", "frequent-words", "nolima"]
)
def test_right_answers_score_and_echoes_do_not(task: str) -> None:
    """Repeating the context holds every answer, and is no answer where several candidates are in it."""
    (item, *_) = items(task, n=1, depths=1)
    right = "The answers are " + ", ".join(spelling for spelling, *_ in item.answers)
    assert score_answer(right, item) == 1.0
    assert score_answer("", item) == 0.0
    if task in ("common-words", "frequent-words"):
        assert score_answer(item.context(400), item) <= 0.5


def test_documents() -> None:
    rows = made_up_lives(60, seed=0)
    item = qa(rows, seed=0, index=4)
    text = item.context(12)
    assert text.count("Document ") == 13 and text.count(rows[4].document) == 1
    assert sum(item.answers[0][0] in line for line in text.splitlines()) == 1
    others = [
        [
            line.split(": ", 1)[1]
            for line in multi_document(rows, seed=0, index=4, position=p).context(10).splitlines()
        ]
        for p in (0, 6, 9)
    ]
    assert [lines.index(rows[4].document) for lines in others] == [0, 6, 9]
    assert others[0][1:] == [line for line in others[1] if line != rows[4].document] == others[2][:9]
    with pytest.raises(OrreryError, match="10 documents"):
        multi_document(rows[:5], seed=0, position=2).context(10)
    with pytest.raises(OrreryError, match="give more rows"):
        qa([Question(question="?", answers=("x",), document="x is here")], seed=0)


def test_key_values() -> None:
    one, two = (key_values(seed=0, index=1, position=p) for p in (0, 20))
    first, second = json.loads(one.context(30)), json.loads(two.context(30))
    assert first == second and len(first) == 30
    ((answer,),) = one.answers
    assert list(first.values()).index(answer) == 0 and list(second.values()).index(answer) == 20
    with pytest.raises(OrreryError, match="no place 20"):
        two.context(20)


@pytest.mark.parametrize("task", TASKS)
def test_a_seed_is_an_item(task: str) -> None:
    made = [[item.context(60) for item in items(task, n=2, seed=seed)] for seed in (0, 0, 1)]
    assert made[0] == made[1] != made[2]


def test_unknown_tasks_are_named() -> None:
    with pytest.raises(OrreryError, match=r"no long-context task 'neele'.*needle"):
        items("neele", n=1)
