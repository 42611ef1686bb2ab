"""Memory of large results: used again, and never while anybody looks at it."""

from __future__ import annotations

import threading

import pytest
import torch

from orrery.model.lowbit.lent import LEAST, MOST, large

ROWS, COLUMNS = 16, LEAST // 4 // 16


def test_it_is_used_again_when_nobody_looks() -> None:
    first = large(ROWS, COLUMNS)
    place = first.data_ptr()
    del first
    second = large(ROWS, COLUMNS)
    assert second.data_ptr() == place
    assert second.shape == (ROWS, COLUMNS) and second.dtype == torch.float32


@pytest.mark.parametrize(
    "look", [lambda x: x[3], lambda x: x.view(-1)[5:9], lambda x: x.split(4)[1], lambda x: x.T]
)
def test_a_view_keeps_it(look: object) -> None:
    first = large(ROWS, COLUMNS).fill_(1.0)
    view = look(first)  # type: ignore[operator]
    del first
    other = large(ROWS, COLUMNS).fill_(2.0)
    assert bool((view == 1).all()) and bool((other == 2).all())


def test_a_smaller_result_lies_in_the_same_block_and_a_larger_one_does_not() -> None:
    big = large(2 * ROWS, COLUMNS)
    place = big.data_ptr()
    del big
    small = large(ROWS, COLUMNS)
    assert small.data_ptr() == place
    del small
    assert large(4 * ROWS, COLUMNS).fill_(1.0).shape == (4 * ROWS, COLUMNS)


def test_what_is_small_or_huge_is_plain_memory() -> None:
    small, huge = large(1, LEAST // 4 - 1), large(1, MOST // 4 + 1)
    assert small.untyped_storage().nbytes() == LEAST - 4
    assert huge.untyped_storage().nbytes() == MOST + 4


def test_threads_never_share_a_block() -> None:
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(30):
            x = large(ROWS, COLUMNS)
            x[0].fill_(number)
            x[-1].fill_(number)
            if not bool((x[0] == number).all() and (x[-1] == number).all()):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
