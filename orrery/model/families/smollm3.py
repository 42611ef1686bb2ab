"""SmolLM3 (Hugging Face 2025): Llama in which every fourth layer has no positions (NoPE, arXiv:2501.18795)."""

from __future__ import annotations

from orrery.kit.errors import OrreryError
from orrery.model.config import DecoderConfig, LayerKind
from orrery.model.families.family import Family, Hf
from orrery.model.families.layer_types import numbered, read_layer_types, shortest, write_layer_types
from orrery.model.families.llama_line import NAMES, filled, read_common, read_mlp, write_common, write_mlp
from orrery.model.families.rope_settings import FULL, SLIDING

DEFAULTS: Hf = {
    "vocab_size": 128_256, "num_key_value_heads": 4, "max_position_embeddings": 32_768, "no_rope_layer_interval": 4,
    "use_sliding_window": False, "sliding_window": None, "attention_bias": False, "tie_word_embeddings": True,
}  # fmt: skip


def read(hf: Hf) -> DecoderConfig:
    hf = filled(hf, DEFAULTS)
    layers, every = numbered(hf), hf["no_rope_layer_interval"]
    turned = hf.get("no_rope_layers") or [int((i + 1) % every != 0) for i in layers]  # 1: with rope
    if len(turned) < len(layers) or any(flag not in (0, 1) for flag in turned):
        raise OrreryError("no_rope_layers must say 1 (with rope) or 0 (without) for every layer")
    window = hf["sliding_window"] if hf["use_sliding_window"] else None
    default = [SLIDING if window and not turned[i] else FULL for i in layers]
    types = read_layer_types(hf, window, default)
    local: list[LayerKind] = [types["layer_pattern"][i % len(types["layer_pattern"])] for i in layers]
    if any(local[i] == "local" and not turned[i] for i in layers):
        raise OrreryError(
            "sliding layers without rope (no_rope_layers with use_sliding_window) are not known"
        )
    kinds: list[LayerKind] = [local[i] if turned[i] else "nope" for i in layers]
    return DecoderConfig(
        **read_common(hf, theta=2e6),
        window=window,
        layer_pattern=shortest(kinds),
        attention_bias=hf["attention_bias"],
        output_bias=hf["attention_bias"],
        feed_forward=read_mlp(hf),
    )


def write(cfg: DecoderConfig) -> Hf:
    types = write_layer_types(cfg)
    slides = SLIDING in types["layer_types"]
    return {
        **write_common(cfg),
        **write_mlp(cfg.feed_forward),
        **types,
        "use_sliding_window": slides,
        "sliding_window": types["sliding_window"] if slides else None,
        "no_rope_layers": [int(cfg.layer_kind(i) != "nope") for i in range(cfg.n_layers)],
        "attention_bias": cfg.attention_bias,
    }


SMOLLM3 = Family(model_type="smollm3", architecture="SmolLM3ForCausalLM", names=NAMES, read=read, write=write)
