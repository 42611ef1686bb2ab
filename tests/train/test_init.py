"""Initialisation: sample variances, and what they do to a signal fifty layers deep."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from orrery.model.config import DecoderConfig
from orrery.model.decoder import Decoder
from orrery.model.mlp import Mlp
from orrery.model.packed import Packed
from orrery.train.init import initialize, matrix_std


@pytest.mark.parametrize(
    ("kind", "variance"),
    [("normal", 0.05**2), ("depth-scaled", 0.05**2), ("xavier", 2 / (200 + 300)), ("he", 2 / 300)],
)
def test_sample_variance(kind: Any, variance: float) -> None:
    layer = nn.Linear(300, 200)
    initialize(layer, kind, std=0.05)
    assert layer.weight.var().item() == pytest.approx(variance, rel=0.02)
    assert layer.weight.mean().abs() < 1e-3 and not layer.bias.any()


def test_fans_of_a_stack_of_experts() -> None:
    assert matrix_std(torch.empty(7, 300, 200), "he", 1.0) == pytest.approx((2 / 300) ** 0.5)
    assert matrix_std(torch.empty(200, 300), "he", 1.0) == pytest.approx((2 / 300) ** 0.5)


def signal(
    kind: Any, activation: type[nn.Module], depth: int = 50, width: int = 256, std: float = 0.02
) -> list[float]:
    """Variance after each layer of a plain stack, of an input with variance 1."""
    layers = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(depth))
    initialize(layers, kind, std=std)
    x, variances = torch.randn(512, width, generator=torch.Generator().manual_seed(0)), []
    with torch.no_grad():
        for layer in layers:
            x = activation()(layer(x))
            variances.append(x.square().mean().item())
    return variances


def test_he_keeps_a_relu_stack_alive_at_depth_50_where_xavier_lets_it_fade() -> None:
    he, xavier = signal("he", nn.ReLU), signal("xavier", nn.ReLU)
    assert 0.1 < he[-1] / he[0] < 10
    assert xavier[-1] / xavier[0] == pytest.approx(2.0**-49, rel=9)  # each ReLU halves it
    assert xavier[-1] < 1e-12


def test_xavier_keeps_a_tanh_stack_stable() -> None:
    """tanh shrinks the signal slowly, as 1 / depth; with a fixed small spread it is gone, with a large one
    saturated.
    """
    assert 0.005 < signal("xavier", nn.Tanh)[-1] < 0.2
    assert signal("normal", nn.Tanh)[-1] < 1e-30
    assert signal("normal", nn.Tanh, std=0.5)[-1] > 0.7


def decoder(layers: int = 2, **changes: Any) -> Decoder:
    cfg = DecoderConfig(
        vocab_size=50, d_model=32, n_layers=layers, n_heads=2, feed_forward=Mlp(d_ff=64), **changes
    )
    return Decoder(cfg)


def test_depth_scaling_touches_residual_writers_only() -> None:
    model = decoder(layers=8)
    initialize(model, "depth-scaled", std=0.1)
    for name, p in model.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            assert p.std().item() == pytest.approx(0.1 / 16**0.5, rel=0.1)  # 2 L = 16
        elif p.ndim == 2:
            assert p.std().item() == pytest.approx(0.1, rel=0.1)
        else:
            assert (p == 1).all()  # norms


def test_residual_stream_does_not_grow_with_depth() -> None:
    def stream(kind: Any) -> float:
        model = decoder(layers=50, norm="layernorm")
        initialize(model, kind, std=0.2)
        seen: list[torch.Tensor] = []
        model.norm.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
        with torch.no_grad():
            model(torch.arange(20), Packed([20]))
        return seen[0].var().item() / model.embed.weight.var().item()

    assert stream("normal") > 8 * stream("depth-scaled")


def test_zero_output_makes_every_block_the_identity() -> None:
    model = decoder(layers=3)
    initialize(model, zero_output=True)
    tokens = torch.arange(10)
    with torch.no_grad():
        torch.testing.assert_close(model(tokens, Packed([10])), model.norm(model.embed(tokens)))


def test_zero_everywhere_stays_symmetric() -> None:
    """Units that start equal get equal gradients, so a layer of them is one unit; random ones part."""

    def distinct_units(zero: bool) -> int:
        net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
        initialize(net, "xavier")
        if zero:
            for p in net.parameters():
                nn.init.constant_(p, 0.5 if p.ndim == 2 else 0.0)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        x = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
        for _ in range(50):
            optimizer.zero_grad()
            (net(x).squeeze() - x.prod(1)).square().mean().backward()
            optimizer.step()
        return len(torch.unique(net[0].weight.detach().round(decimals=5), dim=0))

    assert distinct_units(zero=True) == 1 and distinct_units(zero=False) == 8


def test_streams_are_keyed_by_name() -> None:
    shallow, deep = decoder(layers=1), decoder(layers=3)
    for model in (shallow, deep):
        initialize(model, "he", seed=5)
    same = dict(deep.named_parameters())
    assert all(torch.equal(p, same[name]) for name, p in shallow.named_parameters())
    initialize(shallow, "he", seed=6)
    assert not torch.equal(shallow.embed.weight, deep.embed.weight)
