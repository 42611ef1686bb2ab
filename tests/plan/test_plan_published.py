"""Sizes of published models, from their configs alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orrery.model.config import DecoderConfig, Mla, Mlp, Moe
from orrery.model.folder import load_config
from orrery.model.positions import Learned
from orrery.plan.flops import count_flops
from orrery.plan.kv_cache import kv_bytes, kv_bytes_per_token
from orrery.plan.parameters import count_parameters
from orrery.plan.plan import plan_model

# name, layers, d_model, heads, kv heads, head dim, d_ff, vocabulary, tied,
#     parameters, of them not embeddings, KV bytes a token (bf16), training FLOPs a token, at context
# GPT-3 XL and 13B are as the paper's table 2.1 prints them, where heads * head dim is not d_model.
DENSE = [
    ("GPT-2 small", 12, 768, 12, 12, 64, 3072, 50257, True, 124_439_808, 85_056_000, 36_864, 8.552e+08, 1024),
    ("GPT-2 medium", 24, 1024, 16, 16, 64, 4096, 50257, True, 354_823_168, 302_311_424, 98_304, 2.425e+09, 1024),
    ("GPT-2 large", 36, 1280, 20, 20, 64, 5120, 50257, True, 774_030_080, 708_390_400, 184_320, 5.203e+09, 1024),
    ("GPT-2 xl", 48, 1600, 25, 25, 64, 6400, 50257, True, 1_557_611_200, 1_475_561_600, 307_200, 1.028e+10, 1024),
    ("GPT-3 small", 12, 768, 12, 12, 64, 3072, 50257, True, 125_226_240, 85_056_000, 36_864, 9.684e+08, 2048),
    ("GPT-3 medium", 24, 1024, 16, 16, 64, 4096, 50257, True, 355_871_744, 302_311_424, 98_304, 2.727e+09, 2048),
    ("GPT-3 large", 24, 1536, 16, 16, 96, 6144, 50257, True, 760_300_032, 679_959_552, 147_456, 5.449e+09, 2048),
    ("GPT-3 XL", 24, 2048, 24, 24, 128, 8192, 50257, True, 1_517_123_584, 1_410_002_944, 294_912, 1.089e+10, 2048),
    ("GPT-3 2.7B", 32, 2560, 32, 32, 80, 10240, 50257, True, 2_651_553_280, 2_517_652_480, 327_680, 1.789e+10, 2048),
    ("GPT-3 6.7B", 32, 4096, 32, 32, 128, 16384, 50257, True, 6_658_404_352, 6_444_163_072, 524_288, 4.312e+10, 2048),
    ("GPT-3 13B", 40, 5140, 40, 40, 128, 20560, 50257, True, 12_936_488_380, 12_667_640_680, 819_200, 8.259e+10, 2048),
    ("GPT-3 175B", 96, 12288, 96, 96, 128, 49152, 50257, True, 174_604_259_328, 173_961_535_488, 4_718_592, 1.076e+12, 2048),
    ("Llama 2 7B", 32, 4096, 32, 32, 128, 11008, 32000, False, 6_738_415_616, 6_476_271_616, 524_288, 4.609e+10, 4096),
    ("Llama 2 13B", 40, 5120, 40, 40, 128, 13824, 32000, False, 13_015_864_320, 12_688_184_320, 819_200, 8.718e+10, 4096),
    ("Llama 2 70B", 80, 8192, 64, 8, 128, 28672, 32000, False, 68_976_648_192, 68_452_360_192, 327_680, 4.445e+11, 4096),
    ("Llama 3 8B", 32, 4096, 32, 8, 128, 14336, 128256, False, 8_030_261_248, 6_979_588_096, 131_072, 5.147e+10, 4096),
    ("Llama 3 70B", 80, 8192, 64, 8, 128, 28672, 128256, False, 70_553_706_496, 68_452_360_192, 327_680, 4.492e+11, 4096),
    ("Llama 3.1 405B", 126, 16384, 128, 8, 128, 53248, 128256, False, 405_853_388_800, 401_650_696_192, 516_096, 2.524e+12, 4096),
    ("Llama 3.2 1B", 16, 2048, 32, 8, 64, 8192, 128256, True, 1_235_814_400, 973_146_112, 32_768, 9.025e+09, 4096),
    ("Llama 3.2 3B", 28, 3072, 24, 8, 128, 8192, 128256, True, 3_212_749_824, 2_818_747_392, 114_688, 2.35e+10, 4096),
    ("Gemma 2 2B", 26, 2304, 8, 4, 256, 9216, 256000, True, 2_614_341_888, 2_024_517_888, 106_496, 2.092e+10, 8192),
    ("Gemma 2 9B", 42, 3584, 16, 8, 256, 14336, 256000, True, 9_241_705_984, 8_324_201_984, 344_064, 7.236e+10, 8192),
    ("Gemma 2 27B", 46, 4608, 32, 16, 128, 36864, 256000, True, 27_227_128_320, 26_047_480_320, 376_832, 1.819e+11, 8192),
    ("Gemma 3 270M", 18, 640, 4, 1, 256, 2048, 262144, True, 268_098_176, 100_326_016, 18_432, 3.421e+09, 8192),
    ("Gemma 3 1B", 26, 1152, 4, 1, 256, 6912, 262144, True, 999_885_952, 697_896_064, 26_624, 8.617e+09, 8192),
    ("Gemma 3 4B (text)", 34, 2560, 8, 4, 256, 10240, 262208, True, 3_880_263_168, 3_209_010_688, 139_264, 3.013e+10, 8192),
    ("Gemma 3 12B (text)", 48, 3840, 16, 8, 256, 15360, 262208, True, 11_766_034_176, 10_759_155_456, 393_216, 8.992e+10, 8192),
    ("Gemma 3 27B (text)", 62, 5376, 32, 16, 128, 21504, 262208, True, 27_009_346_304, 25_599_716_096, 507_904, 1.87e+11, 8192),
    ("Qwen2.5 0.5B", 24, 896, 14, 2, 64, 4864, 151936, True, 494_032_768, 357_898_112, 12_288, 4.021e+09, 4096),
    ("Qwen2.5 1.5B", 28, 1536, 12, 2, 128, 8960, 151936, True, 1_543_714_304, 1_310_340_608, 28_672, 1.138e+10, 4096),
    ("Qwen2.5 3B", 36, 2048, 16, 2, 128, 11008, 151936, True, 3_085_938_688, 2_774_773_760, 36_864, 2.214e+10, 4096),
    ("Qwen2.5 7B", 28, 3584, 28, 4, 128, 18944, 152064, False, 7_615_616_512, 6_525_621_760, 57_344, 4.736e+10, 4096),
    ("Qwen2.5 14B", 48, 5120, 40, 8, 128, 13824, 152064, False, 14_770_033_664, 13_212_898_304, 196_608, 9.603e+10, 4096),
    ("Qwen2.5 32B", 64, 5120, 40, 8, 128, 27648, 152064, False, 32_763_876_352, 31_206_740_992, 262_144, 2.08e+11, 4096),
    ("Qwen2.5 72B", 80, 8192, 64, 8, 128, 29568, 152064, False, 72_706_203_648, 70_214_787_072, 327_680, 4.61e+11, 4096),
    ("Qwen3 0.6B", 28, 1024, 16, 8, 128, 3072, 151936, True, 596_049_920, 440_467_456, 114_688, 6.395e+09, 4096),
    ("Qwen3 1.7B", 28, 2048, 16, 8, 128, 6144, 151936, True, 1_720_574_976, 1_409_410_048, 114_688, 1.314e+10, 4096),
    ("Qwen3 4B", 36, 2560, 32, 8, 128, 9728, 151936, True, 4_022_468_096, 3_633_511_936, 147_456, 3.138e+10, 4096),
    ("Qwen3 8B", 36, 4096, 32, 8, 128, 12288, 151936, False, 8_190_735_360, 6_946_075_648, 147_456, 5.266e+10, 4096),
    ("Qwen3 14B", 40, 5120, 40, 8, 128, 17408, 151936, False, 14_768_307_200, 13_212_482_560, 163_840, 9.401e+10, 4096),
    ("Qwen3 32B", 64, 5120, 64, 8, 128, 25600, 151936, False, 32_762_123_264, 31_206_298_624, 262_144, 2.177e+11, 4096),
]  # fmt: skip

FAMILIES = {
    "GPT-2": {"norm": "layernorm", "attention_bias": True, "output_bias": True, "position": Learned(max_positions=1024)},
    "GPT-3": {"norm": "layernorm", "attention_bias": True, "output_bias": True, "position": Learned(max_positions=2048)},
    "Llama": {},
    "Gemma 2": {"placement": "sandwich", "norm_unit_offset": True, "window": 4096, "layer_pattern": ("local", "global")},
    "Gemma 3": {
        "placement": "sandwich", "norm_unit_offset": True, "qk_norm": True, "window": 1024,
        "layer_pattern": ("local",) * 5 + ("global",),
    },
    "Qwen2.5": {"attention_bias": True},
    "Qwen3": {"qk_norm": True},
}  # fmt: skip


def dense(name, layers, d, heads, kv, head_dim, d_ff, vocab, tied) -> DecoderConfig:
    family = next(family for family in FAMILIES if name.startswith(family))
    feed_forward = (
        Mlp(d_ff=d_ff, gated=False, bias=True, activation="gelu") if "GPT" in family else Mlp(d_ff=d_ff)
    )
    return DecoderConfig(
        n_layers=layers, d_model=d, n_heads=heads, n_kv_heads=kv, head_dim=head_dim, vocab_size=vocab, tied=tied,
        feed_forward=feed_forward, **FAMILIES[family],
    )  # fmt: skip


@pytest.mark.parametrize("row", DENSE, ids=lambda row: row[0])
def test_dense_models(row) -> None:
    cfg = dense(*row[:9])
    parameters, non_embedding, kv, flops, context = row[9:]
    sizes = count_parameters(cfg)
    assert (sizes.total, sizes.active, sizes.non_embedding) == (parameters, parameters, non_embedding)
    assert kv_bytes_per_token(cfg) == kv
    assert count_flops(cfg, context).training("full") == pytest.approx(
        flops, rel=6e-4
    )  # four digits are printed


DEEPSEEK_V3 = DecoderConfig(
    n_layers=61, d_model=7168, n_heads=128, vocab_size=129_280, tied=False,
    attention=Mla(q_lora_rank=1536, kv_lora_rank=512, qk_nope_head_dim=128, qk_rope_head_dim=64, v_head_dim=128),
    feed_forward=Moe(n_experts=256, top_k=8, d_ff=2048, shared_experts=1, router="sigmoid", groups=8, top_groups=4, bias_update=1e-3),
    first_dense_layers=3, dense_feed_forward=Mlp(d_ff=18_432),
)  # fmt: skip
BIASES = 58 * 256
MOE = {
    "Mixtral 8x7B": (
        DecoderConfig(
            n_layers=32, d_model=4096, n_heads=32, n_kv_heads=8, vocab_size=32_000, tied=False,
            feed_forward=Moe(n_experts=8, top_k=2, d_ff=14_336),
        ),
        (46_702_792_704, 12_879_925_248, 12_748_853_248, 131_072),
    ),
    "Qwen3-30B-A3B": (
        DecoderConfig(
            n_layers=48, d_model=2048, n_heads=32, n_kv_heads=4, head_dim=128, vocab_size=151_936, tied=False, qk_norm=True,
            feed_forward=Moe(n_experts=128, top_k=8, d_ff=768),
        ),
        (30_532_122_624, 3_353_032_704, 3_041_867_776, 98_304),
    ),
    "Qwen3-235B-A22B": (
        DecoderConfig(
            n_layers=94, d_model=4096, n_heads=64, n_kv_heads=4, head_dim=128, vocab_size=151_936, tied=False, qk_norm=True,
            feed_forward=Moe(n_experts=128, top_k=8, d_ff=1536),
        ),
        (235_093_634_560, 22_190_763_520, 21_568_433_664, 192_512),
    ),
    "DeepSeek-V2-Lite": (
        DecoderConfig(
            n_layers=27, d_model=2048, n_heads=16, vocab_size=102_400, tied=False,
            attention=Mla(kv_lora_rank=512, qk_nope_head_dim=128, qk_rope_head_dim=64, v_head_dim=128),
            feed_forward=Moe(n_experts=64, top_k=6, d_ff=1408, shared_experts=2),
            first_dense_layers=1, dense_feed_forward=Mlp(d_ff=10_944),
        ),
        (15_706_484_224, 2_661_150_208, 2_451_435_008, 31_104),
    ),
    "DeepSeek-V2": (
        DecoderConfig(
            n_layers=60, d_model=5120, n_heads=128, vocab_size=102_400, tied=False,
            attention=Mla(q_lora_rank=1536, kv_lora_rank=512, qk_nope_head_dim=128, qk_rope_head_dim=64, v_head_dim=128),
            feed_forward=Moe(n_experts=160, top_k=6, d_ff=1536, shared_experts=2),
            first_dense_layers=1, dense_feed_forward=Mlp(d_ff=12_288),
        ),
        (235_741_434_880, 21_375_800_320, 20_851_512_320, 69_120),
    ),
    # Published totals count the routers' selection biases, which no gradient trains.
    "DeepSeek-V3": (
        DEEPSEEK_V3,
        (671_026_419_200 - BIASES, 37_552_297_472 - BIASES, 36_625_618_432 - BIASES, 70_272),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MOE)
def test_mixtures_of_experts(name) -> None:
    cfg, want = MOE[name]
    sizes = count_parameters(cfg)
    assert (sizes.total, sizes.active, sizes.active_without_input_embedding, kv_bytes_per_token(cfg)) == want


def test_deepseek_v3_costs_250_gflops_a_token_under_the_causal_convention() -> None:
    """DeepSeek's own comparison at a context of 4096 (arXiv:2505.09343, table 2)."""
    assert count_flops(DEEPSEEK_V3, 4096).training("causal") == pytest.approx(250e9, rel=0.005)


