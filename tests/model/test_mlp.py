"""Activations and the two feed-forward forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from orrery.kit.config import resolve
from orrery.kit.errors import OrreryError
from orrery.model.mlp import ACTIVATIONS, MLP, Mlp


def phi(x: float) -> float:
    """The normal distribution function."""
    return (1 + math.erf(x / math.sqrt(2))) / 2


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def density(x: float) -> float:
    return math.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def gelu_tanh(x: float) -> float:
    return 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


VALUES = {
    "relu": lambda x: max(x, 0.0),
    "relu2": lambda x: max(x, 0.0) ** 2,
    "gelu": lambda x: x * phi(x),
    "gelu_tanh": gelu_tanh,
    "silu": lambda x: x * sigmoid(x),
}
SLOPES = {
    "relu": lambda x: float(x > 0),
    "relu2": lambda x: 2 * max(x, 0.0),
    "gelu": lambda x: phi(x) + x * density(x),
    "gelu_tanh": lambda x: (gelu_tanh(x + 1e-6) - gelu_tanh(x - 1e-6)) / 2e-6,
    "silu": lambda x: sigmoid(x) * (1 + x * (1 - sigmoid(x))),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_values_and_slopes(name: str) -> None:
    points = [-3.0, -1.0, -0.1, 0.5, 1.0, 4.0]
    x = torch.tensor(points, dtype=torch.float64, requires_grad=True)
    y = ACTIVATIONS[name](x)
    assert y.tolist() == pytest.approx([VALUES[name](p) for p in points], abs=1e-12)
    assert torch.autograd.grad(y.sum(), x)[0].tolist() == pytest.approx(
        [SLOPES[name](p) for p in points], abs=1e-8
    )


def test_published_points() -> None:
    at = torch.tensor([1.0])
    assert ACTIVATIONS["gelu"](at).item() == pytest.approx(0.8413447)
    assert ACTIVATIONS["gelu_tanh"](at).item() == pytest.approx(0.8411920)
    assert ACTIVATIONS["silu"](at).item() == pytest.approx(0.7310586)


def weights(layer: nn.Module, **values: list[list[float]]) -> None:
    for name, rows in values.items():
        layer.get_submodule(name).weight.data = torch.tensor(rows)


def test_swiglu_by_hand() -> None:
    layer = MLP(2, Mlp(d_ff=1))
    weights(layer, gate_proj=[[1.0, 0.0]], up_proj=[[0.0, 1.0]], down_proj=[[1.0], [2.0]])
    out = layer(torch.tensor([[2.0, 3.0]]))
    inner = 2 * sigmoid(2) * 3
    assert out.tolist() == [pytest.approx([inner, 2 * inner])]


def test_plain_by_hand() -> None:
    layer = MLP(2, Mlp(d_ff=2, activation="relu2", gated=False))
    weights(layer, up_proj=[[1.0, 1.0], [-1.0, 0.0]], down_proj=[[1.0, 5.0], [0.5, 5.0]])
    assert layer(torch.tensor([[1.0, 2.0], [-3.0, 1.0]])).tolist() == [[9.0, 4.5], [45.0, 45.0]]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_parameters(activation: str) -> None:
    def count(**options: object) -> int:
        return sum(p.numel() for p in MLP(8, Mlp(d_ff=20, activation=activation, **options)).parameters())

    assert count() == 3 * 8 * 20
    assert count(gated=False) == 2 * 8 * 20
    assert count(bias=True) == 3 * 8 * 20 + 2 * 20 + 8


@pytest.mark.parametrize("gated", [True, False])
def test_no_token_sees_another(gated: bool) -> None:
    layer = MLP(8, Mlp(d_ff=16, gated=gated, bias=True))
    x = torch.randn(6, 8)
    changed = x.clone()
    changed[2] += 1
    same = (layer(x) == layer(changed)).all(-1)
    assert same.tolist() == [True, True, False, True, True, True]


def test_equal_to_transformers() -> None:
    pytest.importorskip("transformers", reason="the parity test needs transformers")
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaMLP

    theirs = LlamaMLP(
        LlamaConfig(hidden_size=16, num_attention_heads=2, intermediate_size=40, hidden_act="silu")
    )
    ours = MLP(16, Mlp(d_ff=40))
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(9, 16)
    a, b = ours(x), theirs(x)
    assert torch.equal(a, b)


def test_recipe_errors_name_the_setting() -> None:
    assert resolve(Mlp, {"d_ff": 64, "activation": "gelu", "gated": False}) == Mlp(
        d_ff=64, activation="gelu", gated=False
    )
    with pytest.raises(OrreryError, match="activation"):
        resolve(Mlp, {"d_ff": 64, "activation": "swish"})
