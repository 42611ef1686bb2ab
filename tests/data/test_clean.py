from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orrery.data.clean import CleanConfig, clean, repeated_lines

DEFAULT = CleanConfig()


def test_newlines_controls_and_composition() -> None:
    cleaned = clean("a\r\nb\rc\x00\x07\t\x0cd\x85\ufeff e\u0301", DEFAULT)
    assert cleaned.text == "a\nb\nc\t\x0cd é"
    assert cleaned.reason is None
    assert cleaned.data == cleaned.text.encode()


def test_composition_can_be_left_alone() -> None:
    assert clean("e\u0301", CleanConfig(nfc=False)).text == "e\u0301"


def test_characters_whose_bytes_look_like_controls_stay() -> None:
    text = "Â À \u00a0 漢\u0101 😀"
    assert clean(text, DEFAULT).text == text


def test_half_a_surrogate_pair_is_replaced() -> None:
    cleaned = clean("a\ud800b", DEFAULT)
    assert cleaned.text == "a\ufffdb"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (" \n\t ", "empty"),
        ("\x00\x01", "empty"),
        ("short", None),
        ("buy now\n" * 50, "repeated lines"),
        ("buy now " * 500, "repetitive"),
        ("a" * 5000, "repetitive"),
        ("one\ntwo\nthree\nfour\none\n", None),
    ],
)
def test_reasons(text: str, reason: str | None) -> None:
    assert clean(text, DEFAULT).reason == reason


def test_too_short_by_choice() -> None:
    assert clean("  four  ", CleanConfig(min_chars=5)).reason == "short"
    assert clean("  five5  ", CleanConfig(min_chars=5)).reason is None


def test_rules_can_be_switched_off() -> None:
    off = CleanConfig(max_repeated_lines=1, max_compression=0)
    assert clean("buy now\n" * 500, off).reason is None


def test_repeated_lines_by_hand() -> None:
    # lines: "aa" "bbb" "aa" "": seven characters, two of them in a line seen before
    assert repeated_lines("aa\nbbb\naa\n") == pytest.approx(2 / 7)
    assert repeated_lines("\n\n\n") == 0.0


@given(st.text())
def test_cleaning_twice_changes_nothing_more(text: str) -> None:
    once = clean(text, DEFAULT)
    assert clean(once.text, DEFAULT).text == once.text
    assert once.bytes_before == len(text.encode())
