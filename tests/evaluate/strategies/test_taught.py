"""Strategies on a small model that was taught to add: spending more tokens gains what each strategy promises."""

from __future__ import annotations

import pytest

from orrery.evaluate.strategies import answer
from orrery.glossary.exhibits._joiner import solve
from orrery.glossary.exhibits._reasoner import Reasoner, question, sums, taught_to_reason
from orrery.kit.errors import OrreryError

pytestmark = pytest.mark.slow  # the model is taught first: some ten seconds of a processor
DRAWN = "temperature=1.0,instruction=steps"


@pytest.fixture(scope="module")
def model() -> Reasoner:
    return taught_to_reason()


def test_steps_votes_and_judges_beat_one_sample(model: Reasoner) -> None:
    one = model.solve(f"cot:{DRAWN}")
    votes = model.solve(f"self-consistency:n=16,{DRAWN}")
    best = model.solve(f"best-of-n:n=8,by=verifier,{DRAWN}")
    checked = model.solve(f"best-of-n:n=8,by=equations,{DRAWN}")
    assert votes.accuracy >= one.accuracy + 0.1
    assert best.accuracy >= max(one.accuracy + 0.2, votes.accuracy)
    assert best.accuracy >= checked.accuracy >= one.accuracy + 0.1
    assert votes.tokens == pytest.approx(16 * one.tokens, rel=0.1)
    direct = model.solve("direct")
    assert model.solve("cot:instruction=steps").accuracy >= direct.accuracy + 0.3 and direct.tokens < 4
    assert model.solve("program-aided:instruction=python", n=6).accuracy >= 0.8


def test_a_process_reward_leads_a_beam(model: Reasoner) -> None:
    """The reward knows which running sums are right: a callable over conversations that end with the beginning of an answer."""

    def reward(conversations: object) -> list[float]:
        scores = []
        for asked, said in conversations:  # type: ignore[attr-defined]
            digits = [int(word) for word in asked["content"].split() if word.isdigit()]
            right = [f"= {sum(digits[: n + 2])}" for n in range(len(digits) - 1)]
            lines = said["content"].splitlines()
            scores.append(float(all(end in line for line, end in zip(lines, right, strict=False))))
        return scores

    led = model.solve(f"beam:by=reward,width=2,expand=4,max_tokens=12,{DRAWN}", reward=reward)
    blind = model.solve(
        f"beam:by=reward,width=2,expand=4,max_tokens=12,{DRAWN}", reward=lambda c: [0.0] * len(c)
    )
    assert led.accuracy >= blind.accuracy + 0.15


def test_thinking_needs_its_budget(model: Reasoner) -> None:
    short, whole = (
        model.solve(f"budget-forcing:instruction=think,max_thinking={most},max_tokens=12") for most in (6, 40)
    )
    assert whole.accuracy >= short.accuracy + 0.3
    assert all(one.trace[0]["tokens"] <= 6 and one.trace[0]["forced"] for one in short.answers)


def test_critiques_mend_guesses(model: Reasoner) -> None:
    guessed = model.solve("cot:instruction=guess")
    mended = model.solve("self-refine:instruction=guess,critique=check,revise=again,accept=correct,rounds=1")
    assert mended.accuracy >= guessed.accuracy + 0.2


def test_answers_are_the_same_alone_and_in_company(model: Reasoner) -> None:
    """The same seeds give the same bytes, whatever is asked beside them."""
    few, many = (
        model.solve(f"self-consistency:n=3,{DRAWN}", n=2),
        model.solve(f"self-consistency:n=3,{DRAWN}", n=9),
    )
    assert few.answers == many.answers[:2]
    asked = [{"role": "user", "content": question(sums()[1][0])}]
    found = [
        answer(f"self-consistency:n=3,{DRAWN}", model.lm, asked, seed=4, max_tokens=64) for _ in range(2)
    ]
    assert found[0] == found[1]
    with pytest.raises(OrreryError, match="task make_number"):
        answer("tree:game=make-number", model.lm, asked)


def test_a_tree_solves_what_a_chain_does_not() -> None:
    chain, broad, deep = (
        solve(way).accuracy
        for way in ("tree:width=1,samples=1", "tree:width=3,samples=16", "tree:search=dfs,samples=16")
    )
    assert min(broad, deep) >= chain + 0.3
