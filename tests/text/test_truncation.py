"""Named policies, and an account of what each lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orrery.kit.errors import OrreryError
from orrery.text.truncation import truncate, truncate_pair

TEN = list("abcdefghij")


def test_what_fits_is_left_alone() -> None:
    for policy in ("error", "drop", "split", "left", "right"):
        cut = truncate(4, 4, policy)  # type: ignore[arg-type]
        assert cut.of("abcd") == ["abcd"] and cut.lost_tokens == 0


def test_each_policy_by_hand() -> None:
    right, left = truncate(10, 4, "right"), truncate(10, 4, "left")
    assert (right.of(TEN), right.lost_of(TEN), right.lost_tokens) == ([list("abcd")], [list("efghij")], 6)
    assert (left.of(TEN), left.lost_of(TEN), left.lost_tokens) == ([list("ghij")], [list("abcdef")], 6)
    drop = truncate(10, 4, "drop")
    assert (drop.of(TEN), drop.lost_tokens) == ([], 10)
    split = truncate(10, 4, "split")
    assert (split.of("abcdefghij"), split.lost_tokens) == (["abcd", "efgh", "ij"], 0)
    assert truncate(10, 4, "split", overlap=1).of("abcdefghij") == ["abcd", "defg", "ghij"]
    with pytest.raises(OrreryError, match="10 tokens do not fit into 4"):
        truncate(10, 4, "error")


@given(
    length=st.integers(0, 60),
    limit=st.integers(1, 20),
    policy=st.sampled_from(["drop", "split", "left", "right"]),
    data=st.data(),
)
def test_nothing_is_lost_unaccounted(length: int, limit: int, policy: str, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, limit - 1)) if policy == "split" else 0
    cut = truncate(length, limit, policy, overlap=overlap)  # type: ignore[arg-type]
    assert all(end - start <= limit for start, end in cut.kept)
    covered = {i for start, end in cut.kept for i in range(start, end)}
    lost = {i for start, end in cut.lost for i in range(start, end)}
    assert covered | lost == set(range(length)) and not covered & lost and len(lost) == cut.lost_tokens
    if policy == "split":
        assert not lost and all(b[0] == a[1] - overlap for a, b in zip(cut.kept, cut.kept[1:], strict=False))


def test_a_pair_loses_from_its_longer_part_first() -> None:
    def kept(first: int, second: int, limit: int) -> tuple[int, int]:
        a, b = truncate_pair(first, second, limit)
        assert a.lost_tokens + b.lost_tokens == max(first + second - limit, 0)
        return a.kept[0][1], b.kept[0][1]

    assert kept(9, 3, 8) == (5, 3)
    assert kept(3, 9, 4) == (2, 2)
    assert kept(5, 5, 7) == (4, 3)  # the second gives the odd one
    assert kept(2, 2, 9) == (2, 2)
    assert kept(3, 2, 0) == (0, 0)


@given(first=st.integers(0, 30), second=st.integers(0, 30), limit=st.integers(0, 70))
def test_a_pair_is_cut_as_one_token_at_a_time_would(first: int, second: int, limit: int) -> None:
    a, b = first, second
    while a + b > limit:
        a, b = (a - 1, b) if a > b else (a, b - 1)
    left, right = truncate_pair(first, second, limit)
    assert (left.kept[0][1], right.kept[0][1]) == (a, b)


@pytest.mark.parametrize(
    ("length", "limit", "policy", "overlap", "message"),
    [
        (5, 0, "left", 0, "cannot cut to 0"),
        (5, 2, "split", 2, "overlap of 2"),
        (5, 2, "leftt", 0, "Did you mean 'left'"),
    ],
)
def test_requests_that_make_no_sense(
    length: int, limit: int, policy: str, overlap: int, message: str
) -> None:
    with pytest.raises(OrreryError, match=message):
        truncate(length, limit, policy, overlap=overlap)  # type: ignore[arg-type]
    with pytest.raises(OrreryError, match="cannot cut to -1"):
        truncate_pair(1, 1, -1)
