from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orrery.evaluate.compare import compare
from orrery.evaluate.record import Record
from orrery.evaluate.results import TaskResult, estimates, macro
from orrery.evaluate.statistics.paired import McNemar
from orrery.evaluate.task import find_task
from orrery.evaluate.variants import prompt_variants
from orrery.kit.errors import OrreryError


def result(scores: dict[int, float | None], *, name: str = "t", version: int = 1, **more: Any) -> TaskResult:
    records = [
        Record(
            id=i,
            key=f"k{i}",
            scores={} if s is None else {"acc": s},
            unscored="no answer" if s is None else "",
            **more,
        )
        for i, s in scores.items()
    ]
    return TaskResult.of(records, settings={"task": {"name": name, "version": version}})


def test_paired_differences_by_hand() -> None:
    """Of questions 0 to 9 both have a score: a is right on 0-4, b on 0-3 and 6-8; one only a has, three only b."""
    a = result({i: float(i < 5) for i in range(10)} | {10: None, 11: 1.0})
    b = result({i: float(i < 4 or 6 <= i < 9) for i in range(10)} | {10: 1.0})
    found = compare(a, b)
    metric = found.metrics["acc"]
    assert (found.n, found.left_out) == (10, 2)
    assert (metric.a, metric.b, metric.difference.mean) == (0.5, 0.7, pytest.approx(0.2))
    assert metric.mcnemar == McNemar(1, 3, 0.625)  # 2 (1 + 4) / 16
    assert metric.difference.low < 0.2 < metric.difference.high
    assert metric.to_dict()["mcnemar"] == {"b": 1, "c": 3, "p": 0.625}
    back = compare(b, a).metrics["acc"]
    assert back.difference.mean == pytest.approx(-0.2) and back.mcnemar == McNemar(3, 1, 0.625)


def test_paired_is_narrower_than_two_intervals() -> None:
    a = result({i: float(i % 2) for i in range(200)})
    b = result({i: float(i % 2 or i % 20 == 0) for i in range(200)})
    difference = compare(a, b).metrics["acc"].difference
    apart = (a.metrics["acc"].standard_error ** 2 + b.metrics["acc"].standard_error ** 2) ** 0.5
    assert difference.standard_error < apart / 2


def test_bits_per_byte_are_compared_as_ratios() -> None:
    def texts(nats: list[float]) -> TaskResult:
        sizes = [10, 30]
        records = [
            Record(
                id=i,
                key=str(i),
                scores={"bits_per_byte": n / size},
                detail={"nats": n, "bytes": size, "words": 2},
            )
            for i, (n, size) in enumerate(zip(nats, sizes, strict=True))
        ]
        return TaskResult.of(records, settings={"task": {"name": "t", "version": 1}})

    metric = compare(texts([10, 30]), texts([20, 30])).metrics["bits_per_byte"]
    assert (metric.a, metric.b, metric.mcnemar) == (1.0, 50 / 40, None)


def test_what_cannot_be_compared() -> None:
    a = result({0: 1.0})
    for b, words in (
        (result({0: 1.0}, name="other"), "cannot be compared"),
        (result({0: 1.0}, version=2), "cannot be compared"),
        (result({1: 1.0}), "no question in common"),
        (result({0: None}), "no question in common"),
    ):
        with pytest.raises(OrreryError, match=words):
            compare(a, b)


def test_groups_count_once_in_the_macro_average() -> None:
    """3 of 4 in one group, 0 of 2 in another: 3/6 over all, (3/4 + 0) / 2 over groups."""
    records = [Record(id=i, key="", group="ab"[i > 3], scores={"acc": float(i < 3)}) for i in range(6)]
    found = TaskResult.of(records, settings={"task": {"name": "t", "version": 1}})
    assert found.metrics["acc"].mean == 0.5
    assert found.macro["acc"].mean == 0.375
    error = found.groups["a"]["acc"].standard_error
    assert found.macro["acc"].standard_error == pytest.approx(error / 2)
    assert macro({}) == {} and estimates([]) == {}


def test_ways_of_asking(tmp_path: Path) -> None:
    path = tmp_path / "ways.yaml"
    path.write_text(
        "version: 3\nprompts:\n  plain: {}\n  steps: {prompt: '{{ question }} Step by step:', shots: 0}\n"
    )
    ways = prompt_variants(find_task("gsm8k"), path)
    assert [task.name for task in ways.values()] == ["gsm8k@plain", "gsm8k@steps"]
    assert (
        ways["steps"].prompt.endswith("Step by step:") and ways["plain"].prompt == find_task("gsm8k").prompt
    )
    assert ways["plain"].version == f"{find_task('gsm8k').version}.3"
    a = result({0: 1.0}, name="gsm8k@plain")
    assert compare(a, result({0: 0.0}, name="gsm8k@steps")).metrics["acc"].difference.mean == -1
    for text, words in (
        ("prompts: {a: {kind: rolling}}", "'kind' does not belong to how a task is asked"),
        ("prompts: {a: {promt: x}}", "Did you mean 'prompt'"),
        ("prompts: {a: 3}", "not int"),
        ("ways: {}", "must have 'version' and 'prompts'"),
    ):
        path.write_text(text)
        with pytest.raises(OrreryError, match=words):
            prompt_variants(find_task("gsm8k"), path)
