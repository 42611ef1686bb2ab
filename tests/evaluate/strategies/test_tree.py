"""The tree of thought on the Game of 24: moves read and refused, both searches by hand, going back, and puzzles solved."""

from __future__ import annotations

import random
from fractions import Fraction
from typing import Any

import pytest

from orrery.evaluate.generators import rows
from orrery.evaluate.generators.make_number import puzzle_of, reachable
from orrery.evaluate.scorers import ScoreContext, Unscored, find
from orrery.evaluate.scorers.equations import equations, exact, sound
from orrery.evaluate.strategies import answer, parse
from orrery.evaluate.strategies.ask import answers
from orrery.evaluate.strategies.games import MakeNumber, Thoughts
from orrery.evaluate.strategies.tree import worth
from orrery.evaluate.strategies.voice import Question, Voice
from orrery.kit.errors import OrreryError
from tests.evaluate.scripted import make_tokenizer
from tests.evaluate.strategies.fake import Fake

TOKENIZER = make_tokenizer()
ROW = {"question": "?", "expression": "4 + (4 * 5)", "answer": "24", "kind": "make 24", "difficulty": 1}


def play(say: Any, strategy: str, row: Any = ROW) -> tuple[Any, Fake]:
    model = Fake(TOKENIZER, say)
    question = Question(text="?", fields=row)
    ((_, found),) = answers(parse(strategy), Voice(subject=model.subject(context=2048)), [question], [0])
    return found, model


def state(prompt: str) -> str:
    """The numbers that the last line of a prompt asks about."""
    return prompt.rstrip().rsplit("Numbers: ", 1)[1]


MOVES = {
    "4 4 5": "5 - 4 = 1 (left: 1 4)\n4 + 4 = 8 (left: 5 8)\n4 * 5 = 20 (left: 4 20)\n4 * 4 = 15 (left: 5 15)\n7 + 5 = 12",
    "1 4": "1 + 4 = 5",
    "5 8": "5 + 8 = 13\n8 * 5 = 40",
    "4 20": "20 - 4 = 16\n4 + 20 = 24",
}


def test_moves_are_read_and_what_is_no_legal_move_is_dropped() -> None:
    game = MakeNumber((4, 4, 5), 24)
    start = game.start()
    found = game.moves(start, [MOVES["4 4 5"], "5 - 4 = 1"])
    assert [one.lines for one in found] == [("5 - 4 = 1",), ("4 + 4 = 8",), ("4 * 5 = 20",)]
    assert game.fields(found[2]) == {"state": "4 20", "target": "24"}
    assert [game.value(one) for one in found] == [0.0, 0.0, 1.0] and game.value(start) == 1.0
    (end,) = game.moves(found[2], ["4 + 20 = 24"])
    assert game.over(end) and game.answer(end) == "(4 + (4 * 5)) = 24"
    assert game.moves(start, ["4 / 0 = 1", "4 / 5 = 4/5", "5 / 4 = 1"]) != []
    thirds = MakeNumber((3, 3, 8, 8), 24)
    assert thirds.value(thirds.start()) == 1.0  # 8 / (3 - 8 / 3)


@pytest.mark.parametrize("search", ["bfs", "dfs"])
def test_the_exact_evaluator_goes_straight_to_the_answer(search: str) -> None:
    found, _ = play(
        lambda prompt, sample: MOVES[state(prompt)],
        f"tree:search={search},game=make-number,evaluator=exact,width=1",
    )
    assert found.text == "(4 + (4 * 5)) = 24" and found.calls == 2
    assert find("make_number")(found.text, ROW, ScoreContext()) == {"exact_match": 1.0}
    assert found.trace[-1] == {"step": "end", "found": True, "visits": 2}


def judged(prompt: str, sample: int) -> str:
    """Proposals, and judgements that take the wrong branches for the better ones."""
    if "sure, likely or impossible" in prompt:
        return {"1 4": "5\nsure", "5 8": "likely", "4 20": "Perhaps.\nlikely"}.get(
            state(prompt), "impossible"
        )
    return MOVES[state(prompt)]


def test_depth_first_goes_back_from_what_has_no_future() -> None:
    found, _ = play(judged, "tree:search=dfs,game=make-number,votes=1")
    assert found.text == "(4 + (4 * 5)) = 24"
    told = [(step["step"], step.get("value")) for step in found.trace[:-1]]
    assert told == [
        ("go", 20.0), ("dead end", None), ("back", None),  # 1 4, of which only 5 is made
        ("go", 1.0), ("dead end", None), ("back", None),   # 5 8
        ("go", 1.0), ("answer", None),                     # 4 20
    ]  # fmt: skip
    assert found.trace[-1]["visits"] == 4
    bounded, _ = play(judged, "tree:search=dfs,game=make-number,votes=1,visits=3")
    assert bounded.trace[-1] == {"step": "end", "found": False, "visits": 3}
    shallow, _ = play(judged, "tree:search=dfs,game=make-number,votes=1,depth=1")
    assert not shallow.trace[-1]["found"]


def test_breadth_first_keeps_the_width_best() -> None:
    wide, _ = play(judged, "tree:game=make-number,votes=2,width=3")
    assert wide.text == "(4 + (4 * 5)) = 24" and wide.trace[-1]["visits"] == 4
    assert [step["value"] for step in wide.trace[:3]] == [40.0, 2.0, 2.0]  # two votes each
    narrow, _ = play(judged, "tree:game=make-number,votes=1,width=1")
    assert not narrow.trace[-1]["found"]  # the judgement was wrong, and nothing goes back
    assert isinstance(find("make_number")(narrow.text, ROW, ScoreContext()), dict)


