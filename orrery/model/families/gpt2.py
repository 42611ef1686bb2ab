"""GPT-2 (Radford et al. 2019): learned positions, LayerNorm before each half, GELU, biases, matrices stored (in, out)."""

from __future__ import annotations

from orrery.kit.errors import OrreryError
from orrery.model.config import DecoderConfig
from orrery.model.families.family import Family, Hf, Names
from orrery.model.families.llama_line import ACTIVATIONS, filled, read_activation
from orrery.model.mlp import Mlp
from orrery.model.names import TRANSPOSED, TRANSPOSED_ROWS, As
from orrery.model.positions import Learned

DEFAULTS: Hf = {
    "vocab_size": 50_257, "n_positions": 1024, "n_embd": 768, "n_layer": 12, "n_head": 12, "n_inner": None,
    "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "tie_word_embeddings": True,
    "scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False, "add_cross_attention": False,
}  # fmt: skip
GENERAL = {
    "hidden_size": "n_embd", "num_hidden_layers": "n_layer", "num_attention_heads": "n_head",
    "max_position_embeddings": "n_positions",
}  # fmt: skip
"""Names of other families that are understood too."""

NAMES: Names = {
    "embed": "transformer.wte",
    "position_embed": "transformer.wpe",
    "blocks.{i}.attn_norm": "transformer.h.{i}.ln_1",
    ("blocks.{i}.attn.q_proj", "blocks.{i}.attn.k_proj", "blocks.{i}.attn.v_proj"): As(
        "transformer.h.{i}.attn.c_attn", TRANSPOSED_ROWS
    ),
    "blocks.{i}.attn.o_proj": As("transformer.h.{i}.attn.c_proj", TRANSPOSED),
    "blocks.{i}.mlp_norm": "transformer.h.{i}.ln_2",
    "blocks.{i}.mlp.up_proj": As("transformer.h.{i}.mlp.c_fc", TRANSPOSED),
    "blocks.{i}.mlp.down_proj": As("transformer.h.{i}.mlp.c_proj", TRANSPOSED),
    "norm": "transformer.ln_f",
    "lm_head": "lm_head",
}


def read(hf: Hf) -> DecoderConfig:
    hf = filled({GENERAL.get(key, key): value for key, value in hf.items()}, DEFAULTS)
    for key in ("scale_attn_by_inverse_layer_idx", "add_cross_attention"):
        if hf[key]:
            raise OrreryError(f"{key}=true is not known here; GPT-2's own models leave it false")
    return DecoderConfig(
        vocab_size=hf["vocab_size"],
        d_model=hf["n_embd"],
        n_layers=hf["n_layer"],
        n_heads=hf["n_head"],
        position=Learned(max_positions=hf["n_positions"]),
        max_positions=hf["n_positions"],
        norm="layernorm",
        norm_eps=hf["layer_norm_epsilon"],
        attention_bias=True,
        output_bias=True,
        attention_scale=None if hf["scale_attn_weights"] else 1.0,
        feed_forward=Mlp(
            d_ff=4 * hf["n_embd"] if hf["n_inner"] is None else hf["n_inner"],
            activation=read_activation(hf, "activation_function"),
            gated=False,
            bias=True,
        ),
        tied=hf["tie_word_embeddings"],
    )


def write(cfg: DecoderConfig) -> Hf:
    if not isinstance(cfg.position, Learned) or not isinstance(cfg.feed_forward, Mlp):
        raise OrreryError("GPT-2 learns its positions and has no experts")
    activation = ACTIVATIONS[cfg.feed_forward.activation]
    return {
        "vocab_size": cfg.vocab_size,
        "n_embd": cfg.d_model,
        "n_layer": cfg.n_layers,
        "n_head": cfg.n_heads,
        "n_inner": cfg.feed_forward.d_ff,
        "n_positions": cfg.position.max_positions,
        "n_ctx": cfg.position.max_positions,
        "activation_function": "gelu_new" if activation == "gelu_pytorch_tanh" else activation,
        "layer_norm_epsilon": cfg.norm_eps,
        "scale_attn_weights": cfg.attention_scale in (None, cfg.head_size**-0.5),
        "tie_word_embeddings": cfg.tied,
        "initializer_range": cfg.init.std,
        "attn_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "resid_pdrop": 0.0,
        "use_cache": True,
    }


GPT2 = Family(
    model_type="gpt2",
    architecture="GPT2LMHeadModel",
    names=NAMES,
    read=read,
    write=write,
    # The first files name the tensors of the part below the head alone, and hold the causal mask.
    renames=((r"^(?!transformer\.|lm_head\.)", "transformer."),),
    redundant=(r"\.attn\.(bias|masked_bias)$",),
)
