"""Small tokenizers and walks through a grammar; tools, a call of one, and chat formats with the call as each writes it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from orrery.kit.lm import Grammar
from orrery.serve.grammar.constraint import Constraint
from orrery.text import Tokenizer, TokenizerConfig, train_tokenizer
from orrery.text.chat import ChatFormat
from tests.text.chat_templates import gpt2_with_all, published

WORDS = [
    "ab abc abcd b bc c cab",
    "the cat sat by a cat with a cat",
    '{"name": "x", "age": 12}',
    "grüße 東京 🎉",
] * 20
WEATHER: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "unit": {"type": "string", "enum": ["C", "F"]},
        "days": {"type": "integer", "minimum": 1, "maximum": 9},
        "at": {"$ref": "#/$defs/place"},
    },
    "required": ["city", "unit"],
    "additionalProperties": False,
    "$defs": {"place": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}},
}
TOOLS = [
    {
        "type": "function",
        "function": {"name": "get_weather", "description": "Weather.", "parameters": WEATHER},
    },
    {"type": "function", "function": {"name": "get_weather_map", "description": "Map."}},
]
ARGUMENTS = {"city": "Zürich West", "unit": "C", "days": 3, "at": [47.4, 8.5]}
NAMED = {"type": "function", "function": {"name": "get_weather"}}
SYNTAXES = {
    "Qwen-Qwen2.5-7B-Instruct": '<tool_call>\n{"name": "get_weather", "arguments": §}\n</tool_call>',
    "Qwen-Qwen3-0.6B": '<tool_call>\n{"name": "get_weather", "arguments": §}\n</tool_call>',
    "Mistral-Small-3.2-24B-Instruct-2506": "[TOOL_CALLS]get_weather[CALL_ID]callab001[ARGS]§",
    "mistralai-Mistral-Nemo-Instruct-2407": '[TOOL_CALLS][{"name": "get_weather", "arguments": §, "id": "callab001"}]',
    "meta-llama-Llama-3.1-8B-Instruct": '{"name": "get_weather", "parameters": §}',
    "deepseek-ai-DeepSeek-V3.1": "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>§<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    "openai-gpt-oss-120b": "to=functions.get_weather<|channel|>commentary json<|message|>§",
    "meetkai-functionary-medium-v3.1": "<function=get_weather>§</function>",
    "GLM-4.6": "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Zürich West</arg_value>\n<arg_key>unit</arg_key>\n<arg_value>C</arg_value>\n<arg_key>days</arg_key>\n<arg_value>3</arg_value>\n<arg_key>at</arg_key>\n<arg_value>[47.4, 8.5]</arg_value>\n</tool_call>",
    "Qwen3-Coder": "<tool_call>\n<function=get_weather>\n<parameter=city>\nZürich West\n</parameter>\n<parameter=unit>\nC\n</parameter>\n<parameter=days>\n3\n</parameter>\n<parameter=at>\n[47.4, 8.5]\n</parameter>\n</function>\n</tool_call>",
}  # fmt: skip


@cache
def ours() -> ChatFormat:
    return ChatFormat(
        train_tokenizer(["the weather in Zurich is fine"] * 20, TokenizerConfig(vocab_size=300))
    )


def chat_of(shared_data: Path, name: str) -> ChatFormat:
    return (
        ours()
        if name == "ours"
        else ChatFormat.from_template(published(shared_data)[name], gpt2_with_all(shared_data))
    )


def ids_of(chat: ChatFormat, text: str) -> list[int]:
    return chat.tokenizer.encode(text, special="allow")


@cache
def trained(kind: str = "bpe") -> Tokenizer:
    return train_tokenizer(WORDS, TokenizerConfig(kind=kind, vocab_size=330))  # type: ignore[arg-type]


def constraint(grammar: Grammar, tokenizer: Tokenizer | None = None, **changes) -> Constraint:
    tokenizer = tokenizer or trained()
    assert tokenizer.eos_id is not None
    return Constraint.compile(
        grammar, tokenizer, **{"vocab": tokenizer.vocab_size + 3, "stop_ids": (tokenizer.eos_id,)} | changes
    )


def regex(source: str) -> Grammar:
    return Grammar(kind="regex", source=source)


def allowed(c: Constraint) -> list[int]:
    return c.mask().nonzero()[:, 0].tolist()


def walk(c: Constraint, draw, limit: int = 60) -> list[int]:
    """Ids drawn from what is allowed, until the text ends."""
    ids: list[int] = []
    while not c.finished and len(ids) < limit:
        options = allowed(c)
        ids.append(options[draw(len(options))])
        c.accept(ids[-1])
    return ids
