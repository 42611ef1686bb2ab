"""Named file types: the choices a real file shows, and the rules by hand."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from orrery.kit.errors import OrreryError
from orrery.kit.gguf import GgufFile
from orrery.model.quant import FORMATS, MIXTURES, fallback, mixture


def _layers(
    kind: str, name: str, n_layers: int = 32, shape: tuple[int, ...] = (4096, 4096), **where
) -> list[str]:
    return [mixture(kind)(f"blk.{i}.{name}.weight", shape, i, n_layers, **where) for i in range(n_layers)]


def test_every_tensor_of_a_real_q4_k_m_file(gemma_gguf: Path) -> None:
    choose = mixture("q4_k_m")
    with GgufFile.open(gemma_gguf) as file:
        assert file.metadata["general.file_type"] == choose.file_type
        for name, tensor in file.tensors.items():
            assert choose(name, tensor.shape, None, 18, groups=4) == tensor.type, name


@pytest.mark.parametrize("kind", MIXTURES)
def test_file_types_have_the_numbers_of_the_gguf_package(kind: str) -> None:
    constants = pytest.importorskip("gguf.constants", reason="the gguf package is the reference")
    suffix = "_MOE" if kind == "mxfp4" else ""
    name = "ALL_F32" if kind == "f32" else f"MOSTLY_{kind.upper()}{suffix}"
    assert MIXTURES[kind].file_type == constants.LlamaFileType[name]


@pytest.mark.parametrize("kind", MIXTURES)
def test_small_and_delicate_tensors_stay_f32(kind: str) -> None:
    choose = mixture(kind)
    for name, shape in (
        ("blk.0.attn_norm.weight", (4096,)),
        ("blk.0.attn_q.bias", (4096,)),
        ("blk.0.ffn_gate_inp.weight", (8, 4096)),
        ("blk.3.ssm_conv1d.weight", (4096, 4)),
        ("blk.3.ssm_a", (4096, 16)),
        ("position_embd.weight", (1024, 768)),
        ("token_types.weight", (2, 768)),
        ("blk.1.attn_q_norm.weight", (16, 128)),
        ("blk.1.attn_norm_2.weight", (16, 128)),
    ):
        assert choose(name, shape) == "F32", name


def test_q4_k_m_spends_on_half_of_the_layers() -> None:
    better = [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]
    for name in ("attn_v", "ffn_down", "attn_qkv"):
        kinds = _layers("q4_k_m", name)
        assert [i for i, kind in enumerate(kinds) if kind == "Q6_K"] == better
        assert Counter(kinds) == {"Q6_K": 16, "Q4_K": 16}
    for name in ("attn_q", "attn_k", "attn_output", "ffn_up", "ffn_gate"):
        assert set(_layers("q4_k_m", name)) == {"Q4_K"}
    assert _layers("q5_k_m", "attn_v") == [k.replace("Q4", "Q5") for k in _layers("q4_k_m", "attn_v")]


def test_other_mixtures_by_hand() -> None:
    assert _layers("q4_k_s", "attn_v")[:5] == ["Q5_K"] * 4 + ["Q4_K"]
    assert _layers("q4_k_s", "ffn_down")[:5] == ["Q5_K"] * 4 + ["Q4_K"]
    assert _layers("q3_k_m", "attn_v")[:3] == ["Q5_K", "Q5_K", "Q4_K"]
    assert _layers("q3_k_m", "ffn_down")[:3] == ["Q5_K", "Q5_K", "Q4_K"]
    assert set(_layers("q3_k_m", "attn_output")) == {"Q4_K"}
    assert set(_layers("q3_k_m", "attn_q")) == {"Q3_K"}
    assert set(_layers("q2_k", "attn_v")) == {"Q3_K"}
    assert set(_layers("q2_k", "attn_v", groups=8)) == {"Q4_K"}
    assert set(_layers("q2_k", "ffn_down")) == set(_layers("q2_k", "attn_output")) == {"Q3_K"}
    assert set(_layers("q2_k", "ffn_gate")) == {"Q2_K"}
    assert set(_layers("iq4_xs", "attn_v")) == {"IQ4_XS"}
    assert set(_layers("iq4_xs", "attn_v", groups=4)) == {"Q5_K"}
    assert _layers("iq4_nl", "ffn_down")[:5] == ["Q5_K"] * 4 + ["IQ4_NL"]
    for kind in ("q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q6_k", "q5_k_s", "f16", "bf16", "f32"):
        for name in ("attn_v", "ffn_down", "attn_output", "ffn_up"):
            assert set(_layers(kind, name)) == {MIXTURES[kind].base}


def test_output_and_embedding() -> None:
    for kind, expected in (
        ("q4_k_m", "Q6_K"),
        ("q4_0", "Q6_K"),
        ("q8_0", "Q8_0"),
        ("f16", "F16"),
        ("mxfp4", "Q8_0"),
    ):
        assert mixture(kind)("output.weight", (32000, 4096)) == expected
        assert mixture(kind)("token_embd.weight", (32000, 4096)) == expected
    assert mixture("q4_k_m")("token_embd.weight", (32000, 4096), tied=False) == "Q4_K"
    assert mixture("tq2_0")("token_embd.weight", (32000, 4096), tied=False) == "Q4_K"
    assert mixture("mxfp4")("token_embd.weight", (32000, 4096), tied=False) == "Q8_0"
    assert mixture("q4_k_m")("output.weight", (32000, 640)) == "Q8_0"
    assert mixture("q4_k_m")("token_embd.weight", (32000, 640), tied=False) == "Q5_0"


def test_mixtures_of_experts() -> None:
    assert mixture("mxfp4")("blk.0.ffn_up_exps.weight", (32, 2880, 2880)) == "MXFP4"
    assert mixture("mxfp4")("blk.0.attn_q.weight", (4096, 2880)) == "Q8_0"
    assert (
        set(_layers("q4_k_m", "attn_v", experts=8)) == set(_layers("q4_k_m", "attn_k", experts=8)) == {"Q8_0"}
    )
    assert set(_layers("q4_k_m", "attn_output", experts=8)) == {"Q5_K"}
    assert set(_layers("q5_k_m", "attn_output", experts=8)) == {"Q5_K"}
    assert _layers("q4_k_m", "ffn_down_exps", experts=8, shape=(8, 4096, 14336))[:5] == ["Q6_K"] * 4 + [
        "Q4_K"
    ]


def test_the_layer_is_read_off_the_name() -> None:
    choose = mixture("Q4_K_M")
    assert choose("blk.10.ffn_down.weight", (256, 256), None, 32) == choose(
        "blk.10.ffn_down.weight", (256, 256), 10, 32
    )
    assert choose("blk.12.ffn_down.weight", (256, 256), None, 32) == "Q6_K"


def test_fallbacks_fill_whole_blocks() -> None:
    wide, narrow, odd = 4096, 640, 641
    for kind, instead in (
        ("Q4_K", "Q5_0"),
        ("Q5_K", "Q5_1"),
        ("Q6_K", "Q8_0"),
        ("Q3_K", "Q4_0"),
        ("Q2_K", "Q4_0"),
        ("IQ4_XS", "IQ4_NL"),
    ):
        assert (fallback(kind, wide), fallback(kind, narrow), fallback(kind, odd)) == (kind, instead, "F16")
    assert fallback("MXFP4", odd) == fallback("Q8_0", odd) == "F16"
    for kind in FORMATS:
        for n in (256, 96, 7):
            assert n % FORMATS[fallback(kind, n)].block == 0


def test_unknown_file_types_are_refused() -> None:
    with pytest.raises(OrreryError, match="Did you mean 'q4_k_m'"):
        mixture("q4_km")
