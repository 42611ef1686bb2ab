"""The one who answers: records, resuming, draws, log-probability choices, models with and without a chat format."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from orrery.evaluate.subject import Subject
from orrery.kit.errors import OrreryError
from orrery.kit.lm import Completion, GenerateRequest
from orrery.serve.lm import LM
from orrery.train.signals import Interrupted
from orrery.tune.selfdata.records import Records
from orrery.tune.selfdata.speaker import Ask, Speaker, Speech, question

from ..conftest import Small
from .scripted import Scripted


class OneByOne(Subject):
    """Gives each completion as it is ready, as an engine does."""

    def generate(self, requests: Sequence[GenerateRequest]) -> Iterator[tuple[int, Completion]]:
        for place, request in enumerate(requests):
            yield place, self.lm.generate([request])[0]


ASKS = [Ask(("a", i), question(f"say {i}"), n=2) for i in range(5)]


def test_a_killed_run_goes_on_from_its_records(small: Small, tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    model = Scripted(small.tokenizer, lambda text, i: f"{text} {i}")
    whole = Speaker(model.subject()).answers(ASKS, Speech())
    dying = Scripted(small.tokenizer, model.says, die_after=3)
    records = Records(path, run="x")
    with pytest.raises(KeyboardInterrupt):
        Speaker(OneByOne(lm=dying, tokenizer=small.tokenizer, context=99, name="dying"), records).answers(
            ASKS, Speech()
        )
    records.close()
    path.write_bytes(path.read_bytes() + b'{"of": ["a", 3], "ro')  # torn by the crash
    later = Scripted(small.tokenizer, model.says)
    records = Records(path, run="x")
    assert records.reused == 3
    found = Speaker(later.subject(), records).answers(ASKS, Speech())
    records.close()
    assert found == whole and later.read == ["say 3", "say 4"]
    with pytest.raises(OrreryError, match="another model or other settings"):
        Records(path, run="y")
    assert [said.text for said in found[4]] == ["say 4 0", "say 4 1"]


def test_a_signal_stops_it_behind_the_answer_that_is_recorded(small: Small, tmp_path: Path) -> None:
    def says(text: str, i: int) -> str:
        if (text, i) == ("say 2", 0):
            os.kill(os.getpid(), signal.SIGINT)
        return text

    records = Records(tmp_path / "records.jsonl", run="x")
    subject = OneByOne(lm=Scripted(small.tokenizer, says), tokenizer=small.tokenizer, context=999, name="x")
    with pytest.raises(Interrupted, match="after step 3 of 5"):
        Speaker(subject, records).answers(ASKS, Speech())
    records.close()
    assert Records(tmp_path / "records.jsonl", run="x").reused == 3


def test_draws_depend_on_the_name_of_a_question_and_not_on_its_company(small: Small) -> None:
    lm = LM(model=small.model(), tokenizer=small.tokenizer, chat=small.chat)
    asks = [Ask(("a", i), question("what is one"), n=3) for i in range(3)]
    together = Speaker(Subject.of(lm), seed=5).answers(asks, Speech(max_tokens=6))
    alone = Speaker(Subject.of(lm), seed=5).answers([asks[1]], Speech(max_tokens=6))
    assert together[1] == alone[0]
    texts = {said.raw for group in together for said in group}
    assert len(texts) > 3  # same words asked, other draws
    other = Speaker(Subject.of(lm), seed=6).answers([asks[1]], Speech(max_tokens=6))
    assert other[0] != alone[0]


def test_a_model_without_a_chat_format_reads_text_or_a_dialogue(small: Small) -> None:
    model = Scripted(small.tokenizer, lambda text, i: "three\nQuestion: more")
    speaker = Speaker(model.subject(), system="be short")
    (plain,), (dialogue,) = speaker.answers(
        [Ask(("p",), question("one")), Ask(("d",), question("two"), dialogue=True)], Speech()
    )
    assert model.read == ["be short\n\none", "be short\n\nQuestion: two\n\nAnswer:"]
    assert plain.text == "three\nQuestion: more" and dialogue.text == "three"
    chatting = Scripted(small.tokenizer, lambda text, i: "three")
    Speaker(chatting.subject(chat=small.chat)).answers([Ask(("p",), question("one"))], Speech())
    assert chatting.read == [chatting.text(small.chat.prompt(question("one")))]
    ((said,),) = Speaker(model.subject(context=1)).answers([Ask(("p",), question("one and two"))], Speech())
    assert said.text == "" and said.fault == "no room in the context" and len(model.read) == 2


def test_a_choice_is_the_softmax_of_the_options_log_probabilities(small: Small) -> None:
    model = Scripted(small.tokenizer, lambda text, i: "", likes=lambda text: {"A": -1.0, "B": -3.0}[text[-1]])
    (said,) = Speaker(model.subject()).choice([Ask(("c",), question("A or B:"))], ("A", "B"))
    assert said is not None
    a, b = said
    assert a == pytest.approx(0.880797, abs=1e-6) and a + b == pytest.approx(1)
    lm = LM(model=small.model(), tokenizer=small.tokenizer, chat=None)
    ask = Ask(("c",), question("one plus"))
    speaker = Speaker(Subject.of(lm))
    (said,) = speaker.choice([ask], ("one", "two"))
    assert said is not None
    one, two = said
    logits = lm.logits(speaker.ids(ask))[-1].log_softmax(0)
    first = [small.tokenizer.encode(word) for word in (" one", " two")]
    if all(len(ids) == 1 for ids in first):
        expected = float((logits[first[0][0]] - logits[first[1][0]]).exp())
        assert one / two == pytest.approx(expected, rel=1e-4)
    assert one + two == pytest.approx(1)
