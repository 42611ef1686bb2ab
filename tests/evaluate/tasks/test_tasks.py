"""Every task file on its real rows: what the model is asked, and that gold answers score 1, wrong ones 0, empty ones by the rule."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from orrery.evaluate.generators import rows as generated
from orrery.evaluate.prompts import ask
from orrery.evaluate.rows import read_rows, shots_of
from orrery.evaluate.scorers import ScoreContext, Unscored, find
from orrery.evaluate.task import find_task, task_names

HERE = [
    "aqua", "aqua_cot", "arithmetic", "bbh", "bfcl_irrelevance", "bfcl_multiple", "bfcl_parallel", "bfcl_simple", "bits_per_byte",
    "blimp", "gsm8k", "hhh", "humaneval", "ifeval", "make_number", "mbpp", "mgsm", "mmlu", "python_expression", "strategyqa", "string_manipulation",
    "svamp", "truthfulqa_mc1", "truthfulqa_mc2", "user_instructions",
]  # fmt: skip
ELSEWHERE = ["aime", "gpqa", "gpqa_cot", "math", "mmlu_pro", "mmmu", "mmmu_pro", "mmmu_pro_vision"]
# score of an empty answer: 0 where every text is an answer, Unscored where one must be read out of it
EMPTY = {"exact": 0, "verbatim": 0, "f1": 0, "ifeval": 0, "calls": 0, "humaneval": 0, "mbpp": 0}
SIZES = {
    "bbh": 3253,
    "blimp": 3350,
    "gsm8k": 200,
    "mgsm": 1375,
    "mmlu": 1425,
    "hhh": 111,
    "svamp": 500,
    "aqua": 254,
    "ifeval": 270,
}


def asked(name: str, folder, *, limit: int | None = None):
    task = find_task(name)
    rows = read_rows(task, folder, limit=limit)
    for row in rows.rows:
        shots = (
            shots_of(task, rows, row, count=task.shots, seed=0) if task.shots and not task.fixed_shots else []
        )
        yield task, row, ask(task, row.fields, shots, chat=False)


@pytest.mark.parametrize("name", HERE)
def test_rows_can_be_asked(shared_data, name) -> None:
    found = list(asked(name, shared_data, limit=150))
    assert len(found) == min(150, len(read_rows(find_task(name), shared_data).rows))
    for task, row, prompt in found:
        assert not row.unscored
        assert prompt.text or prompt.target or prompt.choices
        if task.kind in ("choices", "pairs"):
            assert len(prompt.choices) >= 2
            assert prompt.gold and all(0 <= place < len(prompt.choices) for place in prompt.gold)
        if task.groups:
            assert str(row.fields[task.groups])


@pytest.mark.parametrize(("name", "size"), SIZES.items())
def test_all_rows_are_read(shared_data, name, size) -> None:
    task = find_task(name)
    rows = read_rows(task, shared_data).rows
    assert len(rows) == size
    groups = Counter(str(row.fields[task.groups]) for row in rows) if task.groups else {}
    expected = {"bbh": 27, "blimp": 67, "mmlu": 57, "mgsm": 11, "hhh": 4, "svamp": 4}
    assert len(groups) == expected.get(name, 0)


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in HERE
        if find_task(name).score
        and not find_task(name).score.startswith(("ifeval", "calls", "human", "mbpp"))
    ],
)
def test_gold_scores_1_wrong_0_and_empty_by_the_rule(shared_data, name) -> None:
    others: list[str] = []
    for task, row, prompt in asked(name, shared_data, limit=120):
        score, context = find(task.score), ScoreContext(target=prompt.target, answers=(prompt.target,))
        assert score(prompt.target, row.fields, context) == {"exact_match": 1.0}, row.fields
        empty = score("", row.fields, context)
        assert empty == {"exact_match": 0.0} if task.score in EMPTY else isinstance(empty, Unscored)
        others.append(prompt.target)
    wrong = 0
    for (task, row, prompt), other in zip(
        asked(name, shared_data, limit=120), others[1:] + others[:1], strict=True
    ):
        found = find(task.score)(other, row.fields, ScoreContext(target=prompt.target))
        wrong += isinstance(found, Unscored) or found["exact_match"] == 0
    assert wrong >= 0.4 * len(others)  # neighbours' gold answers, of which some are the same


def test_mmlu_demonstrates_with_its_own_subject(shared_data) -> None:
    task, row, prompt = next(asked("mmlu", shared_data, limit=57))
    assert prompt.text.startswith(
        "The following are multiple choice questions (with answers) about abstract algebra.\n\n"
    )
    assert prompt.text.count("\nAnswer:") == 6
    assert prompt.text.endswith("\nAnswer:")
    assert prompt.choices == (" A", " B", " C", " D")
    assert prompt.gold == (row.fields["answer"],)
    assert task.shots_by == "subject"


def test_bbh_has_the_published_examples_of_each_task(shared_data) -> None:
    for _, row, prompt in asked("bbh", shared_data, limit=60):
        assert prompt.text.count("A: Let's think step by step.") == 4
        assert prompt.text.endswith(f"\n\nQ: {row.fields['input']}\nA: Let's think step by step.\n")


def test_mgsm_is_asked_in_its_own_language(shared_data) -> None:
    starts = {row.fields["lang"]: prompt.text.split(":")[0] for _, row, prompt in asked("mgsm", shared_data)}
    assert len(set(starts.values())) == 10  # French and English say Question
    assert starts["de"] == "Frage" and starts["ja"] == "問題"


def test_mbpp_asks_the_test_problems_after_three_examples(shared_data) -> None:
    found = list(asked("mbpp", shared_data))
    assert {row.fields["task_id"] for _, row, _ in found} <= set(range(11, 511))
    assert all(
        prompt.text.count("[BEGIN]") == 4 and prompt.text.count("[DONE]") == 3 for _, _, prompt in found
    )


def test_truthful_answers_are_marked(shared_data) -> None:
    for _, row, prompt in asked("truthfulqa_mc2", shared_data, limit=50):
        assert len(prompt.gold) >= 1
        assert {prompt.choices[place].strip() for place in prompt.gold} <= {
            *row.fields["correct_answers"], row.fields["best_answer"],
        }  # fmt: skip
    for _, row, prompt in asked("truthfulqa_mc1", shared_data, limit=50):
        assert [prompt.choices[place].strip() for place in prompt.gold] == [row.fields["best_answer"].strip()]


@pytest.mark.parametrize("name", ["humaneval", "mbpp"])
def test_gold_programs_pass_in_the_sandbox_and_wrong_ones_do_not(shared_data, name) -> None:
    for task, row, prompt in asked(name, shared_data, limit=3):
        score = find(task.score)
        found = score(prompt.target, row.fields, ScoreContext(answers=(prompt.target,)))
        if isinstance(found, Unscored):
            pytest.skip(found.reason)
        assert found == {"pass@1": 1.0}
        for wrong in ("", "    return None\n", "    raise SystemExit(0)\n", "import os\nos._exit(0)\n"):
            assert score(wrong, row.fields, ScoreContext(answers=(wrong,))) == {"pass@1": 0.0}
        mixed = (prompt.target, *["    return None\n"] * 9)
        assert score(prompt.target, row.fields, ScoreContext(answers=mixed)) == {
            "pass@1": pytest.approx(0.1),
            "pass@10": 1.0,
        }
        break


def test_generated_tasks_ask_the_test_side(shared_data) -> None:
    for name in ("arithmetic", "make_number", "python_expression", "string_manipulation"):
        found = list(asked(name, None))
        trained = {row["expression"] for row in generated(name, n=300, seed=1 << 20)}
        assert len(found) == find_task(name).data.n
        assert not trained & {row.fields["expression"] for _, row, _ in found}


PUBLISHED = {
    "aime": ("aime/a.jsonl", {"id": 60, "problem": "What is 2 + 71?", "solution": "It is 73.", "answer": "073"}),
    "gpqa": (
        "gpqa/g.jsonl",
        {"Question": "Why?", "Correct Answer": "right", "Incorrect Answer 1": "w1", "Incorrect Answer 2": "w2", "Incorrect Answer 3": "w3"},
    ),
    "math": (
        "math/test.jsonl",
        {"problem": "Half of 3?", "level": "Level 1", "type": "Prealgebra", "solution": "It is $\\boxed{\\frac{3}{2}}$."},
    ),
    "mmlu_pro": (
        "mmlu_pro/test.jsonl",
        {"question": "Which?", "options": [*"abcdefgh", "N/A", "N/A"], "answer": "H", "answer_index": 7, "cot_content": "A: Let's think step by step. So.", "category": "law"},
    ),
    "mmmu": (
        "mmmu/m.jsonl",
        {"question": "What is <image 1>?", "options": "['a cat', 'a dog']", "answer": "B", "image_1": "1.png", "image_2": None, "question_type": "multiple-choice"},
    ),
    "mmmu_pro": (
        "mmmu_pro/standard.jsonl",
        {"question": "What is <image 1>?", "options": str([f"o{i}" for i in range(10)]), "answer": "J", "image_1": "1.png"},
    ),
    "mmmu_pro_vision": ("mmmu_pro/vision.jsonl", {"options": "['x', 'y', 'z']", "answer": "C", "image": "1.png", "subject": "Art"}),
}  # fmt: skip


@pytest.mark.parametrize("name", ELSEWHERE)
def test_tasks_whose_data_is_not_here_read_the_published_shape(tmp_path, name) -> None:
    path, row = PUBLISHED[name.removesuffix("_cot")]
    (tmp_path / path).parent.mkdir()
    lines = "".join(json.dumps({**row, "id": at}) + "\n" for at in range(6))
    (tmp_path / path).write_text(lines)
    if name in ("math", "mmlu_pro"):
        (tmp_path / path.replace("test", "train" if name == "math" else "validation")).write_text(lines)
    for task, asked_row, prompt in asked(name, tmp_path):
        assert not asked_row.unscored
        if task.kind == "choices":
            assert prompt.choices[prompt.gold[0]].strip(" ()") == asked_row.fields["answer"]
            assert asked_row.fields["options"]["ABCD".index(asked_row.fields["answer"])] == "right"
            continue
        score = find(task.score)
        seen = ScoreContext(target=prompt.target, saw_images=True)
        assert score(prompt.target, asked_row.fields, seen) == {"exact_match": 1.0}
        other = {"A": "B"}.get(asked_row.fields["answer"], "A")
        assert score(f"The answer is ({other}). 999", asked_row.fields, seen) == {"exact_match": 0.0}
        assert isinstance(score("", asked_row.fields, seen), Unscored)
        if "mmmu" in name:
            assert asked_row.fields["images"] == ["1.png"]
            blind = score(prompt.target, asked_row.fields, ScoreContext(target=prompt.target))
            assert blind == Unscored("the row has pictures and the model was shown none")


def test_every_task_file_is_tested_here() -> None:
    ours = {"gsm8k", "mmlu", *HERE, *ELSEWHERE}
    assert ours <= set(task_names())
    for name in ours:
        task = find_task(name)
        assert task.name == name and task.about.endswith(".")
