"""Scaled rotary frequencies: against published factors and, bit for bit, against transformers."""

from __future__ import annotations

import math

import pytest
import torch

from orrery.kit.config import resolve, to_dict
from orrery.kit.errors import OrreryError
from orrery.model.positions import Dynamic, Linear, Llama3, LongRope, Ntk, Rope, RotaryEmbedding, Yarn
from orrery.model.rope_scaling import ntk_theta, plain_frequencies, yarn_mscale

SHORT, LONG = tuple(1 + i / 10 for i in range(16)), tuple(2.0 + i for i in range(16))


def test_plain_frequencies_by_hand() -> None:
    assert plain_frequencies(10_000.0, 8).tolist() == pytest.approx([1.0, 0.1, 0.01, 0.001])


def test_linear_divides_every_frequency() -> None:
    assert Rope(scaling=Linear(factor=4.0)).frequencies(8).tolist() == pytest.approx(
        [0.25, 0.025, 0.0025, 0.00025]
    )


@pytest.mark.parametrize(
    ("factor", "theta"), [(2, 20_221.26), (4, 40_889.94), (8, 82_684.62), (16, 167_198.7), (32, 338_096.9)]
)
def test_ntk_base(factor: float, theta: float) -> None:
    assert ntk_theta(10_000.0, 128, factor) == pytest.approx(theta, rel=5e-7)


def test_ntk_leaves_the_fastest_and_divides_the_slowest() -> None:
    plain, scaled = Rope().frequencies(128), Rope(scaling=Ntk(factor=8.0)).frequencies(128)
    assert scaled[0] == plain[0] == 1
    assert (plain[-1] / scaled[-1]).item() == pytest.approx(8.0, rel=1e-5)
    ratios = plain / scaled
    assert (ratios.diff() > 0).all()


def test_dynamic_is_plain_within_the_trained_context_and_grows_after() -> None:
    rope = Rope(scaling=Dynamic(factor=2.0, original_max_positions=100))
    assert torch.equal(rope.frequencies(64, length=100), Rope().frequencies(64))
    twice = Rope(theta=ntk_theta(10_000.0, 64, 2.0 * 200 / 100 - 1.0)).frequencies(64)
    assert torch.equal(rope.frequencies(64, length=200), twice)


@pytest.mark.parametrize(
    ("factor", "mscale"),
    [(2, 1.0693), (4, 1.1386), (8, 1.2079), (16, 1.2773), (32, 1.3466), (40, 1.3689), (64, 1.4159)],
)
def test_yarn_attention_factor(factor: float, mscale: float) -> None:
    assert yarn_mscale(factor) == pytest.approx(mscale, abs=5e-5)
    assert Rope(scaling=Yarn(factor=factor, original_max_positions=4096)).attention_factor == yarn_mscale(
        factor
    )
    assert yarn_mscale(1.0) == 1.0


@pytest.mark.parametrize(
    ("theta", "context", "low", "high"),
    [(1e4, 4096, 20.94, 45.03), (5e5, 8192, 18.08, 34.98), (1e6, 32768, 23.60, 39.65)],
)
def test_yarn_ramp_of_published_models(theta: float, context: int, low: float, high: float) -> None:
    yarn = Yarn(factor=4.0, original_max_positions=context, truncate=False)
    assert yarn.ramp(theta, 128) == pytest.approx((low, high), abs=5e-3)
    whole = Yarn(factor=4.0, original_max_positions=context)
    assert whole.ramp(theta, 128) == (math.floor(low), math.ceil(high))


def test_yarn_keeps_the_fast_and_interpolates_the_slow() -> None:
    plain = Rope().frequencies(128)
    scaled = Rope(scaling=Yarn(factor=8.0, original_max_positions=4096)).frequencies(128)
    assert torch.equal(scaled[:21], plain[:21])  # the ramp starts at pair 20
    assert torch.allclose(scaled[46:], plain[46:] / 8, rtol=1e-6)
    between = plain[21:46] / scaled[21:46]
    assert (between > 1).all() and (between < 8).all() and (between.diff() > 0).all()


def test_deepseek_mscale_ratio_and_given_factor() -> None:
    base = {"factor": 40.0, "original_max_positions": 4096}
    equal = Yarn(**base, mscale=1.0, mscale_all_dim=1.0)
    assert Rope(scaling=equal).attention_factor == 1.0
    lite = Yarn(**base, mscale=0.707, mscale_all_dim=1.0)
    assert Rope(scaling=lite).attention_factor == pytest.approx(1.260805 / 1.368888, abs=1e-6)
    assert Rope(scaling=Yarn(**base, attention_factor=1.5)).attention_factor == 1.5


