from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orrery.data import dedup
from orrery.data.dedup import Seen, document_hash


@given(st.lists(st.integers(0, 60)), st.integers(1, 10))
def test_agrees_with_a_set(numbers: list[int], recent: int) -> None:
    known: set[int] = set()
    before, dedup.RECENT = dedup.RECENT, recent
    try:
        seen = Seen()
        for number in numbers:
            assert seen.add(document_hash(bytes([number]))) == (number not in known)
            known.add(number)
        assert len(seen) == len(known)
    finally:
        dedup.RECENT = before


def test_hashes_that_end_in_zero_bytes_stay_apart() -> None:
    hashes = [bytes(16), b"a" + bytes(15), b"a\0b" + bytes(13), b"a" * 15 + b"\0"]
    before, dedup.RECENT = dedup.RECENT, 1
    try:
        seen = Seen()
        assert [seen.add(hash) for hash in hashes] == [True] * 4
        assert [seen.add(hash) for hash in hashes] == [False] * 4
    finally:
        dedup.RECENT = before


def test_sixteen_bytes_a_document() -> None:
    assert len(document_hash(b"text")) == 16
    seen = Seen()
    for i in range(dedup.RECENT):
        seen.add(document_hash(i.to_bytes(4, "big")))
    assert seen._sorted.nbytes == 16 * dedup.RECENT and not seen._recent
