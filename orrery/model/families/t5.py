"""T5 (Raffel et al. 2019, arXiv:1910.10683), its version 1.1 and Flan-T5 (arXiv:2210.11416), mT5 (arXiv:2010.11934).

No scale on attention scores, RMSNorm, a learned bias by distance that all layers of a stack share. Version 1.0: ReLU, and a head
that is the embedding with hidden states times d ** -0.5. Version 1.1: gated GELU and a head of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from orrery.kit.errors import OrreryError
from orrery.model.config import DecoderConfig
from orrery.model.encoder_decoder import EncoderDecoderConfig
from orrery.model.families.family import Family, Hf, Names
from orrery.model.families.llama_line import SPELLINGS, filled
from orrery.model.mlp import Mlp
from orrery.model.positions import T5Relative

DEFAULTS: Hf = {
    "vocab_size": 32_128, "d_model": 512, "d_kv": 64, "d_ff": 2048, "num_layers": 6, "num_heads": 8,
    "relative_attention_num_buckets": 32, "relative_attention_max_distance": 128, "layer_norm_epsilon": 1e-6,
    "feed_forward_proj": "relu", "n_positions": 512, "decoder_start_token_id": 0,
}  # fmt: skip
MT5_DEFAULTS: Hf = {
    **DEFAULTS, "vocab_size": 250_112, "d_ff": 1024, "num_layers": 8, "num_heads": 6, "feed_forward_proj": "gated-gelu",
}  # fmt: skip
ATTENTION = {"q_proj": "q", "k_proj": "k", "v_proj": "v", "o_proj": "o"}


def stack_names(side: str, *, gated: bool) -> dict[str, str]:
    """One stack; the sublayers of a layer are numbered."""
    layer, last = f"{side}.block.{{i}}.layer", 2 if side == "decoder" else 1
    table = {
        f"{side}.position_bias.relative_attention_bias": f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias",
        f"{side}.blocks.{{i}}.attn_norm": f"{layer}.0.layer_norm",
        f"{side}.blocks.{{i}}.cross_norm": f"{layer}.1.layer_norm",
        f"{side}.blocks.{{i}}.mlp_norm": f"{layer}.{last}.layer_norm",
        f"{side}.blocks.{{i}}.mlp.gate_proj": f"{layer}.{last}.DenseReluDense.wi_0",
        f"{side}.blocks.{{i}}.mlp.up_proj": f"{layer}.{last}.DenseReluDense.{'wi_1' if gated else 'wi'}",
        f"{side}.blocks.{{i}}.mlp.down_proj": f"{layer}.{last}.DenseReluDense.wo",
        f"{side}.norm": f"{side}.final_layer_norm",
    }
    for proj, theirs in ATTENTION.items():
        table[f"{side}.blocks.{{i}}.attn.{proj}"] = f"{layer}.0.SelfAttention.{theirs}"
        table[f"{side}.blocks.{{i}}.cross.{proj}"] = f"{layer}.1.EncDecAttention.{theirs}"
    return table


def names(cfg: EncoderDecoderConfig) -> Names:
    gated = isinstance(cfg.encoder.feed_forward, Mlp) and cfg.encoder.feed_forward.gated
    stacks = stack_names("encoder", gated=gated), stack_names("decoder", gated=gated)
    return {**stacks[0], **stacks[1], "encoder.embed": "shared", "decoder.lm_head": "lm_head"}


def read(hf: Hf, defaults: Hf, *, scaled: Callable[[Hf], bool]) -> EncoderDecoderConfig:
    hf = filled(hf, defaults)
    gate, _, act = hf["feed_forward_proj"].rpartition("-")
    activation = "gelu_new" if hf["feed_forward_proj"] == "gated-gelu" else act
    if gate not in ("", "gated") or activation not in SPELLINGS:
        raise OrreryError(
            f"feed_forward_proj '{hf['feed_forward_proj']}' is not known; try relu or gated-gelu"
        )
    buckets, far = hf["relative_attention_num_buckets"], hf["relative_attention_max_distance"]
    encoder = DecoderConfig(
        vocab_size=hf["vocab_size"],
        d_model=hf["d_model"],
        n_layers=hf["num_layers"],
        n_heads=hf["num_heads"],
        head_dim=hf["d_kv"],
        feed_forward=Mlp(d_ff=hf["d_ff"], activation=SPELLINGS[activation], gated=gate == "gated"),
        position=T5Relative(buckets=buckets, max_distance=far, bidirectional=True),
        norm_eps=hf["layer_norm_epsilon"],
        attention_scale=1.0,
        max_positions=hf["n_positions"],
    )
    decoder = replace(
        encoder,
        n_layers=hf.get("num_decoder_layers") or hf["num_layers"],
        position=T5Relative(buckets=buckets, max_distance=far),
        cross_attention=True,
        logit_scale=hf["d_model"] ** -0.5 if scaled(hf) else None,
        tied=hf.get("tie_word_embeddings") is not False,
    )
    return EncoderDecoderConfig(encoder=encoder, decoder=decoder, start_id=hf["decoder_start_token_id"])


def scales_head(hf: Hf) -> bool:
    """Of version 1.0 and not of 1.1, which config.json shows by a head of its own, or by saying it."""
    return hf.get("scale_decoder_outputs", hf.get("tie_word_embeddings") is not False)


def write(cfg: EncoderDecoderConfig) -> Hf:
    one, mlp, position = cfg.encoder, cfg.encoder.feed_forward, cfg.encoder.position
    if not isinstance(mlp, Mlp) or not isinstance(position, T5Relative):
        raise OrreryError("T5 has relative positions and no experts")
    act = "gelu" if (mlp.activation, mlp.gated) == ("gelu_tanh", True) else mlp.activation
    return {
        "vocab_size": one.vocab_size,
        "d_model": one.d_model,
        "d_kv": one.head_size,
        "d_ff": mlp.d_ff,
        "num_layers": one.n_layers,
        "num_decoder_layers": cfg.decoder.n_layers,
        "num_heads": one.n_heads,
        "relative_attention_num_buckets": position.buckets,
        "relative_attention_max_distance": position.max_distance,
        "layer_norm_epsilon": one.norm_eps,
        "feed_forward_proj": f"gated-{act}" if mlp.gated else act,
        "n_positions": one.max_positions,
        "is_encoder_decoder": True,
        "decoder_start_token_id": cfg.start_id,
        "pad_token_id": cfg.start_id,
        "tie_word_embeddings": cfg.tied,
        "scale_decoder_outputs": cfg.decoder.logit_scale is not None,
    }


def fit(cfg: EncoderDecoderConfig, there: set[str]) -> EncoderDecoderConfig:
    """A head of its own shows in the tensors alone: transformers 5 says of all of them that they are tied."""
    own = "lm_head.weight" in there and (not cfg.tied or cfg.decoder.logit_scale is None)
    return replace(cfg, decoder=replace(cfg.decoder, tied=not own))


COPIES = (r"^(en|de)coder\.embed_tokens\.weight$", r"EncDecAttention\.relative_attention_bias\.weight$")
"""The shared embedding, and a table that nothing reads."""

T5 = Family(
    model_type="t5", architecture="T5ForConditionalGeneration", names=names, fit=fit, redundant=COPIES, write=write,
    read=lambda hf: read(hf, DEFAULTS, scaled=scales_head),
)  # fmt: skip
MT5 = Family(
    model_type="mt5", architecture="MT5ForConditionalGeneration", names=names, fit=fit, redundant=COPIES, write=write,
    read=lambda hf: read(hf, MT5_DEFAULTS, scaled=lambda _: False),
)  # fmt: skip
