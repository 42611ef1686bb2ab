"""Models that see: their weights counted from config.json, the part for text as a model of ours, the part for images by formula.

We count these models and do not run them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from orrery.kit.errors import OrreryError
from orrery.kit.json import read_json
from orrery.model.config import DecoderConfig
from orrery.model.families import BY_TYPE
from orrery.model.folder import load_config
from orrery.model.mlp import Mlp
from orrery.model.positions import Learned
from orrery.plan.parameters import Parameters, count_parameters
from orrery.plan.vision_towers import JOINS, Hf


def count_model(path: Path) -> Parameters:
    """Every weight of the model that a folder or a config.json describes, one that sees included.

    Raises:
        OrreryError: no such file, or a model we do not know.
    """
    hf = seeing(path)
    return count_parameters(load_config(path)) if hf is None else count_seeing(hf)


def seeing(path: Path) -> Hf | None:
    """The content of a config.json (or of the one in a folder) if it describes a model that sees; otherwise None."""
    file = path if path.suffix == ".json" else path / "config.json"
    hf = read_json(file) if file.is_file() else None
    return hf if isinstance(hf, dict) and isinstance(hf.get("vision_config"), dict) else None


def count_seeing(hf: Hf) -> Parameters:
    """The text model's weights, and as `vision` the image encoder with what joins the two.

    Raises:
        OrreryError: a kind of model we do not know.
    """
    kind = str(hf.get("model_type"))
    if kind not in JOINS:
        raise OrreryError(
            f"a model of model_type '{kind}' sees in a way that is not known; known are {', '.join(JOINS)}"
        )
    try:
        text = text_config(hf)
        return replace(count_parameters(text), vision=JOINS[kind](hf, text.d_model))
    except KeyError as error:
        raise OrreryError(f"the config.json of this {kind} model lacks the setting {error}") from None
    except (TypeError, AttributeError, ZeroDivisionError) as error:
        raise OrreryError(
            f"the config.json of this {kind} model has a setting that cannot be ({error})"
        ) from None


def text_config(hf: Hf) -> DecoderConfig:
    """The part for text of a model that sees, for counting: settings that are for images in it are left out."""
    kind = str(hf.get("model_type"))
    text = {**hf, **(hf.get("text_config") or {}), **(hf.get("text_config_dict") or {})}
    if kind in ("clip", "siglip"):
        return _text_tower({**TEXT_TOWERS[kind], **{k: v for k, v in text.items() if v is not None}})
    inner = str((hf.get("text_config") or {}).get("model_type") or TEXTS.get(kind, "llama"))
    family = TEXTS.get(inner, inner)
    if family not in BY_TYPE:
        raise OrreryError(f"the text part of this model is of model_type '{family}', which is not known")
    tied = hf.get("tie_word_embeddings", kind in TIED)
    if kind.startswith("llava"):
        tied = tied or (hf.get("text_config") or {}).get("tie_word_embeddings", False)
    given = {k: v for k, v in text.items() if v is not None and k not in OF_IMAGES}
    named = {"model_type": family, "tie_word_embeddings": tied}
    cfg = BY_TYPE[family].read({**TEXT_DEFAULTS.get(family, {}), **given, **named})
    assert isinstance(cfg, DecoderConfig)
    return cfg


def _text_tower(hf: Hf) -> DecoderConfig:
    """CLIP's and SigLIP's: pre-norm layers with biases, learned positions. (Their activation is no matter of counting.)"""
    return DecoderConfig(
        vocab_size=hf["vocab_size"],
        d_model=hf["hidden_size"],
        n_layers=hf["num_hidden_layers"],
        n_heads=hf["num_attention_heads"],
        feed_forward=Mlp(d_ff=hf["intermediate_size"], activation="gelu", gated=False, bias=True),
        position=Learned(max_positions=hf["max_position_embeddings"]),
        norm="layernorm",
        attention_bias=True,
        output_bias=True,
        max_positions=hf["max_position_embeddings"],
    )


TEXTS = {
    "gemma3": "gemma3_text", "paligemma": "gemma", "qwen2_vl": "qwen2", "qwen2_vl_text": "qwen2", "qwen2_5_vl": "qwen2",
    "qwen2_5_vl_text": "qwen2", "qwen3_vl": "qwen3", "qwen3_vl_text": "qwen3", "qwen3_vl_moe": "qwen3_moe",
    "qwen3_vl_moe_text": "qwen3_moe", "mistral3": "mistral", "llava_onevision": "qwen2",
}  # fmt: skip
"""The family of the text model, where it goes by another name."""
TIED = ("gemma3", "paligemma", "mistral3")
OF_IMAGES = ("rope_scaling", "rope_parameters", "use_bidirectional_attention")
"""Settings of a text model that are for images in it, and change no number of weights."""
TEXT_DEFAULTS: dict[str, Hf] = {
    "llama": {"vocab_size": 32_000, "hidden_size": 4096, "intermediate_size": 11_008, "num_hidden_layers": 32,
              "num_attention_heads": 32},
    "mistral": {"vocab_size": 32_000, "hidden_size": 4096, "intermediate_size": 14_336, "num_hidden_layers": 32,
                "num_attention_heads": 32, "num_key_value_heads": 8},
    "qwen2": {"vocab_size": 151_936, "hidden_size": 4096, "intermediate_size": 22_016, "num_hidden_layers": 32,
              "num_attention_heads": 32, "num_key_value_heads": 32},
    "qwen3": {"vocab_size": 151_936, "hidden_size": 4096, "intermediate_size": 22_016, "num_hidden_layers": 32,
              "num_attention_heads": 32, "num_key_value_heads": 32, "head_dim": 128},
}  # fmt: skip
TEXT_TOWERS: dict[str, Hf] = {
    "clip": {"vocab_size": 49_408, "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12,
             "num_attention_heads": 8, "max_position_embeddings": 77},
    "siglip": {"vocab_size": 32_000, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
               "num_attention_heads": 12, "max_position_embeddings": 64},
}  # fmt: skip
