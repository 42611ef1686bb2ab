from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from orrery.data.cut import Document, boundary, cut, documents_from_blocks

prose = st.text(alphabet="ab \n\r.é漢", max_size=300)


def test_cuts_after_a_blank_line_when_there_is_one() -> None:
    text = "one\ntwo three\n\nfour five six seven"
    assert text[: boundary(text, 20)] == "one\ntwo three\n\n"


def test_else_after_a_line_else_after_a_space_else_anywhere() -> None:
    assert boundary("aaaa bbbb\ncccc dddd", 12) == 10
    assert boundary("aaaa bbbb cccc dddd", 12) == 10
    assert boundary("aaaabbbbccccdddd", 12) == 12


def test_a_blank_line_too_near_the_start_is_not_used() -> None:
    assert boundary("a\n\nbbbbbb ccccccccccc", 12) == 10


@given(prose, st.integers(1, 40))
def test_parts_give_the_text_back_and_know_their_place(text: str, limit: int) -> None:
    parts = list(cut(Document("d", text, "p"), limit))
    assert "".join(part.text for part in parts) == text
    for part in parts:
        assert text[part.start : part.start + len(part.text)] == part.text
        assert len(part.text) <= limit
    if len(text) > limit:
        assert [part.name for part in parts] == [f"d#{part.start}" for part in parts]
    else:
        assert [part.name for part in parts] == ["d"]


@given(prose, st.integers(1, 30), st.integers(1, 50), st.integers(1, 20))
def test_streamed_blocks_give_the_text_back(text: str, size: int, long: int, part: int) -> None:
    blocks = [text[i : i + size] for i in range(0, len(text), size)]
    documents = list(documents_from_blocks(blocks, id="d", path="p", long=long, part=part))
    assert "".join(document.text for document in documents) == text
    if len(text) <= long:
        assert [document.name for document in documents] == ["d"]
    else:
        assert all(document.is_part and len(document.text) <= part for document in documents)


def test_no_part_is_a_mere_tail() -> None:
    sizes = [len(part.text) for part in cut(Document("d", "word " * 2001, "p"), 1000)]
    assert min(sizes) > 250 and max(sizes) <= 1000


def test_a_part_cut_again_keeps_its_place_in_the_whole() -> None:
    text = "word " * 100
    whole = Document("d", text, "p")
    again = [finer for part in cut(whole, 200) for finer in cut(part, 50)]
    assert all(text[part.start :].startswith(part.text) for part in again)
    assert "".join(part.text for part in again) == text


def test_a_long_stream_is_not_held() -> None:
    drawn = 0

    def blocks() -> Iterator[str]:
        nonlocal drawn
        for _ in range(1000):
            drawn += 1
            yield "line of text\n" * 10

    stream = documents_from_blocks(blocks(), id="d", path="p", long=500, part=200)
    next(stream)
    assert drawn < 10
