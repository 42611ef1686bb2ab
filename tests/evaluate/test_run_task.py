"""Tasks asked of a model whose answers are known: every number by hand; interrupted runs go on."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orrery.evaluate.results import read_result, read_results
from orrery.evaluate.run_task import run_task
from orrery.evaluate.scorers import ScoreContext, Unscored, table
from orrery.evaluate.scorers.base import Weighted
from orrery.evaluate.task import Task
from orrery.kit.config import resolve
from orrery.kit.errors import OrreryError
from tests.evaluate.scripted import Scripted, make_tokenizer

TOKENIZER = make_tokenizer()
ROWS = [
    {"question": "one", "answer": "1", "part": "a", "options": ["1", "two"], "label": 0},
    {"question": "two", "answer": "2", "part": "a", "options": ["one", "2"], "label": 1},
    {"question": "three", "answer": "3", "part": "b", "options": ["one hundred", "3"], "label": "3"},
    {"question": "four", "answer": "4", "part": "b", "options": ["4", "x"], "label": [0, 1]},
]


def equal(answer: str, row: Any, context: ScoreContext) -> dict[str, float] | Unscored:
    if not answer:
        return Unscored("said nothing")
    return {
        "exact_match": float(answer == row["answer"]),
        "share": Weighted(len(answer) / 10, weight=int(row["answer"])),
    }


@pytest.fixture(autouse=True)
def scorer() -> Iterator[None]:
    table.SCORERS["equal"] = equal
    yield
    del table.SCORERS["equal"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return folder


def task(kind: str = "generate", **changes: Any) -> Task:
    kinds: dict[str, dict[str, Any]] = {
        "generate": {"prompt": "Q: {{ question }}\nA:", "target": " {{ answer }}", "score": "equal"},
        "choices": {"prompt": "Q: {{ question }}\nA:", "choices": "{{ options }}", "choice": " {{ choice }}", "answer": "{{ label }}"},
        "pairs": {"pair": {"good": "{{ question }}", "bad": "{{ question }} and more"}},
        "rolling": {"target": "{{ question }} {{ answer }}"},
        "answer": {},
    }  # fmt: skip
    base = {
        "name": "t",
        "version": 1,
        "about": "x",
        "data": {"path": "q.jsonl"},
        "kind": kind,
        "groups": "part",
    }
    return resolve(Task, base | kinds[kind] | changes)


def digit(prompt: str, sample: int = 0) -> str:
    """Right but for the third question; nothing to the fourth."""
    said = {"one": "1", "two": "2", "three": "5", "four": ""}
    return said[prompt.rsplit("Q: ", 1)[1].split("\n")[0]]


def test_generated_answers_by_hand(data: Path) -> None:
    result = run_task(Scripted(TOKENIZER, digit).subject(), task(), data=data)
    assert (result.n, dict(result.unscored)) == (3, {"said nothing": 1})
    exact = result.metrics["exact_match"]
    assert exact.mean == pytest.approx(2 / 3) and exact.n == 3
    assert exact.standard_error == pytest.approx(math.sqrt(2 / 9 / 2))  # sample deviation over sqrt(3)
    assert exact.low == pytest.approx(0.2077, abs=1e-4) and exact.high == pytest.approx(
        0.9385, abs=1e-4
    )  # Wilson
    assert result.metrics["share"].mean == pytest.approx((0.1 * 1 + 0.1 * 2 + 0.1 * 3) / 6)
    assert {name: group["exact_match"].mean for name, group in result.groups.items()} == {"a": 1.0, "b": 0.0}
    assert result.macro["exact_match"].mean == 0.5
    record = result.records[0]
    assert (record.prompt, record.answer, record.gold) == ("Q: one\nA:", "1", " 1")
    assert result.records[3].scores == {} and result.records[3].unscored == "said nothing"
    assert result.contamination.status == "unknown"


def test_demonstrations_stand_before_the_question(data: Path) -> None:
    model = Scripted(TOKENIZER, digit)
    run_task(model.subject(), task(preamble="Count.\n\n", system="Be brief."), data=data, shots=2, limit=1)
    assert model.asked == ["Be brief.\n\nCount.\n\nQ: two\nA: 2\n\nQ: three\nA: 3\n\nQ: one\nA:"]
    fixed = task(fixed_shots="Q: zero\nA: 0", shots=1)
    for shots, prompt in ((None, "Q: zero\nA: 0\n\nQ: one\nA:"), (0, "Q: one\nA:")):
        model = Scripted(TOKENIZER, digit)
        run_task(model.subject(), fixed, data=data, shots=shots, limit=1)
        assert model.asked == [prompt]


def test_chat_prompts_come_from_the_chat_format(data: Path) -> None:
    model = Scripted(TOKENIZER, lambda prompt, sample: "1<|end|>")
    subject = model.subject(chat=True)
    asked = task(preamble="Count.", stop=["\n"], prompt="{% if chat %}{{ question }}?{% else %}no{% endif %}")
    result = run_task(subject, asked, data=data, shots=1, limit=1)
    messages = [
        {"role": "system", "content": "Count."},
        {"role": "user", "content": "two?"},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": "one?"},
    ]
    assert list(model.requests[0].ids) == subject.chat_format().prompt(messages)
    assert model.requests[0].stop == ()  # a turn's end ends it
    assert result.records[0].answer == "1"
    assert result.records[0].prompt.startswith("[system]\nCount.\n\n[user]\ntwo?\n\n[assistant]\n2")
    with pytest.raises(OrreryError, match="base model without a chat format"):
        run_task(model.subject(), asked, data=data, chat=True)


def test_follow_ups_go_on_from_the_answer(data: Path) -> None:
    turns: list[Any] = []

    def look(answer: str, row: Any, context: ScoreContext) -> dict[str, float]:
        turns.append(row["turns"])
        return {"seen": 1.0}

    table.SCORERS["equal"] = look
    model = Scripted(TOKENIZER, lambda prompt, sample: f"{prompt.count('?')}")
    asked = task(prompt="{{ question }}?", follow_ups=["and {{ answer }}?", "so?"])
    result = run_task(model.subject(), asked, data=data, limit=1)
    assert model.asked == ["one?", "one?1\n\nand 1?", "one?1\n\nand 1?2\n\nso?"]
    assert turns == [["1", "2", "3"]]
    assert result.records[0].answer == "3" and result.records[0].detail["turns"] == ["1", "2", "3"]
    chatting = Scripted(TOKENIZER, lambda prompt, sample: "yes")
    run_task(chatting.subject(chat=True), asked, data=data, limit=1)
    assert chatting.asked[1].count("<|assistant|>yes<|end|><|user|>and 1?") == 1


def test_samples_reach_the_scorer_and_every_row_has_its_own_seed(data: Path) -> None:
    seen: list[tuple[str, ...]] = []

    def look(answer: str, row: Any, context: ScoreContext) -> dict[str, float]:
        seen.append(context.answers)
        return {"n": float(len(context.answers))}

    table.SCORERS["equal"] = look
    model = Scripted(TOKENIZER, lambda prompt, sample: str(sample))
    result = run_task(model.subject(), task(samples=3, temperature=0.7), data=data, seed=5)
    assert seen == [("0", "1", "2")] * 4
    assert result.records[0].detail["samples"] == ["0", "1", "2"]
    seeds = [request.sampling.seed for request in model.requests]
    assert len(set(seeds)) == 4 and all(r.sampling.temperature == 0.7 and r.n == 3 for r in model.requests)
    again = Scripted(TOKENIZER, lambda prompt, sample: str(sample))
    run_task(again.subject(), task(samples=3, temperature=0.7), data=data, seed=5, limit=2)
    assert [request.sampling.seed for request in again.requests] == [seeds[0], seeds[2]]


def test_choices_by_hand(data: Path) -> None:
    """A token costs its length in characters: the shorter choice is the likelier, by the byte all are alike but for the space."""
    result = run_task(Scripted(TOKENIZER).subject(), task("choices"), data=data)
    assert [record.answer for record in result.records] == ["1", "2", "3", "4"]
    assert [record.gold for record in result.records] == [["1"], ["2"], ["3"], ["4", "x"]]
    assert result.records[0].detail["logprobs"] == [-2.0, -4.0]  # " 1" and " two"
    assert [record.scores["acc"] for record in result.records] == [1, 1, 1, 1]
    assert [record.scores["acc_norm"] for record in result.records] == [0, 0, 0, 1]  # -2/1 against -4/3
    shares = [math.exp(-2) / (math.exp(-2) + math.exp(-4))] * 2
    assert [record.scores["mass"] for record in result.records][:2] == pytest.approx(shares)
    assert result.records[3].scores["mass"] == pytest.approx(1)


def test_a_right_answer_that_is_none_of_the_choices_is_unscored(data: Path) -> None:
    result = run_task(Scripted(TOKENIZER).subject(), task("choices", answer="{{ question }}"), data=data)
    assert dict(result.unscored) == {"the right answer is not among the choices": 4} and result.n == 0
    assert result.metrics == {}
    broken = Scripted(TOKENIZER, surprise=lambda token: math.nan)
    result = run_task(broken.subject(), task("choices"), data=data)
    assert dict(result.unscored) == {"the model gave a probability that is no number": 4}


def test_pairs_and_whole_texts_by_hand(data: Path) -> None:
    pairs = run_task(Scripted(TOKENIZER).subject(), task("pairs"), data=data)
    assert pairs.metrics["acc"].mean == 1.0
    texts = run_task(Scripted(TOKENIZER).subject(), task("rolling"), data=data)
    assert texts.metrics["bits_per_byte"].mean == pytest.approx(
        1 / math.log(2)
    )  # a nat a character, a character a byte
    assert texts.metrics["byte_perplexity"].mean == pytest.approx(math.e)
    letters = sum(len(f"{row['question']} {row['answer']}") for row in ROWS)
    assert texts.metrics["word_perplexity"].mean == pytest.approx(math.exp(letters / 8))


def test_prompts_longer_than_the_context_are_cut_and_counted(data: Path) -> None:
    model = Scripted(TOKENIZER, lambda prompt, sample: "1")
    result = run_task(
        model.subject(context=12), task(prompt="x y z " * 9 + "{{ question }}:", max_tokens=4), data=data
    )
    assert result.truncated == 4 and result.records[0].truncated > 20
    assert model.asked[0].endswith("one:") and len(model.requests[0].ids) == 9
    compared = run_task(
        Scripted(TOKENIZER).subject(context=12), task("choices", prompt="x y z " * 9 + "Q"), data=data
    )
    assert compared.truncated == 4 and compared.n == 4
    tight = run_task(Scripted(TOKENIZER).subject(context=2), task("choices"), data=data)
    assert "longer than the model's context" in next(iter(tight.unscored))


def test_an_interrupted_run_goes_on(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def stops(prompt: str, sample: int) -> str:
        if "three" in prompt:
            raise KeyboardInterrupt
        return digit(prompt)

    model = Scripted(TOKENIZER, stops)
    # a model without an engine answers by the batch: one at a time, so that something is finished
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("orrery.evaluate.subject.TOGETHER", 1)
        with pytest.raises(KeyboardInterrupt):
            run_task(model.subject(), task(), data=data, out=out)
    assert len(model.asked) == 3 and not (out / "t").exists()
    with (out / "t.work" / "samples.jsonl").open("a") as file:
        file.write('{"id": 3, "torn')  # as a crash leaves it
    again = Scripted(TOKENIZER, digit)
    with pytest.raises(OrreryError, match="unfinished run with other settings"):
        run_task(again.subject(), task(), data=data, out=out, seed=1)
    result = run_task(again.subject(), task(), data=data, out=out)
    assert again.asked == ["Q: three\nA:", "Q: four\nA:"]
    assert [path.name for path in out.iterdir()] == ["t"]
    whole = run_task(Scripted(TOKENIZER, digit).subject(), task(), data=data)
    assert [r.to_dict() for r in result.records] == [r.to_dict() for r in whole.records]
    done = Scripted(TOKENIZER, digit)
    kept = run_task(done.subject(), task(), data=data, out=out)
    assert done.asked == [] and kept.metrics == result.metrics
    with pytest.raises(OrreryError, match="holds a result with other settings"):
        run_task(done.subject(), task(), data=data, out=out, limit=2)


def test_a_result_on_disk_is_the_result(data: Path, tmp_path: Path) -> None:
    result = run_task(Scripted(TOKENIZER, digit).subject(), task(), data=data, out=tmp_path / "r")
    read = read_result(tmp_path / "r" / "t")
    assert (
        read.to_dict() == json.loads((tmp_path / "r" / "t" / "results.json").read_text()) == result.to_dict()
    )
    assert set(read_results(tmp_path / "r")) == {"t"}
    settings = read.settings
    assert settings["task"]["version"] == 1 and settings["model"]["tokenizer"] == TOKENIZER.fingerprint
    assert list(settings["data"]) == ["q.jsonl"] and "versions" in settings["environment"]
    (tmp_path / "r" / "t" / "samples.jsonl").write_text("{")
    with pytest.raises(OrreryError, match=r"samples.jsonl"):
        read_result(tmp_path / "r" / "t")
    with pytest.raises(OrreryError, match="no results at"):
        read_results(tmp_path)


def test_a_given_answer_behind_its_question_by_hand(data: Path) -> None:
    """A token costs as many nats as its text has characters, so an answer of ASCII costs one nat a byte: 1 / ln 2 bits."""
    asked = task("answer", prompt="Q: {{ question }}\nA:", target=" {{ answer }} is it")
    model = Scripted(TOKENIZER)
    result = run_task(model.subject(), asked, data=data)
    assert result.n == 4 and result.metrics["bits_per_byte"].mean == pytest.approx(1 / math.log(2))
    assert (
        result.records[0].detail == {"nats": 8.0, "bytes": 8, "words": 4}
        and "Q: one\nA: 1 is it" in model.asked
    )
    chat = Scripted(TOKENIZER)
    run_task(chat.subject(chat=True), asked, data=data)
    assert chat.asked[0].endswith("<|assistant|>4 is it")
    with pytest.raises(OrreryError, match="a task of kind answer needs 'prompt'"):
        task("answer", target="x")
