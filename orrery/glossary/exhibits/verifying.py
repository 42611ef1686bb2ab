"""Exhibits of checking answers: what is read out of a text, when two answers are the same, votes, options, programs, calls."""

from __future__ import annotations

import json
import random

from orrery.evaluate.metrics.pass_at_k import pass_at_k
from orrery.evaluate.scorers import ScoreContext, Unscored, find
from orrery.evaluate.scorers.call_text import read_calls
from orrery.evaluate.scorers.choice import LETTERS, choice_letter
from orrery.evaluate.scorers.math_answer import equivalent
from orrery.evaluate.scorers.numeric import final_number
from orrery.evaluate.scorers.samples import majority_vote
from orrery.evaluate.shapes import find as find_shape
from orrery.glossary.exhibit import Exhibit, Series
from orrery.kit.errors import OrreryError
from orrery.kit.seeds import key
from orrery.text.chat import TEMPLATE, ChatFormat
from orrery.text.tool_schema import function_schema


def _verdict(name: str, answer: str, row: dict[str, object], target: str) -> str:
    found = find(name)(answer, row, ScoreContext(target=target, answers=(answer,)))
    if isinstance(found, Unscored):
        return f"unscored: {found.reason}"
    return "right" if next(iter(found.values())) == 1 else "wrong"


