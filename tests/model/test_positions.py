"""Rotary positions, attention biases and added positions."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from orrery.kit.errors import OrreryError
from orrery.model.positions import (
    Alibi,
    AlibiBias,
    Dynamic,
    Learned,
    LearnedPositions,
    LongRope,
    Rope,
    RotaryEmbedding,
    Sinusoidal,
    SinusoidalPositions,
    T5Relative,
    T5RelativeBias,
    Yarn,
    alibi_slopes,
    apply_rope,
    t5_bucket,
)


def tables(positions: Tensor, cfg: Rope, head_dim: int, length: int = 0) -> tuple[Tensor, Tensor]:
    return RotaryEmbedding(cfg, head_dim)(positions, length)


def rotate_half(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """The usual formulation, as the oracle."""
    a, b = x.chunk(2, -1)
    cos, sin = (torch.cat((t, t), -1)[:, None] for t in (cos, sin))
    return x * cos + torch.cat((-b, a), -1) * sin


def test_rope_turns_by_position_times_frequency() -> None:
    cos, sin = tables(torch.tensor([0, 1, 2]), Rope(), 4)
    assert torch.allclose(
        cos, torch.tensor([[1, 1], [math.cos(1), math.cos(0.01)], [math.cos(2), math.cos(0.02)]])
    )
    x = torch.tensor([[[1.0, 0.0, 0.0, 0.0]]]).expand(3, 1, 4)
    half, pairs = apply_rope(x, cos, sin), apply_rope(x, cos, sin, interleaved=True)
    assert torch.equal(half[0], x[0])
    assert torch.allclose(half[1, 0], torch.tensor([math.cos(1), 0, math.sin(1), 0]))  # pair (0, 2)
    assert torch.allclose(pairs[1, 0], torch.tensor([math.cos(1), math.sin(1), 0, 0]))  # pair (0, 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_half_split_equals_rotate_half_forward_and_backward(dtype: torch.dtype) -> None:
    x = torch.randn(7, 3, 16, dtype=dtype, requires_grad=True)
    cos, sin = tables(torch.arange(7), Rope(), 16)
    grad = torch.randn(3, 7, 16, dtype=dtype).transpose(0, 1)  # as attention hands it back
    ours, theirs = apply_rope(x, cos, sin), rotate_half(x, cos, sin)
    assert torch.allclose(ours, theirs, atol=1e-6)
    assert torch.allclose(*(torch.autograd.grad(y, x, grad)[0] for y in (ours, theirs)), atol=1e-6)


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("fraction", [1.0, 0.5])
def test_gradients(interleaved: bool, fraction: float) -> None:
    x = torch.randn(3, 2, 8, dtype=torch.float64, requires_grad=True)
    cos, sin = tables(torch.arange(3), Rope(fraction=fraction), 8)

    def turn(x: Tensor) -> Tensor:
        return apply_rope(x, cos, sin, interleaved)

    assert torch.autograd.gradcheck(turn, (x,))
    assert torch.autograd.gradgradcheck(turn, (x,))


def test_layouts_are_a_permutation_of_each_other() -> None:
    x = torch.randn(5, 2, 12)
    cos, sin = tables(torch.arange(5), Rope(), 12)
    order = torch.arange(12).view(2, 6).t().flatten()  # half-split order -> pairs side by side
    assert torch.allclose(
        apply_rope(x, cos, sin)[..., order], apply_rope(x[..., order], cos, sin, True), atol=1e-6
    )


@settings(max_examples=30, deadline=None)
@given(
    m=st.integers(0, 500),
    n=st.integers(0, 500),
    shift=st.integers(0, 500),
    interleaved=st.booleans(),
    fraction=st.sampled_from([0.5, 1.0]),
)
def test_scores_depend_on_the_distance_only(
    m: int, n: int, shift: int, interleaved: bool, fraction: float
) -> None:
    generator = torch.Generator().manual_seed(m * 501 + n)
    q, k = torch.randn(2, 1, 1, 32, dtype=torch.float64, generator=generator)

    def score(q_at: int, k_at: int) -> float:
        (cq, sq), (ck, sk) = (tables(torch.tensor([p]), Rope(fraction=fraction), 32) for p in (q_at, k_at))
        return (apply_rope(q, cq, sq, interleaved) * apply_rope(k, ck, sk, interleaved)).sum().item()

    assert score(m, n) == pytest.approx(score(m + shift, n + shift), abs=2e-3)  # angles are float32


def test_rope_keeps_norms_and_what_it_does_not_rotate() -> None:
    x = torch.randn(9, 2, 16)
    cos, sin = tables(torch.arange(9), Rope(fraction=0.25), 16)
    assert cos.shape == (9, 2)
    y = apply_rope(x, cos, sin)
    assert torch.equal(y[..., 4:], x[..., 4:])
    assert torch.allclose(y.norm(dim=-1), x.norm(dim=-1), atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1, 9), (1, 3, 9), (4, 1, 9), (4, 3, 9)])
def test_pairs_may_start_anywhere_in_memory(shape: tuple[int, int, int]) -> None:
    x = torch.randn(shape)[..., 1:]
    cos, sin = tables(torch.arange(shape[0]) + 1, Rope(), 8)
    assert torch.equal(apply_rope(x, cos, sin, True), apply_rope(x.clone(), cos, sin, True))


def test_bfloat16_is_turned_in_float32() -> None:
    x = torch.randn(64, 2, 16).bfloat16()
    cos, sin = tables(torch.arange(64), Rope(), 16)
    for interleaved in (False, True):
        y = apply_rope(x, cos, sin, interleaved)
        assert y.dtype == torch.bfloat16
        assert torch.equal(y, apply_rope(x.float(), cos, sin, interleaved).bfloat16())


def test_casting_a_model_leaves_the_angles_alone() -> None:
    rotary = RotaryEmbedding(Rope(), 32)
    before = rotary(torch.tensor([4001]), 0)
    after = rotary.to(torch.bfloat16)(torch.tensor([4001]), 0)
    assert all(torch.equal(a, b) and b.dtype == torch.float32 for a, b in zip(before, after, strict=True))
    assert not rotary.state_dict()


def test_tables_on_the_meta_device() -> None:
    with torch.device("meta"):
        rotary = RotaryEmbedding(Rope(), 32)
    assert torch.equal(rotary(torch.arange(3), 3)[0], RotaryEmbedding(Rope(), 32)(torch.arange(3), 3)[0])


def test_length_matters_only_to_dynamic_and_longrope() -> None:
    at = torch.arange(20)
    factors = tuple(1.0 + i for i in range(8))
    longer = LongRope(short_factor=(1.0,) * 8, long_factor=factors, factor=2.0, original_max_positions=10)
    for scaling, changes in [
        (None, False),
        (Yarn(factor=2.0, original_max_positions=10), False),
        (Dynamic(factor=2.0, original_max_positions=10), True),
        (longer, True),
    ]:
        rotary = RotaryEmbedding(Rope(scaling=scaling), 16)
        assert torch.equal(rotary(at, 10)[0], rotary(at, 20)[0]) is not changes


def test_yarn_factor_is_folded_into_the_tables() -> None:
    scaling = Yarn(factor=4.0, original_max_positions=64)
    cos, sin = tables(torch.arange(5), Rope(scaling=scaling), 16)
    assert torch.allclose(cos**2 + sin**2, torch.tensor(scaling.temperature**2))


@pytest.mark.parametrize(("rope_type", "extra"), [("default", {}), ("yarn", {"factor": 4.0})])
def test_rotation_equals_transformers(rope_type: str, extra: dict[str, float]) -> None:
    pytest.importorskip("transformers", reason="the parity test needs transformers")
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

    parameters = {"rope_type": rope_type, "rope_theta": 1e4, **extra}
    if extra:
        parameters["original_max_position_embeddings"] = 64
    cfg = LlamaConfig(
        hidden_size=64, num_attention_heads=2, max_position_embeddings=64, rope_parameters=parameters
    )
    q, k = torch.randn(2, 50, 2, 32)
    cos, sin = LlamaRotaryEmbedding(cfg)(q, torch.arange(50)[None])
    theirs = apply_rotary_pos_emb(q.transpose(0, 1)[None], k.transpose(0, 1)[None], cos, sin)
    scaling = Yarn(factor=4.0, original_max_positions=64) if extra else None
    ours = tables(torch.arange(50), Rope(scaling=scaling), 32)
    for x, y in zip((q, k), theirs, strict=True):
        assert torch.allclose(apply_rope(x, *ours), y[0].transpose(0, 1), atol=1e-6)


@pytest.mark.parametrize("interleaved", [False, True])
def test_full_graph_compile(interleaved: bool) -> None:
    rotary = RotaryEmbedding(Rope(interleaved=interleaved), 16)

    def turn(x: Tensor, positions: Tensor) -> Tensor:
        return apply_rope(x, *rotary(positions, 6), interleaved)

    torch._dynamo.reset()
    compiled = torch.compile(turn, fullgraph=True, backend="aot_eager")
    x = torch.randn(6, 2, 16, requires_grad=True)
    at = torch.arange(6)
    assert torch.allclose(compiled(x, at), turn(x, at), atol=1e-6)
    grads = [torch.autograd.grad(f(x, at).square().sum() + f(x, at)[1].sum(), x)[0] for f in (compiled, turn)]
    assert torch.allclose(*grads, atol=1e-5)


@pytest.mark.parametrize("fraction", [0.1, 0.3])
def test_dimensions_turn_in_pairs(fraction: float) -> None:
    with pytest.raises(OrreryError, match="in pairs"):
        RotaryEmbedding(Rope(fraction=fraction), 10)


def test_alibi_slopes_of_the_paper() -> None:
    assert alibi_slopes(8) == [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256]
    assert alibi_slopes(16)[:3] == pytest.approx([2**-0.5, 2**-1, 2**-1.5])
    assert alibi_slopes(1) == [2**-8]
    assert alibi_slopes(12) == pytest.approx([*alibi_slopes(8), 2**-0.5, 2**-1.5, 2**-2.5, 2**-3.5])
    assert alibi_slopes(6) == pytest.approx([2**-2, 2**-4, 2**-6, 2**-8, 2**-1, 2**-3])


@pytest.mark.parametrize("n_heads", [1, 2, 3, 5, 8, 12, 20, 32, 71])
def test_alibi_slopes_equal_transformers(n_heads: int) -> None:
    pytest.importorskip("transformers", reason="the parity test needs transformers")
    from transformers.models.bloom.modeling_bloom import build_alibi_tensor

    theirs = build_alibi_tensor(torch.ones(1, 2), n_heads, torch.float32)[:, 0, 1]  # slope * 1
    assert torch.allclose(torch.tensor(alibi_slopes(n_heads)), theirs)


def test_alibi_bias() -> None:
    bias = AlibiBias(Alibi(), 2)(torch.tensor([3, 4]), torch.arange(5))
    assert bias.shape == (2, 2, 5)
    assert bias[0, 0].tolist() == [-3 / 16, -2 / 16, -1 / 16, 0, -1 / 16]
    assert bias[1, 1].tolist() == [-4 / 256, -3 / 256, -2 / 256, -1 / 256, 0]


def test_t5_buckets_by_hand() -> None:
    """32 causal buckets: 0..15 exact, then 16 logarithmic steps up to distance 128."""
    distance = torch.tensor([0, 1, 15, 16, 18, 19, 127, 128, 5000])
    bucket = t5_bucket(-distance, buckets=32, max_distance=128, bidirectional=False)
    assert bucket.tolist() == [0, 1, 15, 16, 16, 17, 31, 31, 31]
    assert t5_bucket(torch.tensor([7]), buckets=32, max_distance=128, bidirectional=False).item() == 0
    assert t5_bucket(torch.tensor([-1, 1]), buckets=32, max_distance=128, bidirectional=True).tolist() == [
        1,
        17,
    ]


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("buckets", "max_distance"), [(32, 128), (8, 20), (64, 1000)])
def test_t5_equals_transformers(bidirectional: bool, buckets: int, max_distance: int) -> None:
    pytest.importorskip("transformers", reason="the parity test needs transformers")
    from transformers import T5Config
    from transformers.models.t5.modeling_t5 import T5Attention

    relative = torch.arange(-1200, 1200)
    theirs = T5Attention._relative_position_bucket(relative, bidirectional, buckets, max_distance)
    options = {"buckets": buckets, "max_distance": max_distance, "bidirectional": bidirectional}
    assert torch.equal(t5_bucket(relative, **options), theirs)

    config = T5Config(
        d_model=16,
        num_heads=4,
        d_kv=4,
        is_decoder=not bidirectional,
        relative_attention_num_buckets=buckets,
        relative_attention_max_distance=max_distance,
    )
    attention = T5Attention(config, has_relative_attention_bias=True, layer_idx=0)
    bias = T5RelativeBias(T5Relative(**options), 4)
    bias.load_state_dict(attention.relative_attention_bias.state_dict(prefix="relative_attention_bias."))
    positions = torch.arange(40)
    assert torch.equal(bias(positions, positions), attention.compute_bias(40, 40)[0])


@settings(max_examples=50, deadline=None)
@given(q=st.integers(0, 2000), distance=st.integers(0, 2000))
def test_t5_bias_depends_on_the_distance_only(q: int, distance: int) -> None:
    bias = T5RelativeBias(T5Relative(), 3)
    here = bias(torch.tensor([q + distance]), torch.tensor([q]))
    assert torch.equal(here, bias(torch.tensor([distance]), torch.tensor([0])))


def test_sinusoidal_by_hand() -> None:
    table = SinusoidalPositions(Sinusoidal(), 4)(torch.tensor([0, 1, 50]))
    assert table[0].tolist() == [0, 1, 0, 1]
    assert table[1].tolist() == pytest.approx([math.sin(1), math.cos(1), math.sin(0.01), math.cos(0.01)])
    assert table[2].tolist() == pytest.approx(
        [math.sin(50), math.cos(50), math.sin(0.5), math.cos(0.5)], abs=1e-5
    )


def test_a_sinusoidal_shift_is_a_linear_map() -> None:
    """PE(p + s) = PE(p) M_s: each sine-cosine pair is turned (Vaswani et al., section 3.5)."""
    layer = SinusoidalPositions(Sinusoidal(), 8)
    at = torch.arange(40)
    angles = 3 / 10_000 ** (torch.arange(0, 8, 2) / 8)
    pairs = layer(at).unflatten(-1, (4, 2))
    sine, cosine = pairs.unbind(-1)
    turned = torch.stack(
        (sine * angles.cos() + cosine * angles.sin(), cosine * angles.cos() - sine * angles.sin()), -1
    )
    assert torch.allclose(turned.flatten(-2), layer(at + 3), atol=1e-5)


def test_sinusoidal_needs_an_even_width() -> None:
    with pytest.raises(OrreryError, match="even"):
        SinusoidalPositions(Sinusoidal(), 5)


def test_learned_positions_are_a_table() -> None:
    layer = LearnedPositions(Learned(max_positions=10), 6)
    out = layer(torch.tensor([3, 3, 9]))
    assert torch.equal(out, layer.weight[[3, 3, 9]])
    out.sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.sum(1).tolist() == [0, 0, 0, 12, 0, 0, 0, 0, 0, 6]
