"""Foreign chat templates: the text that transformers renders, and the files they are kept in."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest

from orrery.kit.errors import OrreryError
from orrery.text import ChatFormat, Tokenizer

from .chat_templates import (
    CHATML,
    CONVERSATIONS,
    INST,
    SETTINGS,
    TALK,
    TOKENS,
    TOOLS,
    Q,
    published,
    rows,
    small,
    with_tokens,
)


@pytest.fixture(scope="module")
def templates(shared_data: Path) -> dict[str, str]:
    return published(shared_data)


def test_the_published_renderings(shared_data: Path) -> None:
    folder = shared_data / "chat_templates"
    sources = {row["name"]: row["template"] for row in rows(folder / "templates.jsonl")}
    cases = {row["case"]: row for row in rows(folder / "conversations.jsonl")}
    made = {name: ChatFormat.from_template(source, **TOKENS) for name, source in sources.items()}
    refused = 0
    for row in rows(folder / "renderings_hf.jsonl"):
        case, chat = cases[row["case"]], made[row["template"]]
        asks = {"add_generation_prompt": case.get("add_generation_prompt", True)}
        fixed = {"now": "2026-01-01", "date_string": "01 Jan 2026"}
        if row["raises"] is None:
            assert chat.text(case["messages"], tools=case.get("tools"), **asks, **fixed) == row["expected"], (
                row["template"]
            )
        else:
            refused += 1
            with pytest.raises(OrreryError, match=re.escape(row["raises"].partition(": ")[2])):
                chat.text(case["messages"], tools=case.get("tools"), **asks, **fixed)
    assert refused


def test_the_renderings_of_llamacpp(shared_data: Path) -> None:
    for row in rows(shared_data / "chat_templates" / "renderings_llamacpp.jsonl"):
        chat = ChatFormat.from_template(
            row["template"], bos_token=row["bos_token"], eos_token=row["eos_token"]
        )
        assert (
            chat.text(row["messages"], add_generation_prompt=row["add_generation_prompt"]) == row["expected"]
        ), row["name"]


@pytest.mark.parametrize("case", CONVERSATIONS)
def test_transformers_renders_the_same(case: str, templates: dict[str, str]) -> None:
    utils = pytest.importorskip(
        "transformers.utils.chat_template_utils", reason="transformers is not installed"
    )
    messages, tools = CONVERSATIONS[case]
    clean = [{key: value for key, value in message.items() if value is not None} for message in messages]
    equal = 0
    for name, source in templates.items():
        chat = ChatFormat.from_template(source, **TOKENS)
        for generate, variables in SETTINGS:
            try:
                (want,), _ = utils.render_jinja_template(
                    [clean],
                    tools=tools,
                    chat_template=source,
                    add_generation_prompt=generate,
                    **TOKENS,
                    **variables,
                )
            except Exception:
                with pytest.raises(OrreryError):
                    chat.text(messages, tools, generate, **variables)
                continue
            assert chat.text(messages, tools, generate, **variables) == want, name
            equal += 1
    assert equal > 100


def test_our_own_template_is_text_too(bpe: Tokenizer, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    chat = ChatFormat(bpe)
    bpe.save(tmp_path)
    chat.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for generate in (True, False):
        want = theirs.apply_chat_template(TALK, tools=TOOLS, add_generation_prompt=generate, tokenize=False)
        assert (
            chat.text(TALK, TOOLS, generate) == want == chat.render(TALK, tools=TOOLS, generate=generate).text
        )


def weather(
    city: str, days: int | None = None, unit: Literal["C", "F"] = "C", near: list[str] | None = None
) -> str:
    """Weather of a city,
    as far as it is known.

    Args:
        city: Name of the city,
            in English.
        days: How many days (choices: [1, 7])
        unit: The unit.
        near: Places: near it.

    Returns:
        A sentence.
    """
    return ""


def test_a_function_is_a_tool() -> None:
    utils = pytest.importorskip("transformers.utils", reason="transformers is not installed")
    chat = ChatFormat.from_template("{{ tools|tojson }}")
    assert json.loads(chat.text(Q, tools=[weather])) == [utils.get_json_schema(weather)]
    assert chat.text(Q, tools=[weather]) == json.dumps([utils.get_json_schema(weather)], ensure_ascii=False)
    with pytest.raises(OrreryError, match="no docstring"):
        chat.text(Q, tools=[lambda x: x])
    with pytest.raises(OrreryError, match="not a int"):
        chat.text(Q, tools=[3])


def test_values_are_prepared_as_transformers_does() -> None:
    chat = ChatFormat.from_template(
        "{{ messages[0] }}{{ messages[0].content is defined }}{{ tools }}{{ documents }}"
    )
    given = [{"role": "assistant", "content": None, "reasoning": "r", "n": (1, 2.5, True)}]
    want = {
        "role": "assistant",
        "reasoning": "r",
        "n": [1, 2.5, True],
        "thinking": "r",
        "reasoning_content": "r",
    }
    assert chat.text(given) == f"{want}FalseNoneNone"
    with pytest.raises(OrreryError, match="no messages"):
        chat.text([])
    with pytest.raises(OrreryError, match="a message is a dict"):
        chat.text(["hello"])  # type: ignore[list-item]


def test_templates_by_name() -> None:
    chat = ChatFormat.from_template({"default": "d", "tool_use": "t"})
    assert (chat.text(Q), chat.text(Q, tools=TOOLS), chat.text(Q, tools=[])) == ("d", "t", "t")
    with pytest.raises(OrreryError, match="none named default"):
        ChatFormat.from_template({"rag": "r"})


def test_a_folder_keeps_its_template_byte_for_byte(tmp_path: Path) -> None:
    tokenizer = with_tokens(small(), CHATML)
    source = CHATML.replace("{% for", "{# ä #}\r\n{% for")
    (tmp_path / "chat_template.jinja").write_bytes(source.encode())
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [5, 6, 99999999]}')
    chat = ChatFormat.load(tmp_path, tokenizer)
    assert chat.stop_ids[-2:] == (5, 6) and chat.template == source
    chat.save(tmp_path / "out")
    assert (tmp_path / "out" / "chat_template.jinja").read_bytes() == source.encode()


@pytest.mark.parametrize("shape", ["text", "list", "folder"])
def test_where_templates_are_found(shape: str, tmp_path: Path) -> None:
    tokenizer = with_tokens(small(), CHATML)
    named = [{"name": "default", "template": CHATML}, {"name": "tool_use", "template": INST}]
    settings: dict[str, Any] = {
        "text": {"chat_template": CHATML},
        "list": {"chat_template": named},
        "folder": {},
    }[shape]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    if shape == "folder":
        (tmp_path / "additional_chat_templates").mkdir()
        (tmp_path / "chat_template.jinja").write_text(CHATML)
        (tmp_path / "additional_chat_templates" / "tool_use.jinja").write_text(INST)
    chat = ChatFormat.load(tmp_path, tokenizer)
    assert chat.text(Q).startswith("<|im_start|>")
    if shape != "text":
        assert chat.text(Q, tools=TOOLS).startswith("<BOS>[INST]")
        chat.save(tmp_path / "again")
        assert ChatFormat.load(tmp_path / "again", tokenizer).text(Q, tools=TOOLS) == chat.text(
            Q, tools=TOOLS
        )


def test_a_format_without_a_tokenizer_gives_text_only() -> None:
    chat = ChatFormat.from_template(CHATML)
    uses: list[Callable[[], Any]] = [
        lambda: chat.render(Q),
        lambda: chat.stop_ids,
        lambda: chat.parse([1]),
        lambda: chat.tokenizer,
    ]
    for use in uses:
        with pytest.raises(OrreryError, match="no tokenizer"):
            use()
