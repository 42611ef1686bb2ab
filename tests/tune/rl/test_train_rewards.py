"""Rewards: what is paid, and that nothing is paid for nothing."""

from __future__ import annotations

import math
from typing import Any

import pytest

from orrery.evaluate import generators
from orrery.evaluate.generators import split_of
from orrery.kit.errors import OrreryError
from orrery.kit.json_lines import write_rows
from orrery.kit.sandbox import Sandbox, SandboxUnavailable
from orrery.tune.dataset import Generated
from orrery.tune.rl.problems import Problem, ProblemSet, read_problems
from orrery.tune.rl.rewards import (
    Answered,
    Format,
    LearnedReward,
    Length,
    Repetition,
    Verifier,
    has_form,
    repeated,
    rewards,
)


def answered(text: str, verdict: float = 0.0, tokens: int | list[int] = 4) -> Answered:
    ids = list(range(tokens)) if isinstance(tokens, int) else tokens
    return Answered(text=text, raw=text, verdict=verdict, tokens=ids)


def problem(score: str, target: str, **row: Any) -> Problem:
    return Problem(row=row, prompt="?", target=target, score=score)


ALL = (
    Verifier(weight=2.0),
    Format(weight=0.5, when="always"),
    Length(weight=1.0, limit=10, buffer=4),
    Repetition(weight=0.5, n=2),
)


def test_a_mixture_by_hand() -> None:
    # 8 tokens: 2 into a ramp of 4 before 10, so -0.5; bigrams 12 23 31 12 23 3.. : of 7, 4 distinct, so 3/7 repeated
    one = answered("<think>two and two</think> 4", verdict=1.0, tokens=[1, 2, 3, 1, 2, 3, 1, 9])
    (found,) = rewards(ALL, [one], room=64)
    assert found.parts == {
        "verifier": 1.0,
        "format": 1.0,
        "length": -0.5,
        "repetition": pytest.approx(-3 / 7),
    }
    assert found.beside == pytest.approx(0.5 - 0.5 - 0.5 * 3 / 7)
    assert found.total == pytest.approx(2.0 + found.beside)


@pytest.mark.parametrize("text", ["", " ", "\n\n\t"])
def test_an_answer_that_says_nothing_gets_exactly_nothing(text: str) -> None:
    (found,) = rewards(ALL, [answered(text, verdict=1.0, tokens=30)], room=16)
    assert found.total == found.beside == 0.0 and set(found.parts.values()) == {0.0}
    for score in ("verbatim", "numeric", "math", "exact", "contains", "mbpp"):
        assert problem(score, "4", test_list=["assert f() == 4"], code="def f(): pass").judge(text) == 0.0


@pytest.mark.parametrize(
    ("score", "target", "answer"),
    [
        ("verbatim", "4", "4 5 6"),  # several at once
        ("verbatim", "STONE", "stone STONE"),
        ("verbatim", "4", "the answer"),
        ("numeric", "7", "1 2 3 4 5 6 7 8 9"),  # every number there is
        ("numeric", "7", "no number at all"),
        ("numeric", "7", "#### 6 or 7"),  # the first one there
        ("math", r"\frac{1}{2}", r"\boxed{\frac{1}{2}} \boxed{1}"),  # the last one counts
        ("math", "12", r"\boxed{}"),
        ("math", "12", "x" * 50_000),
    ],
)
def test_an_answer_that_plays_the_scorer_gets_nothing(score: str, target: str, answer: str) -> None:
    assert problem(score, target).judge(answer) == 0.0
    assert problem(score, target).judge(target) == 1.0


HACKS = [
    "def add(a, b):\n    import sys\n    sys.exit(0)",
    "class Any:\n    def __eq__(self, other): return True\ndef add(a, b):\n    return Any()",
    "import builtins, os\nos._exit(0)\ndef add(a, b): pass",
    "def add(a, b):\n    raise SystemExit(0)",
    "assert True",
]


