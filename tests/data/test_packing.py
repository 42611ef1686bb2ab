from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orrery.data.packing import BestFitPacking, Packing, StreamPacking, best_fit_decreasing
from orrery.kit.errors import OrreryError

lengths_of = st.lists(st.integers(0, 40), min_size=1, max_size=30).filter(any)


def covered(packing: Packing, epoch: int) -> Counter[tuple[int, int]]:
    return Counter(
        (document, start + i)
        for row in range(packing.rows)
        for document, start, length in packing.row(epoch, row)
        for i in range(length)
    )


def every_position(lengths: list[int]) -> Counter[tuple[int, int]]:
    return Counter((document, i) for document, length in enumerate(lengths) for i in range(length))


@given(lengths_of, st.integers(1, 17), st.integers(0, 3), st.integers(0, 3))
def test_a_stream_holds_every_position_once(lengths: list[int], context: int, seed: int, epoch: int) -> None:
    packing = StreamPacking(np.array(lengths), context, seed=seed)
    assert covered(packing, epoch) == every_position(lengths)
    sizes = packing.sizes(np.arange(packing.rows)).tolist()
    assert sizes == [sum(run[2] for run in packing.row(epoch, row)) for row in range(packing.rows)]
    assert all(size == context for size in sizes[:-1])
    assert packing.padding == context * packing.rows - sum(lengths)


@given(lengths_of, st.integers(1, 17), st.integers(0, 3))
def test_best_fit_holds_every_position_once_and_cuts_only_what_is_too_long(
    lengths: list[int], context: int, seed: int
) -> None:
    packing = BestFitPacking(np.array(lengths), context, seed=seed)
    assert covered(packing, 0) == every_position(lengths)
    for row in range(packing.rows):
        runs = packing.row(0, row)
        assert 1 <= sum(run[2] for run in runs) <= context
        for document, _, length in runs:
            if lengths[document] <= context:
                assert length == lengths[document]
    assert packing.padding == context * packing.rows - sum(lengths)
    assert packing.sizes(np.arange(packing.rows)).sum() == sum(lengths)


def naive_best_fit(lengths: list[int], capacity: int) -> list[int]:
    """How full each bin is, by the definition."""
    room: list[int] = []
    for length in lengths:
        fitting = [r for r in room if r >= length]
        if fitting:
            room[room.index(min(fitting))] -= length
        else:
            room.append(capacity - length)
    return sorted(room)


@given(st.lists(st.integers(1, 50), max_size=60), st.integers(50, 70))
def test_best_fit_decreasing_is_that_of_the_definition(lengths: list[int], capacity: int) -> None:
    lengths = sorted(lengths, reverse=True)
    bins = best_fit_decreasing(np.array(lengths, dtype=np.int64), capacity)
    fill = np.bincount(bins, weights=lengths) if lengths else np.array([])
    assert sorted(capacity - int(size) for size in fill) == naive_best_fit(lengths, capacity)


def test_best_fit_by_hand() -> None:
    # 6 opens a bin (room 4), 5 another (room 5), 5 fills it, 4 fills the first, 3 opens a third.
    assert best_fit_decreasing(np.array([6, 5, 5, 4, 3]), 10).tolist() == [0, 1, 1, 0, 2]


def test_best_fit_wastes_little_and_cuts_less_than_the_stream() -> None:
    lengths = np.random.default_rng(0).lognormal(4.5, 1.0, 3000).astype(np.int64) + 1
    fit, stream = (kind(lengths, 256, seed=0) for kind in (BestFitPacking, StreamPacking))
    assert fit.padding / (fit.rows * 256) < 0.01
    pieces = [sum(len(packing.row(0, row)) for row in range(packing.rows)) for packing in (fit, stream)]
    fewest = int((-(-lengths // 256)).sum())
    assert pieces[0] == fewest < pieces[1]


@pytest.mark.parametrize(
    ("long", "runs", "dropped"),
    [
        ("split", [(0, 0, 4), (0, 4, 4), (0, 8, 2), (1, 0, 3)], 0),
        ("drop", [(1, 0, 3)], 10),
        ("left", [(0, 6, 4), (1, 0, 3)], 6),
        ("right", [(0, 0, 4), (1, 0, 3)], 6),
    ],
)
def test_what_becomes_of_long_documents(long: str, runs: list[tuple[int, int, int]], dropped: int) -> None:
    packing = BestFitPacking(np.array([10, 3]), 4, seed=0, long=long)  # type: ignore[arg-type]
    assert sorted(run for row in range(packing.rows) for run in packing.row(0, row)) == runs
    assert packing.dropped == dropped


def test_long_documents_can_be_refused() -> None:
    with pytest.raises(OrreryError, match=r"1 documents have more than 4 tokens \(the longest 10\)"):
        BestFitPacking(np.array([10, 3]), 4, seed=0, long="error")


def test_a_new_order_every_epoch() -> None:
    packing = StreamPacking(np.full(50, 7), 16, seed=0)
    assert packing.row(0, 0) != packing.row(1, 0)
    assert StreamPacking(np.full(50, 7), 16, seed=1).row(0, 0) != packing.row(0, 0)
