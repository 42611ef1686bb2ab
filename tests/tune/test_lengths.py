"""Each policy keeps what it says, and the account adds up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orrery.kit.errors import OrreryError
from orrery.text.truncation import Policy
from orrery.tune.examples import Example
from orrery.tune.lengths import LengthAccount, fit

NINE = Example(tuple(range(9)), (0, 0, 0, 1, 1, 0, 0, 1, 1), "'x.jsonl', line 7")
"""8 positions; ids 3, 4, 7 and 8 are learned."""


def fitted(policy: Policy, context: int) -> tuple[list[Example], LengthAccount]:
    account = LengthAccount(policy=policy, context=context)
    return fit(NINE, account), account


def test_what_fits_is_kept_as_it_is() -> None:
    for policy in ("error", "drop", "split", "left", "right"):
        kept, account = fitted(policy, 8)  # type: ignore[arg-type]
        assert kept == [NINE] and account.too_long == account.lost_tokens == 0 and not account.sentence()


def test_by_hand() -> None:
    kept, account = fitted("right", 5)
    assert [(e.ids, e.weights) for e in kept] == [((0, 1, 2, 3, 4, 5), (0, 0, 0, 1, 1, 0))]
    assert (account.lost_tokens, account.lost_supervised) == (3, 2)
    kept, account = fitted("left", 5)
    assert [(e.ids, e.weights) for e in kept] == [((3, 4, 5, 6, 7, 8), (0, 1, 0, 0, 1, 1))]
    assert account.lost_supervised == 1 and account.lost_rows == ["'x.jsonl', line 7"]
    kept, account = fitted("split", 3)  # positions 0-2, 3-5, 6-7: they predict ids 1-3, 4-6, 7-8
    assert [e.ids for e in kept] == [(0, 1, 2, 3), (3, 4, 5, 6), (6, 7, 8)]
    assert [e.supervised for e in kept] == [1, 1, 2] and account.lost_supervised == account.lost_tokens == 0
    kept, account = fitted("drop", 7)
    assert kept == [] and account.emptied == 1 and account.lost_supervised == 4 and account.lost_tokens == 9
    assert "'drop' lost 4 of 4 supervised tokens, 1 examples whole" in account.sentence()
    with pytest.raises(OrreryError, match=r"'x\.jsonl', line 7: 9 tokens do not fit into a row of 7"):
        fitted("error", 7)


def test_what_is_left_without_anything_to_learn_goes() -> None:
    kept, account = fitted("right", 2)
    assert kept == [] and account.emptied == 1 and account.lost_supervised == 4
    kept, _ = fitted("split", 2)  # the piece that predicts 5 and 6 has nothing to learn
    assert [e.ids for e in kept] == [(2, 3, 4), (6, 7, 8)]


@given(
    st.lists(st.sampled_from([0.0, 1.0]), min_size=2, max_size=40),
    st.integers(1, 12),
    st.sampled_from(["drop", "split", "left", "right"]),
)
def test_no_target_is_lost_uncounted(weights: list[float], context: int, policy: Policy) -> None:
    example = Example(tuple(range(len(weights))), tuple(weights))
    account = LengthAccount(policy=policy, context=context)
    kept = fit(example, account)
    assert all(2 <= len(part.ids) <= context + 1 for part in kept) or len(example.ids) <= context + 1
    assert account.supervised - account.lost_supervised == sum(part.supervised for part in kept)
    targets = [i for part in kept for i, w in zip(part.ids[1:], part.weights[1:], strict=True) if w]
    assert sorted(set(targets)) == sorted(targets)
    if policy == "split":
        assert account.lost_supervised == 0
