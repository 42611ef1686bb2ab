from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.kit.errors import OrreryError
from orrery.kit.lm import Completion, GenerateRequest, Sampling
from orrery.serve import sampling as s
from orrery.serve.sampling import Chooser

INF = math.inf
V = 7
ids = st.integers(0, V - 1)
some_logits = st.lists(st.floats(-8, 8, width=32), min_size=V, max_size=V).map(torch.tensor)
probability = st.floats(0.05, 1)
some_sampling = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 0.5, 1.0, 1.7]),
    top_k=st.integers(0, V),
    top_p=probability,
    min_p=st.floats(0, 0.5),
    typical_p=probability,
    repetition_penalty=st.sampled_from([1.0, 0.8, 1.5]),
    presence_penalty=st.sampled_from([0.0, 0.5, -0.5]),
    frequency_penalty=st.sampled_from([0.0, 0.25]),
    logit_bias=st.dictionaries(ids, st.floats(-3, 3), max_size=2),
    bad_words=st.lists(st.tuples(ids, ids), max_size=2).map(tuple),
    xtc_probability=st.sampled_from([0.0, 0.5, 1.0]),
    xtc_threshold=st.floats(0.02, 0.5),
    dry_multiplier=st.sampled_from([0.0, 0.8]),
    dry_allowed_length=st.integers(1, 2),
    dry_breakers=st.sampled_from([(), (3,)]),
    seed=st.integers(0, 3),
)


def chooser(prompt: list[int], sampling: Sampling, *, known: int = V, **settings) -> Chooser:
    return Chooser(GenerateRequest(ids=prompt, sampling=sampling, request_id="r", **settings), V, known)


def counts(tokens: list[int]) -> torch.Tensor:
    return torch.bincount(torch.tensor(tokens, dtype=torch.long), minlength=V)


@settings(deadline=None)
@given(some_logits, some_sampling, st.lists(ids, min_size=1, max_size=6), st.lists(ids, max_size=6))
def test_it_chooses_what_the_function_chooses(logits, sampling, prompt, made) -> None:
    state = chooser(prompt, sampling)
    for id in made:
        state.push(id)
    at = len(prompt) + len(made)
    assert state.position == at
    want = s.choose(
        logits,
        sampling,
        before=counts(prompt),
        made=counts(made),
        u=s.position_uniform(sampling.seed, "r", at),
        coin=s.position_uniform(sampling.seed, "r", at, "xtc"),
        ids=[*prompt, *made],
    )
    choice = state.choose(logits, at)
    assert choice.id == want
    assert choice.logprob == float(logits.log_softmax(-1)[want])
    p = state.distribution(logits)
    assert float(p.sum()) == pytest.approx(1)
    assert p[want] > 0  # never empty, and what is drawn has a probability
    if sampling.temperature:
        penalized = s.penalized(
            logits, sampling, before=counts(prompt), made=counts(made), ids=[*prompt, *made]
        )
        coin = s.position_uniform(sampling.seed, "r", at, "xtc")
        assert torch.equal(p > 0, s.filtered(penalized, sampling, coin=coin).isfinite())


@settings(deadline=None)
@given(
    some_logits,
    some_sampling,
    st.lists(ids, min_size=1, max_size=5),
    st.lists(ids, max_size=5),
    st.lists(ids, max_size=4),
    st.data(),
)
def test_going_back_is_as_if_it_had_not_happened(logits, sampling, prompt, made, tried, data) -> None:
    replayed, state = chooser(prompt, sampling), chooser(prompt, sampling)
    n = data.draw(st.integers(0, len(made)))
    for id in made[: len(made) - n]:
        replayed.push(id)
    for id in made:
        state.push(id)
    other = state.clone()
    for id in tried:
        other.push(id)
    state.rollback(n)
    other.rollback(len(tried) + n)
    for one in (state, other):
        assert one.position == replayed.position
        assert one._made == replayed._made
        assert torch.equal(one.scores(logits), replayed.scores(logits))
        assert one.choose(logits, one.position) == replayed.choose(logits, one.position)


def test_a_clone_goes_its_own_way() -> None:
    one = chooser([1], Sampling(temperature=0, frequency_penalty=5.0))
    two = one.clone()
    logits = torch.tensor([0.0, 0, 3, 2, 0, 0, 0])
    one.push(2)
    assert (one.choose(logits, 2).id, two.choose(logits, 1).id) == (3, 2)


