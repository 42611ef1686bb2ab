"""A model opened here as somebody who replies."""

from __future__ import annotations

from typing import Any

import pytest

from orrery.evaluate.judge.pairwise import judge_pairs
from orrery.evaluate.judge.questions import Answers, Question
from orrery.kit.chat import ReplySettings
from orrery.kit.errors import OrreryError
from orrery.kit.lm import Grammar
from orrery.serve.chat_model import LocalChat, plain_text, without_system
from orrery.serve.lm import LM
from orrery.text.chat import CONTROL, ChatFormat

ASK = [{"role": "user", "content": "the cat"}]


@pytest.fixture(scope="module")
def chat_lm(tokenizer: Any, make_model: Any) -> LM:
    known = tokenizer.add_tokens([name for name in CONTROL if name not in tokenizer.special], special=True)
    model = make_model(known.vocab_size, max_positions=2048)
    return LM(model=model, tokenizer=known, chat=ChatFormat(known))


def test_replies_are_those_of_the_model_alone(chat_lm: LM) -> None:
    conversations = [ASK, [*ASK, {"role": "assistant", "content": "sat"}, {"role": "user", "content": "on"}]]
    settings = ReplySettings(max_tokens=6)
    together = LocalChat(chat_lm, name="m").reply(conversations, settings)
    for conversation, reply in zip(conversations, together, strict=True):
        alone = chat_lm.generate(conversation, max_tokens=6, temperature=0.0)
        assert reply.text == (chat_lm.chat.parse(alone.ids)["content"] or "").strip() and not reply.fault


def test_a_conversation_beyond_the_context_has_a_fault(chat_lm: LM) -> None:
    long = [{"role": "user", "content": "the cat sat " * 2000}]
    short, too_long = LocalChat(chat_lm, name="m").reply([ASK, long], ReplySettings(max_tokens=2))
    assert not short.fault and "context is 2048" in too_long.fault and too_long.text == ""


def test_a_base_model_reads_plain_text(tokenizer: Any, make_model: Any) -> None:
    base = LM(model=make_model(tokenizer.vocab_size, max_positions=512), tokenizer=tokenizer)
    said = [{"role": "system", "content": "Be brief."}, *ASK]
    assert plain_text(said) == "Be brief.\n\nQuestion: the cat\n\nAnswer:"
    (reply,) = LocalChat(base, name="m").reply([said], ReplySettings(max_tokens=4))
    assert reply.text == base.generate(plain_text(said), max_tokens=4, temperature=0.0).text.strip()


def test_a_format_without_system_gets_it_with_the_first_words(tokenizer: Any, make_model: Any) -> None:
    template = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    )
    chat = ChatFormat.from_template(template, tokenizer)
    lm = LM(model=make_model(tokenizer.vocab_size, max_positions=512), tokenizer=tokenizer, chat=chat)
    said = [{"role": "system", "content": "Be brief."}, *ASK]
    assert without_system(said) == [{"role": "user", "content": "Be brief.\n\nthe cat"}]
    model = LocalChat(lm, name="m")
    assert model.reply([said], ReplySettings(max_tokens=3)) == model.reply(
        [without_system(said)], ReplySettings(max_tokens=3)
    )
    with pytest.raises(OrreryError, match="no system"):
        lm.chat.prompt(said)


def test_our_own_judge_is_held_to_a_verdict(chat_lm: LM) -> None:
    """A model that knows nothing still ends with one of the three verdicts: a grammar holds it to the form."""
    judge = LocalChat(chat_lm, name="judge")
    questions = [Question(id=str(i), turns=("the cat",)) for i in range(3)]
    x, y = (Answers(model=m, texts={q.id: (f"{m} sat on {q.id}",) for q in questions}) for m in "xy")
    judged = judge_pairs(judge, questions, x, y, explain=20)
    assert [j.unscored for j in judged] == [0, 0, 0]
    assert all(said[-3:-2] in "ABC" and len(said) <= 25 for j in judged for said in j.said)
    assert judge_pairs(judge, questions, x, y, explain=20) == judged


def test_grammars_hold_replies(chat_lm: LM) -> None:
    grammar = Grammar(kind="choice", source='["yes", "no"]')
    (reply,) = LocalChat(chat_lm, name="m").reply([ASK], ReplySettings(max_tokens=16, grammar=grammar))
    assert reply.text in ("yes", "no")
