"""Answers taken apart: nothing that was said is lost, and hostile ones take no time."""

from __future__ import annotations

import time

from orrery.text.answer import parse_answer

TEMPLATE = "<tool_call></tool_call><think></think>"


def test_what_is_said_before_the_reasoning_stays() -> None:
    message = parse_answer("Hello <think>why</think> there", TEMPLATE)
    assert message == {"role": "assistant", "content": "Hello  there", "reasoning": "why"}


def test_reasoning_that_the_prompt_opened() -> None:
    message = parse_answer("why\n</think>\n\nHello", TEMPLATE)
    assert message == {"role": "assistant", "content": "Hello", "reasoning": "why"}


def test_calls_and_the_text_around_them() -> None:
    call = '<tool_call>{"name": "f", "arguments": {"x": 1}}</tool_call>'
    message = parse_answer(f"a {call} b <tool_call>{{broken</tool_call> c", TEMPLATE)
    assert message["tool_calls"] == [{"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}]
    assert message["content"] == "a  b <tool_call>{broken</tool_call> c"


def test_marks_that_never_close_take_no_time() -> None:
    start = time.perf_counter()
    text = "</tool_call>" + "<tool_call>" * 200_000
    assert parse_answer(text, TEMPLATE)["content"] == text
    assert time.perf_counter() - start < 5  # seconds; looking for an end from each mark would take an hour
