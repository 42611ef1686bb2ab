"""DistilBERT (Sanh et al. 2019, arXiv:1910.01108): a BERT without token types and pooler, under names of its own."""

from __future__ import annotations

from dataclasses import replace

from orrery.kit.errors import OrreryError
from orrery.model.config import DecoderConfig
from orrery.model.encoder import EncoderConfig, MaskedLm
from orrery.model.families.family import Family, Hf, Names
from orrery.model.families.llama_line import ACTIVATIONS, filled, read_activation
from orrery.model.mlp import Mlp
from orrery.model.positions import Learned

DEFAULTS: Hf = {
    "vocab_size": 30_522, "dim": 768, "n_layers": 6, "n_heads": 12, "hidden_dim": 3072, "activation": "gelu",
    "max_position_embeddings": 512, "tie_word_embeddings": True,
}  # fmt: skip
LAYER = {
    "attn.q_proj": "attention.q_lin",
    "attn.k_proj": "attention.k_lin",
    "attn.v_proj": "attention.v_lin",
    "attn.o_proj": "attention.out_lin",
    "attn_norm": "sa_layer_norm",
    "mlp.up_proj": "ffn.lin1",
    "mlp.down_proj": "ffn.lin2",
    "mlp_norm": "output_layer_norm",
}
NAMES: Names = {
    "stack.embed": "embeddings.word_embeddings",
    "stack.position_embed": "embeddings.position_embeddings",
    "stack.embed_norm": "embeddings.LayerNorm",
    **{f"stack.blocks.{{i}}.{ours}": f"transformer.layer.{{i}}.{theirs}" for ours, theirs in LAYER.items()},
    "lm_head.dense": "vocab_transform",
    "lm_head.norm": "vocab_layer_norm",
    "lm_head.bias": "vocab_projector.bias",
    "stack.lm_head": "vocab_projector",
}


def read(hf: Hf) -> EncoderConfig:
    hf = filled(hf, DEFAULTS)
    masked = (hf.get("architectures") or [""])[0].endswith("ForMaskedLM")
    activation, positions = read_activation(hf, "activation"), hf["max_position_embeddings"]
    stack = DecoderConfig(
        vocab_size=hf["vocab_size"], d_model=hf["dim"], n_layers=hf["n_layers"], n_heads=hf["n_heads"], norm="layernorm",
        norm_eps=1e-12, placement="post", embedding_norm="added", attention_bias=True, output_bias=True,
        feed_forward=Mlp(d_ff=hf["hidden_dim"], activation=activation, gated=False, bias=True),
        position=Learned(max_positions=positions), max_positions=positions, tied=hf["tie_word_embeddings"] or not masked,
    )  # fmt: skip
    return EncoderConfig(stack=stack, masked_lm=MaskedLm(activation=activation) if masked else None)


def write(cfg: EncoderConfig) -> Hf:
    stack, mlp = cfg.stack, cfg.stack.feed_forward
    if not isinstance(mlp, Mlp) or not isinstance(stack.position, Learned):
        raise OrreryError("DistilBERT learns its positions and has no experts")
    return {
        "architectures": ["DistilBertForMaskedLM" if cfg.masked_lm else "DistilBertModel"],
        "vocab_size": stack.vocab_size,
        "dim": stack.d_model,
        "n_layers": stack.n_layers,
        "n_heads": stack.n_heads,
        "hidden_dim": mlp.d_ff,
        "activation": ACTIVATIONS[mlp.activation],
        "max_position_embeddings": stack.position.max_positions,
        "sinusoidal_pos_embds": False,
        "tie_word_embeddings": stack.tied,
        "initializer_range": stack.init.std,
        "pad_token_id": 0,
    }


def fit(cfg: EncoderConfig, there: set[str]) -> EncoderConfig:
    """Whether a file has the head does not always show in its config.json."""
    masked = "vocab_transform.weight" in there
    activation = cfg.stack.feed_forward.activation  # type: ignore[missing-attribute]
    tied = cfg.tied or not masked or "vocab_projector.weight" not in there
    return replace(
        cfg,
        stack=replace(cfg.stack, tied=tied),
        masked_lm=MaskedLm(activation=activation) if masked else None,
    )


DISTILBERT = Family(
    model_type="distilbert", architecture="DistilBertModel", names=NAMES, read=read, write=write, fit=fit,
    spelling=lambda cfg, name: f"distilbert.{name}" if cfg.masked_lm and not name.startswith("vocab_") else name,
    renames=((r"^distilbert\.", ""),), redundant=(r"embeddings\.position_ids$", r"^vocab_projector\.weight$"),
)  # fmt: skip
