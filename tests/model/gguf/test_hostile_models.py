"""A container that is whole, with a model in it that cannot be meant: refused before anything is built in its size."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from orrery.kit.errors import OrreryError
from orrery.kit.gguf import GgufFile, Typed, write_gguf
from orrery.model.build import build
from orrery.model.families import BY_TYPE
from orrery.model.gguf.read import config_of, model_of
from orrery.model.gguf.tables import BY_NAME
from orrery.model.gguf.write import metadata, pieces
from orrery.model.quant import quantize

SIZES = {
    "vocab_size": 32, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 64, "max_position_embeddings": 64,
}  # fmt: skip
EXPERTS = {
    "num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16, "norm_topk_prob": True,
}  # fmt: skip
LATENT = {
    "q_lora_rank": 16, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8, "n_routed_experts": 4,
    "first_k_dense_replace": 1, "n_shared_experts": 1, "num_key_value_heads": 4, "n_group": 1, "topk_group": 1,
    "num_nextn_predict_layers": 0,
}  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {}, "mixtral": EXPERTS, "qwen2": {}, "qwen3": {"head_dim": 8}, "qwen3_moe": {**EXPERTS, "head_dim": 8},
    "qwen2_moe": EXPERTS, "gemma": {"head_dim": 8}, "gemma2": {"head_dim": 8, "query_pre_attn_scalar": 8},
    "gemma3_text": {"head_dim": 8, "query_pre_attn_scalar": 8}, "phi3": {}, "gpt_neox": {},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}, "deepseek_v3": {**EXPERTS, **LATENT},
    "gpt_oss": {**EXPERTS, "head_dim": 8, "intermediate_size": 16}, "bert": {},
    "mamba2": {"num_heads": 8, "head_dim": 8, "state_size": 8, "n_groups": 2, "chunk_size": 8},
}  # fmt: skip
Tensors = list[tuple[str, str, tuple[int, ...], Callable[[], Any]]]


def whole(family: str) -> tuple[dict[str, Any], Tensors]:
    """The keys and tensors of a small model."""
    settings = {"model_type": family, **SIZES, **FAMILIES[family]}
    model = build(BY_TYPE[family].read(settings))
    model.family = family
    todo = [(piece.name, piece.kind, piece.shape, piece.blocks) for piece in pieces(model, "f32")]
    return metadata(model, kind="f32", name=family), todo


@pytest.fixture(scope="module", params=FAMILIES)
def small(request: pytest.FixtureRequest) -> tuple[dict[str, Any], Tensors]:
    return whole(request.param)


@pytest.fixture(scope="module")
def llama() -> tuple[dict[str, Any], Tensors]:
    return whole("llama")


def opened(path: Path, keys: dict[str, Any], tensors: Tensors, **how: Any) -> Any:
    write_gguf(path, keys, tensors)
    with GgufFile.open(path) as file:
        return model_of(file, **how)


def refused(path: Path, keys: dict[str, Any], tensors: Tensors, says: str, **how: Any) -> None:
    write_gguf(path, keys, tensors)
    start = time.perf_counter()
    with GgufFile.open(path) as file, pytest.raises(OrreryError, match=says) as caught:
        model_of(file, **how)
    assert time.perf_counter() - start < 1
    assert path.name in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 600


def typed(value: Any) -> Any:
    if isinstance(value, list):
        return Typed("array[int32]", value)
    kinds: dict[type, str] = {int: "int64", float: "float64"}
    return Typed(kinds[type(value)], value) if type(value) in kinds else value


# key (without the architecture's name), what it says, what the message names
RANGES: list[tuple[str, Any, str]] = [
    ("attention.head_count", 0, "attention.head_count|by zero|n_heads"),
    ("attention.head_count", 3, "n_heads|n_kv_heads|divi|head"),
    ("attention.head_count", -4, "attention.head_count is -4"),
    ("attention.head_count", [4, 2], "attention.head_count is a list that differs by layer"),
    ("attention.head_count_kv", 3, "kv_heads"),
    ("attention.head_count_kv", 0, "shape"),
    ("block_count", 2**31, "block_count is 2147483648"),
    ("block_count", 10**9, "block_count is 1000000000"),
    ("block_count", 1000, "block_count is 1000, but there are tensors of 2 layers"),
    ("block_count", 1, "block_count is 1, but there are tensors of 2 layers"),
    ("block_count", 0, "block_count is 0"),
    ("block_count", 2.5, "block_count is 2.5"),
    ("block_count", [], "block_count is a list"),
    ("block_count", "two", "block_count is 'two'"),
    ("embedding_length", 0, "d_model"),
    ("embedding_length", 2**31, "d_model"),
    ("embedding_length", 64, "shape"),
    ("embedding_length", "32", "embedding_length is '32'"),
    ("feed_forward_length", 2**31, "d_ff"),
    ("feed_forward_length", 80, "shape"),
    ("context_length", 2**62, "context_length is 4611686018427387904"),
    ("context_length", 0, "max_positions"),
    ("context_length", -1, "context_length is -1"),
    ("attention.layer_norm_rms_epsilon", math.nan, "layer_norm_rms_epsilon is nan"),
    ("attention.layer_norm_rms_epsilon", 0.0, "norm_eps"),
    ("attention.layer_norm_rms_epsilon", 1e9, "norm_eps"),
    ("rope.freq_base", math.nan, "rope.freq_base is nan"),
    ("rope.freq_base", math.inf, "rope.freq_base is inf"),
    ("rope.freq_base", -1e4, "rope.freq_base is -10000"),
    ("rope.freq_base", 0.0, "theta"),
    ("attention.key_length", 2**40, "attention.key_length"),
    ("attention.key_length", 16, "shape|heads are 16 wide"),
    ("attention.value_length", 16, "attention.value_length is 16, but heads are 8 wide"),
    ("rope.dimension_count", 4, "rope.dimension_count is 4, but heads are 8 wide"),
    ("rope.scaling.type", "made-up", "made-up"),
    ("rope.scaling.type", 7, "7"),
    ("expert_count", 2**31, "n_experts|experts"),
    ("expert_count", 4, "expert|top_k|missing|setting"),
]


@pytest.mark.parametrize("key, value, says", RANGES)
def test_a_setting_that_cannot_be_meant(
    llama: tuple[dict[str, Any], Tensors], tmp_path: Path, key: str, value: Any, says: str
) -> None:
    keys, tensors = llama
    refused(tmp_path / "bad.gguf", {**keys, f"llama.{key}": typed(value)}, tensors, says)


@pytest.mark.parametrize("value", [2**31, 2**62, -1, math.nan, math.inf, "text", [1, 2]], ids=str)
def test_no_setting_of_any_architecture_breaks_the_reader(
    small: tuple[dict[str, Any], Tensors], tmp_path: Path, value: Any
) -> None:
    """Refused in one sentence, or harmless; never another exception, and never longer than a second."""
    keys, tensors = small
    prefix = f"{keys['general.architecture']}."
    for key in [key for key in keys if key.startswith(prefix)]:
        write_gguf(tmp_path / "bad.gguf", {**keys, key: typed(value)}, tensors)
        start = time.perf_counter()
        try:
            with GgufFile.open(tmp_path / "bad.gguf") as file:
                config_of(file)
        except OrreryError as error:
            assert len(str(error)) < 600
        assert time.perf_counter() - start < 1, key


def test_what_is_whole_opens(small: tuple[dict[str, Any], Tensors], tmp_path: Path) -> None:
    assert opened(tmp_path / "good.gguf", *small).not_finite == ()


@pytest.mark.parametrize("key", ["block_count", "embedding_length", "attention.head_count"])
def test_a_setting_that_is_missing(llama: tuple[dict[str, Any], Tensors], tmp_path: Path, key: str) -> None:
    keys, tensors = llama
    without = {k: v for k, v in keys.items() if k != f"llama.{key}"}
    refused(tmp_path / "bad.gguf", without, tensors, f"lacks llama.{key}")


@pytest.mark.parametrize(
    "name, says", [("mamba9", "'mamba9' is not known"), (7, "general.architecture"), ("", "'' is not known")]
)
def test_an_architecture_that_is_not_known(
    llama: tuple[dict[str, Any], Tensors], tmp_path: Path, name: Any, says: str
) -> None:
    keys, tensors = llama
    refused(tmp_path / "bad.gguf", {**keys, "general.architecture": typed(name)}, tensors, says)
    assert "llama" in BY_NAME


def test_tensors_are_checked_against_the_settings_before_any_kernel(
    llama: tuple[dict[str, Any], Tensors], tmp_path: Path
) -> None:
    keys, tensors = llama
    for i, (name, _, shape, _) in enumerate(tensors):
        for wrong in ((*shape[:-1], shape[-1] // 2), (shape[0] // 2, *shape[1:]), (*shape, 2)):
            lower = torch.zeros(wrong)
            changed = [
                *tensors[:i],
                (name, "F32", wrong, lambda x=lower: quantize(x, "F32").numpy()),
                *tensors[i + 1 :],
            ]
            refused(tmp_path / "bad.gguf", keys, changed, f"{name}|output.weight")
    refused(
        tmp_path / "bad.gguf",
        keys,
        [t for t in tensors if t[0] != "blk.1.ffn_up.weight"],
        "missing: blk.1.ffn_up.weight",
    )
    more = [*tensors, ("blk.0.extra.weight", "F32", (2,), lambda: quantize(torch.zeros(2), "F32").numpy())]
    refused(tmp_path / "bad.gguf", keys, more, "unexpected: blk.0.extra.weight")
    typed_wrongly = [
        *tensors[1:],
        (tensors[0][0], "I32", (32, 32), lambda: quantize(torch.zeros(32, 32), "F32").numpy()),
    ]
    refused(tmp_path / "bad.gguf", keys, typed_wrongly, "I32")


@pytest.mark.parametrize("kind, place", [("Q8_0", 0), ("Q4_1", 2), ("F32", 0), ("F16", 2)])
@pytest.mark.parametrize("bits", [0x7E00, 0x7C00, 0xFC00], ids=["NaN", "inf", "-inf"])
def test_weights_that_are_not_finite_are_named(
    llama: tuple[dict[str, Any], Tensors], tmp_path: Path, kind: str, place: int, bits: int
) -> None:
    keys, tensors = llama
    name = "blk.1.ffn_up.weight"
    i, shape = next((i, shape) for i, (n, _, shape, _) in enumerate(tensors) if n == name)
    raw = quantize(torch.ones(shape), kind).clone()
    part = raw[5, place : place + 2] if kind != "F32" else raw[5, 2:4]
    part[:] = torch.tensor(
        [bits & 255, bits >> 8] if kind != "F32" else [0xC0 if bits == 0x7E00 else 0x80, 0x7F]
    )
    changed = [*tensors[:i], (name, kind, shape, lambda: raw.numpy()), *tensors[i + 1 :]]
    for quantised in (True, False):
        model = opened(tmp_path / "odd.gguf", keys, changed, quantised=quantised)
        assert model.not_finite == ("blocks.1.mlp.up_proj.weight",)
    refused(tmp_path / "odd.gguf", keys, changed, "blocks.1.mlp.up_proj.weight hold NaN", strict=True)
