"""Newton-Schulz, Muon on stacks of experts and its batching, QK-clip."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from orrery.kit.errors import OrreryError
from orrery.model.config import DecoderConfig
from orrery.model.decoder import Decoder
from orrery.model.mla import Mla
from orrery.model.mlp import Mlp
from orrery.model.packed import Packed
from orrery.train.init import initialize
from orrery.train.optim.muon import Muon, iteration_dtype, orthogonal, shape_scale
from orrery.train.optim.newton_schulz import CONVERGENT, MUON, newton_schulz
from orrery.train.optim.qk_clip import WatchLogits, max_logits, qk_clip, scale_heads


@pytest.mark.parametrize("shape", [(32, 32), (48, 16), (16, 48)])
def test_singular_values_come_near_one(shape: tuple[int, int]) -> None:
    g = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(newton_schulz(g))
    before = torch.linalg.svdvals(g / g.norm())
    assert values.max() < 1.3
    assert values[before > 0.03].min() > 0.6  # five quintic steps lift everything but the smallest
    u, _, vh = torch.linalg.svd(g, full_matrices=False)
    torch.testing.assert_close(newton_schulz(g, 30, coefficients=CONVERGENT), u @ vh, atol=1e-4, rtol=0)


def test_one_step_by_hand() -> None:
    """diag(3, 4) / 5 = diag(0.6, 0.8); s -> a s + b s^3 + c s^5 on each."""
    a, b, c = 3.4445, -4.7750, 2.0315
    expected = [a * s + b * s**3 + c * s**5 for s in (0.6, 0.8)]
    assert newton_schulz(torch.diag(torch.tensor([3.0, 4.0])), 1).diagonal().tolist() == pytest.approx(
        expected, rel=1e-5
    )


@pytest.mark.parametrize("shape", [(8, 8), (8, 20), (20, 8), (3, 8, 20), (2, 20, 8)])
def test_every_form_is_the_definition(shape: tuple[int, ...]) -> None:
    """Tall, wide and stacked, and with only two of the singular values not 0."""
    g = torch.Generator().manual_seed(1)
    full = torch.randn(shape, generator=g)
    poor = torch.randn(*shape[:-1], 2, generator=g) @ torch.randn(*shape[:-2], 2, shape[-1], generator=g)
    for matrices in (full, poor):
        u, s, vh = torch.linalg.svd(matrices.double(), full_matrices=False)
        s = s / matrices.double().norm(dim=(-2, -1))[..., None]
        for _ in range(5):
            s = MUON[0] * s + MUON[1] * s**3 + MUON[2] * s**5
        expected = u @ torch.diag_embed(s) @ vh
        torch.testing.assert_close(newton_schulz(matrices), expected.float(), atol=2e-4, rtol=0)


def test_large_matrices_one_by_one_are_as_in_a_batch() -> None:
    updates = [torch.randn(70, 90, generator=torch.Generator().manual_seed(i)) for i in range(2)]
    alone = orthogonal(updates, 5, torch.float32)
    batch = newton_schulz(torch.stack(updates))
    torch.testing.assert_close(torch.stack(alone), batch, atol=1e-4, rtol=0)


def test_zero_matrix_stays_zero() -> None:
    assert torch.equal(newton_schulz(torch.zeros(4, 3)), torch.zeros(4, 3))


def test_a_stack_is_as_its_matrices_one_by_one() -> None:
    g = torch.Generator().manual_seed(3)
    start, grads = torch.randn(3, 6, 4, generator=g), [torch.randn(3, 6, 4, generator=g) for _ in range(3)]
    stack = nn.Parameter(start.clone())
    single = [nn.Parameter(matrix.clone()) for matrix in start]
    ours, theirs = Muon([stack], lr=0.1, weight_decay=0.1), Muon(single, lr=0.1, weight_decay=0.1)
    for grad in grads:
        stack.grad = grad
        for w, piece in zip(single, grad, strict=True):
            w.grad = piece.clone()
        ours.step()
        theirs.step()
    torch.testing.assert_close(
        stack.detach(), torch.stack([w.detach() for w in single]), atol=1e-6, rtol=1e-6
    )


def test_update_by_hand() -> None:
    """First step, Nesterov: u = g + 0.95 g, NS ignores the size, so w <- w (1 - lr wd) - lr r NS(g)."""
    g = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    w = nn.Parameter(torch.ones(4, 8))
    w.grad = g.clone()
    Muon([w], lr=0.1, weight_decay=0.5).step()
    torch.testing.assert_close(
        w.detach(), torch.ones(4, 8) * 0.95 - 0.1 * 0.2 * 8**0.5 * newton_schulz(g), atol=1e-5, rtol=0
    )


def test_update_size_matches_adamw() -> None:
    """With "rms" the entries of an update have root mean square near 0.2, for any shape."""
    for shape in ((64, 64), (32, 128), (128, 32)):
        w = nn.Parameter(torch.zeros(shape))
        w.grad = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        Muon([w], lr=1.0).step()
        assert w.square().mean().sqrt().item() == pytest.approx(0.2, abs=0.05)


def test_spectral_scale_knows_which_side_is_out() -> None:
    assert shape_scale((32, 8), "spectral") == 2.0 and shape_scale((8, 32), "spectral") == 1.0
    assert shape_scale((5, 8, 32), "spectral") == 2.0 and shape_scale((5, 32, 8), "spectral") == 1.0


def test_cpu_iterates_in_fp32() -> None:
    assert iteration_dtype("auto", torch.device("cpu")) == torch.float32


def test_vectors_are_refused() -> None:
    with pytest.raises(OrreryError, match="muon takes matrices"):
        Muon([nn.Parameter(torch.zeros(3))])


def test_max_logits_by_hand() -> None:
    # Two documents of lengths 2 and 1, one key head shared by two query heads, D = 1.
    q = torch.tensor([[[1.0], [-1.0]], [[2.0], [1.0]], [[-3.0], [0.0]]])
    k = torch.tensor([[[1.0]], [[5.0]], [[2.0]]])
    # Head 0: 1*1, 2*1, 2*5, -3*2 -> 10 (the 1*5 of the future does not count). Head 1: -1, 1, 5, 0 -> 5.
    assert max_logits(q, k, (2, 1), scale=0.5).tolist() == [5.0, 2.5]


class Layer:
    """What QK-clip reads of an attention layer."""

    q_norm = None

    def __init__(self, heads: int, kv_heads: int, head_dim: int, bias: bool) -> None:
        torch.manual_seed(0)
        self.scale = head_dim**-0.5
        self.q_proj = nn.Linear(heads * head_dim, heads * head_dim, bias=bias)
        self.k_proj = nn.Linear(heads * head_dim, kv_heads * head_dim, bias=bias)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_each_head_is_scaled_by_its_own_factor(kv_heads: int, bias: bool) -> None:
    layer = Layer(4, kv_heads, 3, bias)
    x = torch.randn(7, 12)

    def logits() -> torch.Tensor:
        q, k = layer.q_proj(x).view(7, 4, 3), layer.k_proj(x).view(7, kv_heads, 3)
        return torch.einsum("qhd,khd->hqk", q, k.repeat_interleave(4 // kv_heads, 1))

    before, factors = logits(), torch.tensor([1.0, 0.25, 0.5, 0.9])
    with torch.no_grad():
        scale_heads(layer.q_proj, layer.k_proj, factors)
    torch.testing.assert_close(logits(), before * factors[:, None, None], atol=1e-6, rtol=1e-5)


def test_qk_clip_bounds_the_largest_logit() -> None:
    layer = Layer(4, 2, 3, False)
    with torch.no_grad():
        layer.q_proj.weight.mul_(20)
    x, lengths = torch.randn(7, 12), (4, 3)
    inner = SimpleNamespace(lengths=lengths, positions=torch.arange(7), attend=lambda site, q, k, v: v)

    def watch() -> torch.Tensor:
        seen = WatchLogits(inner)
        q, k = layer.q_proj(x).view(7, 4, 3), layer.k_proj(x).view(7, 2, 3)
        seen.attend(layer, q, k, k)
        assert seen.positions is inner.positions
        return seen.largest[layer]

    before = watch()
    tau = before.median().item()
    clipped = qk_clip({layer: before}, tau=tau)
    after = watch()
    assert clipped == int((before > tau).sum()) > 0
    torch.testing.assert_close(after, before.clamp(max=tau), rtol=1e-5, atol=1e-5)
    unchanged = layer.q_proj.weight.clone()
    assert qk_clip({layer: after}, tau=2 * tau) == 0 and torch.equal(unchanged, layer.q_proj.weight)


@pytest.mark.parametrize("low_rank", [None, 6])
def test_qk_clip_in_a_model_with_latent_attention(low_rank: int | None) -> None:
    """Every head that exceeds the limit comes down to it, the others stay; rotary part included."""
    latent = Mla(q_lora_rank=low_rank, kv_lora_rank=8, qk_nope_head_dim=4, qk_rope_head_dim=4, v_head_dim=4)
    cfg = DecoderConfig(
        vocab_size=20, d_model=16, n_layers=1, n_heads=4, feed_forward=Mlp(d_ff=8), attention=latent
    )
    model, tokens = Decoder(cfg), torch.arange(9)
    initialize(model, std=1.0)

    def largest() -> dict[Any, torch.Tensor]:
        watch = WatchLogits(Packed([5, 4]))
        with torch.no_grad():
            model(tokens, watch)
        return watch.largest

    before = largest()
    (logits,) = before.values()
    tau = logits.median().item()
    assert qk_clip(before, tau=tau) == 2
    (after,) = largest().values()
    torch.testing.assert_close(after, logits.clamp(max=tau), rtol=1e-4, atol=1e-4)


def test_qk_clip_has_nothing_to_do_under_qk_norm() -> None:
    cfg = DecoderConfig(
        vocab_size=20, d_model=16, n_layers=1, n_heads=2, feed_forward=Mlp(d_ff=8), qk_norm=True
    )
    model, watch = Decoder(cfg), WatchLogits(Packed([4]))
    model(torch.arange(4), watch)
    with pytest.raises(OrreryError, match="qk_norm"):
        qk_clip(watch.largest, tau=1.0)
