"""Weights fall on what the model is to write, and on nothing else, in every format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orrery.kit.errors import OrreryError
from orrery.text.chat import ChatFormat
from orrery.tune.dataset import SetConfig, Split, read_set
from orrery.tune.dialogue import Dialogue, Passage
from orrery.tune.examples import Example, Renderer
from orrery.tune.rows import Row
from orrery.tune.shapes import samples_of
from orrery.tune.templates import NEEDS, TEMPLATES, choose_format

from .conftest import Small

TALK = [
    {"role": "user", "content": "what is one"},
    {"role": "assistant", "content": "it is one"},
    {"role": "user", "content": "and two"},
    {"role": "assistant", "content": "it is two"},
]
CALLS = {
    "tools": [{"name": "add", "parameters": {"type": "object"}}],
    "conversations": [
        {"from": "human", "value": "one plus two"},
        {"from": "function_call", "value": json.dumps({"name": "add", "arguments": {"a": 1, "b": 2}})},
        {"from": "observation", "value": "three"},
        {"from": "gpt", "value": "it is three"},
    ],
}


def learned(example: Example, renderer: Renderer) -> list[str]:
    """The stretches that are learned, as text."""
    stretches: list[list[int]] = []
    for i, (token, weight) in enumerate(zip(example.ids, example.weights, strict=True)):
        if weight and (not i or not example.weights[i - 1]):
            stretches.append([])
        if weight:
            stretches[-1].append(token)
    return [renderer.tokenizer.decode(ids) for ids in stretches]


def example_of(renderer: Renderer, **fields: Any) -> Example:
    (sample,) = samples_of(Row("here", fields))
    (example,) = renderer.examples(sample)
    return example


def test_assistant_turns_with_their_stop_token_are_learned(small: Small) -> None:
    renderer = small.renderer()
    example = example_of(renderer, messages=TALK)
    assert learned(example, renderer) == ["it is one<|end|>", "it is two<|end|>"]
    assert list(example.ids) == small.chat.render(TALK).ids


def test_what_else_can_be_learned(small: Small) -> None:
    last = small.renderer(learn="last")
    assert learned(example_of(last, messages=TALK), last) == ["it is two<|end|>"]
    whole = small.renderer(learn="all")
    assert example_of(whole, messages=TALK).supervised == len(small.chat.render(TALK).ids) - 1
    quiet = [TALK[0], {**TALK[1], "weight": 0}, *TALK[2:]]
    assert learned(example_of(last, messages=quiet), last) == ["it is two<|end|>"]


def test_calls_are_learned_and_what_tools_answer_is_not(small: Small) -> None:
    renderer = small.renderer()
    example = example_of(renderer, **CALLS)
    call = '<|tool_call|>{"name": "add", "arguments": {"a": 1, "b": 2}}<|end|>'
    assert learned(example, renderer) == [call, "it is three<|end|>"]
    assert "three<|end|>" in renderer.tokenizer.decode(example.ids)


def test_a_system_message_is_put_before_dialogues_without_one(small: Small) -> None:
    renderer = small.renderer(system="be short")
    assert "<|system|>be short<|end|>" in small.tokenizer.decode(example_of(renderer, messages=TALK).ids)
    own = [{"role": "system", "content": "say more"}, *TALK]
    text = small.tokenizer.decode(example_of(renderer, messages=own).ids)
    assert "say more" in text and "be short" not in text
    (sample,) = samples_of(Row("here", {"messages": TALK}))
    assert renderer.prompt(sample) == small.chat.prompt([{"role": "system", "content": "be short"}, TALK[0]])


def test_without_a_format_the_answer_follows_the_question(small: Small) -> None:
    renderer = small.renderer(chat=None)
    example = example_of(renderer, prompt="what is one", completion=" it is one")
    assert learned(example, renderer) == [" it is one<|end_of_text|>"]
    assert small.tokenizer.decode(example.ids) == "<|begin_of_text|>what is one it is one<|end_of_text|>"
    (sample,) = samples_of(Row("here", {"prompt": "what is one", "completion": "x"}))
    assert renderer.prompt(sample) == list(example.ids[: len(example.ids) - example.supervised])
    with pytest.raises(OrreryError, match="here: without a chat format only a question and its answer"):
        example_of(renderer, messages=TALK)


def test_all_of_a_passage_is_learned(small: Small) -> None:
    (example,) = small.renderer().examples(Passage("it is one", "here"))
    assert example.supervised == len(example.ids) - 1
    assert small.tokenizer.decode(example.ids) == "<|begin_of_text|>it is one<|end_of_text|>"


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_formats_for_base_models(name: str, small: Small) -> None:
    tokenizer = small.tokenizer.add_tokens(NEEDS[name], special=True) if NEEDS[name] else small.tokenizer
    renderer = Renderer(tokenizer=tokenizer, chat=choose_format(name, tokenizer, None))
    assert renderer.chat is not None and renderer.chat.append_only
    end = {
        "gemma": "<end_of_turn>",
        "chatml": "<|im_end|>",
        "llama3": "<|eot_id|>",
        "words": "<|end_of_text|>",
    }[name]
    example = example_of(renderer, messages=[{"role": "system", "content": "be short"}, *TALK])
    assert learned(example, renderer) == [f"it is one{end}", f"it is two{end}"]
    assert example.ids[0] == tokenizer.bos_id and example.ids.count(example.ids[0]) == 1
    called = example_of(renderer, **CALLS)
    call = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>'
    assert learned(called, renderer) == [call + end, f"it is three{end}"]
    assert '{"type": "function", "function": {"name": "add"' in tokenizer.decode(called.ids)
    answer = renderer.chat.parse(
        [i for i, w in zip(called.ids, called.weights, strict=True) if w][: called.supervised - 4]
    )
    assert answer["tool_calls"][0]["function"] == {"name": "add", "arguments": {"a": 1, "b": 2}}
    assert tokenizer.special[end] in renderer.chat.stop_ids


def test_which_format_is_natural(small: Small) -> None:
    grown = {
        name: small.tokenizer.add_tokens(NEEDS[name], special=True) for name in ("gemma", "chatml", "llama3")
    }
    assert all(choose_format("auto", grown[name], None).template == TEMPLATES[name] for name in grown)
    assert choose_format("auto", small.tokenizer, None).template == small.chat.template
    assert choose_format("auto", small.tokenizer, small.chat) is small.chat
    with pytest.raises(
        OrreryError, match="needs the tokens <start_of_turn>, <end_of_turn>, which this vocabulary lacks"
    ):
        choose_format("gemma", small.tokenizer, None)
    with pytest.raises(OrreryError, match=r"there is no chat format 'gema'.*Did you mean 'gemma'"):
        choose_format("gema", small.tokenizer, None)


FORGETFUL = """\
{{- bos_token -}}
{%- for m in messages -%}
    {{- '<|' + m.role + '|>' -}}
    {%- if m.reasoning_content and loop.last -%}{{- '<|think|>' + m.reasoning_content + '<|end_think|>' -}}{%- endif -%}
    {{- m.content + '<|end|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}
"""


def test_a_format_that_rewrites_history_gives_an_example_for_each_answer(small: Small) -> None:
    chat = ChatFormat.from_template(FORGETFUL, small.tokenizer)
    renderer = small.renderer(chat=chat)
    talk = [TALK[0], {**TALK[1], "reasoning": "less"}, TALK[2], {**TALK[3], "reasoning": "more"}]
    (sample,) = samples_of(Row("here", {"messages": talk}))
    first, second = renderer.examples(sample)
    assert learned(first, renderer) == ["<|think|>less<|end_think|>it is one<|end|>"]
    assert learned(second, renderer) == ["<|think|>more<|end_think|>it is two<|end|>"]
    for example, turn in ((first, 1), (second, 3)):  # exactly the prompt that would be served
        assert list(example.ids[: len(example.ids) - example.supervised]) == chat.prompt(talk[:turn])


def test_a_format_that_leaves_answers_out_is_refused(small: Small) -> None:
    deaf = ChatFormat.from_template(
        "{% for m in messages if m.role == 'user' %}<|user|>{{ m.content }}{% endfor %}", small.tokenizer
    )
    with pytest.raises(OrreryError, match=r"^here: .*(nothing to learn|cannot be told)"):
        example_of(small.renderer(chat=deaf), messages=TALK)


def test_real_tool_dialogues_learn_calls_alone(shared_data: Path, small: Small) -> None:
    renderer = small.renderer()
    found = read_set(SetConfig(paths=("sft_tool_calls",)), root=shared_data, parts=Split())
    for sample in found.train[:30]:
        assert isinstance(sample, Dialogue)
        (example,) = renderer.examples(sample)
        texts = learned(example, renderer)
        assert len(texts) == len(sample.learned) and all(text.endswith("<|end|>") for text in texts)
        for message, text in zip([sample.messages[t] for t in sample.learned], texts, strict=True):
            assert text.startswith(message["content"]) and ("<|tool_call|>" in text) == (
                "tool_calls" in message
            )
