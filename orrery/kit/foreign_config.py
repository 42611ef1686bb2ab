"""What a config.json that somebody else wrote may say: numbers in their ranges, and nothing that asks for code or files.

    check_config(hf, "model/config.json")

Published configs hold hundreds of fields that concern training or other tools; those are left alone. Checked are the
fields that size a network (before anything is made in that size), and whatever elsewhere makes a reader run code: a
`_target_`, an `auto_map`, an attention kernel from a repository, `${...}`, a path out of the folder.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import Any, NoReturn

from orrery.kit.errors import OrreryError

Hf = dict[str, Any]

COUNTS: dict[str, tuple[int, int]] = {
    **dict.fromkeys(("vocab_size", "pad_vocab_size_multiple", "padded_vocab_size"), (1, 1 << 24)),
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "embedding_size", "embedding_dim", "word_embed_proj_dim"), (1, 1 << 18)),
    **dict.fromkeys(("intermediate_size", "n_inner", "d_ff", "ffn_dim", "ffn_hidden_size", "moe_intermediate_size", "d_inner"), (1, 1 << 22)),
    **dict.fromkeys(("shared_expert_intermediate_size", "moe_shared_expert_intermediate_size", "shared_intermediate_size", "intermediate_size_mlp"), (0, 1 << 22)),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_decoder_layers", "num_encoder_layers"), (1, 1 << 10)),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads", "encoder_attention_heads", "decoder_attention_heads", "mamba_num_heads", "mamba_n_heads", "linear_num_key_heads", "linear_num_value_heads", "num_key_value_heads", "multi_query_group_num"), (1, 1 << 14)),
    "head_dim": (0, 1 << 14),
    **dict.fromkeys(("d_kv", "kv_channels", "global_head_dim", "v_head_dim", "mamba_head_dim", "linear_key_head_dim", "linear_value_head_dim", "state_size", "ssm_state_size", "mamba_d_state"), (1, 1 << 14)),
    **dict.fromkeys(("qk_nope_head_dim", "qk_rope_head_dim", "rotary_dim"), (0, 1 << 14)),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank"), (1, 1 << 18)),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "num_experts_per_tok", "experts_per_token", "moe_num_experts", "n_shared_experts", "num_shared_experts", "num_nextn_predict_layers", "first_k_dense_replace"), (0, 1 << 16)),
    **dict.fromkeys(("n_group", "n_groups", "topk_group", "mamba_n_groups", "moe_layer_freq", "decoder_sparse_step", "full_attention_interval"), (0, 1 << 14)),
    **dict.fromkeys(("conv_kernel", "mamba_d_conv", "linear_conv_kernel_dim", "mamba_chunk_size", "mamba_expand"), (1, 1 << 16)),
    "chunk_size": (-1, 1 << 16),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx", "original_max_position_embeddings", "initial_context_length", "seq_length", "max_sequence_length"), (1, 1 << 31)),
    **dict.fromkeys(("sliding_window", "sliding_window_size", "attention_window_size", "local_attention"), (0, 1 << 31)),
    **dict.fromkeys(("max_window_layers", "type_vocab_size", "relative_attention_num_buckets", "relative_attention_max_distance", "sliding_window_pattern", "global_attn_every_n_layers"), (0, 1 << 24)),
}  # fmt: skip
"""Fields that are whole numbers, with the least and the largest that make sense; null is left to the family."""

NUMBERS: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("rope_theta", "rope_local_base_freq", "rotary_emb_base", "global_rope_theta", "local_rope_theta"), (1.0, 1e15)),
    **dict.fromkeys(("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_eps", "norm_epsilon"), (1e-30, 1.0)),
    **dict.fromkeys(("factor", "low_freq_factor", "high_freq_factor"), (1e-3, 1e6)),
    **dict.fromkeys(("beta_fast", "beta_slow", "mscale", "mscale_all_dim"), (0.0, 1e6)),
    **dict.fromkeys(("partial_rotary_factor", "rotary_pct"), (1e-6, 1.0)),
    **dict.fromkeys(("attention_dropout", "hidden_dropout", "dropout", "embd_pdrop", "attn_pdrop", "resid_pdrop", "dropout_rate", "hidden_dropout_prob", "attention_probs_dropout_prob"), (0.0, 1.0)),
    **dict.fromkeys(("attn_logit_softcapping", "final_logit_softcapping", "query_pre_attn_scalar", "embedding_multiplier", "attention_multiplier", "logits_scaling", "residual_multiplier", "logit_scale"), (1e-12, 1e9)),
}  # fmt: skip
"""Fields that are numbers, with their ranges."""

GENERATION: dict[str, tuple[float, float, type]] = {
    **dict.fromkeys(("max_length", "max_new_tokens"), (1, 1 << 31, int)),
    **dict.fromkeys(("min_length", "min_new_tokens", "top_k", "no_repeat_ngram_size"), (0, 1 << 31, int)),
    **dict.fromkeys(("num_beams", "num_return_sequences", "num_beam_groups"), (1, 1 << 12, int)),
    "temperature": (0.0, 100.0, float),
    **dict.fromkeys(("top_p", "typical_p", "min_p", "top_h"), (0.0, 1.0, float)),
    "repetition_penalty": (1e-3, 1e3, float),
    "length_penalty": (-1e3, 1e3, float),
}
TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
MAX_ID = 1 << 31

OWN_CODE = {
    "deepseek_v2": ("deepseek", "DeepseekV2"),
    "deepseek_v3": ("deepseek", "DeepseekV3"),
    "nemotron_h": ("nemotron_h", "NemotronH"),
    "phi": ("phi", "Phi"),
    "phi3": ("phi3", "Phi3"),
}
"""Families first published with code of their own: the module and class names in their configs' `auto_map`, which is
ignored because they are built in."""

_CODE_KEYS = {"_target_", "_partial_", "_recursive_", "_args_", "py/object", "py/reduce", "py/type", "class_path", "__class__",
              "__reduce__", "__module__", "custom_pipelines", "custom_generate"}  # fmt: skip
_HEADS_ASIDE = ("gemma", "qwen3", "glm", "gpt_oss", "t5", "mt5", "mamba", "nemotron_h", "deepseek")
"""Families whose head size does not follow from the width."""
_NO_PATHS = re.compile(r"(^|[\\/])\.\.([\\/]|$)|^/\w|^~[\\/]|^[A-Za-z]:[\\/]|^\\\\|^file:")


def check_config(hf: Any, where: str) -> Hf:
    """The content of a config.json, once nothing in it is out of range or asks for code.

    Raises:
        OrreryError: names the file, the key and the rule.
    """
    if not isinstance(hf, dict):
        raise OrreryError(f"'{where}' must hold a JSON object; give the config.json of a model")
    kind = hf.get("model_type")
    if not isinstance(kind, str | None) or len(kind or "") > 64:
        _refuse(where, "model_type", f"{str(kind)[:40]!r} is no name of a family")
    for key, value, path in _items(hf):
        if key == "auto_map" and not (path == key and _published_code(value, kind)):
            _refuse(where, path, "asks to run code from the model folder, which is never done; remove it")
        _check_value(key, value, path, where)
    _check_heads(hf, where)
    if isinstance(hf.get("text_config"), dict):
        _check_heads(hf["text_config"], where)
    _check_quantization(hf.get("quantization_config"), where)
    _check_spelling(hf, where)
    return hf


def check_generation(hf: Any, where: str) -> Hf:
    """The content of a generation_config.json, once its settings are in range.

    Raises:
        OrreryError: names the file, the key and the rule.
    """
    if not isinstance(hf, dict):
        raise OrreryError(f"'{where}' must hold a JSON object; remove the file, or get it again")
    for key, value, path in _items(hf):
        if key == "auto_map":
            _refuse(where, path, "asks to run code from the model folder, which is never done; remove it")
        _check_code(key, value, path, where)
    for key, (least, most, kind) in GENERATION.items():
        value = hf.get(key)
        if value is None:
            continue
        if type(value) is not int and (kind is int or type(value) is not float):
            _refuse(where, key, f"must be a {'whole ' if kind is int else ''}number, not {str(value)[:40]!r}")
        if not least <= value <= most:
            _refuse(where, key, f"{value} is not between {least:g} and {most:g}")
    _check_ids(hf, where)
    return hf


def _check_value(key: str, value: Any, path: str, where: str) -> None:
    _check_code(key, value, path, where)
    if key in COUNTS and value is not None:
        least, most = COUNTS[key]
        values = value if isinstance(value, list) else [value]  # some families give one number a layer
        for one in values:
            if type(one) is not int:
                _refuse(where, path, f"must be a whole number, not {str(one)[:40]!r}")
            if not least <= one <= most:
                _refuse(where, path, f"{str(one)[:40]} is not between {least:,} and {most:,}")
    elif key in NUMBERS and value is not None:
        low, high = NUMBERS[key]
        if type(value) not in (int, float):
            _refuse(where, path, f"must be a number, not {str(value)[:40]!r}")
        if not low <= value <= high:
            _refuse(where, path, f"{str(value)[:40]} is not between {low:g} and {high:g}")
    elif key in TOKEN_IDS:
        _check_ids({key: value}, where)


def _check_code(key: str, value: Any, path: str, where: str) -> None:
    if key in _CODE_KEYS:
        _refuse(where, path, "names code to run, which is never done; remove it")
    if key.startswith("_") and key.endswith("_internal"):
        _refuse(where, path, "is a field of another library's inside; remove it")
    if (
        key in ("_attn_implementation", "attn_implementation")
        and isinstance(value, str)
        and re.search(r"[/:@.]", value)
    ):
        _refuse(where, path, f"{value[:80]!r} names code in a repository, which is never fetched; remove it")
    for text in value if isinstance(value, list) else [value]:
        if not isinstance(text, str):
            continue
        if re.search(r"\$\{[^}]*\}", text):
            _refuse(
                where,
                path,
                f"{text[:80]!r} asks to be filled in; nothing is, in a config from a model folder",
            )
        if _NO_PATHS.search(text) and not key.endswith("name_or_path") and ".id2label." not in f".{path}":
            _refuse(where, path, f"{text[:80]!r} is a path outside the folder; remove it")


def _check_ids(hf: Hf, where: str) -> None:
    for key in TOKEN_IDS:
        value = hf.get(key)
        if value is None:
            continue
        for one in value if isinstance(value, list) else [value]:
            if type(one) is not int or not -1 <= one < MAX_ID:
                _refuse(where, key, f"{str(one)[:40]!r} is no token id")


def _check_heads(hf: Hf, where: str) -> None:
    width, heads = _first(hf, "hidden_size", "n_embd"), _first(hf, "num_attention_heads", "n_head")
    kv = hf.get("num_key_value_heads")
    if isinstance(heads, int) and isinstance(kv, int) and (kv > heads or heads % kv):
        _refuse(
            where,
            "num_key_value_heads",
            f"{kv} must divide num_attention_heads {heads}: every key head serves a group",
        )
    follows = hf.get("head_dim") is None and not str(hf.get("model_type", "")).startswith(_HEADS_ASIDE)
    if isinstance(width, int) and isinstance(heads, int) and follows and width % heads:
        _refuse(where, "num_attention_heads", f"{heads} does not divide hidden_size {width}")


def _check_quantization(quantization: Any, where: str) -> None:
    if quantization is None:
        return
    if not isinstance(quantization, dict):
        _refuse(where, "quantization_config", "must be an object")
    for key, value, path in _items(quantization, "quantization_config"):
        if (
            key in ("bits", "w_bit", "wbits", "num_bits", "nbits")
            and value is not None
            and (type(value) is not int or not 1 <= value <= 16)
        ):
            _refuse(where, path, f"{str(value)[:40]} bits are not between 1 and 16")
        if (
            key in ("group_size", "q_group_size")
            and value is not None
            and (type(value) is not int or not (value == -1 or 1 <= value <= 1 << 20))
        ):
            _refuse(
                where, path, f"{str(value)[:40]} is no group size; it is -1 for whole rows, or 1 and more"
            )
        if "class" in key and value is not None:
            _refuse(where, path, "names a class, and classes are never looked up; remove it")
        plain = isinstance(value, str) and re.fullmatch(r"[\w-]{1,64}", value)
        if key in ("quant_method", "quantizer", "module") and value is not None and not plain:
            _refuse(where, path, f"{str(value)[:80]!r} is no plain name of a method")
        if key == "weight_block_size" and value is not None:
            sizes = value if isinstance(value, list) else []
            if not sizes or any(type(size) is not int or not 1 <= size <= 1 << 20 for size in sizes):
                _refuse(where, path, f"{str(value)[:40]} must be whole numbers of 1 and more")


def _check_spelling(hf: Hf, where: str) -> None:
    """A field that nobody has, of nearly the name of one that decides what the network is."""
    for part in (hf, hf.get("text_config")):
        for key in part if isinstance(part, dict) else ():
            if key in COUNTS or key in NUMBERS or key in ESSENTIAL or len(key) > 64:
                continue
            near = difflib.get_close_matches(key, ESSENTIAL, n=1, cutoff=0.92)
            if near and abs(len(key) - len(near[0])) <= 1 and key != near[0] + "s":
                _refuse(where, key, f"is no field of a config. Did you mean '{near[0]}'?")


ESSENTIAL = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "num_key_value_heads",
             "max_position_embeddings", "rope_theta", "rms_norm_eps", "n_embd", "n_layer", "n_head", "tie_word_embeddings",
             "sliding_window", "hidden_act", "model_type", "head_dim", "num_experts", "rope_scaling")  # fmt: skip


def _published_code(auto_map: Any, kind: str | None) -> bool:
    if kind not in OWN_CODE or not isinstance(auto_map, dict):
        return False
    module, name = OWN_CODE[kind]
    pattern = rf"(configuration|modeling|tokenization)_{module}\.{name}\w*"
    return all(isinstance(value, str) and re.fullmatch(pattern, value) for value in auto_map.values())


def _items(value: Any, path: str = "") -> Iterator[tuple[str, Any, str]]:
    """(key, value, dotted path) of everything inside an object."""
    if isinstance(value, dict):
        for key, child in value.items():
            here = f"{path}.{key}" if path else key
            yield key, child, here
            yield from _items(child, here)
    elif isinstance(value, list):
        for i, child in enumerate(value):
            if isinstance(child, dict | list):
                yield from _items(child, f"{path}[{i}]")


def _first(hf: Hf, *names: str) -> Any:
    return next((hf[name] for name in names if hf.get(name) is not None), None)


def _refuse(where: str, key: str, rule: str) -> NoReturn:
    raise OrreryError(f"'{where}': {key[:120]!r} {rule}")