def test_programs_that_cheat_their_tests_get_nothing() -> None:
    try:
        Sandbox.open()
    except SandboxUnavailable as error:
        pytest.skip(f"no sandbox here: {error}")
    task = problem(
        "mbpp", "def add(a, b):\n    return a + b", code="def add(a, b):\n    return a + b",
        test_list=["assert add(1, 2) == 3", "assert add(2, 2) == 4"],
    )  # fmt: skip
    assert task.judge(f"```python\n{task.target}\n```") == 1.0
    assert [task.judge(f"```python\n{code}\n```") for code in HACKS] == [0.0] * len(HACKS)


def test_form_needs_substance() -> None:
    pattern = Format().pattern
    assert has_form("<think>one and one</think>\n2", pattern)
    for empty in (
        "<think></think>2",
        "<think> </think>2",
        "<think>so</think> ",
        "2",
        "<think>so</think>" + "2" * 20_000,
    ):
        assert not has_form(empty, pattern)
    terms = (Verifier(), Format(weight=0.5))
    formed = "<think>well</think> 5"
    wrong, right = rewards(terms, [answered(formed, 0.0), answered(formed, 1.0)], room=64)
    assert (wrong.total, right.total) == (0.0, 1.5)  # form alone is worth nothing, unless it is told to be
    (paid,) = rewards((Format(weight=0.5, when="always"),), [answered(formed)], room=64)
    assert paid.total == 0.5
    with pytest.raises(OrreryError, match="no regular expression"):
        Format(pattern="(")


def test_repetition_by_hand() -> None:
    assert repeated([1, 2, 3, 4], 2) == 0.0 and repeated([1], 4) == 0.0
    assert repeated([7, 7, 7, 7], 1) == pytest.approx(3 / 4) and repeated([1, 2, 1, 2], 2) == pytest.approx(
        1 / 3
    )


def test_a_learned_reward_is_mixed_in_and_may_have_no_verdict() -> None:
    terms = (Verifier(), LearnedReward(weight=0.5))
    answers = [answered("yes", 1.0), answered("no"), answered("")]
    found = rewards(terms, answers, room=8, learned=lambda talks: [2.0, math.nan, 5.0])
    assert found[0].total == 2.0 and math.isnan(found[1].total) and found[2].total == 0.0
    low = rewards(terms, answers, room=8, learned=lambda talks: [-2.0, math.nan, 5.0])
    assert (
        low[0].total == 0.0 and low[2].total == -1.0
    )  # silence is worth no more than the worst that was said
    with pytest.raises(OrreryError, match="no reward model was given"):
        rewards(terms, answers, room=8)


def test_problems_are_sound_and_apart_from_those_of_the_tests(tmp_path: Any) -> None:
    rows = [{"question": f"{n} + 1?", "answer": str(n + 1)} for n in range(20)] + [
        {"question": "?", "answer": "no number"}
    ]
    write_rows(tmp_path / "sums.jsonl", rows)
    sets = (
        ProblemSet(paths=("sums.jsonl",), score="numeric", limit=12),
        ProblemSet(generator=Generated(name="python_expression", n=50, seed=9)),
    )
    found = read_problems(sets, root=tmp_path, heldout=10, seed=3)
    assert [len(part) for part in found.sets] == [12, 50] and len(found.heldout) == 10 and found.unsound == 1
    assert {p.part for p in found.heldout} == {0, 1}
    assert not {p.id for p in found.heldout} & {p.id for part in found.sets for p in part}
    assert {split_of(p.row["expression"]) for p in found.sets[1]} == {"train"}
    assert {split_of(p.row["expression"]) for p in found.heldout if p.part == 1} == {"test"}
    assert found.fingerprint == read_problems(sets, root=tmp_path, heldout=10, seed=3).fingerprint
    with pytest.raises(OrreryError, match="no problem whose own answer passes"):
        read_problems(
            (ProblemSet(paths=("sums.jsonl",), score="numeric", target="x"),), root=tmp_path, heldout=0
        )
    with pytest.raises(OrreryError, match="no file of problems"):
        read_problems((ProblemSet(paths=("none.jsonl",)),), root=tmp_path, heldout=0)
    (row,) = generators.rows("python_expression", n=1, split="train")
    assert problem("verbatim", row["answer"]).judge(row["answer"]) == 1.0
