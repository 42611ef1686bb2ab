from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orrery.data.cut import Document
from orrery.data.dedup import document_hash
from orrery.data.split import parts_of_few, split
from orrery.kit.errors import OrreryError


def sides(numbers: list[int], heldout: float, seed: int = 0) -> list[tuple[str, int]]:
    return list(split(((document_hash(str(n).encode()), n) for n in numbers), heldout, seed=seed))


@given(st.sets(st.integers(), max_size=40), st.floats(0.01, 0.99), st.integers(0, 5))
def test_every_item_once_and_no_side_empty(numbers: set[int], heldout: float, seed: int) -> None:
    out = sides(list(numbers), heldout, seed)
    assert sorted(n for _, n in out) == sorted(numbers)
    counts = Counter(side for side, _ in out)
    if len(numbers) >= 2:
        assert counts["train"] >= 1 and counts["heldout"] >= 1
    elif numbers:
        assert counts == {"train": 1}


@given(st.permutations(range(30)), st.sampled_from([0.001, 0.05, 0.5, 0.999]))
def test_the_side_does_not_depend_on_the_order(numbers: list[int], heldout: float) -> None:
    assert sorted(sides(numbers, heldout)) == sorted(sides(sorted(numbers), heldout))


def test_about_the_part_asked_for_and_another_seed_another_split() -> None:
    out = sides(list(range(4000)), 0.05)
    held = {n for side, n in out if side == "heldout"}
    assert 150 < len(held) < 250
    assert held != {n for side, n in sides(list(range(4000)), 0.05, seed=1) if side == "heldout"}


def test_nothing_held_out_by_choice() -> None:
    assert {side for side, _ in sides(list(range(50)), 0.0)} == {"train"}


def test_a_part_outside_its_range_is_refused() -> None:
    with pytest.raises(OrreryError, match="below 1"):
        sides([1], 1.0)


def test_one_book_becomes_about_forty_parts() -> None:
    book = Document("book", "A sentence of some words.\n\n" * 2000, "book.txt")
    parts = list(parts_of_few([book], 0.05))
    assert 38 <= len(parts) <= 60
    assert "".join(part.text for part in parts) == book.text


def test_many_documents_stay_whole() -> None:
    documents = [Document(str(i), f"text {i} " * 100, "p") for i in range(20)]
    assert list(parts_of_few(iter(documents), 0.05)) == documents


def test_short_texts_are_not_cut_to_shreds() -> None:
    parts = list(parts_of_few([Document("d", "word " * 200, "p")], 0.05))
    assert "".join(part.text for part in parts) == "word " * 200
    assert all(100 < len(part.text) <= 256 for part in parts)
