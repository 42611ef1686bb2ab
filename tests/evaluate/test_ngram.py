from __future__ import annotations

import math
from collections import Counter, defaultdict
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.evaluate.ngram import NgramModel, add_k, back_off, fit_ngram, kneser_ney, stupid_back_off
from orrery.evaluate.ngram_counts import NgramCounts, count_ngrams
from orrery.kit.errors import OrreryError

V = 5
corpora = st.lists(st.lists(st.integers(0, V - 1), max_size=12), min_size=1, max_size=5).filter(any)
orders = st.integers(1, 4)
START = "start"


def grams(documents: list[list[int]], k: int) -> Counter[tuple]:
    return Counter(
        tuple(line[i : i + k]) for d in documents for line in [[START, *d]] for i in range(len(line) - k + 1)
    )


def reference_kneser_ney(
    documents: list[list[int]], order: int, vocab: int, d: float, context: tuple, word: int
) -> float:
    """The recursion as the paper has it, on tuples, with one fixed discount."""
    if len(context) > order - 1:
        context = context[len(context) - order + 1 :]
    k = len(context) + 1
    lower = 1 / vocab if k == 1 else reference_kneser_ney(documents, order, vocab, d, context[1:], word)
    counts = grams(documents, k)
    if k < order and (not context or context[0] != START):
        above = grams(documents, k + 1)
        counts = Counter(gram[1:] for gram in above)
    following = {g[-1]: c for g, c in counts.items() if g[:-1] == context and g != (START,)}
    total = sum(following.values())
    if not total:
        return lower
    return max(following.get(word, 0) - d, 0) / total + d * len(following) / total * lower


def test_kneser_ney_by_hand() -> None:
    """Documents ab, ab, ac; D = 1/2. Every unigram has one kind of predecessor, so each p(w) is 1/3."""
    model = kneser_ney(count_ngrams([[0, 1], [0, 1], [0, 2]], order=2, vocab_size=3), discount=0.5)
    assert model.next([0]) == pytest.approx([2 / 18, 11 / 18, 5 / 18])
    assert model.next([]) == pytest.approx([16 / 18, 1 / 18, 1 / 18])
    assert model.next([1]) == pytest.approx([1 / 3] * 3)  # nothing ever followed b
    (logprobs,) = model.logprobs([[0, 2]])
    assert logprobs == pytest.approx([math.log(16 / 18), math.log(5 / 18)])


def test_back_off_by_hand() -> None:
    """Same documents. Unigrams a 3, b 2, c 1 of 6, all seen: not discounted. p(b|a) = 1.5/3, p(c|a) = .5/3, and the
    third that was taken goes to a, the one token never seen after a."""
    model = back_off(count_ngrams([[0, 1], [0, 1], [0, 2]], order=2, vocab_size=3), discount=0.5)
    assert model.next([0]) == pytest.approx([1 / 3, 1 / 2, 1 / 6])
    assert model.next([1]) == pytest.approx([3 / 6, 2 / 6, 1 / 6])


def test_laplace_by_hand() -> None:
    model = add_k(count_ngrams([[0, 1], [0, 1], [0, 2]], order=2, vocab_size=3))
    assert model.next([0]) == pytest.approx([1 / 6, 3 / 6, 2 / 6])
    assert model.next([]) == pytest.approx([4 / 6, 1 / 6, 1 / 6])
    assert model.next([2]) == pytest.approx([1 / 3] * 3)


def test_stupid_back_off_by_hand() -> None:
    model = stupid_back_off(count_ngrams([[0, 1], [0, 1], [0, 2]], order=2, vocab_size=4))
    assert not model.normalized
    assert model.next([0]) == pytest.approx([0.4 * 3 / 6, 2 / 3, 1 / 3, 0.4 * 0.4 / 4])


def test_modified_discounts_by_hand() -> None:
    """Unigram counts with n1 = 4, n2 = 2, n3 = 1, n4 = 1: Y = 4/8; D1 = 1 - 2Y 2/4, D2 = 2 - 3Y 1/2, D3 = 3 - 4Y 1/1."""
    tokens = [0, 1, 2, 3, *[4] * 2, *[5] * 2, *[6] * 3, *[7] * 4]
    model = kneser_ney(count_ngrams([tokens], order=1, vocab_size=8))
    assert model.discounts == ((0.5, 1.25, 1.0),)
    left = (4 * 0.5 + 2 * 1.25 + 2 * 1.0) / 15
    assert model.next([])[[0, 4, 7]] == pytest.approx(
        [0.5 / 15 + left / 8, 0.75 / 15 + left / 8, 3 / 15 + left / 8]
    )


def test_a_frequent_token_of_one_context_is_an_unlikely_new_one() -> None:
    """Kneser and Ney's point: 'francisco' is frequent but follows 'san' alone, so after anything else it is rare."""
    san, francisco, glasses, read, my, the = range(6)
    documents = [[san, francisco]] * 20 + [[read, glasses], [my, glasses], [the, glasses]]
    model = kneser_ney(count_ngrams(documents, order=2, vocab_size=6))
    assert np.bincount(np.concatenate(documents))[[francisco, glasses]].tolist() == [20, 3]
    assert model.next([glasses])[glasses] > model.next([glasses])[francisco]


