from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.kit.errors import OrreryError
from orrery.model import Packed
from orrery.serve.windows import sliding_windows, windowed_logprobs

V = 50


@given(st.integers(0, 60), st.integers(1, 20), st.integers(1, 20))
def test_every_prediction_counts_once_with_as_much_context_as_fits(n, context, stride) -> None:
    stride = min(stride, context)
    windows = list(sliding_windows(n, context=context, stride=stride))
    counted = [i for w in windows for i in range(w.first, w.end)]
    assert counted == list(range(n))
    for w in windows:
        assert w.begin <= w.first < w.end
        assert w.length == min(context, w.end)  # the window is full, or begins at the text's beginning
        assert w.first == 0 or w.first - w.begin >= context - stride


def direct(model, ids: list[int], context: int, stride: int) -> list[float]:
    """Each token from the window that first reaches it, one forward pass a token."""
    out = []
    for w in sliding_windows(len(ids) - 1, context=context, stride=stride):
        for i in range(w.first, w.end):
            part = torch.tensor(ids[w.begin : i + 1])
            logits = model.head(model(part, Packed([len(part)])))[-1]
            out.append(float(logits.log_softmax(-1)[ids[i + 1]].detach()))
    return out


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, V - 1), max_size=30), min_size=1, max_size=4),
    st.integers(1, 12),
    st.integers(1, 12),
    st.integers(8, 40),
)
def test_batched_windows_equal_one_pass_a_token(make_model, documents, context, stride, batch_tokens) -> None:
    stride, model = min(stride, context), make_model(V)
    scored = windowed_logprobs(
        model, documents, context=context, stride=stride, start=7, batch_tokens=batch_tokens
    )
    for ids, logprobs in zip(documents, scored, strict=True):
        assert logprobs.tolist() == pytest.approx(direct(model, [7, *ids], context, stride), abs=1e-4)


def test_without_a_start_the_first_token_is_one_of_v(make_model) -> None:
    model = make_model(V)
    with_first, empty = windowed_logprobs(model, [[3, 4, 5], []], context=8)
    assert with_first[0] == pytest.approx(-math.log(V))
    assert with_first[1:].tolist() == pytest.approx(direct(model, [3, 4, 5], 8, 4), abs=1e-5)
    assert len(empty) == 0


def test_the_model_goes_on_training_after_scoring(make_model) -> None:
    model = make_model(V, dropout=0.5).train()
    model.blocks[0].eval()
    a, b = (windowed_logprobs(model, [[1, 2, 3]])[0] for _ in range(2))
    assert np.array_equal(a, b)  # no dropout
    assert model.training and model.blocks[1].training and not model.blocks[0].training


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"context": 65}, "context is 64"),
        ({"context": 0}, "context is 64"),
        ({"stride": 0}, "stride of 0"),
        ({"context": 4, "stride": 5}, "stride of 5"),
    ],
)
def test_windows_that_cannot_be(make_model, settings, says) -> None:
    with pytest.raises(OrreryError, match=says):
        windowed_logprobs(make_model(V), [[1, 2]], **settings)


def test_foreign_ids_are_named(make_model) -> None:
    with pytest.raises(OrreryError, match="token id 50"):
        windowed_logprobs(make_model(V), [[1, 50]])
