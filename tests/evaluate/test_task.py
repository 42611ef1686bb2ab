from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from orrery.evaluate.task import Files, Generated, Task, find_task, task_names
from orrery.evaluate.template import render, value
from orrery.kit.config import resolve
from orrery.kit.errors import OrreryError

BASE: dict[str, Any] = {
    "name": "t", "version": 1, "about": "a test", "data": {"path": "t.jsonl"}, "kind": "generate",
    "prompt": "{{ question }}", "score": "exact",
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data": {"pth": "x"}}, "data.path' is missing; unknown setting 'data.pth'. Did you mean 'path'"),
        ({"data": {"generator": "arithmetic", "seeed": 1}}, "data.seeed'. Did you mean 'seed'"),
        ({"kind": "pairs"}, "a task of kind pairs needs 'pair'"),
        ({"kind": "choices", "choices": ["a"]}, "a task of kind choices needs 'answer'"),
        ({"score": ""}, "a task of kind generate needs 'score'"),
        ({"shots": 2}, "need 'target'"),
        ({"samples": 4}, "temperature above 0"),
        ({"samples": 4, "temperature": 1.0, "follow_ups": ["and?"]}, "leave samples at 1"),
        ({"prompt": "{% if %}"}, "the template '{% if %}' cannot be read"),
        ({"kind": "rolling", "target": "x", "metrics": ["bits"]}, "no metric 'bits'"),
        ({"shot": 1}, "unknown setting 'shot'. Did you mean 'shots'"),
    ],
)
def test_a_wrong_task_is_told_in_a_sentence(change: dict[str, Any], words: str) -> None:
    with pytest.raises(OrreryError) as fault:
        resolve(Task, BASE | change)
    assert words in str(fault.value)


def test_rows_are_read_or_made() -> None:
    assert isinstance(resolve(Task, BASE).data, Files)
    task = resolve(Task, BASE | {"data": {"generator": "arithmetic", "n": 3}})
    assert isinstance(task.data, Generated) and task.generated


def test_tasks_are_found_by_name_and_path(tmp_path: Path) -> None:
    assert "gsm8k" in task_names()
    assert find_task("gsm8k").name == "gsm8k"
    with pytest.raises(OrreryError, match="Did you mean 'gsm8k'"):
        find_task("gsm9k")
    path = tmp_path / "mine.yaml"
    path.write_text(
        "name: mine\nversion: 2\nabout: x\nkind: rolling\ntarget: '{{ text }}'\ndata: {path: x.jsonl}\n"
    )
    assert find_task(str(path)).version == 2


@pytest.mark.parametrize("name", task_names())
def test_every_task_of_the_package_is_sound(name: str) -> None:
    task = find_task(name)
    assert task.name == name and task.about.endswith(".")


def test_templates_keep_newlines_values_and_markup() -> None:
    assert render("Q: {{ q }}\n", {"q": "<b>&"}) == "Q: <b>&\n"
    assert value("{{ options }}", {"options": [1, "a", None]}) == [1, "a", None]
    assert value(" {{ 'ABCD'[n] }} ", {"n": 2}) == "C"
    assert value("{{ a }}{{ b }}", {"a": 1, "b": 2}) == "12"
    assert value("{{ n > 2 }}", {"n": 3}) is True
    assert (
        render("{% for o in options %}{{ loop.index }}. {{ o }}\n{% endfor %}End", {"options": "ab"})
        == "1. a\n2. b\nEnd"
    )
    assert render("{% set x = q %}{{ x }}{% macro m(y) %}{{ y }}{% endmacro %}{{ m(1) }}", {"q": "a"}) == "a1"


def test_a_field_that_is_missing_is_an_error_unless_asked_for_through_row() -> None:
    with pytest.raises(
        OrreryError, match=r"asks for 'question'; the row has questoin\. Did you mean 'questoin'"
    ):
        render("{{ question }}", {"questoin": "?"})
    assert render("{{ row.hint }}!", {"question": "?"}) == "!"
    with pytest.raises(OrreryError, match="fails on a row"):
        render("{{ n / 0 }}", {"n": 1})


def test_a_template_cannot_reach_outside() -> None:
    for source in (
        "{{ q.__class__.__mro__ }}",
        "{{ ''.__class__ }}",
        "{% for a in range(10**9) %}{% endfor %}",
    ):
        with suppress(OrreryError):
            assert "class" not in render(source, {"q": "x"})
