from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from orrery.data.shuffle import shuffled, shuffled_array


@given(st.integers(1, 2000), st.integers(0, 2**63 - 1))
def test_a_bijection_and_the_array_form_agrees(size: int, key: int) -> None:
    order = [shuffled(i, size, key) for i in range(size)]
    assert sorted(order) == list(range(size))
    assert shuffled_array(np.arange(size), size, key).tolist() == order


@given(st.integers(2**40, 2**62), st.integers(0, 2**63 - 1), st.lists(st.integers(0, 2**40 - 1), unique=True))
def test_large_ranges_stay_inside_and_apart(size: int, key: int, indices: list[int]) -> None:
    order = [shuffled(i, size, key) for i in indices]
    assert all(0 <= value < size for value in order) and len(set(order)) == len(order)
    assert shuffled_array(np.array(indices, dtype=np.int64), size, key).tolist() == order


def test_orders_look_drawn_at_random() -> None:
    size, keys = 1000, range(400)
    orders = np.array([shuffled_array(np.arange(size), size, key) for key in keys])
    # The place of one index over many keys, and the distance of neighbours, are those of random orders:
    # mean (size - 1) / 2 with standard error size / sqrt(12 * 400) = 14.4; mean distance about size / 3.
    assert abs(orders[:, 0].mean() - 499.5) < 60
    assert abs(orders[:, size - 1].mean() - 499.5) < 60
    assert abs(np.abs(np.diff(orders, axis=1)).mean() - size / 3) < 10
    # An index returns to its own place once a key on average, as in a random order.
    assert abs((orders == np.arange(size)).sum(axis=1).mean() - 1) < 0.3
    # Two keys agree in about one place, neighbours among keys included.
    assert abs((orders[1:] == orders[:-1]).sum(axis=1).mean() - 1) < 0.3