def test_a_grammar_comes_before_everything() -> None:
    logits = torch.tensor([5.0, 4, 3, 2, 1, 0, -1])
    mask = torch.tensor([False, False, True, True, False, False, False])
    for sampling in (
        Sampling(temperature=0),
        Sampling(top_k=1),
        Sampling(top_p=0.1),
        Sampling(logit_bias={0: 1e9}, top_k=1),
    ):
        state = chooser([1], sampling)
        assert state.choose(logits, 1, mask).id == 2
        assert state.distribution(logits, mask).tolist() == [0, 0, 1, 0, 0, 0, 0]
    assert chooser([1], Sampling(temperature=0)).choose(logits, 1, mask).logprob == pytest.approx(
        float(logits.log_softmax(0)[2])
    )  # the model's own, not that among what is allowed


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize(
    ("change", "mask"),
    [
        ({}, torch.zeros(V, dtype=torch.bool)),
        ({"logit_bias": dict.fromkeys(range(V), -INF)}, None),
        ({"bad_words": tuple((i,) for i in range(V))}, None),
        ({"logit_bias": {2: -INF}}, torch.arange(V) == 2),
        ({"bad_words": ((1, 2),)}, torch.arange(V) == 2),
    ],
)
def test_where_nothing_is_left_it_says_so(temperature, change, mask) -> None:
    state = chooser([1], Sampling(temperature=temperature, top_p=0.9, typical_p=0.9, **change))
    with pytest.raises(OrreryError, match="no token is left"):
        state.choose(torch.zeros(V), 1, mask)


def test_rows_beyond_the_tokenizer_are_never_chosen_and_do_not_disturb() -> None:
    logits = torch.tensor([0.0, 1, 2, 3, 9, 9, 9])
    sampling = Sampling(
        temperature=0, repetition_penalty=1.1, logit_bias={6: 5.0}, bad_words=((5,),), dry_multiplier=1.0
    )
    state = chooser([5, 6, 5, 6], sampling, known=4, logprobs=3)
    choice = state.choose(logits, 4)
    assert choice.id == 3
    assert list(choice.top) == [3, 2, 1]
    assert choice.logprob == choice.top[3] == float(logits.log_softmax(0)[3])  # of the whole model
    assert len(state.distribution(logits)) == 4
    assert Chooser(GenerateRequest(ids=[1]), V, 100).known == V


def test_alternatives_are_the_likeliest_of_equals_the_smaller_id() -> None:
    logits = torch.tensor([1.0, 3, 3, 2, 3, 0, 0])
    top = chooser([1], Sampling(temperature=0), logprobs=4).choose(logits, 1).top
    assert list(top) == [1, 2, 4, 3]
    assert list(top.values()) == logits.log_softmax(0)[[1, 2, 4, 3]].tolist()
    for none in (None, 0):
        assert chooser([1], Sampling(), logprobs=none).choose(logits, 1).top == {}
    forced = chooser([1], Sampling(), logprobs=1).report(logits, 5)
    assert (forced.id, forced.top) == (5, {1: float(logits.log_softmax(0)[1])})


def test_what_was_read_is_reported_with_itself_first() -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0], [5.0, 0.0, 0.0]])
    p = logits.log_softmax(-1)
    rows = s.read_logprobs(logits, [2, 0], 2, known=3)
    assert rows == [
        {2: float(p[0, 2]), 1: float(p[0, 1])},
        {0: float(p[1, 0]), 1: float(p[1, 1])},
    ]
    assert [list(row) for row in rows] == [[2, 1], [0, 1]]


def test_contrastive_search_is_not_done_from_logits_alone() -> None:
    state = chooser([1], Sampling(temperature=0, top_k=4, contrastive_alpha=0.6))
    with pytest.raises(OrreryError, match=r"LM\.generate"):
        state.choose(torch.zeros(V), 1)


# --- the law of the draw


P = torch.tensor([0.4, 0.3, 0.12, 0.08, 0.05, 0.03, 0.02])


