from __future__ import annotations

import json

import pytest

from orrery.evaluate.scorers import ScoreContext, find
from orrery.evaluate.scorers.call_text import POSITIONAL, Call, read_calls

WEATHER = {
    "name": "weather.get",
    "description": "Weather.",
    "parameters": {
        "type": "dict",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer"},
            "limit": {"type": "float"},
            "tags": {"type": "array", "items": {"type": "string"}},
            "exact": {"type": "boolean"},
            "where": {"type": "dict"},
        },
        "required": ["city"],
    },
}
ROW = {
    "function": [WEATHER],
    "ground_truth": [
        {
            "weather.get": {
                "city": ["New York, NY", "NYC"], "days": ["", 3], "limit": [0.5, 2.0, ""], "tags": [["a", "b"], ""],
                "exact": [True, ""], "where": [{"lat": [1, 2], "lon": ["", 7]}, ""],
            }
        }
    ],
}  # fmt: skip


def scored(answer: str, row=ROW) -> float:
    return find("calls")(answer, row, ScoreContext())["exact_match"]


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ("weather.get(city='new york ny')", 1),  # texts without case and marks
        ("[weather_get(city='NYC', days=3)]", 1),  # a dot may be written _
        ("weather.get(city='NYC', limit=2)", 1),  # a whole number passes for a float
        ("weather.get(city='NYC', days=3.0)", 0),  # and not the other way
        ("weather.get(city='NYC', days=True)", 0),
        ("weather.get(city='NYC', exact=True)", 1),
        ("weather.get(city='NYC', exact='True')", 0),
        ("weather.get(city='NYC', tags=['A', 'b'])", 1),
        ("weather.get(city='NYC', tags=['b', 'a'])", 0),
        ("weather.get(city='NYC', tags='a')", 0),
        ("weather.get(city='NYC', where={'lat': 2})", 1),
        ("weather.get(city='NYC', where={'lat': 2, 'lon': 7})", 1),
        ("weather.get(city='NYC', where={'lat': 3})", 0),
        ("weather.get(city='NYC', where={'lon': 7})", 0),
        ("weather.get(city='NYC', other=1)", 0),
        ("weather.get(days=3)", 0),
        ("weather.get('NYC')", 0),
        ("weather.set(city='NYC')", 0),
        ("weather.get(city='NYC'), weather.get(city='NYC')", 0),
        ("weather.get(city=['NYC'])", 0),
        ("weather.get(city=None)", 0),
        ("I would look it up.", 0),
        ("", 0),
    ],
)
def test_one_call(answer, wanted) -> None:
    assert scored(answer) == wanted


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>\n{"name": "f.g", "arguments": {"a": [1, -2]}}\n</tool_call>',
        '[{"name": "f.g", "arguments": {"a": [1, -2]}}]',
        '{"name": "f.g", "parameters": {"a": [1, -2]}}',
        '{"type": "function", "function": {"name": "f.g", "arguments": "{\\"a\\": [1, -2]}"}}',
        '[{"f.g": {"a": [1, -2]}}]',
        '```json\n{"name": "f.g", "arguments": {"a": [1, -2]}}\n```',
        "Here is the call:\n```python\nf.g(a=[1, -2])\n```",
        "[f.g(a=[1, -2])]",
        '[TOOL_CALLS][{"name": "f.g", "arguments": {"a": [1, -2]}}]',
        '<|tool_call_start|>[{"name": "f.g", "arguments": {"a": [1, -2]}}]<|tool_call_end|>',
        '<｜tool▁call▁begin｜>function<｜tool▁sep｜>f.g\n```json\n{"a": [1, -2]}\n```<｜tool▁call▁end｜>',
        "<tool_call>\n<function=f.g>\n<parameter=a>\n[1, -2]\n</parameter>\n</function>\n</tool_call>",
    ],
)
def test_the_ways_to_write_a_call(text) -> None:
    assert read_calls(text) == [Call("f.g", {"a": [1, -2]})]


def test_literals_are_read_and_nothing_is_run() -> None:
    assert read_calls(
        "f(a=1.5, b=-2, c=true, d=None, e=(1, 'x'), g={'k': [1]}, h=9**9**9, i=open('/etc/passwd'))"
    ) == [
        Call(
            "f",
            {
                "a": 1.5,
                "b": -2,
                "c": True,
                "d": None,
                "e": (1, "x"),
                "g": {"k": [1]},
                "h": "9 ** 9 ** 9",
                "i": "open('/etc/passwd')",
            },
        )
    ]
    assert read_calls("f(1)") == [Call("f", {POSITIONAL: [1]})]
    assert read_calls("f(" * 3000) is None
    assert read_calls("[" * 19_000) == [] or read_calls("[" * 19_000) is None


def test_prose_is_no_call_and_a_broken_call_is_none() -> None:
    assert read_calls("None of the functions (see above) fits [sorry].") == []
    assert read_calls("") == []
    assert read_calls('{"name": "f", "arguments": ') is None
    assert read_calls("f(a=") is None
    irrelevant = {"function": [WEATHER], "ground_truth": []}
    assert scored("No function fits.", irrelevant) == 1
    assert scored("", irrelevant) == 1
    assert scored("weather.get(city='NYC')", irrelevant) == 0
    assert scored("weather.get(city=", irrelevant) == 0


def test_parallel_calls_come_in_any_order_and_each_once() -> None:
    one = {"weather.get": {"city": ["Paris", "Rome"]}}
    other = {"weather.get": {"city": ["Rome"]}}
    row = {"function": [WEATHER], "ground_truth": [one, other]}
    assert scored("[weather.get(city='Rome'), weather.get(city='Paris')]", row) == 1
    assert (
        scored("[weather.get(city='Rome'), weather.get(city='Rome')]", row) == 1
    )  # Rome is accepted for both
    assert scored("[weather.get(city='Paris'), weather.get(city='Paris')]", row) == 0
    assert scored("[weather.get(city='Rome')]", row) == 0


def accepted(values, at=0):
    """The accepted value at `at`, as a model would write it."""
    value = [one for one in values if one != ""][at]
    if isinstance(value, dict):
        return {key: accepted(options) for key, options in value.items() if options and options[0] != ""}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [accepted([item]) for item in value]
    return value


@pytest.mark.parametrize("part", ["simple_python", "multiple", "parallel"])
def test_every_accepted_value_of_the_published_rows_passes(shared_data, part) -> None:
    alternatives = 0
    for row in map(json.loads, (shared_data / f"bfcl/{part}.jsonl").read_text().splitlines()):
        base = []
        for wanted in row["ground_truth"]:
            ((name, parameters),) = wanted.items()
            base.append(
                {
                    "name": name,
                    "arguments": {key: accepted(v) for key, v in parameters.items() if "" not in v},
                }
            )
        assert scored(json.dumps(base), row) == 1
        for call, wanted in zip(base, row["ground_truth"], strict=True):
            for key, values in next(iter(wanted.values())).items():
                for at in range(len([one for one in values if one != ""])):
                    other = {
                        "name": call["name"],
                        "arguments": {**call["arguments"], key: accepted(values, at)},
                    }
                    assert scored(json.dumps([other if one is call else one for one in base]), row) == 1, (
                        row["id"],
                        key,
                    )
                    alternatives += 1
        wrong = {**base[0], "arguments": {**base[0]["arguments"], "no_such_parameter": 1}}
        assert scored(json.dumps([wrong, *base[1:]]), row) == 0
        assert scored("", row) == 0
    assert alternatives > 300
