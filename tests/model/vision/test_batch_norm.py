"""Batch normalisation: by hand, against torch in train and eval, the closed form of its gradient."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from orrery.kit.errors import OrreryError
from orrery.model.vision.batch_norm import BatchNorm


def twins(channels: int, kind: type[nn.Module]) -> tuple[BatchNorm, nn.Module]:
    ours, theirs = BatchNorm(channels, momentum=0.3).double(), kind(channels, momentum=0.3).double()
    with torch.no_grad():
        for layer in (ours, theirs):
            layer.weight.copy_(torch.linspace(0.5, 2, channels))
            layer.bias.copy_(torch.linspace(-1, 1, channels))
    return ours, theirs


def test_by_hand() -> None:
    norm = BatchNorm(1, eps=0.0, momentum=0.5)
    out = norm(torch.tensor([[1.0], [3.0]]))  # mean 2, variance 1 (of the batch), 2 (unbiased)
    assert out.tolist() == [[-1.0], [1.0]]
    assert norm.running_mean.tolist() == [1.0] and norm.running_var.tolist() == [1.5]
    norm.eval()
    torch.testing.assert_close(norm(torch.tensor([[4.0]])), torch.tensor([[3.0 / 1.5**0.5]]))
    assert norm.running_mean.tolist() == [1.0]  # eval moves nothing


@given(
    seed=st.integers(0, 1000), n=st.integers(2, 5), side=st.sampled_from([0, 1, 4]), channels=st.integers(1, 4)
)  # fmt: skip
def test_values_gradients_and_running_statistics_are_those_of_torch(
    seed: int, n: int, side: int, channels: int
) -> None:
    ours, theirs = twins(channels, nn.BatchNorm2d if side else nn.BatchNorm1d)
    generator = torch.Generator().manual_seed(seed)
    shape = (n, channels, side, side) if side else (n, channels)
    for _ in range(3):
        x = (torch.randn(shape, generator=generator, dtype=torch.float64) * 3 + 1).requires_grad_()
        twin = x.detach().clone().requires_grad_()
        grad = torch.randn(shape, generator=generator, dtype=torch.float64)
        ours.zero_grad()
        theirs.zero_grad()
        a, b = ours(x), theirs(twin)
        a.backward(grad)
        b.backward(grad)
        for mine, want in (
            (a, b), (x.grad, twin.grad), (ours.weight.grad, theirs.weight.grad), (ours.bias.grad, theirs.bias.grad),
            (ours.running_mean, theirs.running_mean), (ours.running_var, theirs.running_var),
        ):  # fmt: skip
            torch.testing.assert_close(mine, want)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


def test_the_gradient_is_the_derivative_and_its_closed_form() -> None:
    x = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    norm = BatchNorm(2, eps=1e-3).double()
    assert torch.autograd.gradcheck(norm, (x,))
    grad = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    norm(x).backward(grad)
    std = (x.var(0, correction=0) + 1e-3).sqrt()
    hat = (x - x.mean(0)) / std
    want = (grad - grad.mean(0) - hat * (grad * hat).mean(0)) / std
    torch.testing.assert_close(x.grad, want.detach())


def test_in_training_the_others_of_the_batch_matter_in_eval_they_do_not() -> None:
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    norm = BatchNorm(3)
    assert not torch.allclose(norm(x)[:2], norm(x[:2]))
    norm.eval()
    assert torch.equal(norm(x)[:2], norm(x[:2]))


def test_one_number_a_channel_cannot_train() -> None:
    with pytest.raises(OrreryError, match="one number a channel"):
        BatchNorm(3)(torch.zeros(1, 3))
    assert BatchNorm(3).eval()(torch.zeros(1, 3)).shape == (1, 3)
