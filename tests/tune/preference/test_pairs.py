"""Reading preferences: every shape, its conversions, and what is said of rows that cannot be learned from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orrery.kit.errors import OrreryError
from orrery.tune.preference.feedback import log_thumb
from orrery.tune.preference.pair_shapes import pair_shape_of, records_of
from orrery.tune.preference.pairs import PreferenceSet, divided, read_pairs, read_thumbs, state_of_preferences
from orrery.tune.preference.records import (
    Pair,
    Ranked,
    Thumb,
    pairs_of,
    pairs_of_thumbs,
    question_of,
    ranked_of,
    thumbs_of,
)
from orrery.tune.rows import Row


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def says(text: str) -> tuple[dict[str, str], ...]:
    return ({"role": "assistant", "content": text},)


def one(fields: dict[str, Any]) -> Any:
    (record,) = records_of(Row("row 0", fields))
    return record


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": "q", "chosen": "good", "rejected": "bad"},
        {"question": "q", "chosen": "good", "rejected": "bad"},
        {"prompt": [user("q")], "chosen": list(says("good")), "rejected": list(says("bad"))},
        {"messages": [user("q")], "chosen": "good", "rejected": "bad"},
        {"conversations": [{"from": "human", "value": "q"}], "chosen": {"from": "gpt", "value": "good"}, "rejected": {"from": "gpt", "value": "bad"}},
        {"chosen": [user("q"), *says("good")], "rejected": [user("q"), *says("bad")]},
        {"prompt": "q", "chosen": [user("q"), *says("good")], "rejected": [user("q"), *says("bad")]},
        {"chosen": "\n\nHuman: q\n\nAssistant: good", "rejected": "\n\nHuman: q\n\nAssistant: bad"},
        {"prompt": "\n\nHuman: q\n\nAssistant:", "chosen": "good", "rejected": "bad"},
    ],
)  # fmt: skip
def test_shapes_of_pairs(fields: dict[str, Any]) -> None:
    pair = one(fields)
    assert pair_shape_of(Row("", fields)) == "pair"
    assert (pair.messages, pair.chosen, pair.rejected) == ((user("q"),), says("good"), says("bad"))


def test_a_prompt_with_system_input_and_margin() -> None:
    pair = one(
        {
            "instruction": "q",
            "input": "more",
            "system": "s",
            "chosen": "a",
            "rejected": "b",
            "score_chosen": 4,
            "score_rejected": 1.5,
        }
    )
    assert [m["content"] for m in pair.messages] == ["s", "q\n\nmore"] and pair.margin == 2.5


def test_transcripts_part_where_they_begin_to_differ() -> None:
    start = "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:"
    pair = one({"chosen": f"{start} d\n\nHuman: e\n\nAssistant: f", "rejected": f"{start} g"})
    assert [m["content"] for m in pair.messages] == ["a", "b", "c"]
    assert [m["content"] for m in pair.chosen] == ["d", "e", "f"] and [
        m["content"] for m in pair.rejected
    ] == ["g"]
    other = one(
        {
            "chosen": "Human: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: d",
            "rejected": "Human: a\n\nAssistant: b\n\nHuman: e\n\nAssistant: d",
        }
    )
    assert [m["content"] for m in other.messages] == [
        "a"
    ]  # the answer before the questions that differ is in both
    bare = one({"prompt": "a\n\nAssistant: b\n\nHuman: c", "chosen": "x", "rejected": "y"})
    assert [m["role"] for m in bare.messages] == ["user", "assistant", "user"]


@pytest.mark.parametrize(
    ("fields", "up"),
    [
        ({"prompt": "q", "completion": "a", "label": True}, True),
        ({"prompt": [user("q")], "completion": list(says("a")), "label": 0}, False),
        ({"messages": [user("q"), *says("a")], "kto_tag": False}, False),
        ({"question": "q", "response": "a", "thumb": "up"}, True),
        ({"prompt": "q", "response": "a", "feedback": "Disliked"}, False),
    ],
)
def test_shapes_of_thumbs(fields: dict[str, Any], up: bool) -> None:
    thumb = one(fields)
    assert isinstance(thumb, Thumb)
    assert (thumb.messages, thumb.answer, thumb.up) == ((user("q"),), says("a"), up)


def test_rankings_and_what_they_oppose() -> None:
    ranked = one({"prompt": "q", "answers": ["b", "a", "c", "a2"], "ranks": [2, 1, 3, 1]})
    assert isinstance(ranked, Ranked) and ranked.ranks == (1, 0, 2, 0)

    def texts(how: Any) -> list[tuple[str, str]]:
        return [(p.chosen[0]["content"], p.rejected[0]["content"]) for p in pairs_of(ranked, how)]

    assert texts("best-worst") == [("a", "c")]
    assert texts("adjacent") == [("a2", "b"), ("b", "c")]
    assert texts("all") == [("a", "b"), ("a", "c"), ("a2", "b"), ("a2", "c"), ("b", "c")]
    rated = one(
        {
            "instruction": "q",
            "completions": [{"response": "x", "overall_score": 3}, {"response": "y", "overall_score": 4.5}],
        }
    )
    (pair,) = pairs_of(rated)
    assert pair.chosen == says("y") and pair.margin == 1.5


def test_forms_become_each_other() -> None:
    pair = one({"prompt": "q", "chosen": "good", "rejected": "bad"})
    assert [(thumb.answer, thumb.up) for thumb in thumbs_of(pair)] == [
        (says("good"), True),
        (says("bad"), False),
    ]
    (back,) = pairs_of_thumbs(thumbs_of(pair))
    assert (back.messages, back.chosen, back.rejected) == (pair.messages, pair.chosen, pair.rejected)
    chain = [one({"prompt": "q", "chosen": a, "rejected": b}) for a, b in ("ab", "bc", "ad")]
    (ranked,) = ranked_of(chain)
    assert dict(zip((a[0]["content"] for a in ranked.answers), ranked.ranks, strict=True)) == {
        "a": 0,
        "b": 1,
        "c": 2,
        "d": 1,
    }
    with pytest.raises(OrreryError, match="contradict"):
        ranked_of([*chain, one({"prompt": "q", "chosen": "c", "rejected": "a"})])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"better": "a", "worse": "b"}, "no shape of preferences.*better, worse.*chosen: better"),
        ({"prompt": "q", "chosen": "a", "rejected": "a"}, "row 0: 'chosen' and 'rejected' are the same answer"),
        ({"prompt": "q", "chosen": "a", "rejected": " "}, "row 0: 'rejected' is an empty answer"),
        ({"prompt": "q", "chosen": "a", "rejected": 3}, "row 0: 'rejected' is a number"),
        ({"prompt": "", "chosen": "a", "rejected": "b"}, "prompt is empty"),
        ({"chosen": "a", "rejected": "b"}, "there is no prompt"),
        ({"prompt": [user("q"), *says("x")], "chosen": "a", "rejected": "b"}, "prompt ends with the assistant's turn"),
        ({"prompt": "q", "chosen": [user("q"), *says("a")], "rejected": "b"}, "'chosen' is a whole conversation"),
        ({"chosen": [user("q"), *says("a")], "rejected": [user("r"), *says("b")]}, "do not begin with the same question"),
        ({"prompt": "q", "completion": "a", "label": "perhaps"}, "'label' is 'perhaps'; a label is true or false"),
        ({"prompt": "q", "answers": ["a", "b"]}, "nothing says which of 'answers' is better"),
        ({"prompt": "q", "answers": ["a", "b"], "ranks": [1]}, "one number for each of 2 answers"),
        ({"prompt": {"text": "q", "replies": [{"text": None, "rank": 0, "role": "assistant"}, {"text": "b", "rank": 1}]}}, "null"),
    ],
)  # fmt: skip
def test_rows_that_cannot_be_learned_from(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(OrreryError, match=said):
        records_of(Row("row 0", fields))


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_sets_from_files(tmp_path: Path) -> None:
    rows = [{"query": f"q{n}", "chosen": "a", "rejected": "b" if n else "a"} for n in range(40)]
    file = written(tmp_path / "p.jsonl", rows)
    cfg = PreferenceSet(paths=("p.jsonl",), fields={"prompt": "query"}, bad_rows="skip")
    reasons: list[str] = []
    pairs = read_pairs(cfg, tmp_path, reasons=reasons)
    assert (
        len(pairs) == 39 and "line 1" in reasons[0] and "the same answer" in reasons[0] and cfg.called == "p"
    )
    with pytest.raises(OrreryError, match=r"line 1.*bad_rows: skip"):
        read_pairs(PreferenceSet(paths=("p.jsonl",), fields={"prompt": "query"}), tmp_path)
    few = PreferenceSet(paths=("p.jsonl",), fields={"prompt": "query"}, bad_rows="skip", limit=10)
    assert read_pairs(few, tmp_path) == read_pairs(few, tmp_path) and len(read_pairs(few, tmp_path)) == 10
    assert len(read_thumbs(few, tmp_path)) == 10
    assert state_of_preferences([cfg], tmp_path)[0][1] == file.stat().st_size
    with pytest.raises(OrreryError, match="either 'paths' or a 'stage'"):
        PreferenceSet()
    with pytest.raises(OrreryError, match="nothing to learn from"):
        read_pairs(
            PreferenceSet(
                paths=(
                    str(written(tmp_path / "t.jsonl", [{"prompt": "q", "completion": "a", "label": True}])),
                )
            ),
            tmp_path,
        )


def test_no_question_is_on_both_sides_of_the_split(tmp_path: Path) -> None:
    rows = [{"prompt": f"q{n % 20}", "chosen": f"a{n}", "rejected": "b"} for n in range(60)]
    rows.append({"messages": [user("q3"), *says("x"), user("and?")], "chosen": "a", "rejected": "b"})
    pairs = read_pairs(PreferenceSet(paths=(str(written(tmp_path / "p.jsonl", rows)),)), tmp_path)
    sides = divided(pairs, heldout=0.3, seed=1)
    asked = [{question_of(pair) for pair in side} for side in (sides.train, sides.heldout)]
    assert not asked[0] & asked[1] and len(asked[0] | asked[1]) == 20
    assert divided(list(reversed(pairs)), heldout=0.3, seed=1).heldout[::-1] == sides.heldout


def test_a_log_of_thumbs_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "log" / "thumbs.jsonl"
    log_thumb(path, messages=[user("q")], answer="good", up=True, model="m1")
    log_thumb(path, messages=[user("q")], answer="bad", up=False, seconds=2.5)
    cfg = PreferenceSet(paths=(str(path),))
    assert [thumb.up for thumb in read_thumbs(cfg, tmp_path)] == [True, False]
    (pair,) = read_pairs(cfg, tmp_path)
    assert (pair.chosen, pair.rejected) == (says("good"), says("bad"))
    with pytest.raises(OrreryError, match="empty answer"):
        log_thumb(path, messages=[user("q")], answer="", up=True)
    assert len(path.read_text().splitlines()) == 2


def test_real_sets(shared_data: Path) -> None:
    """What people published, as it stands; two rows of the last have an empty answer."""
    wanted = {
        "pref_dpo_demo/pairs.jsonl": 147, "pref_hhh_alignment/pairs.jsonl": 111, "oasst_trees/trees.jsonl": 105,
        "oasst_trees/preference_pairs.jsonl": 105, "pref_hh_harmless/pairs.jsonl.gz": 1154,
    }  # fmt: skip
    found = {}
    for name in wanted:
        pairs = read_pairs(PreferenceSet(paths=(name,), bad_rows="skip"), shared_data)
        found[name] = pairs
        assert len(pairs) == wanted[name]
        assert all(
            pair.messages[-1]["role"] == "user" and pair.chosen[0]["role"] == "assistant" for pair in pairs
        )

    def plain(name: str) -> set[str]:
        return {json.dumps([p.messages, p.chosen, p.rejected]) for p in found[name]}

    assert plain("oasst_trees/trees.jsonl") == plain("oasst_trees/preference_pairs.jsonl")


def test_pairs_are_values() -> None:
    assert one({"prompt": "q", "chosen": "a", "rejected": "b"}) == Pair(
        messages=(user("q"),), chosen=says("a"), rejected=says("b"), where="row 0"
    )
