"""Float layers by our kernel: torch's numbers, and rows that do not notice each other."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from orrery.kit.errors import OrreryError
from orrery.model.cache import Cached, KVCache
from orrery.model.config import DecoderConfig
from orrery.model.decoder import Decoder
from orrery.model.lowbit import backend, ops
from orrery.model.lowbit.dense import NativeEmbedding, NativeLayerNorm, NativeLinear
from orrery.model.mlp import Mlp
from orrery.model.packed import Packed
from orrery.model.positions import Learned
from orrery.model.quantised import use_native_kernels

native = pytest.mark.skipif(backend() != "c++", reason="there is no compiled kernel here")


@pytest.mark.parametrize("rows", [1, 3, 64, 130])
@pytest.mark.parametrize("width,outputs", [(640, 2048), (33, 7), (16, 1), (5, 300)])
@torch.inference_mode()
def test_linear_is_torchs(rows: int, width: int, outputs: int) -> None:
    layer, x = nn.Linear(width, outputs), torch.randn(rows, width)
    torch.testing.assert_close(NativeLinear.of(layer)(x), layer(x), rtol=1e-5, atol=1e-5)


@native
@torch.inference_mode()
def test_a_row_is_the_same_in_any_company() -> None:
    layer, x = NativeLinear.of(nn.Linear(96, 50)), torch.randn(77, 96)
    whole = layer(x)
    for part in (slice(0, 1), slice(3, 8), slice(60, 77)):
        assert torch.equal(layer(x[part]), whole[part])


@pytest.mark.parametrize("affine", [True, False])
@torch.inference_mode()
def test_layer_norm_is_torchs(affine: bool) -> None:
    layer, x = nn.LayerNorm(70, elementwise_affine=affine), torch.randn(9, 70) * 4 + 3
    if affine:
        nn.init.normal_(layer.weight), nn.init.normal_(layer.bias)
    torch.testing.assert_close(NativeLayerNorm.of(layer)(x), layer(x), rtol=1e-5, atol=1e-5)


def test_layer_norm_by_hand() -> None:
    """(1, 3): mean 2, variance 1."""
    with torch.no_grad():
        y = ops.layer_norm(
            torch.tensor([[1.0, 3.0]]), torch.tensor([2.0, 5.0]), torch.tensor([0.5, 0.0]), 0.0
        )
    torch.testing.assert_close(y, torch.tensor([[-1.5, 5.0]]))


@torch.inference_mode()
def test_embedding() -> None:
    layer = nn.Embedding(11, 6)
    ids = torch.tensor([[3, 0], [10, 3]])
    assert torch.equal(NativeEmbedding.of(layer)(ids), layer(ids))
    torch.testing.assert_close(
        NativeEmbedding.of(layer).as_linear(layer(ids)), F.linear(layer(ids), layer.weight)
    )
    with pytest.raises((IndexError, OrreryError)):
        NativeEmbedding.of(layer)(torch.tensor([11]))


@pytest.mark.parametrize("activation", list(ops.ACTIVATIONS))
@torch.inference_mode()
def test_activations_are_torchs(activation: str) -> None:
    x = torch.cat([torch.linspace(-12, 12, 4001), torch.tensor([0.0, -0.0, 1e-8, 100.0, -100.0])])
    wanted = ops.ACTIVATIONS[activation](x)
    torch.testing.assert_close(ops.gated(activation, x), wanted, rtol=3e-6, atol=1e-6)
    torch.testing.assert_close(ops.gated(activation, x, x), wanted * x, rtol=3e-6, atol=1e-5)


@torch.inference_mode()
def test_sums_and_scales_are_torchs() -> None:
    x, y, bias = torch.randn(7, 33), torch.randn(7, 33), torch.randn(33)
    assert torch.equal(ops.add(x, y), x + y)
    torch.testing.assert_close(ops.add(x, y, 0.3), x + 0.3 * y)
    assert torch.equal(ops.add_bias(x, bias), x + bias)
    assert torch.equal(ops.scaled(x, 0.25), x * 0.25)
    torch.testing.assert_close(
        ops.soft_capped(x * 40, 30.0), 30 * torch.tanh(x * 40 / 30), rtol=2e-6, atol=1e-6
    )


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "norm": "layernorm",
            "position": Learned(max_positions=64),
            "attention_bias": True,
            "feed_forward": Mlp(d_ff=48, gated=False, activation="gelu"),
        },
    ],
    ids=["llama", "gpt2"],
)
@torch.inference_mode()
def test_a_model_gives_torchs_numbers_and_the_same_ones_however_it_is_read(changes: dict) -> None:
    settings = {
        "vocab_size": 50,
        "d_model": 32,
        "n_layers": 2,
        "n_heads": 4,
        "feed_forward": Mlp(d_ff=48),
        "max_positions": 64,
    } | changes
    model = Decoder(DecoderConfig(**settings), seed=3).eval()
    ids = torch.randint(50, (40,))
    expected = model.head(model(ids, Packed([40])))
    use_native_kernels(model)
    whole = model.head(model(ids, Packed([40])))
    torch.testing.assert_close(whole, expected, rtol=1e-4, atol=1e-5)
    if backend() != "c++":
        return
    among = model.head(model(torch.cat([ids[:9], ids, ids[5:8]]), Packed([9, 40, 3])))[9:49]
    assert torch.equal(among, whole)
    cache = KVCache(model, 2, 64)
    parts = [
        model.head(model(ids[a:b], Cached(cache, [(1, a, b - a)]))) for a, b in ((0, 13), (13, 14), (14, 40))
    ]
    assert torch.equal(torch.cat(parts), whole)


def test_with_a_gradient_it_is_torch() -> None:
    layer = NativeLinear.of(nn.Linear(4, 3))
    layer(torch.randn(2, 4)).sum().backward()
    assert layer.weight.grad is not None


@pytest.mark.parametrize("size", [1, 15, 16, 1000, 16384, 50_001])
@torch.inference_mode()
def test_the_likeliest(size: int) -> None:
    x = torch.randn(size) * 8
    assert ops.likeliest(x) == int(x.argmax())
    equal = torch.zeros(size)
    assert ops.likeliest(equal) == 0
    equal[size // 2 :] = 3.0
    assert ops.likeliest(equal) == size // 2
    assert ops.likeliest(torch.full((size,), -torch.inf)) == 0
