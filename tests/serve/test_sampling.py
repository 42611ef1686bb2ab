from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.kit.errors import OrreryError
from orrery.kit.lm import Sampling
from orrery.serve import sampling as s

INF = math.inf
HALVES = torch.tensor([0.5, 0.25, 0.125, 0.0625, 0.0625]).log()  # entropy 1.3 nats = 1.875 bits
floats = st.floats(-20, 20, width=32)
some_logits = st.lists(floats, min_size=1, max_size=30).map(torch.tensor)


def kept(logits: torch.Tensor) -> list[int]:
    return torch.isfinite(logits).nonzero().flatten().tolist()


def test_temperature() -> None:
    assert s.temperature(torch.tensor([2.0, 4.0]), 2.0).tolist() == [1.0, 2.0]
    p = s.temperature(HALVES, 0.5).softmax(0)
    assert p[:2].tolist() == pytest.approx([0.25 / 0.3359375, 0.0625 / 0.3359375])  # squares, normalised


def test_top_k() -> None:
    logits = torch.tensor([1.0, 3.0, 2.0, 3.0])
    assert s.top_k(logits, 2).tolist() == [-INF, 3, -INF, 3]
    assert s.top_k(logits, 1).tolist() == [-INF, 3, -INF, -INF]  # of equals the smaller id
    assert s.top_k(logits, 0) is logits
    assert s.top_k(logits, 4) is logits


@pytest.mark.parametrize(
    ("p", "ids"),
    [
        (0.4, [0]),
        (0.5, [0]),
        (0.51, [0, 1]),
        (0.75, [0, 1]),
        (0.9, [0, 1, 2, 3]),
        (1.0, [0, 1, 2, 3, 4]),
        (1e-9, [0]),
    ],
)
def test_top_p_is_the_smallest_prefix_that_reaches_p(p, ids) -> None:
    assert kept(s.top_p(HALVES, p)) == ids  # of the two sixteenths the smaller id goes in first


def test_min_p() -> None:
    assert kept(s.min_p(HALVES, 0.25)) == [0, 1, 2]
    assert kept(s.min_p(HALVES, 0.26)) == [0, 1]
    assert kept(s.min_p(HALVES, 1.0)) == [0]
    assert s.min_p(HALVES, 0.0) is HALVES


def test_typical_prefers_expected_surprise_to_high_probability() -> None:
    """Surprises are 1, 2, 3, 4, 4 bits, entropy 1.875: the nearest is the second token, then the first, the third."""
    assert kept(s.typical(HALVES, 0.2)) == [1]
    assert kept(s.typical(HALVES, 0.3)) == [0, 1]
    assert kept(s.typical(HALVES, 0.8)) == [0, 1, 2]


def test_xtc_leaves_the_least_likely_of_the_top_choices() -> None:
    assert kept(s.xtc(HALVES, 0.2)) == [1, 2, 3, 4]  # two have at least 0.2
    assert kept(s.xtc(HALVES, 0.125)) == [2, 3, 4]
    assert kept(s.xtc(HALVES, 0.06)) == [4]  # of the two sixteenths the larger id
    assert s.xtc(HALVES, 0.3) is HALVES  # with a single top choice there is nothing else to say
    assert kept(s.xtc(torch.tensor([0.0, -INF, 0.0]), 0.0)) == [2]  # what is ruled out is no choice


def test_xtc_acts_where_the_coin_falls_below_its_probability() -> None:
    sampling = Sampling(xtc_probability=0.5, xtc_threshold=0.2)
    assert kept(s.filtered(HALVES, sampling, coin=0.49)) == [1, 2, 3, 4]
    assert kept(s.filtered(HALVES, sampling, coin=0.5)) == [0, 1, 2, 3, 4]
    assert kept(s.filtered(HALVES, Sampling(xtc_threshold=0.2), coin=0.0)) == [0, 1, 2, 3, 4]


def test_filters_look_at_what_the_one_before_left() -> None:
    """After top-k 2 the probabilities are 2/3 and 1/3, so a mass of 0.6 is reached by the first; of all five by two."""
    assert kept(s.filtered(HALVES, Sampling(top_k=2, top_p=0.6))) == [0]
    assert kept(s.filtered(HALVES, Sampling(top_p=0.6))) == [0, 1]
    ids, logits = s.candidates(HALVES, Sampling(temperature=0.5, top_k=3))
    assert ids.tolist() == [0, 1, 2]
    assert torch.equal(logits, HALVES[:3] / 0.5)


@settings(deadline=None, max_examples=200)
@given(
    st.integers(1, 400).flatmap(
        lambda n: st.tuples(
            st.lists(st.sampled_from([-INF, -1.0, 0.0, 0.5, 2.0]), min_size=n, max_size=n),
            st.integers(1, n + 3),
        )
    )
)
def test_the_largest_are_those_of_a_stable_sort(case) -> None:
    values, k = torch.tensor(case[0]), case[1]
    want = values.sort(descending=True, stable=True).indices[:k]
    assert torch.equal(s.largest(values, k)[:k], want)
    kept_by_sort = values.index_fill(0, values.sort(descending=True, stable=True).indices[k:], -INF)
    assert torch.equal(s.top_k(values, k), kept_by_sort)


