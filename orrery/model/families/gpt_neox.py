"""GPT-NeoX and Pythia (Black et al. 2022, arXiv:2204.06745; Biderman et al. 2023, arXiv:2304.01373): halves in parallel behind a
norm each, a part of each head turned, q, k, v fused head by head."""

from __future__ import annotations

from orrery.kit.errors import OrreryError
from orrery.model.config import DecoderConfig
from orrery.model.families.family import Family, Hf, Names
from orrery.model.families.llama_line import ACTIVATIONS, filled, read_activation
from orrery.model.families.rope_settings import read_rope, write_rope
from orrery.model.mlp import Mlp
from orrery.model.names import As, per_head

DEFAULTS: Hf = {
    "vocab_size": 50_432, "hidden_act": "gelu", "max_position_embeddings": 2048, "layer_norm_eps": 1e-5,
    "rotary_pct": 0.25, "rotary_emb_base": 10_000.0, "use_parallel_residual": True, "attention_bias": True,
    "tie_word_embeddings": False,
}  # fmt: skip


def names(cfg: DecoderConfig) -> Names:
    layer = "gpt_neox.layers.{i}."
    qkv = As(f"{layer}attention.query_key_value", per_head(cfg.n_heads))
    return {
        "embed": "gpt_neox.embed_in",
        "blocks.{i}.attn_norm": f"{layer}input_layernorm",
        ("blocks.{i}.attn.q_proj", "blocks.{i}.attn.k_proj", "blocks.{i}.attn.v_proj"): qkv,
        "blocks.{i}.attn.o_proj": f"{layer}attention.dense",
        "blocks.{i}.mlp_norm": f"{layer}post_attention_layernorm",
        "blocks.{i}.mlp.up_proj": f"{layer}mlp.dense_h_to_4h",
        "blocks.{i}.mlp.down_proj": f"{layer}mlp.dense_4h_to_h",
        "norm": "gpt_neox.final_layer_norm",
        "lm_head": "embed_out",
    }


def read(hf: Hf) -> DecoderConfig:
    hf = filled(hf, DEFAULTS)
    parallel = hf["use_parallel_residual"]
    return DecoderConfig(
        vocab_size=hf["vocab_size"],
        d_model=hf["hidden_size"],
        n_layers=hf["num_hidden_layers"],
        n_heads=hf["num_attention_heads"],
        position=read_rope(
            {"rope_theta": hf["rotary_emb_base"], **hf},
            max_positions=hf["max_position_embeddings"],
            fraction=hf["rotary_pct"],
        ),
        max_positions=hf["max_position_embeddings"],
        norm="layernorm",
        norm_eps=hf["layer_norm_eps"],
        parallel=parallel,
        parallel_norms=2 if parallel else 1,
        attention_bias=hf["attention_bias"],
        output_bias=hf["attention_bias"],
        feed_forward=Mlp(
            d_ff=hf["intermediate_size"], activation=read_activation(hf), gated=False, bias=True
        ),
        tied=hf["tie_word_embeddings"],
    )


def write(cfg: DecoderConfig) -> Hf:
    if not isinstance(cfg.feed_forward, Mlp):
        raise OrreryError("GPT-NeoX has no experts")
    rope = write_rope(cfg.position)
    return {
        "vocab_size": cfg.vocab_size,
        "hidden_size": cfg.d_model,
        "num_hidden_layers": cfg.n_layers,
        "num_attention_heads": cfg.n_heads,
        "intermediate_size": cfg.feed_forward.d_ff,
        "hidden_act": ACTIVATIONS[cfg.feed_forward.activation],
        **rope,
        "rotary_pct": getattr(cfg.position, "fraction", 1.0),
        "rotary_emb_base": rope["rope_theta"],
        "max_position_embeddings": cfg.max_positions,
        "layer_norm_eps": cfg.norm_eps,
        "use_parallel_residual": cfg.parallel,
        "attention_bias": cfg.attention_bias,
        "tie_word_embeddings": cfg.tied,
        "initializer_range": cfg.init.std,
        "attention_dropout": 0.0,
        "hidden_dropout": 0.0,
        "use_cache": True,
    }


GPT_NEOX = Family(
    model_type="gpt_neox",
    architecture="GPTNeoXForCausalLM",
    names=names,
    read=read,
    write=write,
    renames=((r"^lm_head\.", "embed_out."),),
    redundant=(r"\.attention\.(bias|masked_bias)$",),
)
