from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from orrery.data.prefetch import prefetch


def test_the_same_items_in_the_same_order() -> None:
    assert list(prefetch(range(100), 3)) == list(range(100))
    assert list(prefetch([None, False], 1)) == [None, False]
    assert list(prefetch([], 1)) == []


def test_never_far_ahead() -> None:
    drawn = 0

    def items() -> Iterator[int]:
        nonlocal drawn
        for i in range(50):
            drawn += 1
            yield i

    for i in prefetch(items(), 2):
        time.sleep(0.001)
        assert drawn <= i + 1 + 2 + 1  # taken, waiting, and one in the thread's hand


def test_an_error_arrives_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise KeyError("broken")

    stream = prefetch(items(), 4)
    assert next(stream) == 1
    with pytest.raises(KeyError, match="broken"):
        next(stream)


def test_the_thread_ends_when_the_caller_stops() -> None:
    stream = prefetch(iter(int, 1), 1)  # endless
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name == "prefetch"]