@pytest.mark.parametrize("p", [0.3, 0.9, 0.999])
@pytest.mark.parametrize("scale", [0.001, 1.0, 4.0])
def test_masses_of_large_vocabularies_are_those_of_a_whole_sort(p, scale) -> None:
    """A flat distribution needs most of 5,000 tokens, a peaked one a few."""
    logits = (torch.randn(5000, generator=torch.Generator().manual_seed(1)) * scale * 8).round() / 8
    order = logits.sort(descending=True, stable=True).indices
    n = 1 + int((logits.double().softmax(0)[order].cumsum(0)[:-1] < p - s.filters.ROUNDING).sum())
    assert kept(s.top_p(logits, p)) == sorted(order[:n].tolist())


@settings(deadline=None)
@given(st.lists(st.sampled_from([0.0, 0.5, 1.0, 3.0]), min_size=1, max_size=12), st.data())
def test_equal_logits_may_change_places(values, data) -> None:
    """How many tokens of each logit stay does not depend on the order of the vocabulary; of equals the smaller ids stay."""
    logits, order = torch.tensor(values), data.draw(st.permutations(range(len(values))))
    k, p = data.draw(st.integers(1, 12)), data.draw(st.floats(0.05, 0.99))
    for keep in (
        lambda x: s.top_k(x, k),
        lambda x: s.top_p(x, p),
        lambda x: s.min_p(x, p),
        lambda x: s.typical(x, p),
        lambda x: s.xtc(x, p / 4),
    ):
        one, two = keep(logits), keep(logits[list(order)])
        assert sorted(one[kept(one)].tolist()) == sorted(two[kept(two)].tolist())
        assert kept(one)
    for keep in (lambda x: s.top_k(x, k), lambda x: s.top_p(x, p), lambda x: s.typical(x, p)):
        out = keep(logits)
        for value in set(values):
            places = [i for i, v in enumerate(values) if v == value]
            stays = [i for i in places if i in kept(out)]
            assert stays == places[: len(stays)]


def test_repetition_penalty_lowers_both_signs() -> None:
    seen = torch.tensor([True, True, False, True])
    out = s.repetition_penalty(torch.tensor([3.0, -3.0, 3.0, 0.0]), seen, 1.5)
    assert out.tolist() == [2.0, -4.5, 3.0, 0.0]


def test_presence_and_frequency() -> None:
    made = torch.tensor([0, 1, 3])
    assert s.count_penalties(torch.zeros(3), made, presence=0.5, frequency=0.25).tolist() == [0, -0.75, -1.25]


def test_repetition_looks_at_prompt_and_answer_but_counts_at_the_answer_alone() -> None:
    before, made = torch.tensor([1, 0, 0]), torch.tensor([0, 2, 0])
    logits = torch.tensor([2.0, 2.0, 2.0])
    both = s.penalized(
        logits,
        Sampling(repetition_penalty=2.0, presence_penalty=1.0, frequency_penalty=0.1),
        before=before,
        made=made,
    )
    assert both.tolist() == pytest.approx([1.0, 1.0 - 1.0 - 0.2, 2.0])


def test_logit_bias() -> None:
    out = s.logit_bias(torch.zeros(4), {1: 2.5, 3: -INF})
    assert out.tolist() == [0, 2.5, 0, -INF]
    assert s.greedy(s.logit_bias(HALVES, {4: 100.0})) == 4


def test_greedy_takes_the_smaller_of_equals_and_ignores_filters() -> None:
    logits = torch.tensor([0.0, 7.0, 7.0])
    none = torch.zeros(3, dtype=torch.long)
    assert s.choose(logits, Sampling(temperature=0, top_p=0.1), before=none, made=none, u=0.999) == 1


def test_draw_is_the_inverse_of_the_cumulative_distribution() -> None:
    p = torch.tensor([0.25, 0.0, 0.5, 0.25]).log()
    assert [s.draw(p, u) for u in (0.0, 0.2499, 0.2501, 0.7499, 0.7501, 1 - 2**-53)] == [0, 0, 2, 2, 3, 3]
    never_last = torch.tensor([0.0, -INF])
    assert s.draw(never_last, 1 - 2**-53) == 0


def chi_square(counts: torch.Tensor, p: torch.Tensor) -> float:
    n = counts.sum()
    return float(((counts - n * p) ** 2 / (n * p)).sum())


@pytest.mark.parametrize(
    ("sampling", "want"),
    [
        (Sampling(), [8, 4, 2, 1, 1]),
        (Sampling(temperature=0.5), [64, 16, 4, 1, 1]),
        (Sampling(top_k=2), [2, 1, 0, 0, 0]),
        (Sampling(top_p=0.8), [4, 2, 1, 0, 0]),
        (Sampling(min_p=0.25), [4, 2, 1, 0, 0]),
    ],
)
def test_frequencies_are_the_probabilities(sampling, want) -> None:
    """Chi-square over 4000 draws; 18.47 is the 0.999 quantile at four degrees of freedom. The seed is fixed."""
    none, draws = torch.zeros(5, dtype=torch.long), 4000
    counts = torch.zeros(5, dtype=torch.double)
    for position in range(draws):
        counts[
            s.choose(HALVES, sampling, before=none, made=none, u=s.position_uniform(3, "chi", position))
        ] += 1
    p = torch.tensor(want, dtype=torch.double) / sum(want)
    assert counts[p == 0].sum() == 0
    assert chi_square(counts[p > 0], p[p > 0]) < 18.47


