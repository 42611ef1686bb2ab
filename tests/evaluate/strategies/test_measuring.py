"""Strategies on a task: records with what was spent, results beside each other, the figure of accuracy against tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orrery.evaluate.report import write_report
from orrery.evaluate.results import TaskResult, read_results
from orrery.evaluate.run_task import run_task
from orrery.evaluate.strategies import parse
from orrery.evaluate.strategies.spending import by_task
from orrery.evaluate.task import Task
from orrery.kit.config import resolve
from orrery.kit.errors import OrreryError
from tests.evaluate.scripted import make_tokenizer
from tests.evaluate.strategies.fake import Fake

TOKENIZER = make_tokenizer()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = [{"question": f"{a} + {a}", "answer": str(2 * a)} for a in range(1, 5)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def sums(**changes: Any) -> Task:
    base = {
        "name": "sums", "version": 1, "about": "x", "data": {"path": "sums.jsonl"}, "kind": "generate", "prompt": "{{ question }} =",
        "target": " {{ answer }}", "score": "numeric", "stop": ["\n"], "max_tokens": 20,
    }  # fmt: skip
    return resolve(Task, base | changes)


def guesses(prompt: str, sample: int) -> str:
    """The right number in every second sample, others apart in the rest; alone, it is wrong but for 1 + 1, and silent on 4 + 4."""
    a = int(prompt.partition(" ")[0])
    if "step" not in prompt:
        return "2" if a == 1 else "" if a == 4 else "1000"
    return f"so {2 * a}" if sample % 2 else f"so {100 + sample}"


def measured(model: Fake, text: str, data: Path, **more: Any) -> TaskResult:
    return run_task(model.subject(), sums(), data=data, strategy=parse(text), **more)


def test_records_tell_what_was_spent(data: Path, tmp_path: Path) -> None:
    model = Fake(TOKENIZER, guesses)
    result = measured(model, "self-consistency:n=5", data, out=tmp_path / "out")
    assert result.task == "sums@self-consistency-n=5" and result.metrics["exact_match"].mean == 1.0
    record = result.records[0]
    said = [f"so {100 + i}" if i % 2 == 0 else "so 2" for i in range(5)]
    assert record.answer == "so 2" and record.detail["calls"] == 5
    assert record.detail["tokens"] == sum(len(TOKENIZER.encode(text)) for text in said)
    assert record.detail["trace"][-1]["votes"] == {"2": 2, "100": 1, "102": 1, "104": 1}
    assert result.spent["calls"].mean == 5 and result.spent["tokens"].mean > result.spent["calls"].mean
    assert result.settings["strategy"]["n"] == 5
    kept = json.loads((tmp_path / "out" / result.task / "results.json").read_text())
    assert kept["spent"]["calls"]["mean"] == 5 and kept["settings"]["strategy"]["kind"] == "self-consistency"
    again = Fake(TOKENIZER, guesses)
    assert measured(again, "self-consistency:n=5", data, out=tmp_path / "out").metrics == result.metrics
    assert again.requests == []  # read, not asked


def test_plain_results_are_what_they_were(data: Path) -> None:
    result = run_task(Fake(TOKENIZER, guesses).subject(), sums(), data=data)
    assert result.task == "sums" and result.spent == {} and "strategy" not in result.settings
    assert "spent" not in result.to_dict()
    one = measured(Fake(TOKENIZER, guesses), "direct", data)
    assert [r.answer for r in one.records] == [r.answer for r in result.records]
    assert [r.scores for r in one.records] == [r.scores for r in result.records]


def test_strategies_beside_each_other(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    model = Fake(TOKENIZER, guesses)
    for text in ("self-consistency:n=5", "direct", "best-of-n:n=2,by=verifier", "best-of-n:n=4,by=verifier"):
        measured(model, text, data, out=out)
    found = by_task(read_results(out).values())["sums"]
    assert [one.name for one in found] == [
        "direct", "best-of-n:n=2,by=verifier", "best-of-n:n=4,by=verifier", "self-consistency:n=5",
    ]  # fmt: skip
    assert [one.solved.mean for one in found] == [0.25, 1.0, 1.0, 1.0]  # a silent answer has solved nothing
    assert found[0].unscored == 1 and found[0].row()[0] == "direct" and found[0].row()[-1] == "4"
    page, text = (path.read_text() for path in reversed(write_report(out)))
    assert "sums: strategies" in text and "| direct | 0.250 |" in text
    assert (
        page.count("solved against tokens spent") >= 1 and page.count("<polyline") == 3
    )  # best-of-n is one line


def test_tasks_that_no_strategy_answers(data: Path) -> None:
    model = Fake(TOKENIZER, guesses)
    for changes, wrong in [
        ({"follow_ups": ["and?"]}, "follow_ups"),
        ({"samples": 2, "temperature": 1.0}, "samples"),
    ]:
        with pytest.raises(OrreryError, match=wrong):
            run_task(model.subject(), sums(**changes), data=data, strategy=parse("cot"))
    with pytest.raises(OrreryError, match="compares log-probabilities"):
        run_task(model.subject(), "blimp", data=data, strategy=parse("cot"))
    with pytest.raises(OrreryError, match="base model without a chat format"):
        measured(model, "self-refine", data)
    assert model.requests == []


def test_a_row_that_does_not_fit_is_unscored(data: Path) -> None:
    model = Fake(TOKENIZER, lambda prompt, sample: "2")
    result = run_task(
        model.subject(context=8),
        sums(prompt="{{ question }}" + " x" * 20),
        data=data,
        strategy=parse("direct"),
    )
    assert result.n == 0 and sum(result.unscored.values()) == 4
    (one,) = by_task([result])["sums"]
    assert one.solved.mean == 0 and one.unscored == 4
