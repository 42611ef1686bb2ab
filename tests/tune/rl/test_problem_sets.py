"""Rewards from real sets, as recipes name them: arithmetic from GSM8K, programs from MBPP through the sandbox, mathematics."""

from __future__ import annotations

from pathlib import Path

import pytest

from orrery.kit.json_lines import read_rows, write_rows
from orrery.kit.sandbox import Sandbox, SandboxUnavailable
from orrery.tune.rl.environment import Single, opener
from orrery.tune.rl.problems import ProblemSet, read_problems


def test_word_problems(shared_data: Path) -> None:
    cfg = ProblemSet(paths=("gsm8k/train.jsonl.gz",), score="numeric", limit=300)
    found = read_problems([cfg], root=shared_data, heldout=50)
    assert len(found.sets[0]) == 300 and len(found.heldout) == 50 and found.unsound == 0
    for problem in found.heldout[:20]:
        right = problem.target.split("####")[1].strip()
        wrong = str(float(right.replace(",", "")) + 1)
        assert problem.judge(f"so the answer is {right}") == 1.0
        assert [problem.judge(text) for text in (f"#### {wrong}", "", "no number", "####")] == [0.0] * 4


def test_programs(shared_data: Path, tmp_path: Path) -> None:
    try:
        Sandbox.open()
    except SandboxUnavailable as error:
        pytest.skip(f"no sandbox here: {error}")
    rows = [
        row for row in read_rows(shared_data / "mbpp" / "mbpp.jsonl") if row["task_id"] in range(601, 607)
    ]
    write_rows(tmp_path / "mbpp.jsonl", rows)
    cfg = ProblemSet(
        paths=("mbpp.jsonl",),
        score="mbpp",
        prompt="{{ text }}\n{{ test_list | join('\n') }}",
        target="{{ code }}",
    )
    found = read_problems([cfg], root=tmp_path, heldout=2)
    problems = [*found.sets[0], *found.heldout]
    assert len(problems) == len(rows) >= 3 and found.unsound == 0
    world = opener(Single())()
    world.reset(problems[0])
    assert world.step(f"```python\n{problems[0].target}\n```").reward == 1.0
    name = problems[0].target.split("def ")[1].split("(")[0]
    hacks = (
        f"def {name}(*a):\n    raise SystemExit(0)",
        f"def {name}(*a): pass",
        "import os\nos._exit(0)",
        "",
    )
    assert [problems[0].judge(f"```python\n{hack}\n```") for hack in hacks] == [0.0] * 4


def test_mathematics(tmp_path: Path) -> None:
    rows = [
        {"problem": "Half of a third?", "solution": r"so \boxed{\frac{1}{6}}"},
        {"problem": "Solve x^2 = 2.", "solution": r"\boxed{\pm\sqrt{2}}"},
    ]
    write_rows(tmp_path / "maths.jsonl", rows)
    cfg = ProblemSet(paths=("maths.jsonl",), score="math", prompt="{{ problem }}", target="{{ solution }}")
    found = read_problems([cfg], root=tmp_path, heldout=0)
    (half,) = (problem for problem in found.sets[0] if "Half" in problem.prompt)
    assert [
        half.judge(text) for text in (r"\boxed{1/6}", r"\boxed{\frac{2}{12}}", r"\boxed{0.1667}", r"\boxed{}")
    ] == [1, 1, 0, 0]
