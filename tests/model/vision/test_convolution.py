"""Convolution and pooling: by hand, against torch, their gradients, and what weight sharing saves."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from orrery.kit.errors import OrreryError
from orrery.model.vision.convolution import Conv2d, average_pool, average_pool_to, conv2d, max_pool


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def same_with_gradients(ours, theirs, *inputs: torch.Tensor) -> None:
    mine = [x.clone().requires_grad_() for x in inputs]
    twin = [x.clone().requires_grad_() for x in inputs]
    a, b = ours(*mine), theirs(*twin)
    torch.testing.assert_close(a, b)
    grad = normal(*b.shape, seed=9)
    a.backward(grad)
    b.backward(grad)
    for x, y in zip(mine, twin, strict=True):
        torch.testing.assert_close(x.grad, y.grad)


def test_a_convolution_by_hand() -> None:
    image = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])[None, None]
    weight = torch.tensor([[1.0, 0.0], [0.0, -1.0]])[None, None]  # a pixel less the one below and right of it
    assert conv2d(image, weight, torch.tensor([0.5])).tolist() == [[[[-3.5, -3.5], [-3.5, -3.5]]]]


@given(
    size=st.integers(1, 4), stride=st.integers(1, 3), padding=st.integers(0, 2), height=st.integers(4, 9),
    width=st.integers(4, 9), groups=st.sampled_from([1, 2]), bias=st.booleans(),
)  # fmt: skip
def test_values_and_gradients_are_those_of_torch(
    size: int, stride: int, padding: int, height: int, width: int, groups: int, bias: bool
) -> None:
    x, w = normal(2, 4, height, width), normal(6, 4 // groups, size, size, seed=1)
    settings = {"stride": stride, "padding": padding, "groups": groups}
    extra = [normal(6, seed=2)] if bias else []
    same_with_gradients(
        lambda x, w, *b: conv2d(x, w, *b, **settings), lambda x, w, *b: F.conv2d(x, w, *b, **settings), x, w, *extra
    )  # fmt: skip


@given(size=st.integers(1, 4), stride=st.integers(1, 3), height=st.integers(4, 9), width=st.integers(4, 9))
def test_pools_are_those_of_torch_ties_too(size: int, stride: int, height: int, width: int) -> None:
    x = normal(2, 3, height, width).round()  # many equal numbers
    same_with_gradients(
        lambda x: max_pool(x, size, stride=stride, padding=size // 2),
        lambda x: F.max_pool2d(x, size, stride, size // 2),
        x,
    )
    same_with_gradients(
        lambda x: average_pool(x, size, stride=stride), lambda x: F.avg_pool2d(x, size, stride), x
    )


@given(grid=st.integers(1, 7), height=st.integers(1, 9), width=st.integers(1, 9))
def test_a_pool_to_a_grid_is_that_of_torch(grid: int, height: int, width: int) -> None:
    same_with_gradients(
        lambda x: average_pool_to(x, grid),
        lambda x: F.adaptive_avg_pool2d(x, grid),
        normal(2, 3, height, width),
    )


def test_the_gradient_is_the_derivative() -> None:
    x, w = normal(1, 2, 4, 4).requires_grad_(), normal(2, 2, 3, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, w: max_pool(conv2d(x, w, stride=1, padding=1), 2), (x, w))


@given(dy=st.integers(-2, 2), dx=st.integers(-2, 2))
def test_a_shifted_image_gives_a_shifted_answer(dy: int, dx: int) -> None:
    x = F.pad(normal(1, 2, 6, 6), (4, 4, 4, 4))  # black around, so that nothing leaves the image
    layer = Conv2d(2, 3, 3, padding=1).double()
    torch.testing.assert_close(layer(x.roll((dy, dx), (2, 3))), layer(x).roll((dy, dx), (2, 3)))


@pytest.mark.parametrize("side", [8, 32])
def test_the_same_weights_serve_every_image_size(side: int) -> None:
    layer = Conv2d(3, 16, 5, padding=2)
    assert sum(p.numel() for p in layer.parameters()) == 16 * 3 * 25 + 16  # no side in it
    assert layer(torch.zeros(1, 3, side, side)).shape == (1, 16, side, side)


def test_every_window_adds_to_the_gradient_of_the_one_kernel() -> None:
    weight = torch.zeros(1, 1, 2, 2, requires_grad=True)
    conv2d(torch.ones(1, 1, 5, 7), weight).sum().backward()
    assert weight.grad is not None and weight.grad.tolist() == [
        [[[24.0, 24.0], [24.0, 24.0]]]
    ]  # 4 * 6 windows


def test_what_does_not_fit_says_so() -> None:
    layer = Conv2d(3, 4, 5)
    with pytest.raises(OrreryError, match="made for 3 channels, the images have 1"):
        layer(torch.zeros(1, 1, 8, 8))
    with pytest.raises(OrreryError, match="4 x 8 is smaller than a window of 5 x 5"):
        layer(torch.zeros(1, 3, 4, 8))
    with pytest.raises(OrreryError, match="2 groups do not divide 3"):
        Conv2d(3, 4, 5, groups=2)
