"""ModernBERT (Warner et al. 2024, arXiv:2412.13663): windows and full layers in turn, each with a rope, gated GELU, no biases."""

from __future__ import annotations

from dataclasses import replace

from orrery.kit.errors import OrreryError
from orrery.model.config import DecoderConfig
from orrery.model.encoder import EncoderConfig, MaskedLm
from orrery.model.families.family import Family, Hf, Names
from orrery.model.families.layer_types import numbered, read_layer_types, write_layer_types
from orrery.model.families.llama_line import ACTIVATIONS, filled, read_activation
from orrery.model.families.rope_settings import FULL, SLIDING, read_rope_by_kind, write_rope_by_kind
from orrery.model.mlp import Mlp

DEFAULTS: Hf = {
    "vocab_size": 50_368, "hidden_size": 768, "intermediate_size": 1152, "num_hidden_layers": 22, "num_attention_heads": 12,
    "hidden_activation": "gelu", "max_position_embeddings": 8192, "norm_eps": 1e-5, "norm_bias": False,
    "attention_bias": False, "mlp_bias": False, "local_attention": 128, "global_attn_every_n_layers": 3,
    "global_rope_theta": 160_000.0, "local_rope_theta": 10_000.0, "tie_word_embeddings": True, "decoder_bias": True,
    "classifier_bias": False, "classifier_activation": "gelu",
}  # fmt: skip

NAMES: Names = {
    "stack.embed": "embeddings.tok_embeddings",
    "stack.embed_norm": "embeddings.norm",
    ("stack.blocks.{i}.attn.q_proj", "stack.blocks.{i}.attn.k_proj", "stack.blocks.{i}.attn.v_proj"): "layers.{i}.attn.Wqkv",
    "stack.blocks.{i}.attn.o_proj": "layers.{i}.attn.Wo",
    "stack.blocks.{i}.attn_norm": "layers.{i}.attn_norm",
    ("stack.blocks.{i}.mlp.gate_proj", "stack.blocks.{i}.mlp.up_proj"): "layers.{i}.mlp.Wi",
    "stack.blocks.{i}.mlp.down_proj": "layers.{i}.mlp.Wo",
    "stack.blocks.{i}.mlp_norm": "layers.{i}.mlp_norm",
    "stack.norm": "final_norm",
    "lm_head.dense": "head.dense",
    "lm_head.norm": "head.norm",
    "lm_head.bias": "decoder.bias",
    "stack.lm_head": "decoder",
}  # fmt: skip


def read(hf: Hf) -> EncoderConfig:
    hf = filled(hf, DEFAULTS)
    architecture = (hf.get("architectures") or ["ModernBertForMaskedLM"])[0]
    masked = architecture == "ModernBertForMaskedLM"
    every = hf["global_attn_every_n_layers"]
    if every < 1:
        raise OrreryError(f"global_attn_every_n_layers={every} must be at least 1")
    types = [SLIDING if i % every else FULL for i in numbered(hf)]
    stack = DecoderConfig(
        vocab_size=hf["vocab_size"],
        d_model=hf["hidden_size"],
        n_layers=hf["num_hidden_layers"],
        n_heads=hf["num_attention_heads"],
        feed_forward=Mlp(
            d_ff=hf["intermediate_size"], activation=read_activation(hf, "hidden_activation"), bias=hf["mlp_bias"]
        ),
        **read_rope_by_kind(
            {**hf, "rope_theta": hf["global_rope_theta"]}, theta=hf["global_rope_theta"],
            local_theta=hf["local_rope_theta"], max_positions=hf["max_position_embeddings"],
        ),
        **read_layer_types(hf, hf["local_attention"] // 2 + 1, types),  # half of it on either side, and the token itself
        norm="layernorm",
        norm_eps=hf["norm_eps"],
        norm_bias=hf["norm_bias"],
        embedding_norm="first",
        attention_bias=hf["attention_bias"],
        output_bias=hf["attention_bias"],
        tied=hf["tie_word_embeddings"] or not masked,
        max_positions=hf["max_position_embeddings"],
    )  # fmt: skip
    head = MaskedLm(
        activation=read_activation(hf, "classifier_activation"),
        bias=hf["classifier_bias"],
        output_bias=hf["decoder_bias"],
    )
    return EncoderConfig(stack=stack, masked_lm=head if masked else None)


def write(cfg: EncoderConfig) -> Hf:
    stack, mlp, head = cfg.stack, cfg.stack.feed_forward, cfg.masked_lm or MaskedLm(bias=False)
    if not isinstance(mlp, Mlp):
        raise OrreryError("ModernBERT has no experts")
    window = stack.window or DEFAULTS["local_attention"] // 2 + 1
    return {
        "architectures": ["ModernBertForMaskedLM" if cfg.masked_lm else "ModernBertModel"],
        "vocab_size": stack.vocab_size,
        "hidden_size": stack.d_model,
        "intermediate_size": mlp.d_ff,
        "num_hidden_layers": stack.n_layers,
        "num_attention_heads": stack.n_heads,
        "hidden_activation": ACTIVATIONS[mlp.activation],
        "mlp_bias": mlp.bias,
        "max_position_embeddings": stack.max_positions,
        "rope_parameters": write_rope_by_kind(stack.position, stack.local_position)["rope_parameters"],
        "layer_types": write_layer_types(stack)["layer_types"],
        "local_attention": 2 * (window - 1),
        "norm_eps": stack.norm_eps,
        "norm_bias": stack.norm_bias,
        "attention_bias": stack.attention_bias,
        "classifier_activation": ACTIVATIONS[head.activation],
        "classifier_bias": head.bias,
        "decoder_bias": head.output_bias,
        "tie_word_embeddings": stack.tied,
        "pad_token_id": 0,
    }


def fit(cfg: EncoderConfig, there: set[str]) -> EncoderConfig:
    """The body alone, whatever config.json says of a head."""
    if "head.dense.weight" in there:
        return cfg
    return replace(cfg, stack=replace(cfg.stack, tied=True), masked_lm=None)


MODERNBERT = Family(
    model_type="modernbert", architecture="ModernBertModel", names=NAMES, read=read, write=write, fit=fit,
    spelling=lambda cfg, name: name if cfg.masked_lm is None or name.startswith(("head.", "decoder.")) else f"model.{name}",
    renames=((r"^model\.", ""),), redundant=(r"^decoder\.weight$",),
)  # fmt: skip
