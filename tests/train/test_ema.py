"""The average by hand, and weights that come back bit for bit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from orrery.kit.errors import OrreryError
from orrery.train.ema import EMA


def model(value: float = 0.0) -> nn.Linear:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, value)
    return layer


def feed(ema: EMA, layer: nn.Linear, values: list[float]) -> float:
    for value in values:
        nn.init.constant_(layer.weight, value)
        ema.update()
    return ema.average()["weight"].item()


def test_by_hand() -> None:
    """From 8: 0.5 * 8 + 0.5 * 4 = 6, 0.5 * 6 + 0.5 * 2 = 4."""
    layer = model(8.0)
    assert feed(EMA(layer, 0.5), layer, [4.0, 2.0]) == 4.0


def test_bias_correction_forgets_the_beginning() -> None:
    """s = 0.5 * 4 = 2, then 0.5 * 2 + 0.5 * 2 = 2; 2 / (1 - 1/4) = 8/3, the weighted mean of 4 and 2 as (1 : 2)."""
    layer = model(100.0)
    ema = EMA(layer, 0.5, bias_correction=True)
    with pytest.raises(OrreryError, match="before the first update"):
        ema.average()
    assert feed(ema, layer, [4.0, 2.0]) == pytest.approx(8 / 3)
    assert feed(EMA(layer, 0.999, bias_correction=True), layer, [5.0] * 7) == pytest.approx(5.0, rel=1e-4)


def test_swapped_in_and_out() -> None:
    layer = model(1.0)
    ema = EMA(layer, 0.5)
    feed(ema, layer, [0.1])
    own = layer.weight.detach().clone()
    with ema.swapped():
        assert layer.weight.item() == pytest.approx(0.55)
    assert torch.equal(layer.weight, own)
    with pytest.raises(KeyError), ema.swapped():
        raise KeyError
    assert torch.equal(layer.weight, own)


def test_state_round_trip() -> None:
    layer = model(1.0)
    ema = EMA(layer, 0.9, bias_correction=True)
    feed(ema, layer, [2.0, 3.0])
    saved, updates = {k: v.clone() for k, v in ema.state_tensors().items()}, ema.updates
    expected = feed(ema, layer, [4.0])
    other = EMA(layer, 0.9, bias_correction=True)
    other.load_state_tensors(saved, updates)
    assert feed(other, layer, [4.0]) == expected
    with pytest.raises(OrreryError, match="other weights"):
        EMA(nn.Linear(2, 2)).load_state_tensors(saved, updates)


def test_frozen_weights_and_wrong_decay() -> None:
    layer = nn.Linear(2, 2)
    layer.bias.requires_grad_(False)
    assert list(EMA(layer).shadow) == ["weight"]
    with pytest.raises(OrreryError, match="decay"):
        EMA(layer, 1.0)