def verifiers_on_good_and_bad() -> Exhibit:
    """Each verifier on an answer that is right, one that is wrong, and one from which nothing can be read."""
    options = {"options": ["Paris", "Rome", "Oslo"]}
    comma = {"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
    cases: list[tuple[str, dict[str, object], str, tuple[str, str, str]]] = [
        ("numeric", {}, "#### 1,080", ("so 1080.00 eggs", "so 1081 eggs", "many eggs")),
        ("math", {}, "$\\boxed{\\frac{1}{\\sqrt2}}$", ("\\boxed{\\sqrt{2}/2}", "\\boxed{2}", "")),
        ("choice", dict(options), "B", ("The answer is (B).", "(A)", "A hard question to decide")),
        ("boolean", {}, "yes", ("Yes, it is.", "No.", "perhaps")),
        ("exact", {"aliases": ["NYC"]}, "New York City", ("nyc!", "Boston", "")),
        ("ifeval", dict(comma), "", ("one two", "one, two", "")),
    ]
    rows = [
        (name, *(_verdict(name, answer, row, target) for answer in answers))
        for name, row, target, answers in cases
    ]
    return Exhibit(
        title="Six verifiers, three kinds of answer",
        reads="A verifier says right, wrong, or that it could not read an answer. The last is counted apart; where every text"
        " is an answer, silence is simply wrong.",
        columns=("verifier", "a right answer", "a wrong one", "nothing to read"),
        rows=rows,
    )


def final_numbers() -> Exhibit:
    """Worked answers and the number read out of each."""
    texts = [
        ("en", "She sells 16 - 3 - 4 = 9 eggs at $2.\n#### 18"),
        ("en", "The answer is 9 * 2 = 18 dollars. She started with 16."),
        ("en", "That makes $1,080.00 in 12 months, so \\boxed{1{,}080}."),
        ("de", "Das sind insgesamt 1.080 Euro"),
        ("fr", "Cela fait 1 080,5 euros"),
        ("bn", "উত্তর হল ১৮"),
        ("zh", "一共是一百二十个"),
        ("en", "I am not sure"),
    ]
    rows = []
    for language, text in texts:
        number = final_number(text, language=language)
        rows.append((language, text.replace("\n", " / "), "none" if number is None else str(number.value)))
    return Exhibit(
        title="The final number of worked answers",
        reads="Behind #### first, else in the box, else behind 'the answer is' in eleven languages, else the last number of"
        " all; separators and digits by the language. Values are exact fractions.",
        columns=("language", "answer", "read as"),
        rows=rows,
    )


def equal_expressions() -> Exhibit:
    """Pairs of mathematical answers and whether they are the same, an answer made to hang the check among them."""
    pairs = [
        ("\\frac{1}{1+\\sqrt2}", "\\sqrt{2}-1"),
        ("2\\frac{1}{2}", "2.5"),
        ("0.\\overline{3}", "\\frac13"),
        ("50\\%", "1/2"),
        ("(x+1)^2", "x^2+2x+1"),
        ("1\\pm\\sqrt2", "1-\\sqrt2, 1+\\sqrt2"),
        ("(1,2)", "[1,2]"),
        ("\\sqrt2", "1.41421356"),
        ("9^{9^{9}}", "9^{9^{8}}"),
    ]
    rows = [(a, b, "same" if equivalent(a, b) else "different") for a, b in pairs]
    return Exhibit(
        title="When two answers are the same",
        reads="Answers are read into exact quotients of sums with roots, pi and variables and compared by multiplying across."
        " A rounded root is not the root; a power too large to compute is compared as text, at once.",
        columns=("answer", "gold", "verdict"),
        rows=rows,
    )


def majority_of_samples() -> Exhibit:
    """Accuracy of the majority of n samples, where a sample is right with a fixed chance and wrong in several ways."""
    sizes, questions = [1, 3, 5, 9, 17, 33, 65], 400
    curves = []
    for chance, ways in ((0.45, 6), (0.45, 1), (0.30, 6)):
        draw = random.Random(key(0, "votes", round(100 * chance), ways))
        answers = [
            ["right" if draw.random() < chance else f"wrong {draw.randrange(ways)}" for _ in range(sizes[-1])]
            for _ in range(questions)
        ]
        accuracy = [
            sum(majority_vote(given[:size]) == "right" for given in answers) / questions for size in sizes
        ]
        name = f"{chance:.0%} right, {ways} way{'s' if ways > 1 else ''} to be wrong"
        curves.append(Series(name=name, x=sizes, y=accuracy))
    return Exhibit(
        title="Majority vote over samples",
        reads="A vote helps where the right answer is the most common one, even when most samples are wrong: mistakes differ and"
        " split their votes. With a single common mistake the vote makes a weak answerer worse.",
        series=curves,
        x="samples a question",
        y="accuracy of the majority",
        log_x=True,
    )


def shuffled_options() -> Exhibit:
    """A model that always says A, on questions whose right option stands first, and on the same with shuffled options."""
    fields = [f"Incorrect Answer {at}" for at in (1, 2, 3)]
    questions = [
        {
            "Question": f"Question {at}?",
            "Correct Answer": "right",
            **{name: f"wrong {name[-1]}" for name in fields},
        }
        for at in range(400)
    ]
    places = dict.fromkeys(LETTERS[:4], 0)
    for question in questions:
        shaped = find_shape("gpqa")(question)
        if not isinstance(shaped, Unscored):
            places[shaped["answer"]] += 1
    rows = [
        ("as published", 1.0, 0.0, 0.0, 0.0),
        ("shuffled by the row's own text", *(n / 400 for n in places.values())),
    ]
    return Exhibit(
        title="Where the right option stands",
        reads="Published with the right answer first, a set would give full marks to a model that always says A. Shuffled by a hash of"
        " the row's own text it gets about a quarter, and every run and every model sees the same order.",
        columns=("order", "A", "B", "C", "D"),
        rows=rows,
    )


def letters_in_answers() -> Exhibit:
    """Answers to a multiple-choice question and the letter read out of each."""
    answers = [
        "B",
        "(B) because 2 + 2 = 4",
        "Let us see. The answer is (B).",
        "\\boxed{\\text{B}}",
        "**Answer:** B",
        "A good question",
    ]
    answers += ["Either (A) or (B)", "the answer is (A). No: the answer is (B)."]
    return Exhibit(
        title="The letter an answer settles on",
        reads="The article in 'A good question' is no choice, and two letters in brackets are none either; a later verdict"
        " replaces an earlier one. What chooses nothing is unscored.",
        columns=("answer", "letter"),
        rows=[(answer, choice_letter(answer, 4) or "none") for answer in answers],
    )


def unit_tests_in_the_sandbox() -> Exhibit:
    """Four programs for one docstring, run against its unit tests in the sandbox; and pass@k of ten samples."""
    row = {
        "prompt": 'def double(n):\n    """Twice n."""\n',
        "entry_point": "double",
        "test": "def check(candidate):\n    assert candidate(2) == 4\n    assert candidate(-3) == -6\n",
    }
    programs = {
        "return 2 * n": "    return 2 * n\n",
        "return n * n": "    return n * n\n",
        "leaves before the tests": "    raise SystemExit(0)\n",
        "an object equal to everything": "    class Any:\n        def __eq__(self, other): return True\n    return Any()\n",
    }
    rows = []
    for name, program in programs.items():
        found = find("humaneval")(program, row, ScoreContext(answers=(program,)))
        verdict = (
            found.reason[:60] if isinstance(found, Unscored) else ("pass" if found["pass@1"] else "fail")
        )
        rows.append((name, verdict))
    rows += [(f"pass@{k} when 3 of 10 samples pass", f"{pass_at_k(10, 3, k):.3f}") for k in (1, 2, 5)]
    return Exhibit(
        title="Unit tests decide, out of the program's reach",
        reads="Only a test program that ran to its end is a pass: leaving early and objects that equal everything fail. pass@k is the"
        " chance that k of the samples, drawn without putting back, hold one that passes.",
        columns=("program or number", "verdict"),
        rows=rows,
    )


def tool_call_round_trip() -> Exhibit:
    """A function as a schema, a model's call of it read back, run, and its result told to the model."""

    def rate(currency: str, amount: float = 1.0) -> float:
        """Euros for an amount of a currency.

        Args:
            currency: its three letters.
            amount: how much of it.
        """
        return {"USD": 0.5, "GBP": 1.25}[currency] * amount

    chat = ChatFormat.from_template(TEMPLATE, bos_token="")
    schema = function_schema(rate)
    rows = [
        (
            "schema",
            json.dumps(schema["function"]["parameters"]["required"])
            + " required of "
            + schema["function"]["name"],
        )
    ]
    said = '<|tool_call|>{"name": "rate", "arguments": {"currency": "GBP", "amount": 4}}'
    for text in (said, said[:-9], "Four pounds are about five euros."):
        calls = read_calls(text)
        if not calls:
            rows.append(
                (text[13:] if calls is None else text, "cannot be read" if calls is None else "no call")
            )
            continue
        try:
            result = str(rate(**calls[0].arguments))
        except (TypeError, LookupError, OrreryError) as error:
            result = f"error: {error}"
        told = chat.text([{"role": "tool", "content": result}])
        rows += [(text[13:], f"{calls[0].name} gives {result}"), ("what the model reads next", told)]
    return Exhibit(
        title="A tool call, there and back",
        reads="The function's hints and docstring become the schema; the model's text is read into a name and arguments, nothing of it"
        " is run; the host calls the function and appends the result as a message. Half a call is no call.",
        columns=("step", "result"),
        rows=rows,
    )
