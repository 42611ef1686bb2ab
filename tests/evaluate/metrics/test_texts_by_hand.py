from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from orrery.evaluate.metrics.bleu import bleu, bleu_of, brevity_penalty, corpus_bleu
from orrery.evaluate.metrics.bleu_tokens import bleu_tokens
from orrery.evaluate.metrics.chrf import chrf, chrf_words, corpus_chrf
from orrery.evaluate.metrics.exact_match import exact_match, normalise_answer, token_f1
from orrery.evaluate.metrics.rouge import rouge, rouge_s, rouge_words
from orrery.evaluate.metrics.skip_bigrams import skip_bigrams
from orrery.evaluate.metrics.ter import corpus_ter, ter
from orrery.evaluate.metrics.text_metrics import KNOWN, text_metrics
from orrery.kit.errors import OrreryError

NOTHING = ["", " ", "\n", "...", "。", "!?", "😀"]


def test_bleu_of_the_cat() -> None:
    """Papineni's example of clipping: seven times "the" against two in the reference."""
    found = bleu("the the the the the the the", ["the cat is on the mat"], smoothing="none")
    assert found.precisions[0] == pytest.approx(100 * 2 / 7)
    assert found.score == 0


def test_bleu_by_hand() -> None:
    """ "the cat sat on mat" / "the cat sat on the mat": 5/5, 3/4, 2/3, 1/2 and exp(1 - 6/5)."""
    found = bleu("the cat sat on mat", ["the cat sat on the mat"])
    assert found.precisions == pytest.approx((100, 75, 200 / 3, 50))
    assert found.score == pytest.approx(100 * math.exp(-0.2) * (1 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)


def test_smoothing_by_hand() -> None:
    """Three words, one of them shared: matches 1, 0, 0; halves and quarters, 0.1, or one more of both."""
    precisions = [
        bleu("a x y", ["a b c"], smoothing=s).precisions[:3] for s in ("exp", "floor", "add-k", "none")
    ]
    assert precisions[0] == pytest.approx((100 / 3, 100 / 4, 100 / 4))
    assert precisions[1] == pytest.approx((100 / 3, 100 * 0.1 / 2, 100 * 0.1))
    assert precisions[2] == pytest.approx((100 / 3, 100 / 3, 100 / 2))
    assert precisions[3] == pytest.approx((100 / 3, 0, 0))


@pytest.mark.parametrize(
    ("c", "r", "expected"), [(9, 10, math.exp(1 - 10 / 9)), (10, 10, 1), (12, 10, 1), (0, 5, 0), (0, 0, 1)]
)
def test_brevity_penalty(c: int, r: int, expected: float) -> None:
    assert brevity_penalty(c, r) == pytest.approx(expected)


def test_the_nearest_reference_counts_the_shorter_of_two_as_near() -> None:
    assert bleu("a b c d", ["a b", "a b c d e f", "a b c d e f g"]).reference_length == 2


def test_words_of_bleu() -> None:
    assert bleu_tokens("It costs 3,000.50 &quot;U.S.&quot; dollars, (e-mail 2-3).") == (
        [
            "It",
            "costs",
            "3,000.50",
            '"',
            "U",
            ".",
            "S",
            ".",
            '"',
            "dollars",
            ",",
            "(",
            "e-mail",
            "2",
            "-",
            "3",
            ")",
            ".",
        ]
    )
    assert bleu_tokens("我有3.5个。", "zh") == ["我", "有", "3.5", "个", "。"]
    assert bleu_tokens("これ は", "char") == ["こ", "れ", "は"]
    assert bleu_tokens("«Да», 1,5 €", "intl") == ["«", "Да", "»", ",", "1,5", "€"]
    with pytest.raises(OrreryError, match=r"no tokenisation 'ja-mecab'; use one of 13a"):
        bleu_tokens("x", "ja-mecab")  # type: ignore[arg-type]


def test_chrf_by_hand() -> None:
    """ "ab" / "abc": P = (2/2 + 1/1) / 2, R = (2/3 + 1/2) / 2 over runs of 1 and 2; longer runs are in the reference alone."""
    p, r = 1.0, (2 / 3 + 1 / 2) / 2
    assert chrf("ab", ["abc"]) == pytest.approx(100 * 5 * p * r / (4 * p + r))
    assert chrf_words("(hi) don't , 'tis.") == ["(hi", ")", "don't", ",", "'tis", "."]


def test_ter_by_hand() -> None:
    """A moved run costs one edit, however long (Snover's idea), a wrong word one, a missing one one."""
    assert ter("b c d a", ["a b c d"]) == pytest.approx(25)
    assert ter("a x c", ["a b c d"]) == pytest.approx(50)
    assert ter("c d e f a b", ["a b c d e f"]) == pytest.approx(100 / 6)
    assert ter("A b", ["a B"]) == 0 and ter("A b", ["a B"], lowercase=False) == 100
    assert ter("x y", ["a b c d", "x z"]) == pytest.approx(100 / 3)  # fewest edits over the mean length


def test_ter_of_chinese_by_characters() -> None:
    assert ter("我有三个苹果", ["我有两个苹果"]) == 100
    assert ter("我有三个苹果", ["我有两个苹果"], tokenisation="zh") == pytest.approx(100 / 6)


def test_rouge_by_hand() -> None:
    """Lin 2004, section 3: reference "police killed the gunman"."""
    reference = ["police killed the gunman"]
    assert rouge("police kill the gunman", reference, "rougeL").f1 == pytest.approx(3 / 4)
    assert rouge("the gunman kill police", reference, "rougeL").f1 == pytest.approx(2 / 4)
    assert rouge("police kill the gunman", reference, "rougeS").f1 == pytest.approx(0.5)
    assert rouge("the gunman kill police", reference, "rougeS").f1 == pytest.approx(1 / 6)
    assert rouge("the gunman police killed", reference, "rougeS").f1 == pytest.approx(1 / 3)
    assert rouge("police kill the gunman", reference, "rouge2") == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    assert rouge("a b x", ["a b c d"], "rouge1") == pytest.approx((2 / 3, 1 / 2, 4 / 7))


def test_rouge_su_counts_words_too() -> None:
    """Pairs ab ac bc, words a b c; against a b d: ab of 3, a and b of 3."""
    assert rouge_s(list("abc"), list("abd"), single=True).f1 == pytest.approx(3 / 6)


def test_rouge_lsum_takes_the_union_over_sentences() -> None:
    """Lin 2004, section 3.2: w1 w2 w3 w4 w5 against w1 w2 w6 w7 w8 and w1 w3 w8 w9 w5 share 4 of 5."""
    found = rouge("w1 w2 w6 w7 w8\nw1 w3 w8 w9 w5", ["w1 w2 w3 w4 w5"], "rougeLsum")
    assert found.recall == pytest.approx(4 / 5)


def test_skip_bigrams() -> None:
    words = ["police", "killed", "the", "gunman"]
    assert skip_bigrams(words).total() == 6
    assert set(skip_bigrams(words, 0)) == set(pairwise(words))
    assert skip_bigrams(list("aab"))["a", "b"] == 2


def test_other_scripts_need_other_words() -> None:
    """ROUGE's own words are a-z and 0-9 alone."""
    assert rouge_words("три 3 apples") == ["3", "apples"]
    assert rouge("猫が好き", ["猫が嫌い"], "rouge1").f1 == 0
    assert rouge("猫が好き", ["猫が嫌い"], "rouge1", words=list).f1 == pytest.approx(2 / 4)


def test_exact_match_and_token_f1() -> None:
    assert exact_match(" 42\n", ["41", "42"]) == 1
    assert exact_match("The Cat.", ["cat"]) == 0 and exact_match("The Cat.", ["cat"], normalise=True) == 1
    assert normalise_answer("An  apple, a day!") == "apple day"
    assert token_f1("the red cat", ["a cat", "dog"]) == pytest.approx(2 / 3)
    assert token_f1("", ["the"]) == 1 and token_f1("x", [""]) == 0


@pytest.mark.parametrize("said", NOTHING)
@pytest.mark.parametrize("wanted", [*NOTHING, "a b c d"])
def test_texts_of_nothing_give_numbers(said: str, wanted: str) -> None:
    for name, found in text_metrics([said, said], [[wanted], [wanted]], KNOWN, resamples=5).items():
        assert not math.isnan(found.mean) or name in ("wer", "cer"), name
        assert found.mean >= 0 or math.isnan(found.mean)


def test_no_texts_at_all() -> None:
    assert all(math.isnan(found.mean) and found.n == 0 for found in text_metrics([], [], KNOWN).values())
    assert (corpus_bleu([], []).score, corpus_chrf([], []), corpus_ter([], [])) == (0, 0, 0)
    assert bleu_of(np.zeros(10, dtype=np.int64)).score == 0


def test_a_text_in_place_of_a_list_is_refused() -> None:
    """It would be read as one reference a letter."""
    with pytest.raises(OrreryError, match="hypothesis 0 needs a list of one or more references"):
        corpus_bleu(["abc"], ["abc"])
    with pytest.raises(OrreryError, match="needs a list"):
        rouge("abc", [])
    with pytest.raises(OrreryError, match="2 hypotheses and 1 lists"):
        corpus_chrf(["a", "b"], [["a"]])
    with pytest.raises(OrreryError, match="no 'rouge0'"):
        rouge("a", ["a"], "rouge0")


def test_long_texts() -> None:
    words = [str(i) for i in range(2000)]
    said, wanted = " ".join(words), [" ".join(words[1000:] + words[:1000])]
    assert bleu(said, wanted).score > 95
    assert rouge(said, wanted, "rougeL").f1 == pytest.approx(0.5, abs=0.01)
    assert 0 < ter(said, wanted) <= 100


def test_text_metrics_by_name() -> None:
    said = ["the cat sat on mat", "hello there"] * 10
    wanted = [["the cat sat on the mat"], ["hello there", "hi"]] * 10
    found = text_metrics(said, wanted, ["bleu", "rougeL", "rouge1_stem", "wer", "exact_match"], resamples=200)
    assert found["bleu"].mean == pytest.approx(corpus_bleu(said, wanted).score)
    assert found["bleu"].low < found["bleu"].mean < found["bleu"].high
    assert found["exact_match"].mean == 0.5 and found["exact_match"].n == 20
    assert found["wer"].mean == pytest.approx(1 / 8)
    with pytest.raises(OrreryError, match=r"no metric 'blue'.*Did you mean 'bleu'"):
        text_metrics(said, wanted, ["blue"])
