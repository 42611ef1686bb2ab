"""Rectangles on request; what is real is said by lengths."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orrery.kit.errors import OrreryError
from orrery.text.padding import pad, unpad


def test_left_and_right_by_hand() -> None:
    right = pad([[5, 6, 7], [8], []], fill=9)
    assert right.rows.tolist() == [[5, 6, 7], [8, 9, 9], [9, 9, 9]]
    assert right.mask.tolist() == [[True] * 3, [True, False, False], [False] * 3]
    left = pad([[5, 6, 7], [8], []], side="left", fill=9)
    assert left.rows.tolist() == [[5, 6, 7], [9, 9, 8], [9, 9, 9]]
    assert left.mask.tolist() == [[True] * 3, [False, False, True], [False] * 3]
    assert left.lengths.tolist() == [3, 1, 0] and left.waste == pytest.approx(5 / 9)


@given(
    st.lists(st.lists(st.integers(0, 9), max_size=6), min_size=1, max_size=5),
    st.sampled_from(["left", "right"]),
    st.integers(0, 9),
)
def test_sequences_come_back_whatever_the_filling(sequences: list[list[int]], side: str, fill: int) -> None:
    padded = pad([np.array(ids, np.uint32) for ids in sequences], side=side, fill=fill)  # type: ignore[arg-type]
    assert [row.tolist() for row in unpad(padded)] == sequences
    assert padded.mask.sum() == sum(map(len, sequences)) and 0 <= padded.waste <= 1


def test_equal_lengths_waste_nothing() -> None:
    assert pad([[1, 2], [3, 4]]).waste == 0.0
    with pytest.raises(OrreryError, match="no sequences"):
        pad([])
