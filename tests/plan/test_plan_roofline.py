"""Roofline of prefill and decode: worked by hand, against torch's counter, and as laws."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from orrery.kit.errors import OrreryError
from orrery.model import Decoder, DecoderConfig, KVCache
from orrery.model.cache import Cached
from orrery.model.config import Mamba2, Mla, Mlp, Moe
from orrery.model.positions import Rope
from orrery.plan.forecast import forecast
from orrery.plan.hardware import DEVICES, Device
from orrery.plan.roofline import decode_work, prefill_work, roof, sequences_that_fit, weights_read

LLAMA = DecoderConfig(
    n_layers=32, d_model=4096, n_heads=32, n_kv_heads=8, feed_forward=Mlp(d_ff=14_336), vocab_size=128_256, tied=False,
)  # fmt: skip
TINY = DecoderConfig(
    vocab_size=32, d_model=16, n_layers=2, n_heads=4, n_kv_heads=2, feed_forward=Mlp(d_ff=24), tied=False
)
TOY = Device(name="toy", memory_bytes=1e6, bandwidth=10.0, peak={"fp32": 100.0, "bf16": 200.0}, source="2026")


def test_decode_of_llama_3_8b_by_hand() -> None:
    """7.505e9 weights and 4096 x 131,072 bytes of cache at 3.35 TB/s: 15.55 GB, 4.64 ms, 215 tokens/s."""
    work = decode_work(LLAMA, context=4096)
    assert work.weight_bytes == 2 * 7_504_924_672
    assert work.cache_bytes == 4096 * 2 * 32 * 8 * 128 * 2
    assert work.flops == pytest.approx(2 * 7_504_658_432 + 4 * 32 * 4096 * 4096, rel=1e-4)
    top = roof(work, DEVICES["h100"])
    assert top.bound == "memory"
    assert top.seconds == pytest.approx(4.64e-3, rel=2e-3)
    assert top.tokens_per_s == pytest.approx(215.5, rel=2e-3)
    assert top.flops_per_s == pytest.approx(work.intensity * 3.35e12)


def test_prefill_of_llama_3_8b_by_hand() -> None:
    """4096 tokens x (2 x 6.98e9 + causal attention 2 x 32 x 4096 x 4097): logits of one token only; bound by arithmetic."""
    work = prefill_work(LLAMA, context=4096)
    body, head = 2 * (7_504_924_672 - 128_256 * 4096), 2 * 128_256 * 4096
    attention = 4 * 32 * 4096 * (4097 / 2)
    assert work.flops == pytest.approx(4096 * (body + attention) + head, rel=1e-6)
    top = roof(work, DEVICES["h100"])
    assert (top.bound, top.flops_per_s) == ("compute", 989.4e12)
    assert top.tokens_per_s == pytest.approx(4096 / (work.flops / 989.4e12))


def test_decode_flops_are_those_torch_counts() -> None:
    """One step of a real decoder over a cache; attention runs in a kernel that it does not see."""
    model = Decoder(TINY)
    cache = KVCache(model, rows=1, capacity=12)
    with torch.no_grad():
        model(torch.arange(9), Cached(cache, [(0, 0, 9)]))
        with FlopCounterMode(display=False) as counter:
            model.head(model(torch.tensor([3]), Cached(cache, [(0, 9, 1)])))
    matrices = counter.get_flop_counts()["Global"][torch.ops.aten.mm]
    norms = 2 * 16 * (2 * 2 + 1)  # the planner's N has them: two a layer and the last, of 16 weights
    attention = 2 * (2 * 4 * (4 + 4) * 10)  # 2 layers, 2 FLOPs, 4 heads, widths of key and value, 10 tokens
    assert decode_work(TINY, context=10).flops == matrices + norms + attention == 8704 + 160 + 1280
    assert weights_read(TINY, 1) == model.num_parameters() - 32 * 16


def test_the_window_bounds_what_decode_reads() -> None:
    local = dataclasses.replace(TINY, window=8, layer_pattern=("local", "global"))
    far, farther = decode_work(local, context=100), decode_work(local, context=101)
    assert far.cache_bytes == (8 + 100) * 2 * 2 * 4 * 2
    assert farther.flops - far.flops == 2 * 4 * 8  # one more token in the global layer: 2 H (D + D)


def test_latent_attention_reads_latents_and_works_on_them() -> None:
    mla = Mla(q_lora_rank=None, kv_lora_rank=8, qk_nope_head_dim=4, qk_rope_head_dim=2, v_head_dim=4)
    cfg = dataclasses.replace(TINY, attention=mla, n_heads=2, n_kv_heads=None, position=Rope())
    a, b = decode_work(cfg, context=50), decode_work(cfg, context=51)
    assert b.cache_bytes - a.cache_bytes == 2 * (8 + 2) * 2  # two layers, bf16
    assert b.flops - a.flops == 2 * 2 * 2 * (8 + 2 + 8)  # layers, 2 FLOPs, heads, widths


def test_a_recurrent_state_is_read_and_written_whatever_the_context() -> None:
    cfg = DecoderConfig(
        vocab_size=32, d_model=64, n_layers=2, layer_pattern=("recurrent",), sublayers="one",
        recurrent=Mamba2(n_heads=8, head_dim=16, state_dim=32, n_groups=2, chunk=32),
    )  # fmt: skip
    assert decode_work(cfg, context=10) == dataclasses.replace(decode_work(cfg, context=9999), context=10)
    assert decode_work(cfg, context=10).cache_bytes == 2 * prefill_work(cfg, context=10).cache_bytes


def test_experts_that_are_read() -> None:
    """4 experts, 1 a token: 1 is read for one token, 4 (1 - (3/4)^2) = 1.75 for two, all for many."""
    cfg = dataclasses.replace(TINY, feed_forward=Moe(n_experts=4, top_k=1, d_ff=8))
    expert = 2 * 3 * 16 * 8  # of both layers
    one = weights_read(cfg, 1)
    assert weights_read(cfg, 2) - one == pytest.approx(0.75 * expert)
    assert weights_read(cfg, 1000) - one == pytest.approx(3 * expert)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 400), st.integers(1, 2000), st.sampled_from([0.5, 1.0, 2.0, 4.0]))
def test_laws_of_the_roof(batch: int, context: int, number: float) -> None:
    work = decode_work(TINY, batch=batch, context=context, weight_bytes=number)
    top = roof(work, TOY, "fp32")
    assert top.flops_per_s == pytest.approx(min(100.0, work.intensity * 10.0))
    assert (top.bound == "memory") == (work.intensity < TOY.balance("fp32"))
    assert roof(work, TOY, "bf16").seconds <= top.seconds
    more = decode_work(TINY, batch=batch + 1, context=context, weight_bytes=number)
    assert more.intensity > work.intensity
    assert roof(more, TOY, "fp32").tokens_per_s >= top.tokens_per_s * (1 - 1e-9)


def test_sequences_that_fit() -> None:
    """80e9 - 16.06e9 bytes, 2^29 a sequence of 4096: 119; a smaller memory holds not even the weights."""
    assert sequences_that_fit(LLAMA, DEVICES["h100"], context=4096) == 119
    assert sequences_that_fit(LLAMA, DEVICES["tpu-v5e"], context=4096) == 0


def test_forecast_says_all_of_it() -> None:
    result = forecast(LLAMA, DEVICES["b200"], context=2048, precision="fp4", weight_bytes=0.5, batches=(1, 4))
    plain = result.to_dict()
    assert [row["phase"] for row in plain["rows"]] == ["prefill", "decode", "decode"]
    assert plain["balance"] == 9e15 / 8e12
    assert plain["model_bytes"] == pytest.approx(0.5 * 8.03e9, rel=1e-3)
    assert forecast(TINY, dataclasses.replace(TOY, peak={"fp32": 1.0}), context=4).precision == "fp32"
    with pytest.raises(OrreryError, match="batches of at least 1"):
        forecast(TINY, TOY, context=4, batches=(0,))


def test_forecast_as_a_table() -> None:
    import io

    from rich.console import Console

    console = Console(width=120, record=True, file=io.StringIO())
    console.print(forecast(LLAMA, DEVICES["h100"], context=4096).render())
    text = console.export_text()
    for part in (
        "H100 SXM5",
        "prefill, 1 prompt",
        "decode, 64 at once",
        "memory",
        "295 FLOPs a byte",
        "119",
        "data sheet",
    ):
        assert part in text
