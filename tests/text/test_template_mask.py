"""Roles and masks of foreign templates: what the assistant writes, exactly."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orrery.kit.errors import OrreryError
from orrery.text import ChatFormat, Role, Tokenizer

from .chat_templates import (
    CHATML,
    CONVERSATIONS,
    GATHER,
    HERMES,
    INST,
    MARKED,
    OPEN,
    TALK,
    THINK,
    TOOLS,
    gpt2_with_all,
    masked,
    own,
    published,
)


@pytest.fixture(scope="module")
def templates(shared_data: Path) -> dict[str, str]:
    return published(shared_data)


@pytest.fixture(scope="module")
def gpt2(shared_data: Path) -> Tokenizer:
    return gpt2_with_all(shared_data)


ANSWERS = {
    "chatml": (CHATML, ["It is 4.<|im_end|>", "Six, I think\n<|im_end|>"]),
    "inst": (INST, [" It is 4.<EOS>", " Six, I think\n<EOS>"]),
    "think": (THINK, ["</think>It is 4.<|end|>", "three and three</think>Six, I think\n<|end|>"]),
    "gather": (GATHER, [" It is 4.</s>", " Six, I think\n</s>"]),
    "open": (OPEN, ["It is 4.", "Six, I think\n"]),
    "marked": (MARKED, ["It is 4.<|end|>", "Six, I think\n<|end|>"]),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_the_mask_is_what_the_model_writes(name: str) -> None:
    template, answers = ANSWERS[name]
    chat = own(template)
    out = chat.render(TALK)
    assert masked(chat, out) == answers
    assert out.mask_method == ("generation" if name == "marked" else "turns")
    assert [
        turn for turn, role in zip(out.turns, out.roles, strict=True) if role == Role.ASSISTANT
    ] == sorted(turn for turn, role in zip(out.turns, out.roles, strict=True) if role == Role.ASSISTANT)
    assert {turn for turn, role in zip(out.turns, out.roles, strict=True) if role == Role.ASSISTANT} == {1, 3}
    said = {turn: "" for turn in (0, 2)}
    for i, turn, role in zip(out.ids, out.turns, out.roles, strict=True):
        if role == Role.USER:
            said[turn] += chat.tokenizer.decode([i])
    assert {turn: text.strip() for turn, text in said.items()} == {0: "What is 2+2?", 2: "And 3+3?"}


def test_the_mask_follows_the_prompt_of_every_published_template(
    templates: dict[str, str], gpt2: Tokenizer
) -> None:
    """Where a prompt is the beginning of the whole, the mask begins right after it, and ends with the turn's end."""
    checked = refused = 0
    for name, source in templates.items():
        chat = ChatFormat.from_template(source, gpt2)
        for case in ("talk", "system", "reasoning", "call", "called"):
            messages, tools = CONVERSATIONS[case]
            try:
                chat.text(messages, tools, False)
            except OrreryError:
                continue
            try:
                out = chat.render(messages, tools=tools)
            except OrreryError:
                refused += 1
                continue
            if out.mask_method == "generation":
                continue
            starts = [i for i in range(1, len(out.ids)) if out.assistant_mask[i] > out.assistant_mask[i - 1]]
            for n, message in enumerate(messages):
                if message["role"] != "assistant":
                    continue
                prompt = chat.tokenizer.encode(chat.text(messages[:n], tools, True), special="allow")
                spoken = any(
                    turn == n and role == Role.ASSISTANT
                    for turn, role in zip(out.turns, out.roles, strict=True)
                )
                if out.ids[: len(prompt)] == prompt and len(prompt) < len(out.ids) and spoken:
                    assert len(prompt) in starts, (name, case, n)
                    checked += 1
            answers = "".join(masked(chat, out))
            assert "6" not in answers and "And 3+3?" not in answers and "What is" not in answers, (name, case)
    assert checked > 350 and refused == 0


def test_a_generation_mask_is_that_of_transformers(
    templates: dict[str, str], gpt2: Tokenizer, tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    marked = {
        name: source for name, source in templates.items() if re.search(r"%-?\s*generation\s*-?%", source)
    }
    gpt2.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for name, source in (marked | {"own": MARKED}).items():
        chat = ChatFormat.from_template(source, gpt2)
        got = theirs.apply_chat_template(
            TALK, chat_template=source, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        out = chat.render(TALK)
        assert got["input_ids"] == out.ids and got["assistant_masks"] == out.assistant_mask, name


def test_calls_are_part_of_the_answer() -> None:
    chat = own(HERMES)
    out = chat.render(CONVERSATIONS["call"][0][:4], tools=TOOLS)
    call = '\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Zürich", "n": 1}}\n</tool_call><|im_end|>'
    assert masked(chat, out) == [call, "20 degrees<|im_end|>"]


def test_a_turn_that_is_left_out_has_no_mask() -> None:
    chat = own(CHATML.replace("messages %}", "messages if m.role == 'user' %}", 1))
    assert set(chat.render(TALK).assistant_mask) == {0}


def test_no_mask_rather_than_a_wrong_one() -> None:
    headless = "{% for m in messages %}{{ m.content }}{{ loop.length if m.role == 'assistant' else '' }}\n{% endfor %}{{ messages|length }}"
    with pytest.raises(OrreryError, match="no mask is made"):
        own(headless).render(TALK)
    twisted = "{% for m in messages %}{{ m.content[:2] }}{% endfor %}{% for m in messages %}{{ m.content[2:] }}{% endfor %}"
    with pytest.raises(OrreryError, match="told apart"):
        own(twisted).render(TALK)
