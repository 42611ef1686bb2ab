"""LayerNorm and RMSNorm: by hand, against torch, and their gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from orrery.model import DecoderConfig
from orrery.model.norm import LayerNorm, RMSNorm, make_norm


def test_rmsnorm_by_hand() -> None:
    norm = RMSNorm(2, eps=0.0)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0]))
    # mean of squares (9 + 16) / 2 = 12.5, so 3 / sqrt(12.5) and 2 * 4 / sqrt(12.5)
    torch.testing.assert_close(norm(torch.tensor([3.0, 4.0])), torch.tensor([0.8485281, 2.2627417]))


def test_eps_is_inside_the_root() -> None:
    torch.testing.assert_close(RMSNorm(1, eps=1.0)(torch.tensor([1.0])), torch.tensor([2.0**-0.5]))


def test_unit_offset_multiplies_by_one_plus_weight() -> None:
    plain, offset = RMSNorm(4), RMSNorm(4, unit_offset=True)
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(plain(x), offset(x))
    with torch.no_grad():
        plain.weight.fill_(1.5)
        offset.weight.fill_(0.5)
    assert torch.equal(plain(x), offset(x))


@pytest.mark.parametrize("shape", [(7, 16), (3, 5, 16), (16,)])
@pytest.mark.parametrize("offset", [False, True])
def test_values_and_gradients_are_those_of_torch(shape: tuple[int, ...], offset: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    norm = RMSNorm(16, 1e-6, unit_offset=offset)
    with torch.no_grad():
        norm.weight.add_(torch.randn(16, generator=generator))
    x = torch.randn(shape, generator=generator, requires_grad=True)
    grad = torch.randn(shape, generator=generator)
    weight = norm.weight.detach().clone().requires_grad_()
    twin = x.detach().clone().requires_grad_()
    out, want = norm(x), F.rms_norm(twin, (16,), weight + 1.0 if offset else weight, 1e-6)
    out.backward(grad)
    want.backward(grad)
    for ours, theirs in ((out, want), (x.grad, twin.grad), (norm.weight.grad, weight.grad)):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_the_gradient_is_the_derivative() -> None:
    generator = torch.Generator().manual_seed(0)
    norm = RMSNorm(6).double()
    x = torch.randn(2, 3, 6, dtype=torch.float64, generator=generator, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x, w: torch.func.functional_call(norm, {"weight": w}, x), (x, norm.weight)
    )
    turned = x.detach().transpose(0, 1).requires_grad_()  # not contiguous
    assert torch.autograd.gradcheck(norm, (turned,))


def test_half_precision_is_computed_in_single() -> None:
    x = torch.full((4,), 300.0, dtype=torch.float16)  # its square overflows float16
    assert torch.equal(RMSNorm(4).half()(x), torch.ones(4, dtype=torch.float16))


def test_make_norm_reads_the_config() -> None:
    norm = make_norm(DecoderConfig(norm="layernorm", norm_eps=1e-3), 5)
    assert isinstance(norm, LayerNorm) and norm.eps == 1e-3 and norm.normalized_shape == (5,)
    norm = make_norm(DecoderConfig(d_model=64, norm_unit_offset=True))
    assert isinstance(norm, RMSNorm) and norm.unit_offset and norm.weight.shape == (64,)
    x = torch.tensor([1.0, 2.0, 3.0, 6.0])  # mean 3, variance 3.5
    torch.testing.assert_close(LayerNorm(4, 0.0)(x), (x - 3) / 3.5**0.5)