def test_gpt3_training_compute() -> None:
    """GPT-3's table D.1: 6 N D = 3.14e23 for 175 B parameters and 300 B tokens; its exact count is a few percent more."""
    row = next(row for row in DENSE if row[0] == "GPT-3 175B")
    plan = plan_model(dense(*row[:9]), tokens=300e9, context=2048)
    assert 6 * plan.parameters.total * plan.tokens == pytest.approx(3.14e23, rel=0.002)
    assert plan.total_flops == pytest.approx(3.14e23, rel=0.03)


def test_gemma_keeps_windows_only() -> None:
    """Gemma 3 270M: 18 layers, of them 3 global; 2 * K * D * 2 bytes * (3 s + 15 min(s, window))."""
    row = next(row for row in DENSE if row[0] == "Gemma 3 270M")
    cfg = dense(*row[:9])
    assert kv_bytes(cfg, 512) == 512 * 18_432
    assert kv_bytes(cfg, 32_768) == 2 * 1 * 256 * 2 * (3 * 32_768 + 15 * 1024)
    full, seen = count_flops(cfg, 8192).attention_full, count_flops(cfg, 8192).attention_causal
    assert seen < full / 4


@pytest.mark.parametrize(
    ("file", "parameters"),
    [
        ("Llama-3.1-8B", 8_030_261_248),
        ("Llama-3.2-1B", 1_235_814_400),
        ("Llama-2-7b", 6_738_415_616),
        ("Mixtral-8x7B", 46_702_792_704),
        ("Qwen3-0.6B", 596_049_920),
        ("Qwen3-32B", 32_762_123_264),
        ("Qwen3-30B-A3B", 30_532_122_624),
    ],
)
def test_published_config_files(file, parameters, shared_data: Path, tmp_path: Path) -> None:
    stored = json.loads((shared_data / "model_configs" / f"{file}.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(stored))
    assert plan_model(load_config(tmp_path)).to_dict()["parameters"]["total"] == parameters
