"""Exhibits of test-time compute: one small model, the same questions, more tokens spent on each answer in different ways."""

from __future__ import annotations

import functools
import random
from collections.abc import Mapping
from typing import Any

from orrery.evaluate.scorers.samples import majority_vote
from orrery.evaluate.strategies.config import EFFORTS, BudgetForcing
from orrery.evaluate.strategies.voice import Voice
from orrery.evaluate.subject import Subject
from orrery.glossary.exhibit import Exhibit, Series
from orrery.glossary.exhibits import _prepared
from orrery.glossary.exhibits._joiner import solve
from orrery.glossary.exhibits._reasoner import Solved, question, sums, taught_to_reason
from orrery.model.families import BY_TYPE
from orrery.plan.parameters import count_parameters
from orrery.serve.engine.engine import Engine
from orrery.text.chat import ChatFormat
from orrery.tune.selfdata.best_of_n import best_of_n_kl, expected_best

STEPS = "instruction=steps"
DRAWN = f"temperature=1.0,{STEPS}"
CRITIC = "instruction=guess,critique=check,revise=again,accept=correct"
DRAWS = 24
NS = (1, 2, 4, 8, 16, DRAWS)


@functools.cache
def _samples() -> Solved:
    """Chains of thought for every question, each with the verifier's word."""
    return taught_to_reason().solve(f"best-of-n:n={DRAWS},by=verifier,{DRAWN}")


def _of(answer: Any) -> list[Mapping[str, Any]]:
    """The samples in a trace."""
    return [step for step in answer.trace if step["step"] == "sample"]


def _votes(n: int) -> float:
    """How often the majority of n chains is right, over random choices of n among those drawn."""
    draw, right = random.Random(n), []
    for answer in _samples().answers:
        chains = [(step["text"].split()[-1:], step["verifier"]) for step in _of(answer)]
        for _ in range(12):
            some = draw.sample(chains, n)
            keys = [" ".join(words) or None for words, _ in some]
            winner = majority_vote(keys)
            right.append(some[keys.index(winner)][1] if winner else 0.0)
    return sum(right) / len(right)


def _best(n: int) -> float:
    """How often a verifier finds a right chain among n."""
    return sum(
        expected_best([max(step["verifier"], 0.0) for step in _of(answer)], n)
        for answer in _samples().answers
    ) / len(_samples().answers)


def _cost() -> float:
    """Tokens of one chain."""
    return _samples().tokens / DRAWS


def steps_before_the_answer() -> Exhibit:
    """Sums of four digits answered at once and in steps by one small model: how many are right, and the tokens spent on each."""
    model = taught_to_reason()
    found = [("direct", model.solve("direct")), ("chain of thought", model.solve(f"cot:{STEPS}"))]
    shown = found[1][1].answers[0].text.replace("\n", " / ")
    return Exhibit(
        title=f"{question(sums()[1][0])} in steps: {shown}",
        columns=("asked", "right", "tokens an answer"),
        rows=[(name, round(one.accuracy, 3), round(one.tokens, 1)) for name, one in found],
        reads="One pass over the layers has to add all digits of a sum that was never taught. In steps each token "
        "needs a fact that was taught, and reads the result of the step before.",
    )


def votes_of_chains() -> Exhibit:
    """The majority's answer of n sampled chains, for growing n."""
    votes = [round(_votes(n), 3) for n in NS]
    greedy = taught_to_reason().solve(f"cot:{STEPS}").accuracy
    return Exhibit(
        title=f"Self-consistency; one greedy chain: {greedy:.3f} right",
        columns=("n", "right", "tokens an answer"),
        rows=[(n, vote, round(n * _cost())) for n, vote in zip(NS, votes, strict=True)],
        series=[Series(name="majority of n", x=NS, y=votes)],
        x="chains", y="share right", log_x=True,
        reads="Wrong chains scatter over many answers and right ones meet in one, so votes gain quickly at first. They cannot gain where the model's "
        "commonest answer is wrong: the curve goes flat below 1.",
    )  # fmt: skip


def gain_of_the_best_of_n() -> Exhibit:
    """The best of n chains by a verifier against the majority of n, and how far choosing moves the model: log n - (n - 1)/n."""
    best, votes = [round(_best(n), 3) for n in NS], [round(_votes(n), 3) for n in NS]
    kls = [round(best_of_n_kl(n), 3) for n in NS]
    return Exhibit(
        title="What choosing among n gains, and how far it moves the policy",
        columns=("n", "best by verifier", "majority", "KL bound, nats", "tokens an answer"),
        rows=[(n, b, v, kl, round(n * _cost())) for n, b, v, kl in zip(NS, best, votes, kls, strict=True)],
        series=[Series(name="best by verifier", x=NS, y=best), Series(name="majority", x=NS, y=votes)],
        x="answers drawn", y="share right", log_x=True,
        reads="With a verifier one right answer among n is enough. The KL of the chosen answer's distribution grows only with log n: 24 draws "
        "move the model by about two nats, which is why best-of-n over-optimises slowly.",
    )  # fmt: skip


