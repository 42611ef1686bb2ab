"""Drafts as trees, the statistics of keeping them, and the tree that Medusa's guesses make."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from orrery.serve.speculate.drafter import NOTHING, Draft
from orrery.serve.speculate.medusa import candidate_tree, tree
from orrery.serve.speculate.statistics import AcceptanceStatistics

#        x -> 0 -> 2 -> 5
#          -> 1 -> 3
#               -> 4
TREE = Draft((10, 11, 12, 13, 14, 15), (-1, -1, 0, 1, 1, 2), torch.arange(12.0).view(6, 2))


def test_a_tree_by_hand() -> None:
    assert TREE.children == {-1: (0, 1), 0: (2,), 1: (3, 4), 2: (5,)}
    assert TREE.depths == (0, 0, 1, 1, 1, 2)
    assert Draft((7, 8, 9)).children == {-1: (0,), 0: (1,), 1: (2,)}
    assert Draft((7, 8, 9)).depths == (0, 1, 2)
    assert len(NOTHING) == 0 and NOTHING.children == {}


def test_parts_of_a_tree_by_hand() -> None:
    assert (TREE.first(3).ids, TREE.first(3).parents) == ((10, 11, 12), (-1, -1, 0))
    assert TREE.first(3).probabilities.tolist() == [[0, 1], [2, 3], [4, 5]]
    chain = TREE.first_branch()
    assert (chain.ids, chain.parents, chain.probabilities.tolist()) == (
        (10, 12, 15),
        None,
        [[0, 1], [4, 5], [10, 11]],
    )
    assert Draft((7, 8, 9)).first(2).ids == (7, 8) and Draft((7, 8, 9)).first(9).ids == (7, 8, 9)


def test_statistics_by_hand() -> None:
    counts = AcceptanceStatistics()
    counts.record(NOTHING, 0)
    counts.record(Draft((1, 2, 3)), 2)
    counts.record(TREE, 3)
    counts.record(Draft((1,)), 0)
    assert (counts.passes, counts.nodes, counts.kept) == (4, 10, 5)
    assert counts.mean_accepted_length == 1 + 5 / 4 and counts.rate == 0.5
    assert counts.by_position() == (2 / 3, 1.0, 0.5)
    both = AcceptanceStatistics()
    both.add(counts)
    both.add(counts)
    assert both.by_position() == counts.by_position() and both.passes == 8
    assert AcceptanceStatistics().mean_accepted_length == 1 and AcceptanceStatistics().by_position() == ()


def test_the_best_small_trees_by_hand() -> None:
    accuracy = [[0.6, 0.2, 0.05], [0.5, 0.25, 0.1]]
    # 0.6, 0.6 * 0.5, 0.2, 0.6 * 0.25, 0.2 * 0.5
    assert candidate_tree(accuracy, 5) == [(0,), (0, 0), (1,), (0, 1), (1, 0)]


@given(
    st.lists(st.lists(st.integers(1, 99), min_size=3, max_size=3), min_size=1, max_size=3),
    st.integers(1, 20),
)
def test_candidate_trees_are_the_most_likely_ones(ranks: list[list[int]], size: int) -> None:
    accuracy = [sorted((r / 100 for r in row), reverse=True) for row in ranks]
    paths = candidate_tree(accuracy, size)
    every = [p for k in range(1, len(accuracy) + 1) for p in itertools.product(range(3), repeat=k)]

    def worth(path: tuple[int, ...]) -> float:
        return math.prod(accuracy[k][rank] for k, rank in enumerate(path))

    assert len(paths) == len(set(paths)) == min(size, len(every))
    assert all(path[:-1] in paths[:i] for i, path in enumerate(paths) if len(path) > 1)
    best = sorted(map(worth, every), reverse=True)[: len(paths)]
    assert sorted(map(worth, paths), reverse=True) == pytest.approx(best)


def test_a_medusa_tree_by_hand() -> None:
    draft = tree([[50, 51], [60, 61]], [(0,), (0, 0), (1,), (0, 1), (1, 0)])
    assert draft.ids == (50, 60, 51, 61, 60)
    assert draft.parents == (-1, 0, -1, 0, 2)
