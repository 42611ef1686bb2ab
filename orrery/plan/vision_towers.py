"""How many weights an image encoder has, and what joins it to a text model, from the fields of config.json.

    layer(d, f)       4 (d^2 + d) + 2 d f + f + d + 4 d         attention, two-layer feed-forward, two norms, all with biases
    CLIP tower        d + c p^2 d + (n + 1) d + 2 d + L layer + 2 d               Radford et al. 2021, arXiv:2103.00020
    SigLIP tower      c p^2 d + d + n d + L layer + 2 d (+ a pooling head)        Zhai et al. 2023, arXiv:2303.15343
    Pixtral tower     c p^2 d + d + L (4 d^2 + 3 d f + 2 d)                       Agrawal et al. 2024, arXiv:2410.07073
    Qwen-VL towers    2 c p^2 d + L layer + merger                                arXiv:2409.12191, 2502.13923, 2511.21631

d width, f inner width, L layers, c channels, p patch side, n patches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orrery.kit.errors import OrreryError

Hf = dict[str, Any]


def linear(wide: int, out: int, *, bias: bool = True) -> int:
    return wide * out + (out if bias else 0)


def layer(d: int, f: int) -> int:
    """Attention, a two-layer feed-forward and two LayerNorms, all with biases."""
    return 4 * linear(d, d) + linear(d, f) + linear(f, d) + 4 * d


def patches(v: Hf) -> int:
    """Patches of an image."""
    side, patch = v["image_size"], v["patch_size"]
    sides = side if isinstance(side, list | tuple) else (side, side)
    patch = patch if isinstance(patch, list | tuple) else (patch, patch)
    return (sides[0] // patch[0]) * (sides[1] // patch[1])


def pixels(v: Hf) -> int:
    """Numbers in a patch."""
    patch = v["patch_size"]
    area = patch[0] * patch[1] if isinstance(patch, list | tuple) else patch**2
    return v.get("num_channels", v.get("in_channels")) * v.get("temporal_patch_size", 1) * area


def clip_tower(v: Hf) -> int:
    d = v["hidden_size"]
    ends = d + pixels(v) * d + (patches(v) + 1) * d + 4 * d
    return ends + v["num_hidden_layers"] * layer(d, v["intermediate_size"])


def siglip_tower(v: Hf) -> int:
    d, f = v["hidden_size"], v["intermediate_size"]
    head = d + 4 * linear(d, d) + 2 * d + linear(d, f) + linear(f, d) if v["vision_use_head"] else 0
    return linear(pixels(v), d) + patches(v) * d + v["num_hidden_layers"] * layer(d, f) + 2 * d + head


def pixtral_tower(v: Hf) -> int:
    """Llama's layers over patches, without biases."""
    d, f = v["hidden_size"], v["intermediate_size"]
    return pixels(v) * d + d + v["num_hidden_layers"] * (4 * d * d + 3 * d * f + 2 * d)


def tower(hf: Hf, kind: str, **defaults: Any) -> tuple[int, int]:
    """Weights and width of the image encoder, of the kind it names itself or else of `kind`."""
    given = {**hf["vision_config"], **(hf.get("vision_config_dict") or {})}
    kind = given.get("model_type", kind)
    if kind not in TOWERS:
        raise OrreryError(f"an image encoder '{kind}' is not known; known are {', '.join(TOWERS)}")
    count, silent = TOWERS[kind]
    v = {**silent, **defaults, **{name: value for name, value in given.items() if value is not None}}
    return count(v), v["hidden_size"]


def clip(hf: Hf, d: int) -> int:
    """Both towers are projected to one width; a scale of the logits is learned."""
    weights, wide = tower(hf, "clip_vision_model")
    return weights + (wide + d) * hf.get("projection_dim", 512) + 1


def siglip(hf: Hf, d: int) -> int:
    """The text tower ends in a projection; a scale and a shift of the logits are learned."""
    projected = (hf.get("text_config") or {}).get("projection_size", d)
    return tower(hf, "siglip_vision_model")[0] + linear(d, projected) + 2


def llava(hf: Hf, d: int) -> int:
    """Two layers from the tower's width to the text's (Liu et al. 2023, arXiv:2310.03744)."""
    weights, wide = tower(hf, "clip_vision_model")
    chosen, bias = hf.get("vision_feature_layer", -2), hf.get("multimodal_projector_bias", True)
    wide *= len(chosen) if isinstance(chosen, list) else 1
    return weights + linear(wide, d, bias=bias) + linear(d, d, bias=bias)


def llava_next(hf: Hf, d: int) -> int:
    """Images of any shape: the end of a line of patches is a learned vector."""
    return llava(hf, d) + d


def gemma3(hf: Hf, d: int) -> int:
    """A norm and one matrix."""
    weights, wide = tower(hf, "siglip_vision_model")
    return weights + wide + wide * d


