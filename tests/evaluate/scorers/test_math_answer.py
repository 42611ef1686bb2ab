from __future__ import annotations

import time
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.evaluate.scorers import ScoreContext, Unscored, find
from orrery.evaluate.scorers.algebra import Value
from orrery.evaluate.scorers.final_answer import boxed
from orrery.evaluate.scorers.latex import read_expression
from orrery.evaluate.scorers.math_answer import equivalent

SAME = [
    (r"\frac{1}{2}", "0.5"), (r"\dfrac12", r"\frac{2}{4}"), (r"\sqrt{8}", r"2\sqrt2"), (r"\frac{1}{\sqrt{2}}", r"\frac{\sqrt{2}}{2}"),
    (r"\frac{1}{1+\sqrt2}", r"\sqrt{2}-1"), (r"\sqrt{\frac{1}{3}}", r"\frac{\sqrt{3}}{3}"), (r"\sqrt[3]{16}", r"2\sqrt[3]{2}"),
    (r"50\%", "50"), ("50%", "1/2"), ("(1,2)", "( 1 , 2 )"), (r"\left( \frac{1}{2}, 3\right)", "(0.5,3)"), ("[1,2)", "[1, 2)"),
    ("1,-2", "-2, 1"), (r"1\pm\sqrt{2}", r"1-\sqrt2, 1+\sqrt2"), ("x=5", "5"), ("x = 1 or x = 2", "1, 2"), (r"6 \text{ or } 7", "7, 6"),
    ("10,000", "10000"), (r"10{,}000", "10000"), (r"10,\!000", "10000"), (r"\$18.00", "18"), (r"5\text{ cm}^2", "5"), ("5 cm", "5"),
    (r"90^\circ", "90"), ("3x^2+2x", "x(3x+2)"), ("(x+1)^2", "x^2+2x+1"), (r"\{1,2,3\}", r"\{3,1,2\}"), ("x+y=3", "3 = x+y"),
    (r"(-\infty,3)\cup(5,\infty)", r"(5,\infty) \cup (-\infty, 3)"), (r"x \in [1,2]", "[1,2]"), ("2x+2y=6", "x+y=3"), ("x<5", "5>x"),
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}"), (r"\text{even}", "even"),
    (r"2\frac{1}{2}", "2.5"), (r"2\frac12", "5/2"), (r"0.\overline{3}", r"\frac13"), (r"0.1\overline{6}", r"\frac16"), ("5!", "120"),
    (r"\binom{5}{2}", "10"), (r"(1+i)^2", "2i"), (r"\frac{1}{1+i}", r"\frac{1-i}{2}"), (r"\pi r^2", r"r^2\pi"), ("1011_2", "1011_{2}"),
    ("(B)", r"\text{(B)}"), ("sqrt(2)/2", r"\frac{\sqrt{2}}{2}"), ("2**3", "8"), ("2^{-1}", "1/2"), ("4^{1/2}", "2"),
    (r"\sin x", r"\sin{x}"), (r"\log_2 7", r"\log_{2}7"), ("1 < x < 2", "1<x<2"), (r"(3, \frac{\pi}{2})", r"(3,\pi/2)"),
]  # fmt: skip
DIFFERENT = [
    ("1/2", "1/3"), ("(1,2)", "[1,2]"), ("(1,2)", "(2,1)"), ("1,2", "1,3"), ("1,1,2", "1,2,2"), ("x^2", "x^3"), (r"\sqrt2", "1.41421356"),
    ("5", "50%"), ("x<5", "x>5"), ("1011_2", "1011_3"), ("", "5"), (r"\text{even}", "odd"), ("3!", "5"), ("1/0", "2/0"), ("x+1", "1-x"),
    ("12", "1,2"), ("0.333", r"\frac13"), ("x+y=3", "x+y=4"), ("9**9**9", "9**9**8"), ("-5", "5"), (r"\sin x", r"\cos x"),
]  # fmt: skip
HOSTILE = [
    "9**9**9", "9^{9^{9^9}}", "(" * 5000, "(" * 30 + "1" + ")" * 30, "(a+b+c+d+e+f)^{60}", "(1+x)^{64}", "1" * 5000, "10^{4000}",
    "2^{1/64}" + "*2^{1/63}" * 20, r"\sqrt{" * 39 + "2" + "}" * 39, "999999999999!", "200!", r"\binom{200}{100}", r"\frac" * 200,
    "x^{10^{9}}", "1/" * 150 + "3", "-" * 399 + "1", "2" + "^2" * 100, "{}" * 100, r"\pm" * 100 + "1", "1," * 300, r"1\cup" * 100,
    r"\sqrt{9999999967}", r"\sqrt{99999999999999999999999}", "(-1)^{10^{8}}", "1^{10^{100}}", r"0.\overline{" + "3" * 500 + "}",
    r"(1+\sqrt2+\sqrt3+\sqrt5+\sqrt7)^{40}", "|" * 300 + "1" + "|" * 300, r"\pm1\pm1,\pm2" * 30, "__import__('os').system('x')",
]  # fmt: skip


