"""Noise of the published size, in training alone, the same for the same seed."""

from __future__ import annotations

import pytest
import torch

from orrery.model.packed import Packed
from orrery.tune.neftune import neftune, noise

from .conftest import Small


def test_its_size_falls_with_the_length_of_each_example() -> None:
    torch.manual_seed(0)
    drawn = noise([400, 25], 64, alpha=5.0)
    long, short = drawn.split([400, 25])
    assert drawn.shape == (425, 64)
    assert long.abs().max() <= 5 / (400 * 64) ** 0.5 < short.abs().max() <= 5 / (25 * 64) ** 0.5
    # the variance of a uniform on [-a, a] is a^2 / 3
    assert float(long.var()) == pytest.approx((5 / (400 * 64) ** 0.5) ** 2 / 3, rel=0.02)


def test_only_training_is_noisy(small: Small) -> None:
    model, tokens, ctx = small.model(), torch.arange(3, 13), Packed([6, 4])
    plain = model.eval()(tokens, ctx)
    with neftune(model, 5.0):
        assert torch.equal(model.eval()(tokens, ctx), plain)
        model.train()
        with torch.no_grad():
            assert torch.equal(model(tokens, ctx), plain)
        torch.manual_seed(1)
        first = model(tokens, ctx)
        torch.manual_seed(1)
        assert torch.equal(model(tokens, ctx), first) and not torch.equal(first, plain)
        torch.manual_seed(1)
        wanted = model.run(model.embed_tokens(tokens) + noise([6, 4], 32, 5.0), ctx)
        assert torch.equal(first, wanted)
    assert torch.equal(model.train()(tokens, ctx), plain)


def test_scaled_embeddings_get_the_same_noise(small: Small) -> None:
    """The noise is added to what the layers read, behind a model's embedding scale (Gemma's sqrt(d))."""
    model = small.model(embedding_scale=32**0.5)
    tokens, ctx = torch.arange(3, 9), Packed([6])
    seen: list[torch.Tensor] = []
    hook = model.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(tokens, ctx)
    with neftune(model.train(), 5.0):
        torch.manual_seed(1)
        model(tokens, ctx)
    hook.remove()
    torch.manual_seed(1)
    torch.testing.assert_close(seen[1] - seen[0], noise([6], 32, 5.0), rtol=0, atol=1e-6)
