from __future__ import annotations

import pytest

from orrery.evaluate.scorers import Unscored
from orrery.evaluate.shapes import find
from orrery.kit.errors import OrreryError


def gpqa_row(at: int) -> dict[str, str]:
    return {
        "Question": f"Question {at}?", "Correct Answer": "right", "Incorrect Answer 1": "w1", "Incorrect Answer 2": "w2",
        "Incorrect Answer 3": "w3",
    }  # fmt: skip


def test_gpqa_options_are_shuffled_by_the_rows_own_text() -> None:
    shaped = [find("gpqa")(gpqa_row(at)) for at in range(200)]
    assert shaped[7] == find("gpqa")(gpqa_row(7))
    places = [row["answer"] for row in shaped]
    assert all(row["options"]["ABCD".index(row["answer"])] == "right" for row in shaped)
    assert all(30 <= places.count(letter) <= 70 for letter in "ABCD")
    assert len({tuple(row["options"]) for row in shaped}) == 24


def test_aqua_letters_leave_the_options() -> None:
    row = find("aqua")({"question": "q", "options": ["A)21", "B) 21.5", "C)-3"], "correct": "B"})
    assert row["options"] == ["21", "21.5", "-3"]
    assert (row["answer"], row["letters"]) == ("B", ["A", "B", "C"])


def test_lettered_rows_take_a_letter_or_an_index() -> None:
    shape = find("lettered")
    assert shape({"options": ["x", "y", "N/A"], "answer": "B"})["options"] == ["x", "y"]
    assert shape({"choices": ["x", "y"], "answer": 1})["answer"] == "B"
    assert isinstance(shape({"options": ["x", "y"], "answer": "F"}), Unscored)
    assert isinstance(shape({"options": ["x", "y"], "answer": None}), Unscored)


def test_mmmu_rows() -> None:
    shape = find("mmmu")
    row = shape(
        {
            "question": "<image 1>?",
            "options": "['a', \"b's\"]",
            "answer": "B",
            "image_1": "1.png",
            "image_2": {"path": "2.png"},
        }
    )
    assert row["options"] == ["a", "b's"]
    assert row["images"] == ["1.png", {"path": "2.png"}]
    open_one = shape(
        {"question": "how many?", "options": "[]", "answer": "['12', 'twelve']", "image_1": "1.png"}
    )
    assert (open_one["options"], open_one["answer"]) == ([], "12")
    assert isinstance(shape({"options": "[[[", "answer": "A"}), Unscored)
    assert isinstance(shape({"options": "9**9**9", "answer": "A"}), Unscored)


def test_truthfulqa_right_answers_come_first() -> None:
    row = {"best_answer": "x", "correct_answers": ["y"], "incorrect_answers": ["z", "y"]}
    assert find("truthfulqa_mc1")(row)["options"] == ["x", "z", "y"]
    both = find("truthfulqa_mc2")(row)
    assert (both["options"], both["answers"]) == (["x", "y", "z"], [0, 1])
    assert isinstance(find("truthfulqa_mc1")({**row, "incorrect_answers": []}), Unscored)


def test_math_answers_stand_in_the_box() -> None:
    row = find("math")({"solution": "so $\\boxed{\\frac{1}{2}}$.", "type": "Algebra", "level": "Level 5"})
    assert (row["answer"], row["subject"]) == ("\\frac{1}{2}", "Algebra")
    assert isinstance(find("math")({"solution": "no box"}), Unscored)


def test_functions_become_tools_with_the_types_of_json_schema() -> None:
    parameters = {
        "type": "dict",
        "properties": {
            "a": {"type": "float"},
            "b": {"type": "array", "items": {"type": "tuple", "items": {"type": "any"}}},
        },
        "required": ["a"],
    }
    row = find("bfcl")({"function": [{"name": "f.g", "parameters": parameters}], "ground_truth": []})
    assert row["tools"] == [
        {
            "type": "function",
            "function": {
                "name": "f.g",
                "parameters": {
                    "type": "object",
                    "properties": {
                        "a": {"type": "number"},
                        "b": {"type": "array", "items": {"type": "array", "items": {}}},
                    },
                    "required": ["a"],
                },
            },
        }
    ]
    assert row["function"][0]["parameters"]["type"] == "dict"


def test_unknown_shapes_are_refused() -> None:
    with pytest.raises(OrreryError, match="Did you mean 'gpqa'"):
        find("gqpa")
