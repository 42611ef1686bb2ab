"""Models that see: weights counted from a config.json equal those that transformers makes, for every kind and for published files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orrery.kit.errors import OrreryError
from orrery.plan.vision import count_model, seeing
from orrery.plan.vision_towers import JOINS

TEXT: dict[str, Any] = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8,
}  # fmt: skip
VIT: dict[str, Any] = {
    "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 3, "num_attention_heads": 4, "image_size": 28,
    "patch_size": 14,
}  # fmt: skip
QWEN: dict[str, Any] = {"depth": 3, "num_heads": 4, "patch_size": 14, "spatial_merge_size": 2}


def case(
    config: str, model: str, vision: dict[str, Any], text: dict[str, Any] | None = None, **settings: Any
) -> Any:
    return config, model, {"vision_config": vision, "text_config": TEXT if text is None else text, **settings}


CLIP_TEXT = {k: v for k, v in TEXT.items() if k not in ("num_key_value_heads", "head_dim")}
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "clip": case("CLIPConfig", "CLIPModel", VIT, CLIP_TEXT, projection_dim=20),
    "siglip": case("SiglipConfig", "SiglipModel", VIT, CLIP_TEXT),
    "llava": case("LlavaConfig", "LlavaForConditionalGeneration", {"model_type": "clip_vision_model", **VIT}, {"model_type": "llama", **TEXT}),
    "llava-two-layers": case(
        "LlavaConfig", "LlavaForConditionalGeneration", {"model_type": "siglip_vision_model", **VIT},
        {"model_type": "mistral", **TEXT}, vision_feature_layer=[-1, -2], multimodal_projector_bias=False,
    ),
    "llava_next": case("LlavaNextConfig", "LlavaNextForConditionalGeneration", {"model_type": "clip_vision_model", **VIT}, {"model_type": "mistral", **TEXT}),
    "llava_onevision": case(
        "LlavaOnevisionConfig", "LlavaOnevisionForConditionalGeneration",
        {"model_type": "siglip_vision_model", "vision_use_head": False, **VIT}, {"model_type": "qwen2", **TEXT},
    ),
    "gemma3": case("Gemma3Config", "Gemma3ForConditionalGeneration", {"model_type": "siglip_vision_model", "vision_use_head": False, **VIT}, {"model_type": "gemma3_text", **TEXT}),
    "gemma3-with-head": case("Gemma3Config", "Gemma3ForConditionalGeneration", VIT, {"model_type": "gemma3_text", **TEXT}),
    "paligemma": case(
        "PaliGemmaConfig", "PaliGemmaForConditionalGeneration",
        {"model_type": "siglip_vision_model", "projection_dim": 32, "vision_use_head": False, **VIT},
        {"model_type": "gemma", **TEXT}, projection_dim=32, hidden_size=32,
    ),
    "idefics3": case("Idefics3Config", "Idefics3ForConditionalGeneration", VIT, {"model_type": "llama", **TEXT}, scale_factor=2),
    "smolvlm": case("SmolVLMConfig", "SmolVLMForConditionalGeneration", VIT, {"model_type": "llama", **TEXT}, scale_factor=4),
    "mistral3": case("Mistral3Config", "Mistral3ForConditionalGeneration", {"model_type": "pixtral", **VIT}, {"model_type": "mistral", **TEXT}, tie_word_embeddings=False),
    "qwen2_vl": case("Qwen2VLConfig", "Qwen2VLForConditionalGeneration", {**QWEN, "embed_dim": 24, "hidden_size": 32, "mlp_ratio": 3}),
    "qwen2_5_vl": case("Qwen2_5_VLConfig", "Qwen2_5_VLForConditionalGeneration", {**QWEN, "hidden_size": 24, "intermediate_size": 40, "out_hidden_size": 32}, tie_word_embeddings=True),
    "qwen3_vl": case(
        "Qwen3VLConfig", "Qwen3VLForConditionalGeneration",
        {**QWEN, "hidden_size": 24, "intermediate_size": 40, "out_hidden_size": 32, "num_position_embeddings": 16,
         "deepstack_visual_indexes": [0, 1]},
        {**TEXT, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]}},
    ),
    "qwen3_vl_moe": case(
        "Qwen3VLMoeConfig", "Qwen3VLMoeForConditionalGeneration",
        {**QWEN, "hidden_size": 24, "intermediate_size": 40, "out_hidden_size": 32, "num_position_embeddings": 16,
         "deepstack_visual_indexes": [0]},
        {**TEXT, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16,
         "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]}},
    ),
}  # fmt: skip


def test_every_kind_has_a_case() -> None:
    assert {name.split("-")[0] for name in CASES} == set(JOINS)


@pytest.mark.parametrize("name", CASES)
def test_counted_as_transformers_makes_it(name: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="the reference models are transformers'")
    torch = pytest.importorskip("torch")
    config_class, model_class, settings = CASES[name]
    config = getattr(transformers, config_class)(**settings)
    with torch.device("meta"):
        model = getattr(transformers, model_class)(config)
    config.save_pretrained(tmp_path)
    counted = count_model(tmp_path)
    assert counted.total == sum(p.numel() for p in model.parameters())
    words = ("language_model", "text_model", "lm_head")
    text = sum(
        p.numel()
        for n, p in model.named_parameters()
        if any(word in n for word in words) and "head.head" not in n
    )
    if name not in ("clip", "siglip"):
        assert counted.vision == counted.total - text
    assert counted.active <= counted.total and sum(counted.by_component().values()) == counted.total


def test_what_is_silent_is_what_transformers_takes(tmp_path: Path) -> None:
    """A file that gives the kinds of its parts alone."""
    transformers = pytest.importorskip("transformers", reason="the reference models are transformers'")
    torch = pytest.importorskip("torch")
    given = {
        "model_type": "llava",
        "vision_config": {"model_type": "siglip_vision_model"},
        "text_config": {"model_type": "llama"},
    }
    (tmp_path / "config.json").write_text(json.dumps(given))
    with torch.device("meta"):
        model = transformers.LlavaForConditionalGeneration(transformers.AutoConfig.from_pretrained(tmp_path))
    assert count_model(tmp_path).total == sum(p.numel() for p in model.parameters())


def test_kinds_we_cannot_count_are_named(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": "florence2", "vision_config": {}}))
    with pytest.raises(OrreryError, match="florence2"):
        count_model(path)
    path.write_text(json.dumps({"model_type": "llava", "vision_config": {"model_type": "davit"}}))
    with pytest.raises(OrreryError, match="davit"):
        count_model(path)
    path.write_text(json.dumps({"model_type": "llama"}))
    assert seeing(path) is None
