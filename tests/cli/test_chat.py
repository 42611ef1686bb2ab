"""`orrery chat` with a scripted model: what is typed, what is asked of the model, what is kept."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import orrery
from orrery.cli.chat import chat
from orrery.kit.errors import OrreryError
from orrery.text import ChatFormat, Tokenizer, TokenizerConfig, train_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(["hello there, how are you? one two three"] * 20, TokenizerConfig(vocab_size=320))


class Scripted:
    """A model that answers from a list; "^C" in an answer is a person's Ctrl-C at that moment."""

    def __init__(
        self, tokenizer: Tokenizer, answers: list[str], *, chat: ChatFormat | None, context: int = 10_000
    ) -> None:
        self.tokenizer, self.answers, self.chat, self.context = tokenizer, answers, chat, context
        self.asked: list[list[dict[str, Any]]] = []
        self._chat_fault: OrreryError | None = None
        self.defaults: dict[str, Any] = {}

    def stream(self, messages: list[dict[str, Any]], **settings: Any) -> Iterator[str]:
        assert self.chat is not None
        if len(self.chat.prompt(messages)) > self.context:
            raise OrreryError("the prompt is too long")
        self.asked.append([dict(message) for message in messages])
        for piece in self.answers.pop(0).split("/"):
            if piece == "^C":
                raise KeyboardInterrupt
            yield piece


@pytest.fixture
def talk(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """(typed lines, answers, ...) -> (the model, standard output, standard error)."""

    def run(
        typed: str, answers: list[str], *, format: Any = "own", context: int = 10_000, **options: Any
    ) -> Any:
        given = ChatFormat(tokenizer) if format == "own" else format
        lm = Scripted(tokenizer, answers, chat=given, context=context)
        monkeypatch.setattr(orrery, "load", lambda model: lm)
        monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        defaults: dict[str, Any] = dict(system=None, max_tokens=8, temperature=0.0, top_p=1.0, seed=0)
        chat(Path("model"), **{**defaults, **options})
        return lm, *capsys.readouterr()

    return run


def test_turns_are_remembered(talk: Any) -> None:
    lm, out, _ = talk("hello\n\nhow are you?\n", ["one/ two", "three"], system="Be brief.")
    assert out == "one two\nthree\n"
    system = {"role": "system", "content": "Be brief."}
    first = [system, {"role": "user", "content": "hello"}]
    assert lm.asked == [
        first,
        [*first, {"role": "assistant", "content": "one two"}, {"role": "user", "content": "how are you?"}],
    ]


def test_commands(talk: Any, tmp_path: Path) -> None:
    file = tmp_path / "talk.json"
    typed = f"hello\n/save {file}\n/reset\n/system Speak up.\nthere\n/systm x\n/help\n/system\nend\n/quit\nnever\n"
    lm, _, err = talk(typed, ["a", "b", "c"])
    assert json.loads(file.read_text()) == [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "a"},
    ]
    assert lm.asked[1] == [{"role": "system", "content": "Speak up."}, {"role": "user", "content": "there"}]
    assert [message["role"] for message in lm.asked[2]] == ["user", "assistant", "user"] and len(
        lm.asked
    ) == 3
    assert "2 messages written" in err and "Did you mean '/system'" in err and "Ctrl-C stops an answer" in err


def test_ctrl_c_stops_the_answer_and_keeps_the_chat(talk: Any) -> None:
    lm, out, err = talk("hello\nagain\n", ["one/ two/^C/never", "three"])
    assert out == "one two\nthree\n" and "(stopped)" in err
    assert lm.asked[1][1] == {"role": "assistant", "content": "one two"}


def test_old_turns_are_left_out_with_a_note(talk: Any, tokenizer: Tokenizer) -> None:
    lm, _, err = talk(
        "".join(f"one two three {n}\n" for n in range(8)), ["four"] * 8, system="Brief.", context=64
    )
    assert "old messages are left out" in err
    for asked in lm.asked:
        assert asked[0]["role"] == "system" and asked[1]["role"] == "user"
        assert len(lm.chat.prompt(asked)) <= 64 - 8
    assert len(lm.asked) == 8 and len(lm.asked[-1]) < 16


def test_a_refused_question_is_not_kept(talk: Any, tokenizer: Tokenizer) -> None:
    template = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}{{ messages[-1].content }}"
    lm, _, err = talk(
        "hello\n/system\nhello\n", ["fine"], format=ChatFormat.from_template(template, tokenizer), system="x"
    )
    assert "no system role" in err and lm.asked == [[{"role": "user", "content": "hello"}]]


def test_reasoning_is_kept_apart(talk: Any, tokenizer: Tokenizer) -> None:
    lm, out, _ = talk("hello\nthere\n", ["<|think|>/two/<|end_think|>/one", "three"])
    assert out.startswith("<|think|>two<|end_think|>one\n")
    assert lm.asked[1][1] == {"role": "assistant", "content": "one", "reasoning": "two"}


def test_a_base_model_says_what_it_is(talk: Any) -> None:
    with pytest.raises(OrreryError, match=r"no chat format.*orrery generate model"):
        talk("hello\n", [], format=None)
