"""A stream of single tokens reads as the whole does, and shows no half character."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.kit.errors import OrreryError
from orrery.text import Tokenizer

from .conftest import KINDS, SAMPLES

ids = st.lists(st.integers(0, 699), max_size=40)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=300, deadline=None)
@given(ids=ids, special=st.booleans())
def test_stream_equals_whole_for_random_ids(
    kind: str, trained: Callable[[str], Tokenizer], ids: list[int], special: bool
) -> None:
    tokenizer = trained(kind)
    stream = tokenizer.detokenizer(special=special)
    assert "".join([stream.push(i) for i in ids]) + stream.flush() == tokenizer.decode(ids, special=special)
    assert tokenizer.decode(ids, special=special) == tokenizer.decode_bytes(ids, special=special).decode(
        "utf-8", "replace"
    )


@pytest.mark.parametrize("kind", ["bpe", "bpe-fallback", "unigram"])
@settings(max_examples=300, deadline=None)
@given(
    data=st.lists(
        st.sampled_from(
            [
                b"\xe2\x82\xac",
                b"\xe2",
                b"\x82",
                b"\xf0\x9f",
                b"\x98\x80",
                b"a",
                b"\xff",
                b"\xed\xa0\x80",
                b"\xc0",
            ]
        )
    ),
    cut=st.integers(0, 30),
)
def test_stream_equals_whole_at_any_cut_between_bytes(
    kind: str, trained: Callable[[str], Tokenizer], data: list[bytes], cut: int
) -> None:
    tokenizer = trained(kind)
    raw = tokenizer.encode_bytes(b"".join(data) + b"\xff")
    stream = tokenizer.detokenizer()
    before = "".join([stream.push(i) for i in raw[:cut]])
    after = "".join([stream.push(i) for i in raw[cut:]]) + stream.flush()
    assert before + after == tokenizer.decode(raw)


@pytest.mark.parametrize("kind", ["bpe", "bpe-fallback", "unigram"])
@pytest.mark.parametrize("sample", SAMPLES)
def test_no_half_character_is_shown(kind: str, sample: str, trained: Callable[[str], Tokenizer]) -> None:
    tokenizer = trained(kind)
    stream, shown = tokenizer.detokenizer(), ""
    for i in tokenizer.encode(sample):
        shown += stream.push(i)
        assert sample.startswith(shown) and "\ufffd" not in shown
    assert shown == sample and stream.flush() == ""


def test_a_character_appears_with_its_last_byte(bpe: Tokenizer) -> None:
    euro = bpe.encode_bytes(b"\xff")  # a byte alone, to see it wait and then give up
    stream = bpe.detokenizer()
    assert [stream.push(i) for i in bpe.encode("€")][-1] == "€"
    half = [bpe.id(piece) for piece in ("â", "Ĥ")]  # the first two of the euro sign's three bytes
    assert [stream.push(i) for i in half] == ["", ""]
    assert stream.flush() == "\ufffd"
    assert stream.push(euro[0]) == "\ufffd"


def test_it_can_be_used_again_after_the_end(trained: Callable[[str], Tokenizer]) -> None:
    tokenizer = trained("unigram")
    stream = tokenizer.detokenizer()
    for _ in range(2):
        assert (
            "".join([stream.push(i) for i in tokenizer.encode("two words")]) + stream.flush() == "two words"
        )


def test_leading_spaces_by_kind(trained: Callable[[str], Tokenizer]) -> None:
    """`▁word` and WordPiece's words bring a space everywhere but at the start; byte-level pieces are what they are."""
    for kind, name in (("bpe-fallback", "▁the"), ("wordpiece", "the"), ("unigram", "▁")):
        tokenizer = trained(kind)
        i = tokenizer.id(name)
        assert tokenizer.decode([i, i]) == name.replace("▁", "") + " " + name.replace("▁", "")
        assert tokenizer.token_bytes(i).startswith(b" ")
    bpe = trained("bpe")
    assert bpe.decode([bpe.id("Ġthe")]) == " the"
    wordpiece = trained("wordpiece")
    assert wordpiece.decode(wordpiece.encode("wrapping text , and more")) == "wrapping text, and more"


def test_an_unknown_id_is_refused(bpe: Tokenizer) -> None:
    stream = bpe.detokenizer()
    for bad in (-1, 700):
        with pytest.raises(OrreryError, match="not a token id"):
            stream.push(bad)
