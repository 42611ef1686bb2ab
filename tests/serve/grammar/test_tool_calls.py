from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from orrery.kit.errors import OrreryError
from orrery.kit.lm import Grammar
from orrery.serve.grammar.constraint import Constraint
from orrery.serve.grammar.syntax import call_syntax, in_reasoning, reasoning_of
from orrery.serve.grammar.tool_calls import read_answer, reasoned_grammar, tool_grammar
from orrery.text.chat import ChatFormat
from tests.serve.grammar.cases import ARGUMENTS, NAMED, SYNTAXES, TOOLS, WEATHER, chat_of, ids_of, ours
from tests.text.chat_templates import own, published


def constraint(chat: ChatFormat, choice: Any, **settings) -> Constraint:
    grammar = tool_grammar(chat, TOOLS, choice, **settings)
    assert grammar is not None
    return Constraint.compile(
        grammar, chat.tokenizer, vocab=chat.tokenizer.vocab_size, stop_ids=chat.stop_ids
    )


def fits(c: Constraint, ids: list[int]) -> bool:
    """Whether the ids are a whole answer."""
    if c.accepts(ids) < len(ids):
        return False
    ahead = c.clone()
    for id in ids:
        ahead.accept(id)
    return ahead.may_end


def named(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


# --- syntaxes, by their templates


@pytest.mark.parametrize("name", SYNTAXES)
def test_a_template_shows_how_it_writes_calls(shared_data, name):
    syntax = call_syntax(chat_of(shared_data, name))
    assert syntax is not None
    written = syntax.spell("get_weather", ARGUMENTS)
    assert written == SYNTAXES[name].replace("§", json.dumps(ARGUMENTS, ensure_ascii=False))


def test_most_published_formats_have_calls_and_some_have_none(shared_data):
    found = {name for name in published(shared_data) if call_syntax(chat_of(shared_data, name))}
    assert len(found) >= 38
    plain = chat_of(shared_data, "google-gemma-2-2b-it")
    assert call_syntax(plain) is None and tool_grammar(plain, TOOLS, "auto") is None
    with pytest.raises(OrreryError, match="no tool calls that can be read back"):
        tool_grammar(plain, TOOLS, "required")


def test_reasoning_begins_inside_the_prompt_where_the_template_opens_it(shared_data):
    ask = [{"role": "user", "content": "Hello <think>"}]
    opened = {}
    for name in ("trl-qwen3_5_think", "trl-qwen3_5_nothink", "Qwen-Qwen3-0.6B", "google-gemma-2-2b-it"):
        chat = chat_of(shared_data, name)
        opened[name] = in_reasoning(chat, chat.prompt(ask))
    assert opened == {name: name == "trl-qwen3_5_think" for name in opened}


# --- grammars


@pytest.mark.parametrize("name", ["ours", *SYNTAXES])
def test_calls_round_trip_through_grammar_and_parse(shared_data, name):
    """The call the template writes fits and is read back; others' names, missing and unknown arguments do not fit."""
    chat = chat_of(shared_data, name)
    syntax, stop = call_syntax(chat), chat.stop_ids[0]
    assert syntax is not None
    for choice in ("auto", "required", NAMED):
        c = constraint(chat, choice)
        for arguments in (ARGUMENTS, {"city": "", "unit": "F"}):
            ids = ids_of(chat, syntax.spell("get_weather", arguments))
            assert fits(c, ids) and c.accepts([*ids, stop]) == len(ids) + 1
            assert read_answer(chat, [*ids, stop], TOOLS)["tool_calls"] == [named("get_weather", arguments)]
        for wrong in (
            ("no_tool", ARGUMENTS),
            ("get_weather", {"city": "Bern"}),
            ("get_weather", {"city": "Bern", "unit": "K"}),
            ("get_weather", {"city": "Bern", "unit": "C", "days": 10}),
            ("get_weather", {"city": "Bern", "unit": "C", "more": 1}),
        ):
            assert not fits(c, ids_of(chat, syntax.spell(*wrong)))
        assert fits(c, ids_of(chat, syntax.spell("get_weather_map", {}))) == (choice != NAMED)
        assert fits(c, ids_of(chat, "It is fine.")) == (choice == "auto")
        assert (stop in c.mask().nonzero()) == (choice == "auto")


@pytest.mark.parametrize("name", ["ours", *SYNTAXES])
def test_reasoning_and_text_may_stand_before_a_call(shared_data, name):
    chat = chat_of(shared_data, name)
    syntax, marks = call_syntax(chat), reasoning_of(chat)
    assert syntax is not None
    call = syntax.spell("get_weather", ARGUMENTS)
    if syntax.mark:
        ids = ids_of(chat, "Let me see.\n" + call)
        assert fits(constraint(chat, "auto"), ids) and not fits(constraint(chat, "required"), ids)
        assert read_answer(chat, ids, TOOLS)["content"].strip() == "Let me see."
    if marks is not None:
        named_mark = (
            "" if syntax.mark in chat.tokenizer.special else syntax.mark
        )  # text about calls is no call
        thought = f"{marks.opening}\nHm, {named_mark} is for later\n{marks.closing}"
        ids = ids_of(chat, thought + call)
        for choice in ("auto", "required"):
            assert fits(constraint(chat, choice), ids)
            begun = ids_of(chat, thought.removeprefix(marks.opening) + call)
            assert fits(constraint(chat, choice, in_reasoning=True), begun)
        assert read_answer(chat, ids, TOOLS)["tool_calls"] == [named("get_weather", ARGUMENTS)]


@pytest.mark.parametrize(
    "name", ["ours", "Qwen3-Coder", "deepseek-ai-DeepSeek-V3.1", "NVIDIA-Nemotron-Nano-v2"]
)
def test_several_calls_only_where_they_are_allowed(shared_data, name):
    chat = chat_of(shared_data, name)
    syntax = call_syntax(chat)
    assert syntax is not None and syntax.between is not None
    one = syntax.spell("get_weather", ARGUMENTS)
    body = one.removeprefix(syntax.head).removesuffix(syntax.tail)
    ids = ids_of(
        chat,
        syntax.head
        + body
        + syntax.between
        + "get_weather_map"
        + syntax.middle
        + ("" if syntax.tagged else "{}")
        + syntax.tail,
    )
    assert fits(constraint(chat, "auto"), ids) and fits(constraint(chat, "required"), ids)
    assert not fits(constraint(chat, "required", parallel=False), ids) and not fits(
        constraint(chat, NAMED), ids
    )
    calls = read_answer(chat, ids, TOOLS)["tool_calls"]
    assert calls == [named("get_weather", ARGUMENTS), named("get_weather_map", {})]


@pytest.mark.parametrize(
    "name",
    [
        "ours",
        "Qwen-Qwen2.5-7B-Instruct",
        "Mistral-Small-3.2-24B-Instruct-2506",
        "meta-llama-Llama-3.1-8B-Instruct",
    ],
)
def test_random_calls_are_valid(shared_data, name):
    """Whatever is drawn: a call that ends is one of the tools', with arguments its schema allows."""
    chat = chat_of(shared_data, name)
    tokenizer, ended = chat.tokenizer, 0
    closing = np.array(
        [
            i not in chat.stop_ids and tokenizer.token_bytes(i)[:1] in b'"}]'
            for i in range(tokenizer.vocab_size)
        ]
    )
    for seed in range(4):
        c, random, ids = constraint(chat, NAMED), np.random.default_rng(seed), []
        while not c.finished and len(ids) < 200:
            mask = c.mask().numpy()
            options = np.flatnonzero(
                mask & closing if (mask & closing).any() and random.random() < 0.5 else mask
            )
            ids.append(int(random.choice(options)))
            c.accept(ids[-1])
        if c.finished:
            ended += 1
            (call,) = read_answer(chat, ids, TOOLS)["tool_calls"]
            arguments = call["function"]["arguments"]
            assert {"city", "unit"} <= {*arguments} <= {*WEATHER["properties"]}
            assert isinstance(arguments["city"], str) and arguments["unit"] in ("C", "F")
            assert arguments.get("days", 1) in range(1, 10) and len(arguments.get("at", [0, 0])) == 2
    assert ended


@pytest.mark.parametrize("name", ["GLM-4.6", "Qwen3-Coder"])
@pytest.mark.parametrize("city", ["5", "true", "007", '{"a": 1}', '"quoted"', "1e3", " two\nlines ", "null"])
def test_words_without_quotes_stay_words(shared_data, name, city):
    chat = chat_of(shared_data, name)
    syntax = call_syntax(chat)
    assert syntax is not None
    ids = ids_of(chat, "<think>\ncity</think>" + syntax.spell("get_weather", {"city": city, "unit": "C"}))
    want = city.strip('"') if city == '"quoted"' else city  # what the parser takes for a JSON text is one
    assert read_answer(chat, ids, TOOLS)["tool_calls"] == [named("get_weather", {"city": want, "unit": "C"})]


def test_the_mark_as_text_is_a_call_too(shared_data):
    """Spelled with ordinary tokens, it reads as a call; so from there only a call fits."""
    chat = ours()
    ids = chat.tokenizer.encode("Well, <|tool_call|>")
    c = constraint(chat, "auto")
    assert c.accepts(ids) == len(ids)
    assert c.accepts([*ids, *chat.tokenizer.encode("nonsense")]) == len(ids)


# --- structured answers of models that reason


GRAMMARS = [
    (Grammar(kind="json_schema", source='{"type": "object"}'), '{"a": 1}', "{1}"),
    (Grammar(kind="json_object"), '{"a": [true]}', "[1]"),
    (Grammar(kind="regex", source=r"\d+/\d"), "12/3", "12/x"),
    (Grammar(kind="choice", source='["yes", "yes or no"]'), "yes or no", "yes or"),
]


@pytest.mark.parametrize(
    "name", ["ours", "Qwen-Qwen3-0.6B", "deepseek-ai-DeepSeek-V3.1", "openai-gpt-oss-120b"]
)
@pytest.mark.parametrize(
    ("grammar", "right", "wrong"), GRAMMARS, ids=lambda value: getattr(value, "kind", None)
)
def test_reasoning_is_free_and_the_answer_is_not(shared_data, name, grammar, right, wrong):
    chat = chat_of(shared_data, name)
    marks = reasoning_of(chat)
    assert marks is not None
    for inside in (False, True):
        made = reasoned_grammar(chat, grammar, in_reasoning=inside)
        c = Constraint.compile(made, chat.tokenizer, vocab=chat.tokenizer.vocab_size, stop_ids=chat.stop_ids)
        lead = ("" if inside else marks.opening) + "\nWhat {is} 5?\n" + marks.closing
        assert fits(c, ids_of(chat, lead + marks.answer + right))
        assert not fits(c, ids_of(chat, lead + marks.answer + wrong))
        assert fits(c, ids_of(chat, marks.answer + right)) is not inside
        ids = ids_of(chat, marks.opening * inside + lead + marks.answer + right)
        assert chat.parse(ids)["content"].strip() == right
    plain = chat_of(shared_data, "Qwen-Qwen2.5-7B-Instruct")
    assert reasoned_grammar(plain, grammar) == grammar


# --- refusals


def test_choices_and_tools_that_are_refused():
    chat = ours()
    assert tool_grammar(chat, TOOLS, "none") is None
    assert tool_grammar(chat, [], "auto") is None
    bad: list[tuple[Any, Any, str]] = [
        (
            TOOLS,
            {"type": "function", "function": {"name": "absent"}},
            "'absent', which is not one of the tools",
        ),
        (TOOLS, {"type": "function"}, "not one of the tools"),
        (TOOLS, "always", "not 'always'"),
        ([], "required", "no tools to choose from"),
        (TOOLS * 2, "auto", "tool 2 has no name of its own"),
        ([{"type": "function", "function": {"name": "two\nlines"}}], "auto", "tool 0 has no name"),
        ([{"type": "function"}], "auto", "tool 0 has no name"),
        ([7], "auto", "a tool is a JSON schema"),
        (TOOLS * 200, "auto", "400 tools; at most 256"),
        ([{"function": {"name": "a", "parameters": {"type": "string"}}}], "auto", "of type object"),
        (
            [{"function": {"name": "a", "parameters": {"$ref": "http://x/"}}}],
            "auto",
            "only references inside",
        ),
        ([{"function": {"name": "a", "strict": True, "parameters": {"type": "object"}}}], "auto", "strict"),
    ]
    for tools, choice, message in bad:
        with pytest.raises(OrreryError, match=message):
            tool_grammar(chat, tools, choice)


def test_python_functions_are_tools():
    def add(a: int, b: int) -> int:
        """Adds.

        Args:
            a: One number.
            b: The other.
        """
        return a + b

    chat = ours()
    grammar = tool_grammar(chat, [add], "required")
    assert grammar is not None
    c = Constraint.compile(grammar, chat.tokenizer, vocab=400, stop_ids=chat.stop_ids)
    assert fits(c, ids_of(chat, '<|tool_call|>{"name": "add", "arguments": {"a": 1, "b": 2}}'))
    assert not fits(c, ids_of(chat, '<|tool_call|>{"name": "add", "arguments": {"a": 1}}'))


def test_a_format_without_control_tokens_is_served_too():
    """Marks that are plain text to the tokenizer are spelled in its tokens."""
    template = (
        "{% for m in messages %}{{ '<|' + m.role + '|>' + (m.content or '') }}"
        "{% for c in m.tool_calls or [] %}{{ '<tool_call>' + ({'name': c.function.name, 'arguments': c.function.arguments} | tojson) + '</tool_call>' }}"
        "{% endfor %}{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
    )
    chat = own(template)
    syntax = call_syntax(chat)
    assert syntax is not None and syntax.mark == "<tool_call>"
    assert fits(constraint(chat, "auto"), ids_of(chat, "so " + syntax.spell("get_weather", ARGUMENTS)))
