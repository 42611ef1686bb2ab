"""Log-probabilities of continuations with shared beginnings equal those of each sequence read alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.evaluate.likelihood import Continuations
from orrery.kit.errors import OrreryError
from orrery.model import Decoder, Packed
from orrery.model.quantised import use_native_kernels
from tests.model.shapes import SHAPES, VOCAB, shape


@torch.inference_mode()
def alone(model: Decoder, context: list[int], continuation: list[int]) -> tuple[list[float], bool]:
    """One pass over one whole sequence."""
    ids = torch.tensor([*context, *continuation])
    logprobs = model.head(model(ids[:-1], Packed([len(ids) - 1]))).float().log_softmax(-1)[len(context) - 1 :]
    wanted = ids[len(context) :]
    return logprobs.gather(1, wanted[:, None])[:, 0].tolist(), bool((logprobs.argmax(-1) == wanted).all())


def made(name: str = "gqa") -> Decoder:
    model = Decoder(shape(name), seed=3).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2.0 if parameter.ndim > 1 else 1.0)
    return model


CONTEXT = [1, 2, 3, 4, 5, 6, 7]
REQUESTS = [
    (CONTEXT, [8]),
    (CONTEXT, [9]),
    (CONTEXT, [8, 9, 10]),
    (CONTEXT, [8, 9, 11]),
    ([1, 2, 3], [4, 5, 6, 7]),
    ([1], [2, 3, 9]),
    ([20, 21], [22]),
    (CONTEXT, [8]),
]


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("name", SHAPES)
def test_every_kind_of_layer_agrees_with_sequences_read_alone(name: str, native: bool) -> None:
    model = made(name)
    expected = [alone(model, *request) for request in REQUESTS]
    if native:
        use_native_kernels(model)
    scorer = Continuations(model, batch_tokens=5)
    for _ in range(2):  # the second call begins with what the first left in memory
        for found, (logprobs, greedy) in zip(scorer.score(REQUESTS), expected, strict=True):
            assert found.logprobs == pytest.approx(logprobs, abs=2e-4)
            assert found.greedy == greedy


sequences = st.lists(st.integers(0, 3), min_size=2, max_size=12)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(sequences, st.integers(1, 11)), min_size=1, max_size=8), st.integers(1, 40), st.data()
)
def test_any_requests_in_any_passes(requests, batch_tokens, data) -> None:
    """Few ids, so that much is shared; two calls, cut anywhere, over one scorer."""
    pairs = [(ids[: min(at, len(ids) - 1)], ids[min(at, len(ids) - 1) :]) for ids, at in requests]
    model = MODEL
    scorer = Continuations(model, batch_tokens=batch_tokens)
    cut = data.draw(st.integers(0, len(pairs)))
    found = scorer.score(pairs[:cut]) + scorer.score(pairs[cut:])
    for likelihood, pair in zip(found, pairs, strict=True):
        logprobs, greedy = alone(model, *pair)
        assert likelihood.logprobs == pytest.approx(logprobs, abs=1e-4)
        assert likelihood.greedy == greedy
        assert likelihood.logprob == pytest.approx(sum(logprobs), abs=1e-3)


MODEL = made()


def test_what_is_shared_is_read_once() -> None:
    """Four choices of one token: the question alone is read, and the choices not at all. Then only what is new."""
    scorer = Continuations(MODEL)
    scorer.score([(CONTEXT, [i]) for i in range(4)])
    assert (scorer.tokens, scorer.asked) == (7, 28)
    scorer.score([([*CONTEXT[:5], 30, 31], [i]) for i in range(4)])
    assert scorer.tokens == 7 + 2
    whole = Continuations(MODEL, share=False)
    whole.score([(CONTEXT, [1, 2]), (CONTEXT, [1, 3]), (CONTEXT, [2, 3])])
    assert whole.tokens == 8 + 8


def test_a_recurrent_model_shares_nothing() -> None:
    scorer = Continuations(made("state-space"), share=True)
    scorer.score([(CONTEXT, [1, 2]), (CONTEXT, [2, 2])])
    assert scorer.tokens == 16


def test_the_same_bits_in_any_company_with_our_kernels() -> None:
    model = made("local-and-global")
    use_native_kernels(model)
    together = Continuations(model).score(REQUESTS)
    for request, found in zip(REQUESTS, together, strict=True):
        (one,) = Continuations(model, batch_tokens=3).score([request])
        assert one.logprobs == found.logprobs


def test_refusals() -> None:
    scorer = Continuations(MODEL)
    assert scorer.score([]) == []
    for context, continuation, words in (
        ([], [1], "at least one token"),
        ([1], [], "at least one token"),
        ([1], [VOCAB], "outside the model's vocabulary"),
        ([1] * 64, [1, 2], "looks at 64"),
    ):
        with pytest.raises(OrreryError, match=words):
            scorer.score([(context, continuation)])
    (longest,) = scorer.score([([1] * 64, [2])])
    assert len(longest.logprobs) == 1 and np.isfinite(longest.logprob)


def test_probabilities_of_all_next_tokens_sum_to_one() -> None:
    found = Continuations(MODEL).score([(CONTEXT, [i]) for i in range(VOCAB)])
    assert sum(np.exp(f.logprob) for f in found) == pytest.approx(1, abs=1e-5)
    assert sum(f.greedy for f in found) == 1
