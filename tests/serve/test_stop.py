from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orrery.kit.errors import OrreryError
from orrery.serve.stop import StopStrings

letters = st.text("abc", max_size=12)


def run(stops: list[str], pieces: list[str]) -> tuple[list[str], StopStrings]:
    stop, out = StopStrings(stops), []
    for piece in pieces:
        out.append(stop.push(piece))
        if stop.found:
            break
    else:
        out.append(stop.flush())
    return out, stop


def test_a_partial_match_is_held_back_and_released() -> None:
    out, stop = run(["</s>"], ["a<", "/", "x", "</", "s>", "never"])
    assert out == ["a", "", "</x", "", ""]
    assert stop.found


def test_the_earliest_of_several_cuts() -> None:
    assert run(["yy", "x"], ["ab", "cyyx"])[0] == ["ab", "c"]


def test_without_stops_everything_passes() -> None:
    assert run([], ["a", "b"])[0] == ["a", "b", ""]


@given(st.lists(st.text("abc", min_size=1, max_size=3), max_size=3), st.lists(letters, max_size=6))
def test_what_comes_out_is_the_text_up_to_the_first_stop(stops, pieces) -> None:
    out, stop = run(stops, pieces)
    shown = "".join(out)
    assert all(s not in shown for s in stops)
    if not stop.found:
        assert shown == "".join(pieces)
    else:
        assert any("".join(pieces)[len(shown) :].startswith(s) for s in stops)
    # Nothing that was shown had to be taken back: each piece extends a beginning of the final text.
    assert all(shown.startswith("".join(out[:i])) for i in range(len(out)))


@given(
    st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=4),
    st.text("abc", max_size=20),
    st.lists(st.integers(0, 20), max_size=8),
)
def test_the_pieces_do_not_matter(stops, text, cuts) -> None:
    """The same text comes out of any cutting into pieces; it ends before the stop string that is complete first."""
    marks = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[i:j] for i, j in pairwise(marks)]
    shown = {"".join(run(stops, how)[0]) for how in (pieces, list(text), [text])}
    ends = [(at + len(s), at) for at in range(len(text)) for s in stops if text.startswith(s, at)]
    assert shown == {text[: min(ends)[1]] if ends else text}


@given(st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=3), st.text("ab", max_size=16))
def test_no_beginning_of_a_stop_is_shown_before_it_is_known_to_be_none(stops, text) -> None:
    stop, shown = StopStrings(stops), ""
    for read, char in enumerate(text, 1):
        shown += stop.push(char)
        if stop.found:
            break
        held = text[len(shown) : read]
        assert shown + held == text[:read]
        assert not any(
            text[at:read] and s.startswith(text[at:read]) for at in range(len(shown)) for s in stops
        )
        assert held == "" or any(s.startswith(held) for s in stops)  # and no more is held than may be one


def test_nothing_comes_after_a_stop_was_met() -> None:
    stop = StopStrings(["b"])
    assert [stop.push("ab"), stop.push("cc"), stop.flush()] == ["a", "", ""]


def test_of_stops_that_end_together_the_longest_cuts() -> None:
    assert run(["b", "ab"], ["x", "a", "b"])[0] == ["x", "", ""]
    assert run(["abc", "b"], ["abc"])[0] == ["a"]  # "b" was complete first


@pytest.mark.parametrize("stops", [[""], "abc"])
def test_stops_are_a_list_of_texts(stops) -> None:
    with pytest.raises(OrreryError, match="stop takes a list"):
        StopStrings(stops)