@settings(max_examples=60, deadline=None)
@given(corpora, orders, st.lists(st.integers(0, V - 1), max_size=5), st.sampled_from([0.3, 0.5, 0.8]))
def test_kneser_ney_is_the_recursion_of_the_paper(corpus, order, context, d) -> None:
    model = kneser_ney(count_ngrams(corpus, order=order, vocab_size=V), discount=d)
    want = [reference_kneser_ney(corpus, order, V, d, (START, *context), word) for word in range(V)]
    assert model.next(context) == pytest.approx(want, abs=1e-12)


def smoothed(counts: NgramCounts) -> list[NgramModel]:
    return [
        kneser_ney(counts),
        kneser_ney(counts, discount="absolute"),
        add_k(counts),
        add_k(counts, k=0.01),
        back_off(counts),
        back_off(counts, discount=0.9),
    ]


@settings(max_examples=60, deadline=None)
@given(corpora, orders, st.lists(st.integers(0, V - 1), max_size=5))
def test_probabilities_sum_to_one_after_any_context(corpus, order, context) -> None:
    for model in smoothed(count_ngrams(corpus, order=order, vocab_size=V)):
        p = model.next(context)
        assert p.sum() == pytest.approx(1, abs=1e-12)
        assert (p > 0).all() or not model.interpolated


@settings(max_examples=60, deadline=None)
@given(corpora, orders, corpora)
def test_scoring_reads_the_same_tables_as_next(corpus, order, held_out) -> None:
    for model in [
        *smoothed(count_ngrams(corpus, order=order, vocab_size=V)),
        stupid_back_off(count_ngrams(corpus, order=order, vocab_size=V)),
    ]:
        for document, logprobs in zip(held_out, model.logprobs(held_out), strict=True):
            want = [model.next(document[:i])[token] for i, token in enumerate(document)]
            assert np.exp(logprobs) == pytest.approx(want, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(corpora, orders)
def test_counts_are_those_of_a_dictionary(corpus, order) -> None:
    counts = count_ngrams(corpus, order=order, vocab_size=V)
    names: list[dict[int, tuple]] = [{0: ()}]
    for k, level in enumerate(counts.levels[1:], start=1):
        spell = lambda symbol: START if symbol == V else int(symbol)  # noqa: E731
        gram = {
            r: (*names[-1][int(p)], spell(key % (V + 1)))
            for r, (p, key) in enumerate(zip(level.prefix, level.keys, strict=True))
        }
        have = {gram[r]: int(c) for r, c in enumerate(level.count) if c}
        assert have == dict(grams(corpus, k))
        assert all(names[-1][int(s)] == gram[r][1:] for r, s in enumerate(level.suffix))
        assert all((gram[r][0] == START) == starts for r, starts in enumerate(level.starts))
        names.append(gram)
    assert counts.truncated(1).order == 1


def test_no_ngram_crosses_documents() -> None:
    apart = count_ngrams([[0, 1], [2, 3]], order=3, vocab_size=4)
    spelt = defaultdict(set)
    for k, level in enumerate(apart.levels[1:], start=1):
        for prefix, key in zip(level.prefix, level.keys, strict=True):
            spelt[k].add((int(prefix), int(key % 5)))
    assert len(apart.levels[2].keys) == 4  # START 0, 0 1, START 2, 2 3: no 1 2
    assert len(apart.levels[3].keys) == 2


def test_more_context_predicts_a_repeating_text_better() -> None:
    text = [0, 1, 2, 0, 1, 3] * 30
    nats = [-fit_ngram([text], order=n, vocab_size=V).logprobs([text])[0].mean() for n in (1, 2, 3, 4)]
    assert nats == sorted(nats, reverse=True)
    assert nats[3] < 0.15


def test_every_smoothing_by_name() -> None:
    for name in ("kneser-ney", "laplace", "back-off", "stupid"):
        assert fit_ngram([[0, 1, 2]], order=2, vocab_size=3, smoothing=name).order == 2


def test_memoryless_fractions() -> None:
    """A unigram model by exact arithmetic: counts 2, 1, 0 with D = 1/2 leave (2 * 1/2) / 3 for the uniform."""
    model = kneser_ney(count_ngrams([[0, 0, 1]], order=1, vocab_size=3), discount=0.5)
    want = [Fraction(3, 6) + Fraction(1, 9), Fraction(1, 6) + Fraction(1, 9), Fraction(1, 9)]
    assert model.next([]) == pytest.approx([float(p) for p in want])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: count_ngrams([[]], order=2, vocab_size=3), "no tokens"),
        (lambda: count_ngrams([], order=2, vocab_size=3), "no tokens"),
        (lambda: count_ngrams([[0]], order=0, vocab_size=3), "order 1 or more"),
        (lambda: count_ngrams([[0, 3]], order=2, vocab_size=3), "token id 3"),
        (lambda: fit_ngram([[0]], order=2, vocab_size=3).logprobs([[-1]]), "token id -1"),
        (lambda: add_k(count_ngrams([[0]], order=1, vocab_size=2), k=0), "above 0"),
        (lambda: kneser_ney(count_ngrams([[0]], order=1, vocab_size=2), discount=1.5), "between 0 and 1"),
        (lambda: count_ngrams([[0]], order=1, vocab_size=2).truncated(2), "up to order 1"),
    ],
)
def test_mistakes_are_named(call, says) -> None:
    with pytest.raises(OrreryError, match=says):
        call()