@pytest.mark.parametrize(
    ("change", "want"),
    [
        ({}, [40, 30, 12, 8, 5, 3, 2]),
        ({"temperature": 0.5}, [1600, 900, 144, 64, 25, 9, 4]),
        ({"temperature": 0.0}, [1, 0, 0, 0, 0, 0, 0]),
        ({"top_k": 3}, [40, 30, 12, 0, 0, 0, 0]),
        ({"top_p": 0.75}, [40, 30, 12, 0, 0, 0, 0]),
        ({"min_p": 0.2}, [40, 30, 12, 8, 0, 0, 0]),
        # entropy 1.517 nats; surprises .916 1.204 2.120 2.526 ...: nearest is 1.204, then .916, then 2.120
        ({"typical_p": 0.2}, [0, 30, 0, 0, 0, 0, 0]),
        ({"typical_p": 0.5}, [40, 30, 0, 0, 0, 0, 0]),
        ({"typical_p": 0.75}, [40, 30, 12, 0, 0, 0, 0]),
        ({"xtc_probability": 1.0, "xtc_threshold": 0.1}, [0, 0, 12, 8, 5, 3, 2]),
        ({"repetition_penalty": 2.0}, [16, 9, 1.44, 8, 5, 3, 2]),  # log p is negative: p becomes p ** 2
        ({"presence_penalty": math.log(2)}, [40, 15, 6, 8, 5, 3, 2]),
        ({"frequency_penalty": math.log(2)}, [40, 15, 3, 8, 5, 3, 2]),
        ({"logit_bias": {0: -INF, 6: math.log(10)}}, [0, 30, 12, 8, 5, 3, 20]),
        ({"bad_words": ((1, 0), (2, 1))}, [40, 0, 12, 8, 5, 3, 2]),
        # 1 2 2 0 1 2 2: three tokens agree before 0 (4 ln 2 are lost) and one before 2 (ln 2)
        ({"dry_multiplier": math.log(2), "dry_base": 2.0, "dry_allowed_length": 1}, [40 / 16, 30, 6, 8, 5, 3, 2]),
        ({"top_k": 4, "top_p": 0.8, "min_p": 0.28}, [40, 30, 12, 0, 0, 0, 0]),
    ],
)  # fmt: skip
def test_draws_follow_the_closed_form(change, want) -> None:
    """The numbers u in [0, 1) that give a token are an interval of exactly its probability, worked by hand."""
    state = chooser([1, 2, 2, 0], Sampling(**change))
    for id in (1, 2, 2):
        state.push(id)
    p = torch.tensor(want, dtype=torch.double)
    p = p / p.sum()
    torch.testing.assert_close(state.distribution(P.log()), p, atol=1e-6, rtol=0)
    if state.sampling.temperature == 0:
        return
    kept, logits = s.candidates(state.scores(P.log()), state.sampling, coin=0.0)
    low = 0.0
    for token in p.nonzero().flatten().tolist():
        high = low + float(p[token])
        assert [int(kept[s.draw(logits, u)]) for u in (low + 1e-6, (low + high) / 2, high - 1e-6)] == [
            token
        ] * 3
        low = high


@pytest.mark.slow
def test_frequencies_over_many_positions() -> None:
    """100,000 keyed draws for each of several settings; chi-square below its quantile at 1e-3 after Bonferroni over 5 tests."""
    limit = {1: 13.8, 2: 17.1, 3: 19.7, 6: 26.0}
    for sampling in (
        Sampling(seed=1),
        Sampling(temperature=0.7, seed=2),
        Sampling(top_k=4, seed=3),
        Sampling(top_p=0.8, min_p=0.1, seed=4),
        Sampling(typical_p=0.9, seed=5),
    ):
        state, draws = chooser([1], sampling), 100_000
        p = state.distribution(P.log())
        alive = p > 0
        ids, kept = s.candidates(state.scores(P.log()), sampling)
        drawn = [int(ids[s.draw(kept, s.position_uniform(sampling.seed, "r", i))]) for i in range(draws)]
        seen = counts(drawn).double()
        assert seen[~alive].sum() == 0
        chi2 = ((seen - draws * p)[alive] ** 2 / (draws * p[alive])).sum()
        assert chi2 < limit.get(int(alive.sum()) - 1, 24.0)


def test_xtc_acts_as_often_as_asked_and_apart_from_the_draw() -> None:
    state = chooser([1], Sampling(xtc_probability=0.3, xtc_threshold=0.1))
    acted = 0
    for _ in range(2000):
        acted += float(state.distribution(P.log())[0]) == 0
        state.push(3)
    assert abs(acted / 2000 - 0.3) < 0.04
    uniforms = torch.tensor(
        [[s.position_uniform(0, "r", i, what) for what in ("sample", "xtc")] for i in range(2000)]
    )
    assert abs(float(torch.corrcoef(uniforms.T)[0, 1])) < 0.08


# --- several continuations


def test_names_of_choices() -> None:
    request = GenerateRequest(ids=[1], request_id="a", n=2, best_of=3)
    made = s.choice_requests(request)
    assert [r.request_id for r in made] == ["a", "a#1", "a#2"]
    assert all((r.n, r.best_of) == (1, None) for r in made)
    assert [s.choice_request_id(request, i) for i in range(2)] == ["a", "a#1"]


def test_the_likeliest_a_token_are_given() -> None:
    def done(text: str, *logprobs: float) -> Completion:
        return Completion(text=text, ids=(1,) * len(logprobs), logprobs=logprobs, finish_reason="stop")

    made = [done("a", -3.0), done("b", -1.0, -1.0, -4.0), done("c", -1.0), done("d", -2.0)]
    best = s.given(GenerateRequest(ids=[1], n=2, best_of=4), made)
    assert (best.text, [other.text for other in best.others]) == (
        "c",
        ["b"],
    )  # b has -2 as d has, and came earlier
    plain = s.given(GenerateRequest(ids=[1], n=4), made)
    assert (plain.text, [other.text for other in plain.others]) == ("a", ["b", "c", "d"])
