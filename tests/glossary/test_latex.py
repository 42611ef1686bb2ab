from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orrery.glossary.latex import parse
from orrery.glossary.latex_layout import cells, display, layout
from orrery.glossary.latex_line import to_text
from orrery.kit.errors import OrreryError

LINES = {
    r"\hat{m}_t = \frac{m_t}{1 - \beta_1^t}": "m̂ₜ = mₜ/(1 − β₁ᵗ)",
    r"\theta_{t+1} = \theta_t - \eta \frac{\hat m_t}{\sqrt{\hat v_t} + \epsilon}": "θₜ₊₁ = θₜ − η m̂ₜ/(√v̂ₜ + ε)",
    r"2 \cdot L \cdot K \cdot D \cdot \text{bytes}": "2 · L · K · D · bytes",
    r"\operatorname{softmax}(z)_i": "softmax(z)ᵢ",
    r"\operatorname{softmax}\left(\frac{QK^\top}{\sqrt{D}}\right)V": "softmax(QKᵀ/√D)V",
    r"-\sum_{t=1}^{T} \log p(x_t \mid x_{<t})": "−∑ₜ₌₁ᵀ log p(xₜ | x_<t)",
    r"\|g\|_2 \le c": "‖g‖₂ ≤ c",
    r"w \leftarrow (1 - \eta\lambda) w": "w ← (1 − ηλ)w",
    r"\frac{1}{2} x": "(1/2)x",
    r"\frac{1}{2\sigma^2}": "1/(2σ²)",
    r"\frac{a+b}{c}": "(a + b)/c",
    r"\sqrt{x + y}": "√(x + y)",
    r"10^{-3}": "10⁻³",
    r"x^{a+b}, y_{\text{head}}": "x^(a + b), y_head".replace("x^(a + b)", "xᵃ⁺ᵇ"),
    r"f(x) = -x": "f(x) = −x",
    r"(-1)^n": "(−1)ⁿ",
    r"\mathbb{E}[f(x)]": "𝔼[f(x)]",
    r"\begin{cases} 1 & x > 0 \\ 0 & x \le 0 \end{cases}": "{1  x > 0; 0  x ≤ 0",
    r"\nabla_\theta \mathcal{L}": "∇_θℒ",
    r"W' = W^{-1}": "W′ = W⁻¹",
    r"\text{train} \times 2\,\text{bytes}": "train × 2 bytes",
}


@pytest.mark.parametrize(("latex", "expected"), LINES.items())
def test_on_one_line(latex: str, expected: str) -> None:
    assert to_text(latex) == expected


def test_a_fraction_is_stacked() -> None:
    assert display(r"p_i = \frac{e_i}{\sum_{j=1}^{n} e_j}").splitlines() == [
        "       eᵢ",
        "pᵢ = ──────",
        "      n",
        "      ∑  eⱼ",
        "     j=1",
    ]


def test_brackets_grow_and_scripts_rise() -> None:
    assert display(r"\left(\frac{a}{b}\right)^2").splitlines() == ["⎛a⎞²", "⎜─⎟", "⎝b⎠"]
    assert display(r"e^{z_i}").splitlines() == [" zᵢ", "e"]
    assert display(r"\sqrt{\frac{1}{n}}").splitlines() == ["┌─", "│1", "│─", "⎷n"]


def test_cases_get_one_brace() -> None:
    drawn = display(r"f = \begin{cases} x & x > 0 \\ 0 & x \le 0 \\ 1 & x = 2 \end{cases}").splitlines()
    assert drawn == ["    ⎧x  x > 0", "f = ⎨0  x ≤ 0", "    ⎩1  x = 2"]


@pytest.mark.parametrize(
    "latex",
    [r"\unknown x", r"\frac{a}", r"{a", "a}", "x_", r"\left( x", "a & b", r"\begin{tabular} x \end{tabular}"],
)
def test_what_is_not_in_the_subset_raises(latex: str) -> None:
    with pytest.raises(OrreryError, match="formula"):
        to_text(latex)


ATOMS = st.sampled_from(
    ["a", "x_i", r"\alpha", "12", r"\hat{v}", r"\log p", r"\text{two words}", r"\sum_{i=1}^{n} x_i"]
)
FORMULAS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda p: rf"\frac{{{p[0]}}}{{{p[1]}}}"),
        inner.map(lambda x: rf"\sqrt{{{x}}}"),
        inner.map(lambda x: rf"\left({x}\right)"),
        st.tuples(inner, inner).map(lambda p: rf"{{{p[0]}}}^{{{p[1]}}}"),
        st.tuples(inner, st.sampled_from(["+", "=", r"\cdot", r"\le"]), inner).map(" ".join),
    ),
    max_leaves=6,
)


@given(FORMULAS)
def test_every_box_is_a_rectangle_and_nothing_is_lost(latex: str) -> None:
    box = layout(parse(latex))
    assert {cells(line) for line in box.lines} == {box.width}
    assert 0 <= box.base < len(box.lines)
    drawn = unicodedata.normalize("NFKC", "".join(box.lines).replace("⎷", "√"))  # small letters as large ones
    text = unicodedata.normalize("NFKC", to_text(latex))
    for sign in "+=·≤√":
        assert drawn.count(sign) == text.count(sign)
    assert "\\" not in text
    assert text.count("(") == text.count(")")


@given(FORMULAS)
def test_brackets_only_matter_where_they_group(latex: str) -> None:
    """The one-line form reads the same however much LaTeX's own braces wrap the whole."""
    assert to_text(f"{{{latex}}}") == to_text(latex)