def test_a_tree_over_free_thoughts() -> None:
    def say(prompt: str, sample: int) -> str:
        steps = prompt.rsplit("Steps so far:\n", 1)[1].split("\n\n")[0]
        if "sure, likely" in prompt:
            return "sure" if "good" in steps else "impossible"
        return ("a bad step", "The answer is 5." if "good" in steps else "a good step")[sample]

    found = answer("tree:samples=2,votes=1,width=1,depth=3", Fake(TOKENIZER, say).subject(), "How many?")
    assert found.text == "a good step\nThe answer is 5."
    game = Thoughts("How many?")
    assert game.moves(("a",), ["\n b \nc", "a", "", "b"]) == [("a", "b")]
    assert not game.over(("two steps",)) and game.over(("x", "\\boxed{3}"))


def test_judgements_count_as_in_the_paper() -> None:
    assert [worth(text) for text in ("sure", "It is likely.", "not sure, impossible", "")] == [
        20,
        1,
        0.001,
        0,
    ]


def test_search_solves_what_one_chain_of_random_moves_does_not() -> None:
    """The proposer writes legal moves at random; a walk along them rarely ends at the target, the search always does."""

    def moves(prompt: str, count: int, draw: random.Random) -> list[str]:
        left = [int(n) for n in state(prompt).split()]
        lines = []
        for _ in range(count):
            a, b = draw.sample(left, 2)
            sign = draw.choice("+-*")
            rest = sorted([*left, {"+": a + b, "-": a - b, "*": a * b}[sign]])
            rest.remove(a)
            rest.remove(b)
            lines.append(
                f"{a} {sign} {b} = { ({'+': a + b, '-': a - b, '*': a * b}[sign]) } (left: {' '.join(map(str, rest))})"
            )
        return lines

    draw = random.Random(0)
    puzzles = list(rows("make_number", n=8, seed=3, difficulty=4))
    solved = {}
    for name, count, strategy in [
        ("walk", 1, "tree:game=make-number,evaluator=exact,width=1,samples=1"),
        ("bfs", 40, "tree:game=make-number,evaluator=exact,width=2"),
        ("dfs", 40, "tree:search=dfs,game=make-number,evaluator=exact"),
    ]:
        say = lambda prompt, sample, count=count: "\n".join(moves(prompt, count, draw))  # noqa: E731
        model = Fake(TOKENIZER, say)
        voice = Voice(subject=model.subject(context=8192))
        cfg = parse(strategy + ",max_tokens=4000")
        found = dict(answers(cfg, voice, [Question(text="", fields=row) for row in puzzles], range(8)))
        score = find("make_number")
        solved[name] = sum(
            score(found[i].text, row, ScoreContext()) == {"exact_match": 1.0} for i, row in enumerate(puzzles)
        )
    assert solved["walk"] <= 1 and solved["bfs"] >= 6 and solved["dfs"] >= 6


def test_puzzles_have_the_solution_they_say() -> None:
    for level in range(1, 6):
        for row in rows("make_number", n=10, seed=1, difficulty=level):
            numbers, target = puzzle_of(row)
            assert exact(row["expression"]) == target and len(numbers) == (3 if level < 3 else 4)
            assert find("make_number")(row["expression"] + f" = {target}", row, ScoreContext()) == {
                "exact_match": 1.0
            }
    assert Fraction(24) not in reachable(tuple(map(Fraction, (1, 1, 1, 1))))
    assert reachable((Fraction(3), Fraction(4)))[Fraction(3, 4)] == "3 / 4"
    with pytest.raises(OrreryError, match="task make_number"):
        puzzle_of({"kind": "sum"})


def test_any_right_expression_scores_and_others_do_not() -> None:
    score = find("make_number")
    for text, right in [
        ("5 * 4 + 4 = 24", 1), ("4*5=20\nso 4 + 20 = 24\nanswer: (4 * 5) + 4", 1), ("4 * 5 + 4 = 25", 1),
        ("4 + 20 = 24", 0), ("4 * 6", 0), ("24 * 4 / 4", 0), ("4 + 4 * 5 + 0", 0), ("(4 + 4) * 5", 0),
    ]:  # fmt: skip
        assert score(text, ROW, ScoreContext()) == {"exact_match": float(right)}, text
    assert score("I give up: 24", ROW, ScoreContext()) == Unscored("no expression in the answer")


def test_equations_of_a_text() -> None:
    text = "16 - 3 - 4 = 9 eggs, $9 * $2 = $18. 2 + 2 = 5, 10/4 = 2.5; 1/3 = 0.33; 2+3+4 = 5+4 = 9; x = 5; 1,000 + 1 = 1,001"
    assert [holds for _, holds in equations(text)] == [True, True, False, True, True, True, True, True]
    assert sound(text) == 7 / 8 and sound("no numbers") == 0.5
    assert exact("1 / 0") is None and exact("2 ** 9") is None and exact("(1 + 2) * -3") == -9
    assert exact("1" * 300) is None and equations("=" * 1000 + "1 + " * 3000) == []
