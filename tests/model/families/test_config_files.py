"""config.json as it is found: fields left out, old spellings, null, values that change the network and are not known."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from orrery.kit.errors import OrreryError
from orrery.model.config import DecoderConfig
from orrery.model.families import BY_TYPE
from orrery.model.families.family import canonical
from orrery.model.folder import load_config, load_model
from orrery.model.packed import Packed
from orrery.model.positions import Rope
from tests.model.families.cases import CASES
from tests.model.families.harness import make, tokens

transformers = pytest.importorskip("transformers", reason="the reference reads the same files")

SIZES = {"hidden_size": 512, "intermediate_size": 96, "num_hidden_layers": 7, "num_attention_heads": 32}
DENSE = (
    "llama", "mistral", "ministral", "ministral3", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi", "phi3", "olmo",
    "olmo2", "olmo3", "smollm3", "granite", "cohere", "cohere2", "glm", "glm4", "gpt2", "gpt_neox",
)  # fmt: skip
HEADS = {"num_key_value_heads": 2}


def ours(hf: dict[str, Any]) -> DecoderConfig:
    return canonical(BY_TYPE[hf["model_type"]].read(hf))


def theirs(hf: dict[str, Any]) -> DecoderConfig:
    """The file as transformers understands it, with every field filled in, read by us."""
    config = transformers.AutoConfig.for_model(**json.loads(json.dumps(hf)))
    return ours({**config.to_dict(), "model_type": hf["model_type"]})


@pytest.mark.parametrize("kind", DENSE)
def test_what_a_file_leaves_out_is_the_family_s_default(kind: str) -> None:
    for sizes in (SIZES, {**SIZES, **HEADS}):
        assert ours({"model_type": kind, **sizes}) == theirs({"model_type": kind, **sizes})
    nulls = {
        "model_type": kind,
        **SIZES,
        **HEADS,
        "rope_scaling": None,
        "layer_types": None,
        "hidden_act": None,
    }
    assert ours(nulls) == ours({"model_type": kind, **SIZES, **HEADS})


OLD: list[dict[str, Any]] = [
    {"model_type": "llama", "rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2.0}},
    {"model_type": "llama", "rope_scaling": {"type": "dynamic", "factor": 2.0}, "max_position_embeddings": 512},
    {"model_type": "llama", "rope_theta": 5e5, "rope_scaling": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}},
    {"model_type": "llama", "pretraining_tp": 1, "torch_dtype": "float16", "hidden_act": "swish", "head_dim": 32},
    {"model_type": "mistral", "sliding_window": None, "rope_theta": 1e6},
    {"model_type": "mistral", "rope_theta": 1e4, "sliding_window": 4096, "torch_dtype": "bfloat16"},
    {"model_type": "qwen2", "rope_theta": 1e6, "use_sliding_window": False, "sliding_window": 131072, "max_window_layers": 3},
    {"model_type": "qwen2", "rope_theta": 1e6, "use_sliding_window": True, "sliding_window": 128, "max_window_layers": 3},
    {"model_type": "qwen2", "rope_theta": 1e6, "max_position_embeddings": 512, "rope_scaling": {
        "type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}},
    {"model_type": "qwen3", "rope_scaling": None, "rope_theta": 1e6, "head_dim": 32, "sliding_window": None},
    {"model_type": "gemma", "hidden_act": "gelu", "head_dim": 32, "num_key_value_heads": 1, "rope_theta": 1e4},
    {"model_type": "gemma", "hidden_act": "gelu_pytorch_tanh", "hidden_activation": None, "head_dim": 32},
    {"model_type": "gemma2", "hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh", "head_dim": 32,
     "cache_implementation": "hybrid", "rope_theta": 1e4, "attn_logit_softcapping": 50.0, "query_pre_attn_scalar": 144},
    {"model_type": "gemma3_text", "rope_theta": 1e6, "rope_local_base_freq": 1e4, "rope_scaling": None, "sliding_window": 512,
     "sliding_window_pattern": 3, "attn_logit_softcapping": None, "hidden_activation": "gelu_pytorch_tanh", "head_dim": 32},
    {"model_type": "gemma3_text", "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "head_dim": 32},
    {"model_type": "phi", "partial_rotary_factor": 0.4, "rope_theta": 1e4, "rope_scaling": None, "embd_pdrop": 0.0},
    {"model_type": "phi3", "original_max_position_embeddings": 128, "max_position_embeddings": 4096, "rope_theta": 1e4,
     "rope_scaling": {"type": "su", "original_max_position_embeddings": 128, "short_factor": [1.0] * 8, "long_factor": [2.0] * 8}},
    {"model_type": "phi3", "original_max_position_embeddings": 128, "max_position_embeddings": 4096, "partial_rotary_factor": 0.75,
     "rope_scaling": {"type": "longrope", "short_factor": [1.0] * 6, "long_factor": [2.0] * 6}, "sliding_window": 262144},
    {"model_type": "olmo", "clip_qkv": 8.0, "rope_theta": 1e4, "rope_scaling": None},
    {"model_type": "olmo2", "rope_theta": 5e5, "rope_scaling": None},
    {"model_type": "olmo3", "rope_theta": 5e5, "sliding_window": 256, "max_position_embeddings": 1024, "rope_scaling": {
        "rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 128, "attention_factor": 1.2, "beta_fast": 32.0, "beta_slow": 1.0}},
    {"model_type": "smollm3", "no_rope_layers": [1, 1, 1, 0, 1, 1, 1], "no_rope_layer_interval": 4, "rope_theta": 5e6,
     "max_window_layers": 28, "use_sliding_window": False, "sliding_window": None},
    {"model_type": "granite", "rope_theta": 1e6, "attention_multiplier": 0.0078125, "embedding_multiplier": 12.0,
     "logits_scaling": 13.0, "residual_multiplier": 0.22, "tie_word_embeddings": True},
    {"model_type": "cohere", "rope_theta": 8e6, "logit_scale": 0.0625, "use_qk_norm": True, "model_max_length": 131072},
    {"model_type": "cohere2", "rope_theta": 5e4, "logit_scale": 0.25, "sliding_window": 128, "sliding_window_pattern": 4,
     "order_of_interleaved_layers": "local_attn_first", "position_embedding_type": "rope_gptj", "rotary_pct": 1.0},
    {"model_type": "glm", "partial_rotary_factor": 0.5, "rope_theta": 1e4, "head_dim": 32},
    {"model_type": "glm4", "partial_rotary_factor": 0.5, "rope_theta": 1e4, "head_dim": 32, "attention_bias": False},
    {"model_type": "gpt_neox", "rotary_pct": 0.25, "rotary_emb_base": 25000, "use_parallel_residual": True},
]  # fmt: skip


@pytest.mark.parametrize("hf", OLD, ids=lambda hf: hf["model_type"])
def test_old_spellings_mean_what_transformers_reads(hf: dict[str, Any]) -> None:
    assert ours({**SIZES, **hf}) == theirs({**SIZES, **hf})


def test_gpt2_under_its_own_names() -> None:
    old = {
        "model_type": "gpt2", "activation_function": "gelu_new", "n_ctx": 1024, "n_embd": 64, "n_head": 4, "n_layer": 2,
        "n_positions": 256, "summary_type": "cls_index", "task_specific_params": {}, "vocab_size": 300,
    }  # fmt: skip
    assert ours(old) == theirs(old)
    assert ours(old).feed_forward.d_ff == 256 and ours(old).max_positions == 256  # type: ignore[missing-attribute]


def test_published_files_mean_what_transformers_reads(shared_data: Path) -> None:
    read = 0
    for path in sorted((shared_data / "model_configs").glob("*.json")):
        hf = json.loads(path.read_text(encoding="utf-8"))
        if hf["model_type"] in DENSE:
            hf.pop("auto_map", None)
            assert canonical(load_config(path)) == theirs(hf), path.stem
            read += 1
    assert read >= 15


@pytest.mark.parametrize(
    ("hf", "says"),
    [
        ({"model_type": "llama", "hidden_act": "gelu_magic"}, "hidden_act asks for the activation 'gelu_magic'"),
        ({"model_type": "llama", "rope_scaling": {"type": "magic", "factor": 2.0}}, "rope scaling 'magic'"),
        ({"model_type": "llama", "rope_scaling": {"type": "linear"}}, "the rope scaling 'linear' in config.json lacks factor"),
        ({"model_type": "llama", "rope_scaling": {"rope_type": "longrope", "factor": 2.0}}, "lacks short_factor, long_factor"),
        ({"model_type": "llama", "partial_rotary_factor": 0.5}, "partial_rotary_factor=0.5 is not known for this family"),
        ({"model_type": "llama", "rope_parameters": {"full_attention": {"rope_type": "default"}}}, "rope_parameters differ by kind of layer"),
        ({"model_type": "mistral", "layer_types": ["full_attention"] * 7}, "layer_types asks for other layers than 'sliding_attention'"),
        ({"model_type": "ministral", "layer_types": ["chunked_attention"] * 7}, "layer_types holds 'chunked_attention'"),
        ({"model_type": "qwen2", "layer_types": ["full_attention"] * 3}, "layer_types lists 3 layers, but num_hidden_layers is 7"),
        ({"model_type": "qwen3", "num_hidden_layers": 10**9}, "'num_hidden_layers' 1000000000 is not between 1 and 1,024"),
        ({"model_type": "gemma2", "num_hidden_layers": "7"}, "'num_hidden_layers' must be a whole number"),
        ({"model_type": "gemma3_text", "use_bidirectional_attention": True}, "use_bidirectional_attention=true"),
        ({"model_type": "gemma3"}, "needs text_config"),
        ({"model_type": "gemma3_text", "sliding_window_pattern": 0}, "has a setting that cannot be meant"),
        ({"model_type": "granite", "logits_scaling": 0}, "'logits_scaling' 0 is not between"),
        ({"model_type": "llama", "num_attention_heads": 0}, "'num_attention_heads' 0 is not between"),
        ({"model_type": "smollm3", "no_rope_layers": [1, 0]}, "no_rope_layers must say"),
        ({"model_type": "ministral3", "rope_parameters": {"rope_theta": 1e4, "llama_4_scaling_beta": 0.1}}, "lacks the setting 'original_max_position_embeddings'"),
        ({"model_type": "gpt2", "scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx=true"),
        ({"model_type": "gpt2", "add_cross_attention": True}, "add_cross_attention=true"),
        ({"model_type": "gpt2", "activation_function": "tanh"}, "activation_function asks for the activation 'tanh'"),
        ({"model_type": "phi3", "rope_scaling": {"type": "longrope", "short_factor": [1.0] * 3, "long_factor": [1.0] * 8}}, "short_factor has 3 numbers"),
        ({"model_type": "glm", "partial_rotary_factor": 0.33, "head_dim": 16}, "choose an even product"),
        ({"model_type": "llama", "rope_theta": float("nan")}, "NaN is no JSON number"),
        ({"model_type": "llama", "rms_norm_eps": "small"}, "'rms_norm_eps' must be a number, not 'small'"),
        ({"model_type": "llama", "tie_word_embeddings": "no"}, "tied='no'"),
        ({"model_type": "mistral", "sliding_window": -5}, "'sliding_window' -5 is not between"),
        ({"model_type": "llama", "vocab_size": 10**400}, "401 digits"),
        ({"model_type": "llama", "rope_scaling": ["linear"]}, "config.json"),
        ({"model_type": "llama", "rope_scaling": {"rope_type": ["linear"]}}, "config.json"),
        ({"model_type": ["llama"]}, "config.json"),
    ],
)  # fmt: skip
def test_what_is_not_known_or_cannot_be_meant_is_refused(
    hf: dict[str, Any], says: str, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": 128, **SIZES, **hf}))
    with pytest.raises(OrreryError, match=re.escape(says)) as caught:
        load_config(tmp_path)
    assert len(str(caught.value)) < 600


def test_harmless_fields_are_passed_over(tmp_path: Path) -> None:
    hf = {"model_type": "llama", "vocab_size": 128, **SIZES}
    more = {
        "unsloth_version": "2024.9",
        "quantised_by": None,
        "reorder_and_upcast_attn": True,
        "use_cache": "yes",
    }
    assert ours({**hf, **more}) == ours(hf)


def changed(folder: Path, change: Any) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file(change(tensors), folder / "model.safetensors")


@torch.no_grad()
def test_gpt2_files_without_the_prefix_and_with_masks(tmp_path: Path) -> None:
    """The first published file of GPT-2 names the tensors so."""
    model = make(CASES["gpt2"], tmp_path)
    changed(tmp_path, lambda tensors: {
        **{name.removeprefix("transformer."): t for name, t in tensors.items()},
        **{f"h.{i}.attn.bias": torch.ones(1, 1, 128, 128) for i in range(3)},
        **{f"h.{i}.attn.masked_bias": torch.tensor(-1e4) for i in range(3)},
    })  # fmt: skip
    again = load_model(tmp_path)
    torch.testing.assert_close(
        again.head(again(tokens(9), Packed([9]))), model(tokens(9)[None]).logits[0], atol=1e-4, rtol=1e-4
    )


@torch.no_grad()
def test_the_text_part_of_a_gemma3_that_sees(tmp_path: Path) -> None:
    sight = {
        "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28,
        "patch_size": 14,
    }  # fmt: skip
    torch.manual_seed(0)
    text = {**CASES["gemma3"]["settings"], "vocab_size": 128}
    config = transformers.Gemma3Config(text_config=text, vision_config=sight, mm_tokens_per_image=4)
    model = transformers.Gemma3ForConditionalGeneration(config).float().eval()
    model.save_pretrained(tmp_path)
    expected = model(input_ids=tokens(33)[None], token_type_ids=torch.zeros(1, 33, dtype=torch.long)).logits[
        0
    ]
    for old, new in (
        ("", ""),
        ("language_model.model.", "model.language_model."),
        ("", "language_model.model."),
    ):
        changed(tmp_path, lambda tensors, old=old, new=new: {
            (name.replace(old, new, 1) if old and name.startswith(old) else name): t for name, t in tensors.items()
        })  # fmt: skip
        again = load_model(tmp_path)
        assert again.cfg == load_config(tmp_path)
        torch.testing.assert_close(
            again.head(again(tokens(33), Packed([33]))), expected, atol=1e-4, rtol=1e-4
        )
    changed(tmp_path, lambda tensors: {**tensors, "audio_tower.weight": torch.ones(2)})
    with pytest.raises(OrreryError, match=r"unexpected: audio_tower.weight"):
        load_model(tmp_path)


@pytest.mark.parametrize("kind", DENSE)
def test_a_config_we_write_says_it_in_every_spelling(kind: str) -> None:
    """transformers 5, transformers 4 and other tools find rope, activation and classes where they look."""
    family = BY_TYPE[kind]
    cfg = family.read({"model_type": kind, **SIZES})
    hf = family.write(cfg)
    assert family.expresses(cfg) and family.architecture.endswith(("ForCausalLM", "LMHeadModel"))
    assert hf["vocab_size"] == cfg.vocab_size and "tie_word_embeddings" in hf
    assert "hidden_act" in hf or "activation_function" in hf
    if isinstance(cfg.position, Rope):
        parameters = hf["rope_parameters"].get("full_attention", hf["rope_parameters"])
        assert hf["rope_theta"] == parameters["rope_theta"] == cfg.position.theta
        if cfg.position.fraction != 1:
            assert hf["partial_rotary_factor"] == parameters["partial_rotary_factor"] == cfg.position.fraction
        if cfg.position.scaling:
            assert hf["rope_scaling"]["type"] == hf["rope_scaling"]["rope_type"] == parameters["rope_type"]
    assert canonical(cfg) == theirs({**hf, "model_type": kind})


WRITTEN = {
    kind: {**BY_TYPE[kind].write(BY_TYPE[kind].read({"model_type": kind, **SIZES})), "model_type": kind}
    for kind in DENSE
}
JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(), st.just(10**30), st.floats(), st.text(max_size=5), st.lists(st.integers(), max_size=3),
    st.dictionaries(st.sampled_from(["type", "rope_type", "factor", "full_attention"]), st.integers() | st.text(max_size=3), max_size=2),
)  # fmt: skip


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_junk_in_any_field_is_refused_or_read(data: st.DataObject, tmp_path: Path) -> None:
    hf = dict(WRITTEN[data.draw(st.sampled_from(DENSE))])
    hf[data.draw(st.sampled_from([*hf, "layer_types", "rope_scaling", "sliding_window"]))] = data.draw(JUNK)
    (tmp_path / "config.json").write_text(json.dumps(hf))
    try:
        assert isinstance(load_config(tmp_path), DecoderConfig)
    except OrreryError as error:
        assert "config.json" in str(error)
