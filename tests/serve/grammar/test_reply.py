from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from orrery.serve.grammar.json_end import JsonEnd
from orrery.serve.grammar.reply import Delta, ReplyParser, message_of
from orrery.serve.grammar.reply_piece import first_of, overlap
from orrery.serve.grammar.syntax import call_syntax, reasoning_of
from orrery.serve.grammar.tool_calls import read_answer
from orrery.text.chat import ChatFormat
from tests.serve.grammar.cases import ARGUMENTS, SYNTAXES, TOOLS, chat_of, ids_of

FORMATS = [
    "ours",
    *SYNTAXES,
    "Cohere2MoE",
    "NVIDIA-Nemotron-Nano-v2",
    "trl-lfm2_2_5",
    "llama-cpp-deepseek-r1",
]
MARKS = [
    "<think>", "</think>", "<|think|>", "<|end_think|>", "<tool_call>", "</tool_call>", "<|tool_call|>", "[TOOL_CALLS]", "[ARGS]",
    "<function=", "</function>", "<|channel|>", "<|message|>", "<|end|>", "<|call|>", "<|start|>assistant", "analysis", "to=functions.f",
    "<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", "<｜tool▁calls▁end｜>", "<｜tool▁sep｜>",
    '{"name": "f", "arguments": ', '{"name": "f", "parameters": ', "{}", '{"a": "}"}', "}", "f", '"', "\n", " ", "<", "text",
]  # fmt: skip


def parsed(chat: ChatFormat, pieces: list[str], **settings: Any) -> list[Delta]:
    reply = ReplyParser(chat, tools=TOOLS, **settings)
    return [delta for piece in pieces for delta in reply.push(piece)] + reply.flush()


def plain(message: dict[str, Any]) -> dict[str, Any]:
    """A message with blanks at its ends aside, and arguments as values."""
    calls = [call["function"] for call in message.get("tool_calls", [])]
    return {
        "content": message["content"].strip(),
        "reasoning": message.get("reasoning", "").strip(),
        "calls": [
            (
                call["name"],
                json.loads(call["arguments"]) if isinstance(call["arguments"], str) else call["arguments"],
            )
            for call in calls
        ],
    }


def answers(chat: ChatFormat) -> list[str]:
    """Well-formed answers of a format: text, calls, several calls, text and calls, each with reasoning and without."""
    syntax, marks, harmony = call_syntax(chat), reasoning_of(chat), "<|channel|>" in chat.template
    final = "<|channel|>final<|message|>" if harmony else ""
    made = [final + 'Well: 5 < 6, [x], {"a": 1} <b> é🎉.\n']
    if syntax is not None:
        city = "5" if syntax.tagged else 'Zü"}]\\ </b>{\n'
        one = syntax.spell("get_weather", ARGUMENTS | {"city": city})
        made.append(one)
        if syntax.mark:
            made.append("Let me see.\n\n" + one)
        if syntax.between is not None and "\0" not in syntax.between:
            body = one.removeprefix(syntax.head).removesuffix(syntax.tail)
            made.append(syntax.head + body + syntax.between + body + syntax.tail)
    if marks is not None:
        made += [f"{marks.opening}Hm <, 5 > 4?{marks.closing}{text}" for text in made]
    return made


@pytest.mark.parametrize("name", FORMATS)
def test_joined_deltas_equal_the_whole_parse_for_every_cut(shared_data, name):
    chat = chat_of(shared_data, name)
    for text in answers(chat):
        want = plain(read_answer(chat, ids_of(chat, text), TOOLS))
        assert plain(message_of(parsed(chat, [*text]))) == want
        for cut in range(len(text) + 1):
            assert plain(message_of(parsed(chat, [text[:cut], text[cut:]]))) == want


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    parts=st.lists(st.sampled_from(MARKS) | st.text(max_size=3), max_size=14),
    name=st.sampled_from(FORMATS),
    inside=st.booleans(),
    data=st.data(),
)
@example(
    parts=['<tool_call>{"id": "</tool_call>", "name": "f", "arguments": {}'],
    name="Qwen-Qwen3-0.6B",
    inside=False,
    data=None,
)
def test_any_text_gives_the_same_message_however_it_is_cut(shared_data, parts, name, inside, data):
    """Also text that is no well-formed answer: nothing depends on how it came."""
    chat = chat_of(shared_data, name)
    text = "".join(parts)
    inside = inside and reasoning_of(chat) is not None
    whole = message_of(parsed(chat, [text], in_reasoning=inside))
    assert message_of(parsed(chat, [*text], in_reasoning=inside)) == whole
    if data is not None and text:
        cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
        pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        assert message_of(parsed(chat, pieces, in_reasoning=inside)) == whole