@functools.cache
def _thinking() -> list[tuple[int, Solved]]:
    spent = (0, 6, 12, 18, 24, 40)
    return [
        (
            most,
            taught_to_reason().solve(f"budget-forcing:instruction=think,max_thinking={most},max_tokens=12"),
        )
        for most in spent
    ]


def thinking_held_to_a_budget() -> Exhibit:
    """Thinking that is ended after so many tokens: how many answers are right, and how many tokens were thought."""
    found = _thinking()
    thought = [
        sum(one.trace[0]["tokens"] for one in solved.answers) / len(solved.answers) for _, solved in found
    ]
    forced = [sum(one.trace[0]["forced"] for one in solved.answers) for _, solved in found]
    right = [solved.accuracy for _, solved in found]
    return Exhibit(
        title="Budget forcing: the end of thinking is written for the model at the most, and never before the least",
        columns=("thinking at most", "tokens thought", "ended by force", "right"),
        rows=[(most, round(t, 1), f, round(r, 3)) for (most, _), t, f, r in zip(found, thought, forced, right, strict=True)],
        series=[Series(name="right", x=[most for most, _ in found], y=right)],
        x="tokens of thinking at most", y="share right",
        reads="Cut before the last step, thinking is of no use to this model, which has learned to read the answer off its end. Beyond what a chain "
        "needs, more budget changes nothing.",
    )  # fmt: skip


def drafts_criticised_and_revised() -> Exhibit:
    """Guesses that the model checks in steps and mends where it finds them wrong: right before and after, and when it stops."""
    model = taught_to_reason()
    guessed = model.solve("cot:instruction=guess")
    found = model.solve(f"self-refine:{CRITIC},rounds=1")
    accepted = sum(one.trace[-1]["step"] == "critique" for one in found.answers)
    same = sum(one.trace[0]["text"] == one.trace[-1]["text"] for one in found.answers)
    critique = found.answers[0].trace[1]["text"].replace("\n", " / ")
    return Exhibit(
        title=f"{question(sums()[1][0])} guessed: {found.answers[0].trace[0]['text']}; the critique: {critique}",
        columns=("", "right", "accepted", "revised to the same", "tokens an answer"),
        rows=[
            ("draft only", round(guessed.accuracy, 3), "", "", round(guessed.tokens, 1)),
            ("one round", round(found.accuracy, 3), accepted, same, round(found.tokens, 1)),
        ],
        reads="The critic works the sum out in steps, which the guess did not: that is what it knows and the draft did not. The loop stops where it "
        "accepts, or where the revision is the draft again. A critic that only asks whether one is sure has nothing to mend with.",
    )


def programs_instead_of_arithmetic() -> Exhibit:
    """The same sums by programs that the model writes and the sandbox runs."""
    model = taught_to_reason()
    direct, found = model.solve("direct"), model.solve("program-aided:instruction=python", n=12)
    rows = [
        (question(digits), one.trace[0]["text"], one.text, "right" if right else "wrong")
        for digits, one, right in list(zip(sums()[1], found.answers, found.right, strict=False))[:5]
    ]
    return Exhibit(
        title=f"Programs: {found.accuracy:.0%} right of 12; answered at once: {direct.accuracy:.0%}",
        columns=("asked", "program", "printed", ""),
        rows=rows,
        reads="Writing the program only asks the model to copy the numbers into place; the interpreter calculates, and does not err. What is left is "
        "copying wrongly: such a program runs as well as a right one.",
    )


@functools.cache
def _every_way() -> list[tuple[str, Solved]]:
    ways = [
        "direct", f"cot:{STEPS}", f"self-consistency:n=8,{DRAWN}", f"best-of-n:n=8,by=likelihood,{DRAWN}", f"best-of-n:n=8,by=equations,{DRAWN}",
        f"beam:width=2,expand=4,max_tokens=12,{DRAWN}", "budget-forcing:instruction=think,max_thinking=40",
        f"self-refine:{CRITIC},rounds=1",
    ]  # fmt: skip
    return [
        (
            way.replace(f",{DRAWN}", "").replace(STEPS, "").replace(CRITIC + ",", "").rstrip(":,"),
            taught_to_reason().solve(way),
        )
        for way in ways
    ]


def what_an_answer_costs() -> Exhibit:
    """Eight strategies on the same questions: tokens made, tokens read, calls of the model, and how many are right."""
    rows = []
    for name, found in _every_way():
        n = len(found.answers)
        read, calls = sum(one.read for one in found.answers) / n, sum(one.calls for one in found.answers) / n
        rows.append((name, round(found.accuracy, 3), round(found.tokens, 1), round(read, 1), round(calls, 1)))
    return Exhibit(
        title="The account of every answer",
        columns=("strategy", "right", "tokens made", "tokens read", "calls"),
        rows=rows,
        reads="Every token that any call makes is counted, whether it ends in the answer or not; samples of one prompt share one reading of it. Without "
        "this account a strategy that draws eight times as much looks better for free.",
    )


