"""Prompts within a limit, and a report of everything that is not in them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.kit.errors import OrreryError
from orrery.text import TokenizerConfig, train_tokenizer
from orrery.text.chat import ChatFormat
from orrery.text.compaction import extract, head_and_tail
from orrery.text.context_budget import Passage, assemble

TEXT = "the lamp stands near a river and old bells ring over grey water while ships turn home again"
WORDS = TEXT.split()
TOKENIZER = train_tokenizer([TEXT] * 5, TokenizerConfig(vocab_size=400))
CHAT = ChatFormat(TOKENIZER)


def say(*turns: str) -> list[dict[str, str]]:
    return [{"role": "user" if i % 2 == 0 else "assistant", "content": text} for i, text in enumerate(turns)]


def text_of(made) -> str:
    return TOKENIZER.decode(made.ids)


def test_everything_fits() -> None:
    made = assemble(
        CHAT, question="Where?", instructions="Be brief.", history=say("one", "two"), limit=500,
        passages=[Passage(text="a lamp", score=1, name="doc"), Passage(text="out: 3", kind="tool")],
    )  # fmt: skip
    assert [message["role"] for message in made.messages] == ["system", "user", "assistant", "user"]
    assert (
        made.messages[-1]["content"]
        == "Documents:\n[1] doc: a lamp\n\nResults of tools:\n[1] out: 3\n\nWhere?"
    )
    assert list(made.ids) == CHAT.prompt(made.messages)
    assert {fate.action for fate in made.fates} == {"kept"} and made.lost_tokens == 0


def test_the_newest_history_stays_without_holes() -> None:
    long = " ".join(WORDS * 8)
    history = say("first", "1", long, "2", "third", "3", "fourth", "4")
    made = assemble(CHAT, question="?", history=history, limit=60)
    assert [message["content"] for message in made.messages] == ["third", "3", "fourth", "4", "?"]
    assert [fate.action for fate in made.fates] == ["dropped", "dropped", "kept", "kept"]
    assert made.fates[1].tokens > 100 and made.fates[1].kept == 0


def test_tool_calls_stay_with_their_results() -> None:
    call = {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}
    history = [
        *say("a", "b"),
        {"role": "user", "content": "run f"},
        call,
        {"role": "tool", "content": "42"},
        {"role": "assistant", "content": "It is 42."},
    ]
    for limit in range(30, 140):
        try:
            roles = [m["role"] for m in assemble(CHAT, question="?", history=history, limit=limit).messages]
        except OrreryError:
            continue
        assert ("tool" in roles) == ("user" in roles[:-1] and roles.count("assistant") >= 2)


def test_passages_by_score_and_duplicates_once() -> None:
    passages = [
        Passage(text="grey water", score=0.2), Passage(text="old bells ring", score=0.9), Passage(text="old  bells\nring", score=0.5),
        Passage(text="bells ring", score=0.1),
    ]  # fmt: skip
    made = assemble(CHAT, question="?", passages=passages, limit=500)
    assert [fate.action for fate in made.fates] == ["kept", "kept", "repeated", "repeated"]
    content = made.messages[-1]["content"]
    assert content.startswith("Documents:\n[1] old bells ring\n[2] grey water\n\n")
    edges = assemble(
        CHAT,
        question="?",
        limit=500,
        order="edges",
        passages=[Passage(text=t, score=-i) for i, t in enumerate("abcde")],
    )
    assert [line[-1] for line in edges.messages[-1]["content"].splitlines()[1:6]] == list("acedb")


def test_long_passages_are_compacted() -> None:
    filler = "Ships turn home again. " * 30
    document = Passage(text=filler + "The lamp stands near the river. " + filler, name="d")
    output = Passage(text="START " + "x " * 400 + "END", kind="tool")
    made = assemble(CHAT, question="Where is the lamp?", passages=[document, output], limit=300)
    assert [fate.action for fate in made.fates] == ["compacted", "compacted"]
    text = made.messages[-1]["content"]
    assert "The lamp stands near the river." in text and "START" in text and "END" in text and "[...]" in text
    assert len(made.ids) <= 300
    assert made.lost_tokens == sum(f.tokens - f.kept for f in made.fates) > 300


def test_compaction_by_hand() -> None:
    text = "One is here. The lamp is two. Three is there."
    short = len(TOKENIZER.encode("One is here. [...] Three is there.")) - 1
    assert extract(text, "where is the lamp", short, TOKENIZER).count("lamp") == 1
    assert extract(text, "x", 1, TOKENIZER) == ""
    assert extract(text, "x", 1000, TOKENIZER) == text
    assert head_and_tail("short", "", 100, TOKENIZER) == "short"
    assert head_and_tail("a " * 100, "", 1, TOKENIZER) == ""


def test_the_essential_must_fit() -> None:
    with pytest.raises(OrreryError, match="more than the limit of 5"):
        assemble(CHAT, question="a question", limit=5)
    with pytest.raises(OrreryError, match="begins with a message of role 'assistant'"):
        assemble(CHAT, question="?", history=say("a", "b")[1:], limit=50)


TEXTS = st.lists(st.sampled_from(WORDS), max_size=60).map(" ".join)


@settings(max_examples=60, deadline=None)
@given(
    limit=st.integers(20, 400),
    turns=st.lists(TEXTS, max_size=6),
    passages=st.lists(
        st.builds(Passage, text=TEXTS, score=st.floats(0, 1), kind=st.sampled_from(["retrieved", "tool"])),
        max_size=6,
    ),
    order=st.sampled_from(["rank", "edges"]),
)
def test_never_over_the_limit_and_nothing_unaccounted(limit, turns, passages, order) -> None:
    history = say(*turns)
    made = assemble(CHAT, question="?", history=history, passages=passages, limit=limit, order=order)
    assert len(made.ids) <= limit and list(made.ids) == CHAT.prompt(made.messages)
    assert len(made.fates) == (len(turns) + 1) // 2 + len(passages)
    kept_turns = [m for m in made.messages[:-1]]
    assert kept_turns == (history[-len(kept_turns) :] if kept_turns else [])
    content = made.messages[-1]["content"]
    for fate, passage in zip(made.fates[(len(turns) + 1) // 2 :], passages, strict=True):
        assert (fate.action == "kept") <= (passage.text in content)
        assert fate.kept <= fate.tokens + 8
    again = assemble(CHAT, question="?", history=history, passages=passages, limit=limit, order=order)
    assert again == made