def test_no_part_of_a_mark_is_shown(shared_data):
    chat = chat_of(shared_data, "Qwen-Qwen3-0.6B")
    reply = ReplyParser(chat, tools=TOOLS)
    seen = [[delta for delta in reply.push(char)] for char in "<think>Hm</think>\n\nHi <tool"]
    assert message_of([delta for deltas in seen for delta in deltas]) == {
        "role": "assistant", "content": "Hi", "reasoning": "Hm",
    }  # fmt: skip
    assert message_of(reply.flush())["content"] == " <tool"


def test_arguments_stream_as_they_come(shared_data):
    chat = chat_of(shared_data, "Qwen-Qwen3-0.6B")
    reply = ReplyParser(chat, tools=TOOLS)
    pieces = [
        '<tool_call>\n{"name": "get_weather", "arg',
        'uments": {"city": "B',
        'ern"',
        ', "unit": "C"}',
        "}\n</tool_call>",
    ]
    assert [reply.push(piece) for piece in pieces] == [
        [],
        [Delta(call=0, name="get_weather"), Delta(call=0, arguments='{"city": "B')],
        [Delta(call=0, arguments='ern"')],
        [Delta(call=0, arguments=', "unit": "C"}')],
        [],
    ]
    assert reply.flush() == []


def test_what_looks_like_a_call_and_is_none_stays_content(shared_data):
    chat = chat_of(shared_data, "Qwen-Qwen3-0.6B")
    for text in (
        "<tool_call>no call</tool_call> more",
        "<tool_call>{} and on",
        "<tool_call>",
        "</think> <tool_call",
    ):
        assert message_of(parsed(chat, [*text]))["content"].strip() == text
    call = call_syntax(chat).spell("get_weather", ARGUMENTS)  # type: ignore[union-attr]
    without_tools = ReplyParser(chat)
    assert message_of([*without_tools.push(call), *without_tools.flush()])["content"] == call


def test_an_answer_that_breaks_off_keeps_what_was_shown(shared_data):
    chat = chat_of(shared_data, "Qwen-Qwen3-0.6B")
    assert message_of(parsed(chat, ["so I think", " that"], in_reasoning=True)) == {
        "role": "assistant", "content": "", "reasoning": "so I think that",
    }  # fmt: skip
    broken = message_of(parsed(chat, ['<tool_call>{"name": "get_weather", "arguments": {"city": "Be']))
    assert broken["tool_calls"] == [
        {"type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Be'}}
    ]


def test_json_that_is_no_call_streams_at_once(shared_data):
    """Where a call is bare JSON, other JSON is held back no longer than its first key takes."""
    reply = ReplyParser(chat_of(shared_data, "meta-llama-Llama-3.1-8B-Instruct"), tools=TOOLS)
    assert reply.push('{"na') == []
    assert message_of(reply.push('tion": "CH"'))["content"] == '{"nation": "CH"'


def test_a_megabyte_of_brackets_is_no_trouble(shared_data):
    """Work grows with the text and no faster: these would take minutes else."""
    for name in (
        "Qwen-Qwen3-0.6B",
        "Mistral-Small-3.2-24B-Instruct-2506",
        "meta-llama-Llama-3.1-8B-Instruct",
    ):
        chat = chat_of(shared_data, name)
        for text in ("[", "{", '"', "<tool_call>", '{"name": "f", "arguments": {', "\\"):
            whole = "<tool_call>" + text * (300_000 // len(text))
            pieces = [whole[at : at + 5_000] for at in range(0, len(whole), 5_000)]
            assert len("".join(delta.content + delta.arguments for delta in parsed(chat, pieces))) > 200_000


@given(
    value=st.recursive(
        st.text(max_size=4) | st.integers(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    rest=st.text(max_size=4),
    size=st.integers(1, 7),
)  # fmt: skip
def test_json_ends_at_its_last_bracket(value, rest, size):
    text = json.dumps([value])
    end, seen = JsonEnd(), 0
    for at in range(0, len(text + rest), size):
        piece = (text + rest)[at : at + size]
        if (found := end.feed(piece)) >= 0:
            assert seen + found == len(text)
            return
        seen += len(piece)
    raise AssertionError("the end was not seen")


@given(
    text=st.text(alphabet="ab<", max_size=8),
    marks=st.lists(st.text(alphabet="ab<", min_size=1, max_size=4), min_size=1, max_size=3),
)
def test_marks_are_found_first_and_their_beginnings_at_the_end(text, marks):
    at, mark = first_of(text, marks)
    places = [place for place in range(len(text)) if any(text.startswith(m, place) for m in marks)]
    assert at == min(places, default=-1) and (at < 0 or text.startswith(mark, at))
    if at >= 0:
        return
    ends = [n for n in range(1, len(text) + 1) if any(len(m) > n and m.startswith(text[-n:]) for m in marks)]
    assert overlap(text, marks) == max(ends, default=0)
