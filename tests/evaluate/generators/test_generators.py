from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.evaluate.generators import GENERATORS, LEVELS, rows, split_of
from orrery.evaluate.generators.evaluator import evaluate
from orrery.evaluate.generators.problem import WORDS
from orrery.kit.errors import OrreryError

every = pytest.mark.parametrize(("name", "difficulty"), list(itertools.product(GENERATORS, LEVELS)))


@every
def test_answers_are_what_python_prints(name, difficulty) -> None:
    """The expressions are our own, so Python may evaluate them here."""
    for row in rows(name, n=60, seed=3, difficulty=difficulty):
        assert row["answer"] == str(eval(row["expression"]))
        assert row["answer"].strip() == row["answer"] != ""
        assert row["difficulty"] == difficulty


@every
def test_a_draw_repeats_itself_and_no_question(name, difficulty) -> None:
    first = list(rows(name, n=60, seed=3, difficulty=difficulty))
    assert first == list(rows(name, n=60, seed=3, difficulty=difficulty))
    assert first[:10] == list(rows(name, n=10, seed=3, difficulty=difficulty))
    assert len({row["expression"] for row in first}) == 60
    other = list(rows(name, n=60, seed=4, difficulty=difficulty))
    assert [row["expression"] for row in other] != [row["expression"] for row in first]


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(sorted(GENERATORS)),
    st.sampled_from(LEVELS),
    st.integers(0, 999),
    st.integers(1000, 10**12),
)
def test_test_and_training_seeds_never_share_an_expression(name, difficulty, test_seed, train_seed) -> None:
    tests = {row["expression"] for row in rows(name, n=40, seed=test_seed, difficulty=difficulty)}
    training = {row["expression"] for row in rows(name, n=40, seed=train_seed, difficulty=difficulty)}
    assert not tests & training
    assert {split_of(expression) for expression in tests} == {"test"}
    assert {split_of(expression) for expression in training} == {"train"}


def test_the_split_can_be_said_outright() -> None:
    train = list(rows("arithmetic", n=20, seed=0, split="train"))
    assert {split_of(row["expression"]) for row in train} == {"train"}


def test_kinds_can_be_chosen() -> None:
    found = list(rows("python_expression", n=20, seed=0, difficulty=3, kinds=("reverse", "slice")))
    assert {row["kind"] for row in found} == {"reverse", "slice"}


def test_levels_grow() -> None:
    for name in GENERATORS:
        sizes = [
            sum(len(row["expression"]) for row in rows(name, n=100, seed=1, difficulty=level))
            for level in LEVELS
        ]
        assert sizes[4] > sizes[2] > sizes[0]


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(OrreryError, match="Did you mean 'arithmetic'"):
        rows("arithmetics", n=1)
    with pytest.raises(OrreryError, match="from 1 to 5"):
        rows("arithmetic", n=1, difficulty=6)
    with pytest.raises(OrreryError, match=r"only about \d+ different test questions"):
        list(rows("arithmetic", n=5000))


def test_words_are_plain_and_different() -> None:
    assert len(set(WORDS)) == len(WORDS) > 250
    assert all(word.isalpha() and word.islower() and 3 <= len(word) <= 8 for word in WORDS)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ('len("stone") + 3', 8), ('"stone"[::-1]', "enots"), ("[n * 2 for n in [1, 2, 3] if n > 1]", [4, 6]), ("7 // 2 % 2", 1),
        ('"a" if 1 < 2 < 3 else "b"', "a"), ("not (1 == 1 and 2 > 3)", True), ('{"a": 1}["a"]', 1), ("max([3, -4])", 3),
        ('"-".join(sorted("cab"))', "a-b-c"), ("sum(range(5))", 10), ('"x" not in "abc"', True), ("(1, 2)", (1, 2)), ("0 or 5", 5),
    ],
)  # fmt: skip
def test_small_expressions_are_evaluated(expression, value) -> None:
    assert evaluate(expression) == value


@pytest.mark.parametrize(
    "expression",
    [
        "9**9**9", "__import__('os')", "open('/etc/passwd')", "().__class__", '"a".__class__', "(lambda: 1)()", '"a" * 10**9', "1/0",
        "x", "[1][5]", '"%s" % 5', '"{}".format(1)', "range(10**9)", "print(1)", "f'{1}'", "1 +", "(" * 500, "10000000000 * 10000000000",
        "[[n for n in range(1000)] * 1000 for n in range(1000)]", "1 is 1", "f(*[1])", "len(1)", '"a"' + ' + "a"' * 2000,
    ],
)  # fmt: skip
def test_what_is_not_listed_is_refused_and_never_run(expression) -> None:
    with pytest.raises(OrreryError):
        evaluate(expression)


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="0123456789+-*/()[]\"'ab.:,% <>=len", max_size=40))
def test_any_text_is_evaluated_like_python_or_refused(text) -> None:
    try:
        value = evaluate(text)
    except OrreryError:
        return
    assert value == eval(text)  # only what the evaluator took, which has no names but len
