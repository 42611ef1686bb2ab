"""Norm and rotation in one call against torch's formulas."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from orrery.model.lowbit.ops import rms_norm, rope
from orrery.model.rope import apply_rope


@pytest.mark.parametrize("shape", [(1, 640), (3, 4, 256), (512, 640), (5, 7), (2, 17), (0, 32)])
@pytest.mark.parametrize("unit_offset", [False, True])
def test_rms_norm(shape: tuple[int, ...], unit_offset: bool) -> None:
    x, weight = torch.randn(shape) * 3, torch.randn(shape[-1])
    with torch.no_grad():
        y = rms_norm(x, weight, 1e-6, unit_offset=unit_offset)
        expected = F.rms_norm(x, weight.shape, weight + 1 if unit_offset else weight, 1e-6)
        assert y.shape == x.shape
        torch.testing.assert_close(y, expected, rtol=2e-6, atol=1e-6)
        if len(x) > 1:
            assert torch.equal(rms_norm(x[1:2], weight, 1e-6, unit_offset=unit_offset), y[1:2])


@pytest.mark.filterwarnings("error")
def test_rms_norm_of_half_precision_numbers() -> None:
    x, weight = torch.randn(3, 8, dtype=torch.bfloat16), torch.randn(8)
    y = rms_norm(x, weight, 1e-6)
    assert y.dtype == torch.bfloat16
    assert torch.equal(y, F.rms_norm(x.float(), (8,), weight, 1e-6).bfloat16())


def test_rms_norm_by_hand() -> None:
    """(3, 4): mean square 12.5."""
    with torch.no_grad():
        y = rms_norm(torch.tensor([[3.0, 4.0]]), torch.tensor([1.0, 2.0]), 0.0)
    torch.testing.assert_close(y, torch.tensor([[3.0 / 12.5**0.5, 8.0 / 12.5**0.5]]))


@pytest.mark.parametrize(
    ("tokens", "heads", "width", "rotated"), [(1, 4, 256, 256), (300, 3, 64, 64), (5, 2, 48, 16)]
)
def test_rope(tokens: int, heads: int, width: int, rotated: int) -> None:
    x, angle = torch.randn(tokens, heads, width), torch.rand(tokens, rotated // 2) * 6
    with torch.inference_mode():
        y = rope(x, angle.cos(), angle.sin())
        torch.testing.assert_close(y, apply_rope(x, angle.cos(), angle.sin()), rtol=1e-6, atol=1e-6)
        assert torch.equal(rope(x.transpose(0, 1).contiguous().transpose(0, 1), angle.cos(), angle.sin()), y)


def test_with_gradients_it_is_torch() -> None:
    x, weight = torch.randn(2, 32, requires_grad=True), torch.randn(32, requires_grad=True)
    rms_norm(x, weight, 1e-6, unit_offset=True).sum().backward()
    assert x.grad is not None and weight.grad is not None
    heads = torch.randn(2, 2, 16, requires_grad=True)
    angle = torch.rand(2, 4)
    y = rope(heads, angle.cos(), angle.sin())
    torch.testing.assert_close(y, apply_rope(heads, angle.cos(), angle.sin()))
    y.sum().backward()
    assert heads.grad is not None