def paligemma(hf: Hf, d: int) -> int:
    weights, wide = tower(hf, "siglip_vision_model", vision_use_head=False)
    return weights + linear(wide, hf["vision_config"].get("projection_dim") or hf.get("projection_dim") or d)


def idefics3(hf: Hf, d: int) -> int:
    """Neighbouring patches are put side by side and projected."""
    weights, wide = tower(hf, "idefics3_vision")
    return weights + wide * hf.get("scale_factor", 2) ** 2 * d


def mistral3(hf: Hf, d: int) -> int:
    """A norm, a merger of neighbouring patches, two layers."""
    weights, wide = tower(hf, "pixtral")
    merger = hf.get("spatial_merge_size", 2) ** 2 * wide * wide
    bias = hf.get("multimodal_projector_bias", False)
    return weights + wide + merger + linear(wide, d, bias=bias) + linear(d, d, bias=bias)


def qwen2_vl(hf: Hf, d: int) -> int:
    """LayerNorms; four neighbouring patches become one token."""
    v = {**QWEN2, **hf["vision_config"]}
    e, depth = v["embed_dim"], v["depth"]
    return pixels(v) * e + depth * layer(e, int(e * v["mlp_ratio"])) + 2 * e + merger(v, e, v["hidden_size"])


def qwen2_5_vl(hf: Hf, d: int) -> int:
    """RMSNorms and gated feed-forwards."""
    v = {**QWEN2_5, **hf["vision_config"]}
    e, f = v["hidden_size"], v["intermediate_size"]
    block = 4 * linear(e, e) + 2 * linear(e, f) + linear(f, e) + 2 * e
    return pixels(v) * e + v["depth"] * block + e + merger(v, e, v["out_hidden_size"])


def qwen3_vl(hf: Hf, d: int) -> int:
    """Learned positions, and further mergers whose output goes into early layers of the text model."""
    v = {**QWEN3, **hf["vision_config"]}
    e, out = v["hidden_size"], v["out_hidden_size"]
    wide, deep = e * v["spatial_merge_size"] ** 2, len(v["deepstack_visual_indexes"])
    ends = linear(pixels(v), e) + v["num_position_embeddings"] * e + 2 * e + merger(v, e, out)
    return ends + v["depth"] * layer(e, v["intermediate_size"]) + deep * (2 * wide + merger(v, e, out))


def merger(v: Hf, e: int, out: int) -> int:
    """Two layers over patches that were put side by side."""
    wide = e * v["spatial_merge_size"] ** 2
    return linear(wide, wide) + linear(wide, out)


JOINS: dict[str, Callable[[Hf, int], int]] = {
    "clip": clip, "siglip": siglip, "llava": llava, "llava_next": llava_next, "llava_onevision": llava_next,
    "gemma3": gemma3, "paligemma": paligemma, "idefics3": idefics3, "smolvlm": idefics3, "mistral3": mistral3,
    "qwen2_vl": qwen2_vl, "qwen2_5_vl": qwen2_5_vl, "qwen3_vl": qwen3_vl, "qwen3_vl_moe": qwen3_vl,
}  # fmt: skip
"""By model_type, (config.json, width of the text model) -> weights beside the text model's."""

# What transformers takes where a config.json is silent.
VIT: Hf = {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_channels": 3, "image_size": 224,
    "patch_size": 16, "vision_use_head": True,
}  # fmt: skip
CLIP: Hf = {**VIT, "patch_size": 32}
IDEFICS: Hf = {**VIT, "hidden_size": 1152, "patch_size": 32, "vision_use_head": False}
PIXTRAL: Hf = {**VIT, "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "image_size": 1024}  # fmt: skip
QWEN: Hf = {
    "depth": 32,
    "in_channels": 3,
    "patch_size": 14,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
}
QWEN2: Hf = {**QWEN, "embed_dim": 1280, "hidden_size": 3584, "mlp_ratio": 4}
QWEN2_5: Hf = {**QWEN, "hidden_size": 3584, "intermediate_size": 3420, "out_hidden_size": 3584}
QWEN3: Hf = {
    **QWEN, "depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "patch_size": 16, "out_hidden_size": 3584,
    "num_position_embeddings": 2304, "deepstack_visual_indexes": [8, 16, 24],
}  # fmt: skip

TOWERS: dict[str, tuple[Callable[[Hf], int], Hf]] = {
    "clip_vision_model": (clip_tower, CLIP), "siglip_vision_model": (siglip_tower, VIT), "pixtral": (pixtral_tower, PIXTRAL),
    "idefics3_vision": (siglip_tower, IDEFICS), "smolvlm_vision": (siglip_tower, IDEFICS),
}  # fmt: skip
"""By the image encoder's model_type."""
