"""Every shape of row becomes the dialogue it means, and what is wrong with a row is said with its place."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from orrery.kit.errors import OrreryError
from orrery.tune.dataset import SetConfig, Split, read_set
from orrery.tune.dialogue import Dialogue, Passage, fingerprint
from orrery.tune.rows import Row, read_rows
from orrery.tune.shapes import renamed, samples_of, shape_of

USER, SAID = {"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}
CALL = {"name": "add", "arguments": {"a": 1}}
TOOL = {"name": "add", "parameters": {"type": "object"}}


def one(**fields: Any) -> Dialogue:
    (sample,) = samples_of(Row("here", fields))
    assert isinstance(sample, Dialogue)
    return sample


@pytest.mark.parametrize(
    ("shape", "fields"),
    [
        ("messages", {"messages": [USER, SAID]}),
        ("messages", {"conversations": [USER, SAID]}),
        ("sharegpt", {"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]}),
        ("alpaca", {"instruction": "Q", "output": "A"}),
        ("alpaca", {"instruction": "Q", "input": "", "output": "A"}),
        ("alpaca", {"instruction": "Q", "instances": [{"input": "", "output": "A"}]}),
        ("completion", {"prompt": "Q", "completion": "A"}),
        ("completion", {"prompt": "Q", "response": "A", "task": "x"}),
        ("completion", {"prompt": [USER], "completion": [SAID]}),
        ("question", {"question": "Q", "answer": "A"}),
        ("tree", {"prompt": {"text": "Q", "role": "prompter", "replies": [{"text": "A", "role": "assistant"}]}}),
    ],
)  # fmt: skip
def test_all_shapes_of_one_question_are_one_dialogue(shape: str, fields: dict[str, Any]) -> None:
    row = Row("here", fields)
    assert shape_of(row) == shape
    (sample,) = samples_of(row)
    assert isinstance(sample, Dialogue) and sample.messages == (USER, SAID) and sample.learned == (1,)


def test_further_fields_of_the_shapes() -> None:
    assert one(instruction="Q", input="I", output="A").messages[0]["content"] == "Q\n\nI"
    thought = one(question="Q", answer="(B).", cot="Because.\n")
    assert thought.messages[1]["content"] == "Because.\nThe answer is (B)."
    assert [m["role"] for m in one(conversations=[{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}], system="S").messages] == ["system", "user", "assistant"]  # fmt: skip
    two = samples_of(
        Row(
            "here",
            {"instruction": "Q", "instances": [{"input": "1", "output": "A"}, {"input": "2", "output": "B"}]},
        )
    )
    assert [s.messages[1]["content"] for s in two if isinstance(s, Dialogue)] == ["A", "B"]
    assert samples_of(Row("here", {"text": "plain"})) == [Passage("plain", "here")]
    quiet = one(messages=[USER, {**SAID, "weight": 0}, USER, SAID])
    assert quiet.learned == (3,)


def test_calls_of_tools_in_both_spellings_are_the_same_dialogue() -> None:
    theirs = one(
        tools=json.dumps([TOOL]),
        conversations=[
            {"from": "human", "value": "Q"},
            {"from": "gpt", "value": "Let me see."},
            {"from": "function_call", "value": json.dumps(CALL)},
            {"from": "observation", "value": "3"},
            {"from": "gpt", "value": "A"},
        ],
    )
    ours = one(
        tools=[{"type": "function", "function": TOOL}],
        messages=[
            USER,
            {"role": "assistant", "content": "Let me see.", "tool_calls": [{"id": "call00200", "function": {"name": "add", "arguments": '{"a": 1}'}}]},
            {"role": "tool", "content": "3", "tool_call_id": "call00200"},
            SAID,
        ],
    )  # fmt: skip
    assert theirs.messages == ours.messages and theirs.tools == ours.tools
    assert theirs.messages[2] == {"role": "tool", "content": "3", "tool_call_id": "call00200", "name": "add"}
    assert theirs.learned == (1, 3)


def test_the_best_replies_of_a_tree_are_taken() -> None:
    leaf = {"role": "assistant", "text": "good", "rank": 0, "replies": []}
    worse = {"role": "assistant", "text": "worse", "rank": 1, "replies": []}
    unranked = {"role": "assistant", "text": "new", "rank": None, "replies": []}
    refused = {"role": "assistant", "text": "bad", "rank": None, "replies": [], "review_result": False}
    asked = {"role": "prompter", "text": "and?", "rank": None, "replies": [worse, refused, leaf]}
    first = {"role": "assistant", "text": "first", "rank": 0, "replies": [asked]}
    found = one(prompt={"role": "prompter", "text": "Q", "replies": [unranked, first]})
    assert [m["content"] for m in found.messages] == ["Q", "first", "and?", "good"]
    assert samples_of(Row("here", {"prompt": {"role": "prompter", "text": "Q", "replies": []}})) == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"messages": []}, "here: 'messages' is empty"),
        ({"messages": [USER]}, "no assistant's turn to learn"),
        ({"messages": [{"role": "usr", "content": "Q"}]}, r"'messages\[0\]': 'role' is 'usr'.*Did you mean 'user'"),
        ({"messages": [USER, {"role": "assistant", "content": ""}]}, r"'messages\[1\]' is an empty answer"),
        ({"messages": [USER, SAID, {"role": "system", "content": "x"}]}, "a system message after the beginning"),
        ({"messages": [USER, {"role": "tool", "content": "3"}, SAID]}, "no assistant called a tool before it"),
        ({"messages": ["Q"]}, "is a text; a message is an object"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}, SAID]}, "a text is needed"),
        ({"messages": [USER, SAID], "tools": "{"}, "'tools' is no JSON"),
        ({"messages": [USER, SAID], "tools": [{"parameters": {}}]}, "function 0 has no name"),
        ({"conversations": [{"from": "human", "value": "Q"}, {"from": "function_call", "value": "add(1)"}]}, r"'conversations\[1\]': 'value' is no JSON"),
        ({"conversations": [{"from": "human", "value": "Q"}, {"from": "function_call", "value": '{"arguments": {}}'}]}, "write an object with name and arguments"),
        ({"prompt": "Q", "completion": " "}, "the answer is empty"),
        ({"instruction": "Q", "output": 3}, "'output' is a number"),
        ({"body": "Q", "label": 1}, r"these fields \(body, label\); rename them with `fields`"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(OrreryError, match=message):
        samples_of(Row("here", fields))


def test_fields_are_renamed_and_a_missing_one_is_named() -> None:
    row = Row("here", {"query": "Q", "reply": "A"})
    (sample,) = samples_of(renamed(row, {"prompt": "query", "completion": "reply"}))
    assert isinstance(sample, Dialogue) and sample.messages == (USER, SAID)
    with pytest.raises(OrreryError, match=r"no field 'replyy' to rename\. Did you mean 'reply'"):
        renamed(row, {"prompt": "query", "completion": "replyy"})


def test_one_set_in_every_kind_of_file(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    rows = [{"messages": [USER, {"role": "assistant", "content": str(n)}]} for n in range(3)]
    rows[1]["messages"][1]["tool_calls"] = [{"function": {"name": "add", "arguments": "{}"}}]  # type: ignore[index]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "b.json").write_text(json.dumps(rows))
    (tmp_path / "c.json.gz").write_bytes(gzip.compress(json.dumps({"version": 1, "data": rows}).encode()))
    (tmp_path / "d.jsonl.gz").write_bytes(gzip.compress((tmp_path / "a.jsonl").read_bytes()))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "e.parquet")
    found = {
        path.name: [
            sample.messages
            for row in read_rows(path)
            for sample in samples_of(row)
            if isinstance(sample, Dialogue)
        ]
        for path in sorted(tmp_path.iterdir())
    }
    assert len(found) == 5
    assert all(messages == found["a.jsonl"] for messages in found.values())
    assert found["a.jsonl"][1][1]["tool_calls"][0]["function"] == {"name": "add", "arguments": {}}


def test_bad_rows_stop_or_are_counted(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text(
        '{"prompt": "Q", "completion": "A"}\n{"prompt": "Q", "completion": ""}\n'
    )
    with pytest.raises(OrreryError, match=r"x.jsonl', line 2: the answer is empty.*bad_rows: skip"):
        read_set(SetConfig(paths=("x.jsonl",)), root=tmp_path, parts=Split())
    kept = read_set(SetConfig(paths=("x.jsonl",), bad_rows="skip"), root=tmp_path, parts=Split())
    assert len(kept.train) + len(kept.heldout) == 1 and kept.skipped == 1 and "line 2" in kept.reasons[0]
    (tmp_path / "y.jsonl").write_text('{"prompt": "Q"\n')
    with pytest.raises(OrreryError, match=r"y\.jsonl', line 1: not a line of JSON"):
        read_set(SetConfig(paths=("y.jsonl",)), root=tmp_path, parts=Split())
    with pytest.raises(OrreryError, match=r"Did you mean 'x\.jsonl'"):
        read_set(SetConfig(paths=("xx.jsonl",)), root=tmp_path, parts=Split())


def test_a_split_never_divides_a_question(tmp_path: Path) -> None:
    rows = [{"prompt": f"Q{n % 50}", "completion": f"A{n}"} for n in range(200)]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    cfg = SetConfig(paths=("x.jsonl",))
    found = read_set(cfg, root=tmp_path, parts=Split(heldout=0.3))
    train, heldout = ({fingerprint(sample) for sample in side} for side in (found.train, found.heldout))
    assert not train & heldout and len(train | heldout) == 50 and 5 <= len(heldout) <= 25
    assert found == read_set(cfg, root=tmp_path, parts=Split(heldout=0.3))
    fewer = read_set(SetConfig(paths=("x.jsonl",), limit=40), root=tmp_path, parts=Split(heldout=0.3))
    assert len(fewer.train) + len(fewer.heldout) == 40


def test_real_sets(shared_data: Path) -> None:
    sizes = {}
    for path in (
        "sft_self_instruct",
        "sft_cot",
        "sft_p3_sample",
        "sft_tool_calls",
        "oasst_trees/trees.jsonl",
        "gsm8k/train.jsonl.gz",
    ):
        found = read_set(SetConfig(paths=(path,)), root=shared_data, parts=Split())
        samples = [*found.train, *found.heldout]
        assert all(isinstance(s, Dialogue) and s.learned for s in samples) and found.heldout
        sizes[path] = len(samples)
    assert sizes == {
        "sft_self_instruct": 301, "sft_cot": 2874, "sft_p3_sample": 2113, "sft_tool_calls": 150, "oasst_trees/trees.jsonl": 47,
        "gsm8k/train.jsonl.gz": 7473,
    }  # fmt: skip
    with_tools = [
        s
        for s in read_set(SetConfig(paths=("sft_tool_calls",)), root=shared_data, parts=Split()).train
        if s.tools
    ]  # type: ignore[union-attr]
    assert len(with_tools) > 80