@pytest.mark.parametrize(("a", "b"), SAME)
def test_equal_answers(a, b) -> None:
    assert equivalent(a, b) and equivalent(b, a)


@pytest.mark.parametrize(("a", "b"), DIFFERENT)
def test_different_answers(a, b) -> None:
    assert not equivalent(a, b) and not equivalent(b, a)


@pytest.mark.parametrize("answer", HOSTILE)
def test_no_answer_can_hang_the_check(answer) -> None:
    before = time.process_time()
    assert not equivalent(answer, "5")
    assert not equivalent(answer, r"\frac{1}{x+y}")
    assert equivalent(answer, answer)
    assert time.process_time() - before < 3


def expressions() -> st.SearchStrategy[tuple[str, Fraction]]:
    """Rational expressions with their values."""
    numbers = st.integers(0, 30).map(lambda n: (str(n), Fraction(n)))

    def grow(inner):
        pair = st.tuples(inner, inner)
        return (
            pair.map(lambda p: (f"({p[0][0]}+{p[1][0]})", p[0][1] + p[1][1]))
            | pair.map(lambda p: (f"({p[0][0]}-{p[1][0]})", p[0][1] - p[1][1]))
            | pair.map(lambda p: (f"{p[0][0]}\\cdot {p[1][0]}", p[0][1] * p[1][1]))
            | pair.filter(lambda p: p[1][1] != 0).map(
                lambda p: (rf"\frac{{{p[0][0]}}}{{{p[1][0]}}}", p[0][1] / p[1][1])
            )
        )

    return st.recursive(numbers, grow, max_leaves=8)


@settings(max_examples=60, deadline=None)
@given(expressions())
def test_rational_expressions_have_their_value(expression) -> None:
    text, value = expression
    assert read_expression(text).rational == value
    assert equivalent(text, str(value))
    assert not equivalent(text, str(value + 1))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(2, 60)), min_size=1, max_size=4), st.integers(1, 9))
def test_sums_of_roots_are_equal_however_they_are_written(terms, factor) -> None:
    """a sqrt(b) = (a / f) sqrt(b f^2); and dividing by the sum gives 1 unless it is 0."""
    plain = "+".join(rf"{a}\sqrt{{{b}}}".replace("+-", "-") for a, b in terms)
    scaled = "+".join(rf"\frac{{{a}}}{{{factor}}}\sqrt{{{b * factor * factor}}}" for a, b in reversed(terms))
    assert equivalent(plain.replace("+-", "-"), scaled)
    value = read_expression(plain)
    total = sum(a * b**0.5 for a, b in terms)
    if abs(total) > 1e-6:
        assert value / value == Value.number(1)
        assert value != value + Value.number(1)


def test_the_last_box_is_found_with_its_braces() -> None:
    assert boxed(r"first \boxed{1}, then \boxed{\frac{1}{2}}.") == r"\frac{1}{2}"
    assert boxed(r"so $\fbox{x}$") == "x"
    assert boxed(r"\boxed 5") == "5"
    assert boxed(r"\boxed{\{1,2\}}") == r"\{1,2\}"
    assert boxed("no box") is None
    assert boxed(r"\boxed{never closed") is None


def test_scores_of_mathematics() -> None:
    score = find("math")
    gold = ScoreContext(target=r"We add them and get $\boxed{\frac{3}{4}}$.")
    assert score(r"Adding, \boxed{0.75}", {}, gold) == {"exact_match": 1.0}
    assert score(r"The final answer is $\frac34$. I hope it is correct.", {}, gold) == {"exact_match": 1.0}
    assert score("3/4", {}, gold) == {"exact_match": 1.0}
    assert score(r"\boxed{\frac{4}{3}}", {}, gold) == {"exact_match": 0.0}
    assert score("", {}, gold) == Unscored("no final answer")
    votes = ScoreContext(target="$\\boxed{2}$", answers=("\\boxed{4/2}", "\\boxed{3}", "\\boxed{2}"))
    assert score("", {}, votes) == {"exact_match": pytest.approx(2 / 3), "majority": 1.0}


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="0123456789xyi+-*/^_!,.;:()[]{}\\|%$=<> frac sqrt pi pm cup text or", max_size=60))
def test_any_text_can_be_compared_and_equals_itself(text) -> None:
    assert isinstance(equivalent(text, "5"), bool)
    assert equivalent(text, text)
