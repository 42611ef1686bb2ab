from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.kit.errors import OrreryError
from orrery.kit.lm import Sampling
from orrery.serve import sampling as s

INF = math.inf
few = st.integers(0, 3)


def lengths(ids: list[int], breakers: tuple[int, ...] = (), longest: int = 99) -> dict[int, int]:
    return s.repeated_lengths(np.array(ids, dtype=np.int64), breakers, longest)


# --- DRY


def test_a_token_that_lengthens_a_repetition_is_found_with_its_length() -> None:
    #        1 2 3 4 | 1 2 3: 4 would make the repetition of three tokens one of four
    assert lengths([1, 2, 3, 4, 1, 2, 3]) == {4: 3}
    assert lengths([1, 2, 3, 4, 9, 2, 3]) == {4: 2}
    assert lengths([5, 7, 6, 7]) == {6: 1}
    assert lengths([1, 2, 3]) == lengths([1]) == lengths([]) == {}


def test_of_several_places_the_longest_agreement_counts() -> None:
    #        8 2 3 | 1 2 3 | 1 2: 3 came after "2" twice, once after "1 2" as well
    assert lengths([8, 2, 3, 9, 1, 2, 3, 7, 1, 2]) == {3: 2}
    assert lengths([8, 2, 3, 1, 2, 3, 1, 2]) == {
        3: 4
    }  # a repetition may overlap itself: "2 3 1 2" stood there
    assert lengths([8, 2, 4, 1, 2, 3, 1, 2]) == {4: 1, 3: 2}


def test_a_run_of_one_token_agrees_with_itself() -> None:
    assert lengths([7] * 6) == {7: 5}
    assert lengths([7] * 6, longest=3) == {7: 3}


def test_no_repetition_runs_over_a_breaker() -> None:
    assert lengths([1, 2, 3, 4, 1, 2, 3], breakers=(2,)) == {4: 1}
    assert lengths([1, 2, 3, 4, 1, 2, 3], breakers=(3,)) == {}
    assert lengths([1, 2, 3, 4, 1, 2, 3], breakers=(4,)) == {}  # a breaker itself is never pushed away


@given(st.lists(few, max_size=14), st.sets(few, max_size=1), st.integers(1, 6))
def test_lengths_are_those_of_the_definition(ids, breakers, longest) -> None:
    want: dict[int, int] = {}
    for token in set(ids) - breakers:
        for n in range(1, len(ids)):
            end = ids[-n:]
            places = [i for i in range(len(ids) - n) if ids[i : i + n] == end and ids[i + n] == token]
            if places and not breakers & set(end):
                want[token] = min(n, longest)
    assert lengths(ids, tuple(breakers), longest) == want


def test_dry_by_hand() -> None:
    """Three tokens agree: 0.8 * 1.75 ** (3 - 2) = 1.4; of one token too few agree."""
    sampling = Sampling(dry_multiplier=0.8, dry_base=1.75, dry_allowed_length=2)
    assert s.dry_penalties(np.array([1, 2, 3, 4, 1, 2, 3]), sampling) == pytest.approx({4: 1.4})
    assert s.dry_penalties(np.array([5, 7, 6, 7]), sampling) == {}
    none = torch.zeros(6, dtype=torch.long)
    out = s.penalized(torch.ones(6), sampling, before=none, made=none, ids=[1, 2, 3, 4, 1, 2, 3])
    assert out.tolist() == pytest.approx([1, 1, 1, 1, -0.4, 1])


def test_dry_stays_finite() -> None:
    sampling = Sampling(dry_multiplier=1e9, dry_base=1e9)
    (loss,) = s.dry_penalties(np.full(500, 3), sampling).values()
    assert loss < 1e31
    (flat,) = s.dry_penalties(np.full(500, 3), Sampling(dry_multiplier=2.0, dry_base=1.0)).values()
    assert flat == 2.0


# --- bad words


def test_bad_words_by_hand() -> None:
    words = s.BadWords([(4,), (1, 2), (3, 1, 5), (9, 9)])
    assert words.ends([]) == [4]
    assert words.ends([1]) == [4, 2]
    assert words.ends([3, 1]) == [4, 2, 5]
    assert words.ends([9]) == [4, 9]
    assert not s.BadWords([])
    assert s.forbid(torch.zeros(5), [4, 2, 7]).tolist() == [0, 0, -INF, 0, -INF]


@given(st.lists(st.lists(few, min_size=1, max_size=3).map(tuple), max_size=4), st.lists(few, max_size=6))
def test_a_bad_word_is_never_completed(words, ids) -> None:
    ends = set(s.BadWords(words).ends(ids))
    for token in range(4):
        text = (*ids, token)
        completes = any(text[len(text) - len(w) :] == w for w in words if len(w) <= len(text))
        assert (token in ends) == completes


def test_texts_become_ids(tokenizer) -> None:
    words = s.bad_word_ids(tokenizer, ["cat", (5, 6)])
    assert {tokenizer.decode(word) for word in words[:-1]} == {"cat", " cat"}
    assert words[-1] == (5, 6)
    breakers = s.breaker_ids(tokenizer, ["\n", 3])
    assert breakers[-1] == 3
    assert all(b"\n" in tokenizer.token_bytes(i) for i in breakers[:-1])
    assert set(breakers[:-1]) == {
        i for i in tokenizer.vocabulary.values() if b"\n" in tokenizer.token_bytes(i)
    }
    assert s.breaker_ids(tokenizer, [7, 8]) == (7, 8)
    with pytest.raises(OrreryError, match="bad_words"):
        s.bad_word_ids(tokenizer, [""])
    for wrong in ("", "no token is as long as this"):
        with pytest.raises(OrreryError, match="dry_breakers"):
            s.breaker_ids(tokenizer, [wrong])


# --- signs


@settings(deadline=None)
@given(st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=12), st.data())
def test_every_penalty_lowers_and_none_touches_what_was_not_said(values, data) -> None:
    """Positive or negative, a logit that was said falls (or stays at 0 under repetition) and the others stay as they are."""
    logits = torch.tensor(values)
    made = torch.tensor(data.draw(st.lists(few, min_size=len(values), max_size=len(values))))
    none = torch.zeros_like(made)
    for change in ({"repetition_penalty": 1.5}, {"presence_penalty": 0.5}, {"frequency_penalty": 0.25}):
        out = s.penalized(logits, Sampling(**change), before=none, made=made)
        assert torch.equal(out[made == 0], logits[made == 0])
        said = made > 0
        assert (out[said] <= logits[said]).all()
        assert ((out[said] < logits[said]) | (logits[said] == 0)).all() or logits[said].abs().min() < 1e-6
        back = s.penalized(logits, Sampling(**{k: 2 - v if v > 1 else -v for k, v in change.items()}), before=none, made=made)  # fmt: skip
        assert (back[said] >= logits[said]).all()  # the other way round, it rises
