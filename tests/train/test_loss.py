"""Cross-entropy in chunks: hand numbers, and value and gradients equal to torch's whole-logits form."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from orrery.kit.errors import OrreryError
from orrery.train.loss import LinearHead, Loss, cross_entropy


def inputs(tokens: int = 13, width: int = 8, vocabulary: int = 17, seed: int = 0, masked: float = 0.3) -> Any:
    g = torch.Generator().manual_seed(seed)
    hidden = torch.randn(tokens, width, generator=g, dtype=torch.float32)
    weight = torch.randn(vocabulary, width, generator=g)
    targets = torch.randint(vocabulary, (tokens,), generator=g)
    weights = torch.rand(tokens, generator=g) * (torch.rand(tokens, generator=g) > masked)
    return hidden, weight, targets, weights


def reference(
    hidden: Tensor, weight: Tensor, targets: Tensor, weights: Tensor, *, bias: Tensor | None = None, scale: float = 1.0,
    softcap: float | None = None, label_smoothing: float = 0.0, z_loss: float = 0.0,
) -> Tensor:  # fmt: skip
    logits = F.linear(hidden, weight, bias) * scale
    logits = logits if softcap is None else softcap * torch.tanh(logits / softcap)
    each = F.cross_entropy(logits, targets, reduction="none", label_smoothing=label_smoothing)
    return (weights * (each + z_loss * logits.logsumexp(-1).square())).sum()


def gradients(loss: Tensor, *leaves: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, leaves))


def test_by_hand() -> None:
    # logits (2, 0) and (0, 0): nll = log(1 + e^-2) = 0.126928 for target 0, and log 2 for the second token.
    hidden, weight = torch.tensor([[2.0], [0.0]]), torch.tensor([[1.0], [0.0]])
    loss = cross_entropy(hidden, weight, torch.tensor([0, 1]), torch.tensor([1.0, 0.5]))
    assert loss.sum.item() == pytest.approx(0.126928 + 0.5 * math.log(2), abs=1e-6)
    assert loss.weight.item() == 1.5
    assert loss.stats["nll"].item() == pytest.approx(loss.sum.item())


def test_gradient_by_hand() -> None:
    # p = (1/2, 1/2), target 0: d loss / d logits = (-1/2, 1/2), times W = (1, 3): d loss / d h = 1.
    hidden = torch.zeros(1, 1, requires_grad=True)
    weight = torch.tensor([[1.0], [3.0]])
    (grad,) = gradients(cross_entropy(hidden, weight, torch.tensor([0]), torch.ones(1)).sum, hidden)
    assert grad.item() == pytest.approx(1.0)


OPTIONS = [
    {},
    {"label_smoothing": 0.1},
    {"z_loss": 1e-2},
    {"scale": 0.25},
    {"softcap": 3.0},
    {"label_smoothing": 0.2, "z_loss": 1e-3, "scale": 1.5, "softcap": 5.0},
]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("chunk", [1, 4, None])
@pytest.mark.parametrize("bias", [False, True])
def test_equals_whole_logits(options: dict[str, Any], chunk: int | None, bias: bool) -> None:
    hidden, weight, targets, weights = inputs()
    leaves = [hidden.requires_grad_(), weight.requires_grad_()]
    if bias:
        leaves.append(torch.linspace(-1, 1, len(weight)).requires_grad_())
    b = leaves[2] if bias else None
    expected = reference(hidden, weight, targets, weights, bias=b, **options)
    shape = {k: options[k] for k in ("scale", "softcap") if k in options}
    training = {k: options[k] for k in ("label_smoothing", "z_loss") if k in options}
    loss = cross_entropy(hidden, LinearHead(weight, b, **shape), targets, weights, chunk=chunk, **training)
    torch.testing.assert_close(loss.sum, expected, atol=1e-6, rtol=1e-6)
    for got, want in zip(gradients(loss.sum, *leaves), gradients(expected, *leaves), strict=True):
        torch.testing.assert_close(got, want, atol=2e-6, rtol=1e-6)


@pytest.mark.parametrize("chunk", [3, None])
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1, "z_loss": 1e-2}])
def test_any_function_as_head(chunk: int | None, options: dict[str, Any]) -> None:
    hidden, weight, targets, weights = inputs()
    leaves = hidden.requires_grad_(), weight.requires_grad_()

    def head(h: Tensor) -> Tensor:
        return 4 * torch.tanh(h @ weight.t() / 4)

    loss = cross_entropy(hidden, head, targets, weights, chunk=chunk, **options)
    expected = reference(hidden, weight, targets, weights, softcap=4.0, **options)
    torch.testing.assert_close(loss.sum, expected, atol=1e-6, rtol=1e-6)
    for got, want in zip(gradients(loss.sum, *leaves), gradients(expected, *leaves), strict=True):
        torch.testing.assert_close(got, want, atol=2e-6, rtol=1e-6)


@settings(max_examples=30, deadline=None)
@given(
    tokens=st.integers(1, 40), vocabulary=st.integers(2, 50), chunk=st.integers(1, 50), seed=st.integers(0, 99),
    size=st.sampled_from([1e-3, 1.0, 30.0]),
)  # fmt: skip
def test_chunks_do_not_matter(tokens: int, vocabulary: int, chunk: int, seed: int, size: float) -> None:
    hidden, weight, targets, weights = inputs(tokens, 5, vocabulary, seed)
    hidden *= size
    expected = reference(hidden.double(), weight.double(), targets, weights.double())
    loss = cross_entropy(hidden, weight, targets, weights, chunk=chunk)
    assert loss.sum.item() == pytest.approx(expected.item(), rel=2e-6, abs=1e-6)


def test_linear_module_and_tensor_are_one() -> None:
    hidden, weight, targets, weights = inputs()
    head = nn.Linear(*weight.t().shape, bias=False)
    head.weight.data = weight
    one, two = cross_entropy(hidden, head, targets, weights), cross_entropy(hidden, weight, targets, weights)
    assert torch.equal(one.sum, two.sum)


def test_head_runs_only_where_there_is_loss() -> None:
    hidden, weight, targets, weights = inputs(tokens=20, masked=0.6)
    seen: list[int] = []

    def head(h: Tensor) -> Tensor:
        seen.append(len(h))
        return h @ weight.t()

    cross_entropy(hidden, head, targets, weights)
    assert seen == [int((weights > 0).sum())] and seen[0] < 20


def test_ignored_targets_may_be_anything() -> None:
    hidden, weight, targets, weights = inputs()
    other = torch.where(weights > 0, targets, -100)
    one, two = cross_entropy(hidden, weight, targets, weights), cross_entropy(hidden, weight, other, weights)
    assert torch.equal(one.sum, two.sum)


def test_frozen_head_and_evaluation_compute_no_more_than_asked() -> None:
    hidden, weight, targets, weights = inputs()
    hidden.requires_grad_()
    frozen = cross_entropy(hidden, weight, targets, weights)  # as with adapters: no gradient of the head
    frozen.sum.backward()
    assert hidden.grad is not None and weight.grad is None
    with torch.no_grad():
        evaluated = cross_entropy(hidden, weight.requires_grad_(), targets, weights)
    assert not evaluated.sum.requires_grad and torch.equal(evaluated.sum, frozen.sum)


def test_tied_weight_collects_both_gradients() -> None:
    table = nn.Embedding(11, 6)
    tokens, targets = torch.arange(5), torch.arange(1, 6)
    cross_entropy(table(tokens), table.weight, targets, torch.ones(5)).sum.backward()
    got = table.weight.grad.clone()
    table.weight.grad = None
    reference(table(tokens), table.weight, targets, torch.ones(5)).backward()
    torch.testing.assert_close(got, table.weight.grad, atol=1e-6, rtol=1e-6)


def test_accumulation_equals_one_batch() -> None:
    hidden, weight, targets, weights = inputs(tokens=24)
    weight.requires_grad_()
    whole = cross_entropy(hidden, weight, targets, weights)
    (expected,) = gradients(whole.mean(), weight)
    parts = [cross_entropy(hidden[i::3], weight, targets[i::3], weights[i::3]) for i in range(3)]
    total = sum(part.weight for part in parts)
    got = sum(gradients(part.sum / total, weight)[0] for part in parts)
    torch.testing.assert_close(got, expected, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("softcap", [None, 2.0])
def test_gradients_by_finite_differences(softcap: float | None) -> None:
    hidden, weight, targets, _ = inputs(tokens=4, width=3, vocabulary=5)
    weights = torch.tensor([1.0, 0.0, 2.0, 0.5], dtype=torch.float64)
    bias = torch.zeros(5, dtype=torch.float64, requires_grad=True)

    def loss(h: Tensor, w: Tensor, b: Tensor) -> Tensor:
        head = LinearHead(w, b, scale=0.7, softcap=softcap)
        return cross_entropy(h, head, targets, weights, label_smoothing=0.1, z_loss=0.1, chunk=2).sum

    leaves = hidden.double().requires_grad_(), weight.double().requires_grad_(), bias
    assert torch.autograd.gradcheck(loss, leaves)


def test_backward_twice_gives_the_same() -> None:
    hidden, weight, targets, weights = inputs()
    loss = cross_entropy(hidden.requires_grad_(), weight, targets, weights).sum
    first = torch.autograd.grad(3 * loss, hidden, retain_graph=True)[0]
    torch.testing.assert_close(first, 3 * torch.autograd.grad(loss, hidden)[0])


def test_autocast_multiplies_in_bf16_and_sums_in_fp32() -> None:
    hidden, weight, targets, weights = inputs(tokens=6)
    leaves = hidden.requires_grad_(), weight.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss = cross_entropy(hidden, weight, targets, weights, chunk=4)
    expected = reference(*(x.to(torch.bfloat16).float() for x in leaves), targets, weights)
    assert loss.sum.dtype == torch.float32
    torch.testing.assert_close(loss.sum, expected, rtol=1e-2, atol=1e-2)
    for got, leaf in zip(gradients(loss.sum, *leaves), leaves, strict=True):
        assert got.dtype == leaf.dtype and got.abs().sum() > 0


def test_fp16_keeps_gradients_that_would_underflow() -> None:
    """A probability of e^-18 / 2 = 8e-9 is far below fp16's 6e-8, and scaling the loss in backward comes too
    late.
    """
    hidden = torch.tensor([[1.0, 0.0]], requires_grad=True)
    weight = torch.tensor([[0.0, 0.0], [0.0, 0.0], [-18.0, 1.0]])
    with torch.autocast("cpu", torch.float16):
        loss = cross_entropy(hidden, weight, torch.tensor([0]), torch.ones(1))
    (65536 * loss.sum).backward()
    p = math.exp(-18) / 2
    torch.testing.assert_close(hidden.grad[0], 65536 * p * torch.tensor([-18.0, 1.0]), rtol=0.02, atol=0)


def test_nan_is_not_hidden() -> None:
    hidden, weight, targets, weights = inputs(masked=0.0)
    hidden[3, 0] = float("nan")
    assert cross_entropy(hidden, weight, targets, weights).sum.isnan()


def test_nothing_to_learn_from_raises() -> None:
    hidden, weight, targets, weights = inputs()
    loss = cross_entropy(hidden, weight, targets, torch.zeros_like(weights))
    assert loss.sum.item() == 0 and loss.weight.item() == 0
    with pytest.raises(OrreryError, match="no token of this batch"):
        loss.mean()


def test_plus_adds_and_logs() -> None:
    loss = Loss(torch.tensor(3.0), torch.tensor(2.0)).plus("balance_loss", torch.tensor(1.0))
    assert loss.mean().item() == 2.0 and loss.stats["balance_loss"].item() == 1.0
