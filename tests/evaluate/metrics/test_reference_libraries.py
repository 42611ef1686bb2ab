"""Made-up and hostile texts: the same numbers as sacrebleu, rouge-score and their stemmer."""

from __future__ import annotations

import random

import pytest
from nltk.stem.porter import PorterStemmer
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU, CHRF, TER

from orrery.evaluate.metrics.bleu import bleu, corpus_bleu
from orrery.evaluate.metrics.chrf import chrf, corpus_chrf
from orrery.evaluate.metrics.porter import porter_stem
from orrery.evaluate.metrics.rouge import rouge
from orrery.evaluate.metrics.ter import corpus_ter, ter

LETTERS = "ab01 .,-'\"&;<>!?()\n\t“”—…日本語カナ。、😀é ١½№$€+=~`_^{}|\\/@#%*:[]　 "
WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "mat",
    "a",
    "dog",
    ".",
    ",",
    "big",
    "red,",
    "and",
    "12.5",
    "3,000",
    "-5",
    "U.S.",
    "(hi)",
    "&quot;x&quot;",
    "<skipped>",
    "don't",
]
CLOSE = {"rel": 1e-10, "abs": 1e-10}


def some_text(rng: random.Random) -> str:
    kind = rng.randrange(3)
    if kind == 0:
        return "".join(rng.choice(LETTERS) for _ in range(rng.randrange(40)))
    return " ".join(rng.choice(WORDS if kind == 1 else list("abcdefg")) for _ in range(rng.randrange(25)))


def some_pairs(seed: int, n: int) -> list[tuple[str, list[str]]]:
    """Texts and references, half of them the reference with its halves exchanged."""
    rng, pairs = random.Random(seed), []
    for _ in range(n):
        references = [some_text(rng) for _ in range(rng.choice([1, 1, 2, 3]))]
        words = references[0].split(" ")
        cut = rng.randrange(len(words))
        said = " ".join(words[cut:] + words[:cut]) if rng.random() < 0.5 else some_text(rng)
        pairs.append((said, references))
    return pairs


@pytest.mark.parametrize("tokenisation", ["13a", "intl", "zh", "char", "none"])
@pytest.mark.parametrize("smoothing", ["exp", "floor", "add-k", "none"])
def test_bleu(tokenisation, smoothing) -> None:
    other = BLEU(tokenize=tokenisation, smooth_method=smoothing, effective_order=True)
    for said, references in some_pairs(1, 60):
        found = bleu(said, references, tokenisation=tokenisation, smoothing=smoothing)
        expected = other.sentence_score(said, references)
        assert found.score == pytest.approx(expected.score, **CLOSE), (said, references)
        assert found.precisions == pytest.approx(expected.precisions, **CLOSE)
        assert found.brevity_penalty == pytest.approx(expected.bp, **CLOSE)


def test_chrf_and_ter() -> None:
    plain, words, edits = CHRF(), CHRF(word_order=2), TER()
    for said, references in some_pairs(2, 60):
        assert chrf(said, references) == pytest.approx(plain.sentence_score(said, references).score, **CLOSE)
        expected = words.sentence_score(said, references).score
        assert chrf(said, references, word_order=2) == pytest.approx(expected, **CLOSE)
        expected = edits.sentence_score(said, references).score
        assert ter(said, references) == pytest.approx(expected, **CLOSE), (said, references)


def test_corpora_of_two_references() -> None:
    pairs = [(said, (references * 2)[:2]) for said, references in some_pairs(3, 25)]
    said, wanted = [h for h, _ in pairs], [r for _, r in pairs]
    columns = [list(column) for column in zip(*wanted, strict=True)]
    assert corpus_bleu(said, wanted).score == pytest.approx(BLEU().corpus_score(said, columns).score, **CLOSE)
    assert corpus_chrf(said, wanted) == pytest.approx(CHRF().corpus_score(said, columns).score, **CLOSE)
    assert corpus_ter(said, wanted) == pytest.approx(TER().corpus_score(said, columns).score, **CLOSE)


@pytest.mark.parametrize(("said", "wanted"), [(400, 12), (12, 400), (90, 90)])
def test_ter_of_unlike_lengths(said: int, wanted: int) -> None:
    """Beyond the band's 25 columns; the third has more candidates for shifts than the limit."""
    rng = random.Random(4)
    first = " ".join(rng.choice("abcdefgh") for _ in range(said))
    second = " ".join(rng.choice("abcdefgh") for _ in range(wanted))
    assert ter(first, [second]) == pytest.approx(TER().sentence_score(first, [second]).score, **CLOSE)


@pytest.mark.parametrize("stem", [False, True])
def test_rouge(stem: bool) -> None:
    names = ["rouge1", "rouge2", "rouge3", "rougeL", "rougeLsum"]
    other = RougeScorer(names, use_stemmer=stem)
    for said, references in some_pairs(5, 120):
        for name, expected in other.score_multi(references, said).items():
            found = rouge(said, references, name, stem=stem)
            assert found == pytest.approx((expected.precision, expected.recall, expected.fmeasure), **CLOSE)


def test_stems() -> None:
    endings = [
        "s",
        "es",
        "ies",
        "sses",
        "ed",
        "ied",
        "eed",
        "ing",
        "ated",
        "bled",
        "izing",
        "y",
        "ational",
        "tional",
        "enci",
        "anci",
        "izer",
        "bli",
        "alli",
        "entli",
        "eli",
        "ousli",
        "ization",
        "ation",
        "ator",
        "alism",
        "iveness",
        "fulness",
        "ousness",
        "aliti",
        "iviti",
        "biliti",
        "fulli",
        "logi",
        "icate",
        "ative",
        "alize",
        "iciti",
        "ical",
        "ful",
        "ness",
        "al",
        "ance",
        "ence",
        "er",
        "ic",
        "able",
        "ible",
        "ant",
        "ement",
        "ment",
        "ent",
        "ion",
        "tion",
        "sion",
        "ou",
        "ism",
        "ate",
        "iti",
        "ous",
        "ive",
        "ize",
        "e",
        "ll",
        "skies",
        "dying",
    ]
    rng, other = random.Random(6), PorterStemmer()
    for _ in range(8000):
        front = "".join(rng.choice("abeiouytlsnrhgy1") for _ in range(rng.randrange(6)))
        word = front + rng.choice(endings) + rng.choice(["", "", "", rng.choice(endings)])
        assert porter_stem(word) == other.stem(word), word