def accuracy_against_tokens() -> Exhibit:
    """Accuracy over tokens spent on an answer: more samples by votes and by a verifier, and more thinking."""
    cost = _cost()
    found = _thinking()
    lines = [
        Series(name="majority of n chains", x=[n * cost for n in NS], y=[_votes(n) for n in NS]),
        Series(name="best of n by a verifier", x=[n * cost for n in NS], y=[_best(n) for n in NS]),
        Series(
            name="thinking, longer",
            x=[solved.tokens for _, solved in found],
            y=[solved.accuracy for _, solved in found],
        ),
    ]
    return Exhibit(
        title="The same model, more tokens an answer",
        series=lines,
        x="tokens made for an answer", y="share right", log_x=True,
        columns=("way", "cheapest", "dearest"),
        rows=[(line.name, f"{line.y[0]:.2f} at {line.x[0]:,.0f}", f"{line.y[-1]:.2f} at {line.x[-1]:,.0f}") for line in lines],
        reads="Accuracy rises with the logarithm of what is spent, up to what the way of spending can reach: thinking to the end of the chain, votes to "
        "the commonest answer, choosing to the rarest right one that is drawn at all.",
    )  # fmt: skip


def thinking_apart_from_answers() -> Exhibit:
    """Questions with what was thought and what was answered, as the chat format keeps them apart, and the settings of effort."""
    found = dict(_thinking())[40]
    rows = [
        (question(digits), one.trace[0]["thought"].replace("\n", " / "), one.text)
        for digits, one in list(zip(sums()[1], found.answers, strict=False))[:4]
    ]
    budgets = ", ".join(f"{effort} {BudgetForcing(effort=effort).budget:,}" for effort in EFFORTS)
    return Exhibit(
        title=f"Tokens of thinking by effort: {budgets}",
        columns=("asked", "thought", "answered"),
        rows=rows,
        reads="Thinking stands between marks of the chat format and is no part of the answer: scorers and users see the last column. Effort is nothing "
        "but the most that may stand between the marks.",
    )


QWQ_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{{ message.content.split('</think>')[-1] if message.role == 'assistant' else message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)
"""The shape of QwQ's: thinking is opened by the prompt, and that of earlier turns is dropped."""
QWQ_CONFIG: dict[str, Any] = {
    "model_type": "qwen2", "vocab_size": 152_064, "hidden_size": 5120, "num_hidden_layers": 64, "num_attention_heads": 40,
    "num_key_value_heads": 8, "intermediate_size": 27_648, "max_position_embeddings": 40_960, "rope_theta": 1_000_000.0,
    "rms_norm_eps": 1e-5, "tie_word_embeddings": False,
}  # fmt: skip


def qwq_read() -> Exhibit:
    """QwQ-32B's settings read as the Qwen 2 family, and answers of its thinking format taken apart, whole and cut off."""
    cfg = BY_TYPE["qwen2"].read(QWQ_CONFIG)
    tokenizer = _prepared.tokenizer()
    chat = ChatFormat.from_template(QWQ_TEMPLATE, tokenizer)
    voice = Voice(
        subject=Subject(
            lm=Engine(taught_to_reason().lm), tokenizer=tokenizer, context=64, name="QwQ", chat=chat
        )
    )
    asked = chat.prompt([{"role": "user", "content": "3 * 4 + 5?"}])
    said = ("3 * 4 is 12.\n</think>\n\nIt is 17.", "3 * 4 is 12. Wait,")
    rows = []
    for text in said:
        thought, answer = voice.parts(tokenizer.encode(text), asked)
        rows.append((text.replace("\n", " / "), thought, answer or "none"))
    return Exhibit(
        title=f"QwQ-32B: {count_parameters(cfg).total / 1e9:.1f} billion weights, {cfg.n_layers} layers; its prompt ends with "
        f"{tokenizer.decode(asked[-12:])[-8:]!r}",
        columns=("said", "thought", "answer"),
        rows=rows,
        reads="The prompt opens the thinking itself, so an answer holds only the closing mark. One that was cut off before it has no answer: all of it "
        "was thinking.",
    )


def puzzles_by_tree_and_chain() -> Exhibit:
    """Three numbers to be joined to a target: chains of moves, and trees over the same model's moves by breadth and by depth."""
    ways = (
        ("one chain of moves", "tree:width=1,samples=1"),
        ("breadth first", "tree:width=3,samples=16"),
        ("depth first", "tree:search=dfs,samples=16"),
    )
    rows = []
    for name, way in ways:
        found = solve(way)
        visits = sum(one.trace[-1]["visits"] for one in found.answers) / len(found.answers)
        rows.append((name, round(found.accuracy, 3), round(visits, 1), round(found.tokens, 1)))
    example = next(one for one, right in zip(found.answers, found.right, strict=True) if right)
    path = "; ".join(f"{step['step']} {step['state']}".replace("\n", ", ") for step in example.trace[:-1])
    return Exhibit(
        title=f"A puzzle solved depth first: {path}",
        columns=("search", "solved", "states looked at", "tokens an answer"),
        rows=rows,
        reads="The model proposes moves and knows nothing of the target; the exact evaluator says which states can still reach it. A chain goes on from "
        "its first move whatever it was; a tree keeps what has a future, and going deep it goes back from what has none.",
    )
