"""What a foreign template is found to be: append-only or not, how an answer ends, how it is taken apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orrery.text import ChatFormat, Tokenizer

from .chat_templates import CHATML, GATHER, INST, OPEN, TALK, THINK, TOKENS, gpt2_with_all, own, published


@pytest.fixture(scope="module")
def templates(shared_data: Path) -> dict[str, str]:
    return published(shared_data)


@pytest.fixture(scope="module")
def gpt2(shared_data: Path) -> Tokenizer:
    return gpt2_with_all(shared_data)


def test_append_only_is_measured(templates: dict[str, str]) -> None:
    assert own(CHATML).append_only and own(INST).append_only and own(GATHER).append_only
    assert not own(THINK).append_only  # drops what was thought
    assert own(CHATML).keeps_prefixes(TALK) and not own(THINK).keeps_prefixes(TALK)
    made = {
        name: ChatFormat.from_template(source, **TOKENS).append_only for name, source in templates.items()
    }
    assert made["Qwen-Qwen2.5-7B-Instruct"] and made["google-gemma-2-2b-it"] and made["Llama-3"] is not None
    assert not made["Qwen-Qwen3-0.6B"] and not made["openai-gpt-oss-120b"]


def test_stop_ids_are_what_ends_an_answer(templates: dict[str, str], gpt2: Tokenizer) -> None:
    def stops(source: str, **more: Any) -> list[str]:
        chat = ChatFormat.from_template(source, gpt2, **more)
        return [chat.tokenizer.name(i) for i in chat.stop_ids]

    assert stops(templates["Qwen-Qwen3-0.6B"]) == ["<|im_end|>", "<EOS>"]
    assert stops(templates["openai-gpt-oss-120b"]) == ["<|return|>", "<|call|>", "<EOS>"]
    assert stops(templates["google-gemma-2-2b-it"]) == ["<end_of_turn>", "<EOS>"]
    assert stops(templates["meta-llama-Llama-3.1-8B-Instruct"], stop_ids=(7,)) == [
        "<|eot_id|>",
        "<EOS>",
        gpt2.name(7),
    ]
    assert stops(templates["trl-idefics3"]) == ["<end_of_utterance>", "<EOS>"]
    assert stops(INST) == ["<EOS>"]
    assert stops(OPEN) == ["<|user|>", "<EOS>"]  # the next turn's header


@pytest.mark.parametrize(
    ("name", "text", "want"),
    [
        ("Qwen-Qwen3-0.6B", "<think>\nhm\n</think>\n\nFour.", {"content": "Four.", "reasoning": "hm"}),
        ("Qwen-Qwen3-0.6B", 'So:\n<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>', {"content": "So:", "calls": [("f", {"a": 1})]}),
        ("Qwen-Qwen3-0.6B", '<tool_call>\n{"name": "f", "argu', {"content": '<tool_call>\n{"name": "f", "argu'}),
        ("Qwen-Qwen3-0.6B", "<tool_call>\n{broken}\n</tool_call>", {"content": "<tool_call>\n{broken}\n</tool_call>"}),
        ("Qwen3-Coder", "<tool_call>\n<function=f>\n<parameter=a>\n1\n</parameter>\n<parameter=b>\nx y\n</parameter>\n</function>\n</tool_call>", {"content": "", "calls": [("f", {"a": 1, "b": "x y"})]}),
        ("GLM-4.6", "\n<think>hm</think>\nok<tool_call>f\n<arg_key>a</arg_key>\n<arg_value>1</arg_value>\n</tool_call>", {"content": "ok", "reasoning": "hm", "calls": [("f", {"a": 1})]}),
        ("meta-llama-Llama-3.1-8B-Instruct", '{"name": "f", "parameters": {"a": 1}}', {"content": "", "calls": [("f", {"a": 1})]}),
        ("meta-llama-Llama-3.1-8B-Instruct", '{"a": 1}', {"content": '{"a": 1}'}),
        ("mistralai-Mistral-Nemo-Instruct-2407", '[TOOL_CALLS][{"name": "f", "arguments": {"a": 1}, "id": "abcdefghi"}]', {"content": "", "calls": [("f", {"a": 1})]}),
        ("Mistral-Small-3.2-24B-Instruct-2506", '[TOOL_CALLS]f[CALL_ID]abc[ARGS]{"a": 1}[TOOL_CALLS]g[CALL_ID]abd[ARGS]{}', {"content": "", "calls": [("f", {"a": 1}), ("g", {})]}),
        ("deepseek-ai-DeepSeek-V3.1", 'hm</think>Ok<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{"a": 1}<｜tool▁call▁end｜><｜tool▁calls▁end｜>', {"content": "Ok", "reasoning": "hm", "calls": [("f", {"a": 1})]}),
        ("llama-cpp-deepseek-r1", '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{"a": 1}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>', {"content": "", "calls": [("f", {"a": 1})]}),
        ("openai-gpt-oss-120b", "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>Four.", {"content": "Four.", "reasoning": "hm"}),
        ("openai-gpt-oss-120b", '<|channel|>analysis<|message|>hm<|end|><|start|>assistant to=functions.f<|channel|>commentary json<|message|>{"a": 1}', {"content": "", "reasoning": "hm", "calls": [("f", {"a": 1})]}),
        ("trl-lfm2_2_5", "<|tool_call_start|>[f(a=1, b='x'), g()]<|tool_call_end|>", {"content": "", "calls": [("f", {"a": 1, "b": "x"}), ("g", {})]}),
        ("NVIDIA-Nemotron-Nano-v2", '<TOOLCALL>[{"name": "f", "arguments": {"a": 1}}]</TOOLCALL>', {"content": "", "calls": [("f", {"a": 1})]}),
        ("meetkai-functionary-medium-v3.1", '<function=f>{"a": 1}</function>', {"content": "", "calls": [("f", {"a": 1})]}),
        ("google-gemma-2-2b-it", "Just <b>text</b> {", {"content": "Just <b>text</b> {"}),
    ],
)  # fmt: skip
def test_answers_are_taken_apart(
    name: str, text: str, want: dict[str, Any], templates: dict[str, str], gpt2: Tokenizer
) -> None:
    chat = ChatFormat.from_template(templates[name], gpt2)
    got = chat.parse([*chat.tokenizer.encode(text, special="allow"), chat.stop_ids[0], 5])
    calls = [(call["function"]["name"], call["function"]["arguments"]) for call in got.pop("tool_calls", [])]
    assert got | ({"calls": calls} if calls else {}) == {"role": "assistant", **want}
