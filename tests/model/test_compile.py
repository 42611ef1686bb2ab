"""torch.compile captures the whole model in one graph under every context."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from orrery.model import Cached, Explicit, KVCache, Packed

from .shapes import ids, tiny

SLOW = ["t5", "sinks", "latent", "moe-softmax", "partial-rope"]
NAMES = ["local-and-global", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
TWO = {"n_layers": 2, "layer_pattern": ("local", "global"), "window": 3}


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def compiled(model: torch.nn.Module) -> torch.nn.Module:
    return torch.compile(model, backend="aot_eager", fullgraph=True)


@pytest.mark.parametrize("context", [Packed, Explicit])
@pytest.mark.parametrize("name", NAMES)
def test_training_contexts(name: str, context: type[Packed] | type[Explicit]) -> None:
    model, lengths = tiny(name, **TWO), (5, 5, 3)
    tokens = ids(13)
    fast = compiled(model)
    hidden = fast(tokens, context(lengths))
    torch.testing.assert_close(hidden, model(tokens, context(lengths)), rtol=1e-5, atol=1e-5)
    hidden.square().sum().backward()
    gradients = {n: p.grad.clone() for n, p in model.named_parameters()}
    model.zero_grad()
    model(tokens, context(lengths)).square().sum().backward()
    for n, p in model.named_parameters():
        torch.testing.assert_close(gradients[n], p.grad, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_generating(name: str) -> None:
    model = tiny(name, **TWO)
    one, two = ids(8, seed=1), ids(5, seed=2)
    fast, cache = compiled(model), KVCache(model, 2, 12)
    got = [fast(torch.cat([one[:6], two[:4]]), Cached(cache, [(0, 0, 6), (1, 0, 4)]))]
    got.append(fast(torch.cat([one[6:], two[4:]]), Cached(cache, [(0, 6, 2), (1, 4, 1)])))
    hidden = torch.cat(got)
    torch.testing.assert_close(
        hidden[[0, 1, 2, 3, 4, 5, 10, 11]], model(one, Packed([8])), rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(hidden[[6, 7, 8, 9, 12]], model(two, Packed([5])), rtol=1e-5, atol=1e-5)


def test_a_new_context_of_the_same_lengths_is_not_compiled_again() -> None:
    model = tiny("local-and-global", **TWO)
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    fast = torch.compile(model, backend=counter, fullgraph=True)
    reused = Packed((6, 6))
    for ctx in (Packed((6, 6)), Packed((6, 6)), reused, reused):
        fast(ids(12), ctx).sum().backward()
    assert counter.frame_count == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_the_default_compiler() -> None:
    model, tokens = tiny("local-and-global", **TWO), ids(16)
    fast = torch.compile(model, fullgraph=True)
    hidden = fast(tokens, Packed((8, 8)))
    hidden.square().sum().backward()
    gradients = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    plain = model(tokens, Packed((8, 8)))
    plain.square().sum().backward()
    torch.testing.assert_close(hidden, plain, rtol=1e-4, atol=1e-5)
    for ours, p in zip(gradients, model.parameters(), strict=True):
        torch.testing.assert_close(ours, p.grad, rtol=1e-3, atol=1e-4)
