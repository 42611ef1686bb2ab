"""Every strategy on a model whose words are known: what it asks, what it answers, what it spends."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest

from orrery.evaluate.strategies import answer, label, parse
from orrery.evaluate.strategies.ask import answers, last_number
from orrery.evaluate.strategies.config import KINDS, Beam, BudgetForcing, slug
from orrery.evaluate.strategies.voice import Question, Voice
from orrery.kit.errors import OrreryError
from tests.evaluate.scripted import make_tokenizer
from tests.evaluate.strategies.fake import Fake

TOKENIZER = make_tokenizer()
END = "<|end|>"


def size(text: str) -> int:
    return len(TOKENIZER.encode(text, special="allow"))


def samples(*texts: str) -> Callable[[str, int], str]:
    return lambda prompt, sample: texts[sample]


def chat(question: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}]


def test_direct_asks_once_and_steps_are_asked_for_behind_the_question() -> None:
    model = Fake(TOKENIZER, lambda prompt, sample: "one\n3")
    found = answer("direct", model.subject(), "Q: 1 + 2?\nA:", stop=("\n",))
    assert (found.text, found.calls) == ("one", 1)
    assert (found.tokens, found.read) == (size("one\n"), size("Q: 1 + 2?\nA:"))
    found = answer("cot", model.subject(), "Q: 1 + 2?\nA:", stop=("\n",))
    assert model.asked[-1] == "Q: 1 + 2?\nA: Let's think step by step."
    assert found.text == "one\n3"  # a line's end does not end a chain of thought
    talking = Fake(TOKENIZER, lambda prompt, sample: f"<|think|>hm<|end_think|>3{END}")
    found = answer("cot", talking.subject(chat=True), chat("1 + 2?"))
    assert talking.asked == [f"<|begin_of_text|><|user|>1 + 2?\nLet's think step by step.{END}<|assistant|>"]
    assert found.text == "3" and found.trace[0]["thought"] == "hm"


def test_the_majority_of_final_answers_wins_however_they_are_written() -> None:
    model = Fake(TOKENIZER, samples("so 7", "it is 18.0", "none", "18", "7 or 8", "that is 18"))
    found = answer("self-consistency:n=6", model.subject(), "?", seed=5)
    assert found.text == "it is 18.0"  # the first of the majority's
    assert found.trace[-1] == {"step": "vote", "votes": {"18": 3, "7": 1, "8": 1}, "unread": 1}
    assert found.calls == 6 and found.tokens == sum(
        map(size, ("so 7", "it is 18.0", "none", "18", "7 or 8", "that is 18"))
    )
    assert found.read == size("? Let's think step by step.")  # the samples share one reading
    assert [(r.n, r.sampling.temperature, r.sampling.seed) for r in model.requests] == [(6, 0.7, 5)]


def test_the_best_of_n_by_each_judge() -> None:
    texts = ("2 + 2 = 5", "2 + 2 = 4", "four", "2 + 2 = 4, 4 + 1 = 6")
    likely = {"four": -0.5}
    model = Fake(TOKENIZER, samples(*texts), logprob=lambda text: likely.get(text, -1.0))
    ask = lambda by, **more: answer(f"best-of-n:n=4,by={by}", model.subject(), "?", **more).text  # noqa: E731
    assert ask("likelihood") == "four"
    assert ask("equations") == "2 + 2 = 4"  # shares 0, 1, nothing known (0.5), 1 of 2
    assert ask("verifier", check=lambda text: None if text == "four" else float("6" in text)) == texts[3]
    seen: list[Any] = []

    def reward(conversations: Any) -> list[float]:
        seen.extend(conversations)
        return [len(conversation[-1]["content"]) for conversation in conversations]

    assert ask("reward", reward=reward) == texts[3]
    assert [m["role"] for m in seen[0]] == ["user", "assistant"] and seen[1][-1]["content"] == texts[1]


def test_beams_keep_the_steps_that_the_score_prefers() -> None:
    """Two steps of four drawn each time; the right step is the last drawn, and only a judge of steps finds it."""

    def say(prompt: str, sample: int) -> str:
        if "= 3" in prompt:
            return ("3 + 3 = 7", "6 - 1 = 4", "3 + 3 = 6", "3 + 3 = 5")[sample]
        if prompt.count("\n") >= 1:
            return ("9 + 9 = 1\n", "no\n", "1 + 1 = 3\n", "0 = 0\n")[sample]
        return ("1 + 2 = 4\n", "2 + 2 = 5\n", "1 + 2 = 2\n", "1 + 2 = 3\n")[sample]

    model = Fake(TOKENIZER, say)
    found = answer("beam:width=1,expand=4,steps=4,instruction=''", model.subject(), "1 + 2 + 3?")
    assert found.text == "1 + 2 = 3\n3 + 3 = 6"
    assert [len(step["beams"]) for step in found.trace] == [1, 1] and found.calls == 8
    assert found.trace[0]["beams"][0] == {"text": "1 + 2 = 3\n", "score": 1.0}
    seen: list[str] = []

    def reward(conversations: Any) -> list[float]:
        seen.extend(c[-1]["content"] for c in conversations)
        return [float(text.startswith("2 + 2")) for text in (c[-1]["content"] for c in conversations)]

    led = answer(
        "beam:by=reward,width=1,expand=4,steps=2,instruction=''", model.subject(), "1 + 2 + 3?", reward=reward
    )
    assert led.text.startswith("2 + 2 = 5\n9 + 9") and seen[:2] == ["1 + 2 = 4\n", "2 + 2 = 5\n"]


def think(prompt: str, sample: int) -> str:
    """Thinks two words at a time and ends; answers by how much was thought."""
    inside = prompt.rsplit("<|think|>", 1)[-1]
    if "<|end_think|>" in inside:
        return f"{inside.count('hm')}{END}"
    return "hm hm<|end_think|>never read"


def test_thinking_goes_on_after_wait_until_the_least_is_reached() -> None:
    model = Fake(TOKENIZER, think)
    two, wait = size("hm hm"), size("Wait")
    least = two + wait + 1
    cfg = BudgetForcing(min_thinking=least, max_thinking=100)
    found = answer(cfg, model.subject(chat=True), chat("?"))
    assert found.text == "4" and found.trace[0]["thought"] == "hm hmWaithm hm"
    assert found.trace[0] | {"thought": ""} == {
        "step": "think", "thought": "", "tokens": 2 * two + wait, "waits": 1, "forced": False,
    }  # fmt: skip
    assert model.asked[0].endswith("<|assistant|><|think|>")
    assert model.asked[-1].endswith("hm hmWaithm hm<|end_think|>")
    assert found.tokens == 2 * (two + 1) + size(f"4{END}")


@pytest.mark.parametrize("most", [0, 1, 2])
def test_thinking_is_ended_at_the_most(most: int) -> None:
    model = Fake(TOKENIZER, lambda prompt, sample: "5" + END if "<|end_think|>" in prompt else "hm " * 50)
    found = answer(BudgetForcing(max_thinking=most), model.subject(chat=True), chat("?"))
    assert found.text == "5" and found.trace[0]["tokens"] == most and found.trace[0]["forced"]
    assert len(model.requests) == 1 + (most > 0)
    unlimited = answer(
        "budget-forcing:effort=low,waits=0,min_thinking=9",
        Fake(TOKENIZER, think).subject(chat=True),
        chat("?"),
    )
    assert unlimited.trace[0]["waits"] == 0 and unlimited.text == "2"


def test_a_draft_is_criticised_and_revised_until_the_critic_is_content() -> None:
    def say(prompt: str, sample: int) -> str:
        turns = prompt.count("<|assistant|>")
        return ("1 + 1 = 3", "The sum is wrong.", "1 + 1 = 2", "It is correct.")[turns - 1] + END

    model = Fake(TOKENIZER, say)
    found = answer("self-refine:rounds=3", model.subject(chat=True), chat("1 + 1?"))
    assert found.text == "1 + 1 = 2" and found.calls == 4
    assert [step["step"] for step in found.trace] == ["draft", "critique", "revise", "critique"]
    again = answer(
        "self-refine:critic=equations,revise=Again.", Fake(TOKENIZER, say).subject(chat=True), chat("1 + 1?")
    )
    assert [step["text"] for step in again.trace] == [
        "1 + 1 = 3",
        "1 + 1 = 3 is wrong.",
        "The sum is wrong.",
        "it is correct",
    ]
    stubborn = Fake(TOKENIZER, lambda prompt, sample: f"no{END}")
    found = answer("self-refine:rounds=9", stubborn.subject(chat=True), chat("?"))
    assert found.calls == 3 and found.text == "no"  # a revision that changes nothing ends it


def test_programs_run_in_the_sandbox_and_what_they_print_is_the_answer() -> None:
    model = Fake(TOKENIZER, lambda prompt, sample: "print(6)\nprint(6 * 7)\n```\nmore")
    found = answer("program-aided", model.subject(), "Six times seven?")
    assert found.text == "42" and model.asked[0].endswith("in one block of code.\n```python\n")
    assert found.trace[1] == {"step": "run", "status": "ok", "printed": "6\n42"}
    broken = Fake(TOKENIZER, lambda prompt, sample: f"Here:\n```python\nprint(1)\n1 / 0\n```{END}")
    found = answer("program-aided", broken.subject(chat=True), chat("?"))
    assert (
        found.text == "" and found.trace[1]["status"] == "error" and "ZeroDivision" in found.trace[1]["error"]
    )


def test_many_questions_share_batches_and_draw_apart() -> None:
    model = Fake(TOKENIZER, lambda prompt, sample: f"{len(prompt)}{END}")
    voice = Voice(subject=model.subject(chat=True))
    questions = [Question(text="", messages=tuple(chat("?" * n)), key=last_number) for n in (1, 2, 3)]
    found = dict(answers(parse("self-refine:accept=zzz,rounds=1"), voice, questions, [1, 2, 3]))
    assert sorted(found) == [0, 1, 2] and model.batches == [3, 3, 3]
    assert len({request.sampling.seed for request in model.requests}) == 9
    alone = answers(parse("self-refine:accept=zzz,rounds=1"), voice, questions[1:2], [2])
    assert dict(alone)[0] == found[1]


def test_a_prompt_without_room_is_a_fault_of_its_row_alone() -> None:
    model = Fake(TOKENIZER, lambda prompt, sample: "3")
    voice = Voice(subject=model.subject(context=20))
    found = dict(
        answers(parse("direct"), voice, [Question(text="x y " * 40), Question(text="1 + 2?")], [0, 1])
    )
    assert "longer than the model's context of 20" in found[0].fault and found[1].text == "3"
    with pytest.raises(OrreryError, match="longer than the model's context"):
        answer("direct", model.subject(context=20), "x y " * 40)


def test_what_a_model_cannot_do_is_said_before_anything_is_asked() -> None:
    model = Fake(TOKENIZER, lambda prompt, sample: "3")
    base, talking = model.subject(), model.subject(chat=True)
    for strategy, subject, prompt, wrong in [
        ("budget-forcing", base, "?", "base model without a chat format"),
        ("budget-forcing", talking, "?", "without --no-chat"),
        ("self-refine", base, "?", "base model without a chat format"),
        ("best-of-n:by=reward", base, "?", "needs a reward model"),
        ("best-of-n:by=verifier", base, "?", "needs a check"),
        ("beam:by=reward", base, "?", "needs a reward model"),
        ("tree:evaluator=exact", base, "?", "nobody can tell"),
        ("tree:game=make-number", base, "?", "task make_number"),
    ]:
        with pytest.raises(OrreryError, match=wrong):
            answer(strategy, subject, prompt)
    with pytest.raises(OrreryError, match="none can be read"):
        dict(answers(parse("self-consistency"), Voice(subject=base), [Question(text="?")], [0]))
    assert model.requests == []


def test_strategies_are_written_and_named() -> None:
    assert parse("beam: width=3, by=likelihood") == Beam(width=3, by="likelihood")
    assert (
        label(parse("self-consistency")) == "self-consistency:n=8"
        and label(parse("cot:max_tokens=9")) == "cot:max_tokens=9"
    )
    assert label(parse("cot:instruction=a very long instruction indeed")).startswith("cot:instruction=")
    assert slug(parse("best-of-n:n=2,by=verifier")) == "best-of-n-n=2,by=verifier"
    for kind, cls in KINDS.items():
        assert parse(kind) == cls() and cls.__doc__
    for text, wrong in [
        ("selfconsistency", "Did you mean 'self-consistency'"),
        ("cot:n", "name=value"),
        ("best-of-n:k=3", "unknown setting 'k'"),
        ("budget-forcing:min_thinking=9,max_thinking=3", "raise max_thinking"),
        ("self-consistency:n=0", "'n'"),
    ]:
        with pytest.raises(OrreryError, match=wrong):
            parse(text)


def test_the_final_number_is_the_usual_vote() -> None:
    assert last_number("7, then 18.50") == Fraction(37, 2) and last_number("none") is None
