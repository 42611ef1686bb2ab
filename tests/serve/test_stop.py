from __future__ import annotations

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


@pytest.mark.parametrize("stops", [[""], "abc"])
def test_stops_are_a_list_of_texts(stops) -> None:
    with pytest.raises(OrreryError, match="stop takes a list"):
        StopStrings(stops)
