"""Chat templates of our own and of others, conversations, and tokenizers with the control tokens these need."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from orrery.kit.errors import OrreryError
from orrery.text import ChatFormat, Rendered, Tokenizer, TokenizerConfig, train_tokenizer
from orrery.text.formats import gpt2_files

CONTROL = re.compile(
    r"<[|｜][^<>\s|｜]{1,40}[|｜]>|<\|[A-Za-z_]+>|<[A-Za-z_]+\|>|\[/?[A-Z_]{3,}\]|</?s>|<(?:start|end)_of_turn>|<end_of_utterance>"
    r"|<sep>|<SPECIAL_\d+>"
)
SOFT = ("<think>", "</think>", "<tool_call>", "</tool_call>")
TOKENS = {"bos_token": "<BOS>", "eos_token": "<EOS>"}

# Templates of our own in the manner of published ones.
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
INST = (  # the header of an answer is the end of the question
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content|trim + ' [/INST]' }}"
    "{% elif m.role == 'assistant' %}{{ ' ' + m.content + eos_token }}"
    "{% else %}{{ raise_exception('only users and assistants') }}{% endif %}{% endfor %}"
)
THINK = (  # reasoning of earlier turns is dropped, the prompt opens it
    "{{ bos_token }}{% for m in messages %}{{ '<|' + m.role + '|>' }}{% if m.role == 'assistant' %}"
    "{% if loop.last %}{{ '<think>' + (m.reasoning_content or '') }}{% endif %}{{ '</think>' + m.content }}"
    "{% else %}{{ m.content }}{% endif %}{{ '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|><think>{% endif %}"
)
GATHER = (  # all of it is gathered first and written at the end
    "{% set ns = namespace(out=bos_token) %}{% for m in messages %}"
    "{% set ns.out = ns.out ~ (m.role|upper) ~ ': ' ~ m.content ~ '</s>' %}{% endfor %}{{ ns.out }}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
OPEN = (  # no turn is closed
    "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
MARKED = (
    "{% for m in messages %}{% if m.role == 'assistant' %}<|assistant|>{% generation %}{{ m.content }}<|end|>{% endgeneration %}\n"
    "{% else %}{{ '<|user|>' + m.content + '<|end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
HERMES = CHATML.replace(
    "+ m.content +",
    "+ (m.content or '') }}{% for c in m.tool_calls or [] %}{{ '\n<tool_call>\n' + (c.function|tojson) + '\n</tool_call>' }}{% endfor %}{{",
)

Q: list[dict[str, Any]] = [{"role": "user", "content": "What is 2+2?"}]
TALK: list[dict[str, Any]] = [
    *Q,
    {"role": "assistant", "content": "It is 4.", "reasoning": "two and two"},
    {"role": "user", "content": "  And 3+3?\n"},
    {"role": "assistant", "content": "Six, I think\n", "reasoning": "three and three"},
]
CALL = {
    "id": "abcdefghi",
    "type": "function",
    "function": {"name": "get_weather", "arguments": {"city": "Zürich", "n": 1}},
}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Weather <now> & here.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        },
    }
]
CONVERSATIONS: dict[str, tuple[list[dict[str, Any]], Any]] = {
    "talk": (TALK, None),
    "system": ([{"role": "system", "content": "Be brief. "}, *TALK], None),
    "reasoning": ([m | {"thinking": "Hm\nso"} if m["role"] == "assistant" else m for m in TALK], None),
    "tags": ([*Q, {"role": "assistant", "content": "<think>\nhm\n</think>\n\n4"}, *TALK[2:]], None),
    "call": (
        [
            *Q,
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "abcdefghi", "name": "get_weather", "content": '{"t": 20}'},
            {"role": "assistant", "content": "20 degrees"},
            *TALK[2:],
        ],
        TOOLS,
    ),
    "called": ([*Q, {"role": "assistant", "content": "", "tool_calls": [CALL]}], TOOLS),
    "parts": (
        [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image"}]}, TALK[1]],
        None,
    ),
    "empty": ([{"role": "user", "content": ""}, {"role": "assistant", "content": ""}, *Q], None),
}
SETTINGS: list[tuple[bool, dict[str, Any]]] = [
    (True, {}),
    (False, {}),
    (True, {"enable_thinking": False, "documents": [{"title": "t", "text": "x"}], "clear_thinking": False}),
    (
        False,
        {
            "enable_thinking": True,
            "thinking": True,
            "reasoning_effort": "high",
            "builtin_tools": ["browser", "python"],
        },
    ),
]


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@cache
def published(shared_data: Path) -> dict[str, str]:
    """Every published template there is here."""
    folder = shared_data / "chat_templates"
    found = {row["name"]: row["template"] for row in rows(folder / "templates.jsonl")}
    return found | {row["name"]: row["template"] for row in rows(folder / "renderings_llamacpp.jsonl")}


@cache
def gpt2_with_all(shared_data: Path) -> Tokenizer:
    """The real GPT-2 vocabulary, with the control tokens of every published template."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        for file in ("gpt2.encoder.json", "gpt2.vocab.bpe"):
            data = (shared_data / "tokenizers" / f"{file}.gz").read_bytes()
            (folder / file).write_bytes(gzip.decompress(data))
        tokenizer = gpt2_files(folder / "gpt2.encoder.json", folder / "gpt2.vocab.bpe")
    every = "".join([*published(shared_data).values(), OPEN])
    for source in published(shared_data).values():
        for messages, tools in (CONVERSATIONS["talk"], CONVERSATIONS["call"]):
            with contextlib.suppress(OrreryError):
                every += ChatFormat.from_template(source).text(messages, tools)
    return with_tokens(tokenizer, every)


def with_tokens(tokenizer: Tokenizer, text: str) -> Tokenizer:
    """The tokenizer with the control tokens that stand in a text, and <BOS> and <EOS>."""
    names = sorted(({*CONTROL.findall(text)} | {"<BOS>", "<EOS>"}) - {*tokenizer.vocabulary})
    grown = tokenizer.add_tokens(names, special=True)
    grown = grown.add_tokens([name for name in SOFT if name in text and name not in grown])
    return Tokenizer(grown.spec, grown.settings | TOKENS)


@cache
def small(kind: Literal["bpe", "bpe-fallback", "wordpiece", "unigram"] = "bpe") -> Tokenizer:
    text = [
        *CONVERSATIONS["talk"][0][0].values(),
        "It is 4. Six, I think so, yes. And what? USER ASSISTANT: [INST]\n\n  x",
    ] * 20
    return train_tokenizer(
        text, TokenizerConfig(kind=kind, vocab_size=400, special_tokens=("<unk>",), bos=None, eos=None)
    )


def own(template: str, kind: Any = "bpe") -> ChatFormat:
    return ChatFormat.from_template(
        template, with_tokens(small(kind), template + "<|user|><|system|><|assistant|><|tool|><|im_start|>")
    )


def masked(chat: ChatFormat, out: Rendered) -> list[str]:
    """The stretches the assistant writes."""
    stretches: list[list[int]] = [[]]
    for i, inside in zip(out.ids, out.assistant_mask, strict=True):
        if inside:
            stretches[-1].append(i)
        elif stretches[-1]:
            stretches.append([])
    return [chat.tokenizer.decode(ids) for ids in stretches if ids]
