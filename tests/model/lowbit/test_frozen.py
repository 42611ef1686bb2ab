"""Learning beside quantised weights: gradients of inputs equal those of the dequantised layer, and nothing of the model changes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from orrery.kit.errors import OrreryError
from orrery.model import Packed
from orrery.model.adapters import AdapterSlots, Lora, new_adapter
from orrery.model.lowbit import QuantEmbedding, QuantLinear, frozen
from orrery.model.lowbit.nf4_matrix import Nf4Matrix
from orrery.model.quant import quantize
from orrery.model.quant.nf4 import NF4, dequantize_nf4, quantize_nf4, scale_book
from orrery.model.quantised import freeze_quantised, quantised_bytes
from orrery.train.loss import LinearHead, cross_entropy
from orrery.train.objectives.apply import head_of
from tests.model.shapes import ids, tiny

KINDS = ["Q8_0", "Q4_0", "Q4_K", "Q6_K", "NF4"]


def layer_of(kind: str, out: int = 40, width: int = 256) -> QuantLinear:
    weight = torch.randn(out, width, generator=torch.Generator().manual_seed(0)) * 0.1
    bias = torch.linspace(-1, 1, out)
    made = QuantLinear(Nf4Matrix(quantize_nf4(weight)), kind, bias) if kind == "NF4" else QuantLinear.from_blocks(quantize(weight, kind), kind, bias)  # fmt: skip
    made.activation_bits = 16
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_get_the_gradient_of_the_dequantised_layer(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frozen, "PIECE", 256 * 7)  # several pieces
    layer, x = layer_of(kind), torch.randn(2, 5, 256, requires_grad=True)
    y = layer(x)
    want = F.linear(x, layer.dequantized(), layer.bias)
    torch.testing.assert_close(y, want, atol=2e-3, rtol=1e-3)
    upstream = torch.randn_like(y)
    (mine,) = torch.autograd.grad(y, x, upstream)
    (theirs,) = torch.autograd.grad(want, x, upstream)
    torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), y.detach(), atol=1e-5, rtol=1e-5)


def test_nf4_by_hand() -> None:
    """The code book is the quantiles of the normal distribution; a block is its largest number times the book."""
    high = torch.special.ndtri(torch.linspace(0.9677083, 0.5, 9, dtype=torch.float64))[:-1]
    low = -torch.special.ndtri(torch.linspace(0.9677083, 0.5, 8, dtype=torch.float64))[:-1]
    book = torch.cat([low, torch.zeros(1, dtype=torch.float64), high.flip(0)]) / high.max()
    torch.testing.assert_close(book, torch.tensor(NF4, dtype=torch.float64), atol=1e-6, rtol=0)
    assert len(scale_book()) == 256 and scale_book()[127] == 0 and scale_book()[-1] == 1
    block = 3.0 * torch.tensor(NF4 * 4)
    held = quantize_nf4(block)  # one block: its scale is the mean, and the rest 0
    assert held.mean == 3.0 and held.codes[:2].tolist() == [0x01, 0x23]
    torch.testing.assert_close(dequantize_nf4(held), block)


@settings(max_examples=40, deadline=None)
@given(shape=st.tuples(st.integers(1, 9), st.integers(1, 150)), spread=st.floats(1e-6, 1e4))
def test_nf4_comes_back_within_half_a_step(shape: tuple[int, int], spread: float) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(shape[1])) * spread
    held = quantize_nf4(x)
    gap = 0.304 / 2  # the widest step of the book
    slack = 1.05  # scales are rounded, too
    assert (dequantize_nf4(held) - x).abs().max() <= gap * slack * x.abs().max() + 0.05 * spread
    first, last = 3 % x.numel(), x.numel()
    assert torch.equal(held.numbers(first, last), dequantize_nf4(held).flatten()[first:last])


def test_nf4_takes_little_more_than_four_bits_and_no_nan() -> None:
    held = quantize_nf4(torch.randn(256, 512))
    assert held.nbytes * 8 / 256 / 512 == pytest.approx(4.127, abs=2e-3)
    with pytest.raises(OrreryError, match="NaN"):
        quantize_nf4(torch.tensor([torch.nan]))


@pytest.mark.parametrize("kind", ["NF4", "Q4_0", "Q8_0"])
@pytest.mark.parametrize("shape", ["gqa", "untied", "softcap"])
def test_an_adapter_learns_beside_quantised_layers_and_head(kind: str, shape: str) -> None:
    model, tokens = tiny(shape), ids(24)
    freeze_quantised(model, kind, tables="Q8_0")
    assert isinstance(model.blocks[0].attn.q_proj, QuantLinear) and isinstance(model.embed, QuantEmbedding)
    whole = quantised_bytes(tiny(shape))
    assert quantised_bytes(model) < 0.5 * whole
    adapter = new_adapter(model, Lora(rank=4, alpha=8.0))
    slots = AdapterSlots.of(model)
    before = model.head(model(tokens, Packed([24]))).detach()
    slots.default = slot = slots.add(adapter)
    optimizer = torch.optim.AdamW(adapter.parameters(), lr=2e-2)
    head = head_of(model)
    assert isinstance(head, LinearHead)
    losses = []
    for _ in range(25):
        hidden = model(tokens, Packed([24]))
        loss = cross_entropy(hidden[:-1], head, tokens[1:], torch.ones(23), chunk=7)
        logits = model.head(hidden[:-1])
        plain = F.cross_entropy(logits, tokens[1:], reduction="sum")
        torch.testing.assert_close(loss.sum, plain, atol=1e-3, rtol=1e-4)
        (mine,), (theirs,) = (torch.autograd.grad(x, hidden, retain_graph=True) for x in (loss.sum, plain))
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-3)
        optimizer.zero_grad()
        loss.sum.backward()
        optimizer.step()
        losses.append(loss.sum.item())
    assert losses[-1] < 0.6 * losses[0]
    slots.remove(slot)
    assert torch.equal(model.head(model(tokens, Packed([24]))).detach(), before)


def test_unknown_kinds_are_refused_before_anything_is_changed() -> None:
    model = tiny()
    with pytest.raises(OrreryError, match="'NF5'"):
        freeze_quantised(model, "NF5")
    assert type(model.blocks[0].mlp.up_proj) is nn.Linear