def test_the_uniform_depends_on_seed_request_and_position_alone() -> None:
    u = s.position_uniform(0, "a", 7)
    assert u == s.position_uniform(0, "a", 7)
    assert (
        len({u, s.position_uniform(1, "a", 7), s.position_uniform(0, "b", 7), s.position_uniform(0, "a", 8)})
        == 4
    )


@settings(deadline=None)
@given(some_logits, st.floats(0.01, 1), st.integers(0, 40), st.floats(0, 1), st.floats(0.01, 1))
def test_filters_keep_the_likeliest_and_change_no_kept_logit(logits, p, k, m, t) -> None:
    best = int(logits.argmax())
    for out in (s.top_p(logits, p), s.top_k(logits, k), s.min_p(logits, m)):
        assert torch.isfinite(out[best])
        assert torch.equal(out[torch.isfinite(out)], logits[torch.isfinite(out)])
        ruled_out = logits[~torch.isfinite(out)]
        assert not len(ruled_out) or ruled_out.max() <= out[torch.isfinite(out)].min()
    assert kept(s.typical(logits, t))


@settings(deadline=None)
@given(some_logits, st.floats(0, 1, exclude_max=True), st.floats(0.05, 1), st.integers(1, 5))
def test_what_is_drawn_was_kept(logits, u, p, k) -> None:
    out = s.filtered(logits, Sampling(top_p=p, top_k=k, min_p=0.01, temperature=0.7))
    assert s.draw(out, u) in kept(out)


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": -1.0}, {"temperature": math.nan}, {"temperature": 1e-9}, {"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.5}, {"min_p": -0.1},
        {"typical_p": 0.0}, {"repetition_penalty": 0.0}, {"presence_penalty": math.inf}, {"frequency_penalty": math.nan},
        {"logit_bias": {9: 1.0}}, {"logit_bias": {0: math.inf}}, {"logit_bias": {-1: 1.0}}, {"logit_bias": {0: 1e308}},
        {"logit_bias": {0: math.nan}}, {"temperature": math.inf}, {"temperature": 1e308}, {"repetition_penalty": math.inf},
        {"presence_penalty": 1e308}, {"frequency_penalty": -1e308}, {"top_p": math.nan}, {"min_p": math.nan},
        {"bad_words": ((),)}, {"bad_words": ((1,), (2, 5))}, {"xtc_probability": 1.1}, {"xtc_threshold": -0.1},
        {"dry_multiplier": -1.0}, {"dry_multiplier": math.nan}, {"dry_base": 0.5}, {"dry_base": math.inf},
        {"dry_allowed_length": 0}, {"dry_breakers": (5,)}, {"contrastive_alpha": 1.5}, {"contrastive_alpha": math.nan},
        {"contrastive_alpha": 0.6}, {"contrastive_alpha": 0.6, "top_k": 4, "temperature": 0.5},
        {"contrastive_alpha": 0.6, "top_k": 4, "top_p": 0.9}, {"contrastive_alpha": 0.6, "top_k": 1},
    ],
)  # fmt: skip
def test_settings_that_mean_nothing_are_refused(change) -> None:
    with pytest.raises(OrreryError, match=next(iter(change))):
        s.check_sampling(replace(Sampling(), **change), 5)


def test_the_defaults_are_fine() -> None:
    s.check_sampling(Sampling(), 5)
    s.check_sampling(Sampling(contrastive_alpha=0.6, top_k=4, temperature=0), 5)


def test_a_long_setting_is_not_repeated_whole() -> None:
    with pytest.raises(OrreryError) as error:
        s.check_sampling(Sampling(logit_bias=dict.fromkeys(range(100_000), 1.0)), 5)
    assert len(str(error.value)) < 200


@settings(deadline=None)
@given(some_logits, st.sampled_from([1e-9, 1e9]), st.sampled_from([-1e9, 1e9]), st.sampled_from([1e-6, 1e6]))
def test_the_largest_settings_give_numbers(logits, repetition, other, t) -> None:
    sampling = Sampling(
        temperature=t, repetition_penalty=repetition, presence_penalty=other, frequency_penalty=other,
        logit_bias={0: other}, dry_multiplier=1e9, dry_base=1e9,
    )  # fmt: skip
    s.check_sampling(sampling, len(logits))
    counts, ids = torch.full((len(logits),), 10), [0] * 50
    out = s.filtered(s.penalized(logits, sampling, before=counts, made=counts, ids=ids), sampling)
    assert out.isfinite().all()
    assert 0 <= s.draw(out, 0.5) < len(logits)