def test_llama3_rule() -> None:
    plain = plain_frequencies(500_000.0, 128)
    scaled = Rope(theta=500_000.0, scaling=Llama3()).frequencies(128)
    wavelength = 2 * math.pi / plain
    assert torch.equal(scaled[wavelength < 2048], plain[wavelength < 2048])
    assert torch.equal(scaled[wavelength > 8192], plain[wavelength > 8192] / 8)
    middle = (wavelength > 2048) & (wavelength < 8192)
    keep = (8192 / wavelength - 1) / 3
    assert middle.sum() >= 5
    assert torch.allclose(scaled[middle], ((1 - keep) / 8 + keep)[middle] * plain[middle])


def test_longrope_takes_the_long_divisors_past_the_trained_context() -> None:
    scaling = LongRope(short_factor=SHORT, long_factor=LONG, factor=16.0, original_max_positions=256)
    rope, plain = Rope(scaling=scaling), Rope().frequencies(32)
    assert torch.allclose(rope.frequencies(32, length=256), plain / torch.tensor(SHORT))
    assert torch.allclose(rope.frequencies(32, length=257), plain / torch.tensor(LONG))
    assert rope.attention_factor == pytest.approx(math.sqrt(1 + math.log(16) / math.log(256)))
    assert rope.attention_factor == pytest.approx(math.sqrt(1.5))


def test_longrope_needs_one_divisor_for_each_pair() -> None:
    scaling = LongRope(short_factor=SHORT, long_factor=LONG, factor=4.0, original_max_positions=256)
    with pytest.raises(OrreryError, match="short_factor has 16 numbers; 64 rotated dimensions need 32"):
        RotaryEmbedding(Rope(scaling=scaling), 64)


SCALINGS = {
    "linear": Linear(factor=3.0),
    "dynamic": Dynamic(factor=2.5, original_max_positions=256),
    "yarn": Yarn(factor=4.0, original_max_positions=256),
    "yarn-deepseek": Yarn(factor=40.0, original_max_positions=4096, mscale=0.707, mscale_all_dim=1.0),
    "yarn-untruncated": Yarn(
        factor=32.0, original_max_positions=4096, truncate=False, beta_fast=24.0, beta_slow=2.0
    ),
    "llama3": Llama3(original_max_positions=128),
    "longrope": LongRope(short_factor=SHORT, long_factor=LONG, factor=8.0, original_max_positions=256),
}


@pytest.mark.parametrize("name", SCALINGS)
@pytest.mark.parametrize("fraction", [1.0, 0.5])
@pytest.mark.parametrize("length", [16, 256, 1000])
def test_equal_to_transformers(name: str, fraction: float, length: int) -> None:
    pytest.importorskip("transformers", reason="the parity test needs transformers")
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    ours = SCALINGS[name]
    head_dim = 32 if fraction == 1.0 else 64
    their = {
        k: v
        for k, v in to_dict(ours).items()
        if k not in ("kind", "original_max_positions") and v is not None
    }
    their |= {"rope_type": ours.kind, "rope_theta": 50_000.0, "partial_rotary_factor": fraction}
    context = getattr(ours, "original_max_positions", 256)
    if ours.kind in ("yarn", "llama3", "longrope"):
        their["original_max_position_embeddings"] = context
    cfg = LlamaConfig(
        hidden_size=4 * head_dim,
        num_attention_heads=4,
        max_position_embeddings=context,
        rope_parameters=their,
    )
    frequencies, factor = ROPE_INIT_FUNCTIONS[ours.kind](cfg, "cpu", seq_len=length)
    rope = Rope(theta=50_000.0, fraction=fraction, scaling=ours)
    assert torch.equal(rope.frequencies(head_dim, length), frequencies)
    assert rope.attention_factor == pytest.approx(factor, rel=1e-12)


def test_recipes_name_the_scaling_by_kind() -> None:
    rope = resolve(Rope, {"theta": 5e5, "scaling": {"kind": "llama3", "factor": 32}})
    assert rope == Rope(theta=5e5, scaling=Llama3(factor=32.0))
    with pytest.raises(OrreryError, match="kinds"):
        resolve(Rope, {"scaling": {"kind": "yarm", "factor": 4}})
