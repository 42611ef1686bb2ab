from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.evaluate.scorers import ScoreContext, Unscored, find
from orrery.evaluate.scorers.numbers import find_numbers
from orrery.evaluate.scorers.numeric import final_number

SCRIPTS = {
    "bn": "০১২৩৪৫৬৭৮৯",
    "te": "౦౧౨౩౪౫౬౭౮౯",
    "th": "๐๑๒๓๔๕๖๗๘๙",
    "ar": "٠١٢٣٤٥٦٧٨٩",
    "ja": "０１２３４５６７８９",
}


def values(text: str, language: str = "en") -> list[Fraction]:
    return [number.value for number in find_numbers(text, language=language)]


@pytest.mark.parametrize(
    ("text", "language", "wanted"),
    [
        ("1,080", "en", [1080]),
        ("$1,234.56 and 7", "en", [Fraction(123456, 100), 7]),
        ("1.080,50", "de", [Fraction(108050, 100)]),
        ("1.234.567", "es", [1234567]),
        ("1 080 metres", "fr", [1080]),
        ("1 080 metres", "en", [1, 80]),
        ("12\u202f000\u202f000", "ru", [12000000]),
        ("1'080", "de", [1080]),
        ("1,00,000 rupees", "bn", [100000]),
        ("১৮ ডলার", "bn", [18]),
        ("๑๒๐", "th", [120]),
        ("一百二十", "zh", [120]),
        ("两万五千", "zh", [25000]),
        ("3.5万", "zh", [35000]),
        ("20万円", "ja", [200000]),
        ("１８", "ja", [18]),
        ("16 - 3 = 13", "en", [16, 3, 13]),
        ("16-3", "en", [16, 3]),
        ("(2)-3", "en", [2, 3]),
        ("it is -3 or \u22124", "en", [-3, -4]),
        ("-$5", "en", [-5]),
        ("2½ and 1 3/4 and 3/8", "en", [Fraction(5, 2), Fraction(7, 4), Fraction(3, 8)]),
        ("2e3 and 1.5 × 10^3", "en", [2000, 1500]),
        ("50%", "en", [50]),
        ("18.", "en", [18]),
        ("10{,}000 and 10\\,000", "en", [10000, 10000]),
        ("3,4,5", "en", [3, 4, 5]),
        ("1/0", "en", []),
        ("no number at all", "en", []),
        ("9e99999", "en", []),
        ("7" * 5000, "en", []),
    ],
)
def test_numbers_in_their_writings(text, language, wanted) -> None:
    assert values(text, language) == wanted


def test_a_mark_with_three_digits_has_both_readings_where_a_comma_is_decimal() -> None:
    assert find_numbers("1.234", language="de")[0].readings == (1234, Fraction("1.234"))
    assert find_numbers("1,234", language="de")[0].readings == (Fraction("1.234"), 1234)
    assert find_numbers("1.234", language="en")[0].readings == (Fraction("1.234"),)
    assert find_numbers("0.125", language="de")[0].readings == (Fraction(1, 8),)


@settings(max_examples=60, deadline=None)
@given(st.integers(-(10**12), 10**12))
def test_an_integer_is_read_in_every_grouping_and_script(n) -> None:
    plain, grouped = str(n), f"{n:,}"
    assert values(plain) == [n]
    assert values(grouped) == [n]
    assert values(f"The total is {grouped}.") == [n]
    assert n in find_numbers(grouped.replace(",", "."), language="de")[0].readings
    assert values(grouped.replace(",", "\u202f"), "fr") == [n]
    for language, digits in SCRIPTS.items():
        assert values(plain.translate(str.maketrans("0123456789", digits)), language) == [n]


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=200))
def test_any_text_can_be_read_for_numbers(text) -> None:
    for number in find_numbers(text):
        assert number.readings and 0 <= number.start < number.end


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("16 - 3 - 4 = 9\n9 * 2 = $18\n#### 18", 18),
        ("#### 18\nQuestion: another\n#### 5", 18),
        ("so we get \\boxed{1{,}080} metres in 5 days", 1080),
        ("The answer is 18. She sells 9 eggs.", 18),
        ("The answer is 9 * 2 = 18 dollars", 18),
        ("The answer is **$18.00**", 18),
        ("Final Answer: 18\n\nLet me know about 2 other things", 18),
        ("9 eggs at 2 dollars make 18 dollars", 18),
        ("Die Antwort ist 18.", 18),
        ("La respuesta es 18", 18),
        ("La réponse est 18.", 18),
        ("Ответ: 18", 18),
        ("答案是18。", 18),
        ("答えは18です", 18),
        ("คำตอบคือ 18", 18),
        ("সুতরাং উত্তর হল ১৮", 18),
        ("Jibu ni 18.", 18),
        ("సమాధానం: 18", 18),
        ("", None),
        ("I do not know", None),
    ],
)
def test_the_final_number(text, wanted) -> None:
    found = final_number(text)
    assert (found.value if found else None) == wanted


def test_scores_of_numbers() -> None:
    score = find("numeric")
    gold = ScoreContext(target=" She sells 9 at $2.\n#### 1,080")
    assert score("#### 1080", {}, gold) == {"exact_match": 1.0}
    assert score("It is 1.080", {"lang": "de"}, gold) == {"exact_match": 1.0}
    assert score("It is 1.080", {}, gold) == {"exact_match": 0.0}
    assert score("7", {}, gold) == {"exact_match": 0.0}
    assert score("", {}, gold) == Unscored("no number in the answer")


def test_several_samples_are_averaged_and_voted_on() -> None:
    answers = ("18", "17", "no idea", "18.0")
    found = find("numeric")("18", {}, ScoreContext(target="18", answers=answers))
    assert found == {"exact_match": pytest.approx(2 / 3), "majority": 1.0}
    tie = find("numeric")("17", {}, ScoreContext(target="18", answers=("17", "18")))
    assert tie == {"exact_match": 0.5, "majority": 0.0}
    assert isinstance(find("numeric")("", {}, ScoreContext(target="18", answers=("", "?"))), Unscored)


def test_aime_answers_are_whole_numbers_below_a_thousand() -> None:
    score = find("integer")
    gold = ScoreContext(target=" 073")
    assert score("so m + n = \\boxed{73}", {}, gold) == {"exact_match": 1.0}
    assert score("\\boxed{073}", {}, gold) == {"exact_match": 1.0}
    assert score("\\boxed{73/2}", {}, gold) == {"exact_match": 0.0}
    assert score("\\boxed{1073}", {}, gold) == {"exact_match": 0.0}
    assert isinstance(score("", {}, gold), Unscored)
