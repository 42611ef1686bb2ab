"""Where a context ends, on a tokenizer whose merges are known."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.evaluate.boundary import Unanswerable, alone, beginning, fit, make_room, split
from orrery.kit.errors import OrreryError
from orrery.text import Tokenizer, TokenizerConfig, train_tokenizer

TEXTS = ["the cat sat on the mat. ", "Question: is it so?\nAnswer: yes\n", "a cat, the cats, that cat "] * 30


def trained(**settings: object) -> Tokenizer:
    return train_tokenizer(TEXTS, TokenizerConfig(vocab_size=340, **settings))  # type: ignore[arg-type]


TOKENIZER = trained()


def test_white_space_at_the_end_goes_to_the_continuation() -> None:
    """ " cat" is one token; " " and "cat" would be others."""
    with_space = split(TOKENIZER, "the ", ["cat"], start=[])
    assert with_space == split(TOKENIZER, "the", [" cat"], start=[])
    assert with_space == (TOKENIZER.encode("the"), [TOKENIZER.encode(" cat")])
    assert len(with_space[1][0]) == 1


def test_a_token_over_the_border_is_scored_whole_for_every_continuation() -> None:
    """ "the ca" + "t" makes the token " cat"; so the cut lies before it, also for the continuation that needs none."""
    context, (whole, other) = split(TOKENIZER, "the ca", ["t", "b"], start=[])
    assert TOKENIZER.decode(context) == "the"
    assert TOKENIZER.decode(whole) == " cat" and whole == TOKENIZER.encode(" cat")
    assert TOKENIZER.decode(other) == " cab"


@settings(deadline=None)
@given(st.text(max_size=20), st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=4))
def test_the_ids_are_those_of_the_whole_text(context: str, continuations: list[str]) -> None:
    try:
        before, after = split(TOKENIZER, context, continuations, start=[])
    except OrreryError:
        return  # a lone surrogate, or nothing but text that has no token
    for text, ids in zip(continuations, after, strict=True):
        whole = TOKENIZER.encode(context + text)
        assert ids and before
        assert [*before, *ids] in (whole, [*alone(TOKENIZER), *whole])


def test_bos_stands_once_where_the_files_say_so() -> None:
    assert beginning(TOKENIZER) == [] == beginning(TOKENIZER, "never")
    assert beginning(TOKENIZER, "always") == [TOKENIZER.bos_id]
    adding = trained(add_bos=True)
    assert beginning(adding) == [adding.bos_id]
    context, (after,) = split(adding, "", ["the cat"], start=beginning(adding))
    assert context == [adding.bos_id] and after == adding.encode("the cat")
    context, _ = split(adding, "the", [" cat"], start=beginning(adding))
    assert context == [adding.bos_id, *adding.encode("the")]
    with pytest.raises(OrreryError, match="no BOS token"):
        beginning(trained(bos=None), "always")


def test_what_stands_behind_nothing() -> None:
    assert split(TOKENIZER, "", ["the"], start=[])[0] == [TOKENIZER.bos_id]
    assert split(trained(bos=None), "", ["the"], start=[])[0] == [TOKENIZER.id("<|end_of_text|>")]
    bare = trained(bos=None, eos=None)
    context, after = split(bare, "", ["the cat", "the mat"], start=[])
    assert context == bare.encode("the") and after == [bare.encode(" cat"), bare.encode(" mat")]
    with pytest.raises(OrreryError, match="neither BOS nor EOS"):
        split(bare, "", ["the cat", "a cat"], start=[])
    with pytest.raises(Unanswerable, match="no text"):
        split(TOKENIZER, "the", [""], start=[])


def test_a_context_is_cut_from_the_left_and_keeps_its_beginning() -> None:
    """Room for 6 inputs: of 1 + 8 + 2 tokens the last is not read, so 4 go."""
    ids = [0, 1, 2, 3, 4, 5, 6, 7, 8]
    assert fit(ids, [9, 9], limit=6, start=[0]) == ([0, 5, 6, 7, 8], 4)
    assert fit(ids, [9, 9], limit=6, start=[]) == ([4, 5, 6, 7, 8], 4)
    assert fit(ids, [9, 9], limit=10, start=[0]) == (ids, 0)
    assert fit(ids, [9] * 6, limit=6, start=[0]) == ([0], 8)
    for start in ([0], []):
        with pytest.raises(Unanswerable):
            fit(ids, [9] * 7, limit=6, start=start)


def test_an_answer_keeps_its_room() -> None:
    ids = list(range(20))
    assert make_room(ids, 4, limit=32, start=[0]) == (ids, 4, 0)
    assert make_room(ids, 4, limit=16, start=[0]) == (
        [0, *range(8, 20)],
        4,
        7,
    )  # 13 read, 4 made, the last never read
    assert make_room(ids, 100, limit=16, start=[]) == (
        list(range(12, 20)),
        9,
        12,
    )  # half the context at least
