from __future__ import annotations

import functools
from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.evaluate.metrics.edit_distance import edit_alignment, edit_distance, error_rate
from orrery.evaluate.metrics.lcs import lcs, lcs_items, lcs_length

short = st.text("abc", max_size=7)
texts = st.text("abcdé日", max_size=90)


def slow_distance(a: str, b: str) -> int:
    @functools.cache
    def d(i: int, j: int) -> int:
        if not i or not j:
            return i + j
        return min(d(i - 1, j) + 1, d(i, j - 1) + 1, d(i - 1, j - 1) + (a[i - 1] != b[j - 1]))

    return d(len(a), len(b))


@pytest.mark.parametrize(
    ("a", "b", "distance"),
    [
        ("kitten", "sitting", 3),
        ("saturday", "sunday", 3),
        ("", "abc", 3),
        ("abc", "", 3),
        ("", "", 0),
        ("ab", "ba", 2),
    ],
)
def test_known_distances(a: str, b: str, distance: int) -> None:
    assert edit_distance(a, b) == edit_distance(list(a), list(b)) == distance


@settings(deadline=None, max_examples=50)
@given(texts, texts)
def test_distance_is_the_table_s(a: str, b: str) -> None:
    assert edit_distance(a, b) == slow_distance(a, b)


@settings(deadline=None, max_examples=50)
@given(texts, texts, texts)
def test_distance_is_a_metric(a: str, b: str, c: str) -> None:
    assert edit_distance(a, b) == edit_distance(b, a)
    assert (edit_distance(a, b) == 0) == (a == b)
    assert edit_distance(a, c) <= edit_distance(a, b) + edit_distance(b, c)


@settings(deadline=None, max_examples=50)
@given(texts, texts)
def test_an_alignment_makes_b_of_a_in_as_many_edits(a: str, b: str) -> None:
    steps, made, read = edit_alignment(a, b), [], 0
    for step in steps:
        assert (step.i, step.j) == (read, len(made))
        if step.kind == "match":
            assert a[step.i] == b[step.j]
        if step.kind != "insert":
            read += 1
        if step.kind != "delete":
            made.append(b[step.j])
    assert read == len(a) and "".join(made) == b
    assert sum(step.kind != "match" for step in steps) == edit_distance(a, b)


def test_an_alignment_by_hand() -> None:
    kinds = [step.kind for step in edit_alignment("kitten", "sitting")]
    assert kinds == ["substitute", "match", "match", "match", "substitute", "match", "insert"]


@settings(deadline=None, max_examples=50)
@given(short, short)
def test_lcs_is_the_longest_by_brute_force(a: str, b: str) -> None:
    def inside(part: tuple[str, ...], text: str) -> bool:
        rest = iter(text)
        return all(item in rest for item in part)

    longest = max(n for n in range(len(a) + 1) if any(inside(part, b) for part in combinations(a, n)))
    assert lcs_length(a, b) == longest
    found = "".join(map(str, lcs_items(a, b)))
    assert len(found) == longest and inside(tuple(found), a) and inside(tuple(found), b)


@settings(deadline=None, max_examples=50)
@given(texts, texts)
def test_lcs_gives_rising_places_of_equal_items(a: str, b: str) -> None:
    found = lcs(a, b)
    assert len(found) == lcs_length(a, b) == lcs_length(b, a)
    assert all(a[i] == b[j] for i, j in found)
    assert all(x.i < y.i and x.j < y.j for x, y in pairwise(found))


def test_lcs_and_distance_of_insertions_alone_agree() -> None:
    """Without substitutions the distance is len(a) + len(b) - 2 LCS; "abc" to "axc" needs two such steps, or one."""
    assert len("abc") + len("axc") - 2 * lcs_length("abc", "axc") == 2 and edit_distance("abc", "axc") == 1


def test_long_sequences() -> None:
    a, b = "abcd" * 5000, "acbd" * 5000
    assert edit_distance(a, b) == 10_000 and lcs_length(a, b) == 15_000


def test_error_rates() -> None:
    assert error_rate([["a", "b"], ["c"]], [["a", "x"], ["c", "d"]]) == pytest.approx(2 / 4)
    assert error_rate([""], [""]) == 0 and error_rate(["a"], [""]) == float("inf")
