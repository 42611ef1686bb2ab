"""BERT (Devlin et al. 2018, arXiv:1810.04805) and RoBERTa (Liu et al. 2019, arXiv:1907.11692; XLM-R, arXiv:1911.02116).

Learned positions and token types, one norm after each sum, GELU. RoBERTa's positions begin at 2 and its head has other names.
"""

from __future__ import annotations

import re
from dataclasses import replace

from orrery.kit.errors import OrreryError
from orrery.model.config import DecoderConfig
from orrery.model.encoder import EncoderConfig, MaskedLm
from orrery.model.families.family import Family, Hf, Names
from orrery.model.families.llama_line import ACTIVATIONS, filled, read_activation
from orrery.model.mlp import Mlp
from orrery.model.positions import Learned

DEFAULTS: Hf = {
    "vocab_size": 30_522, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
    "intermediate_size": 3072, "hidden_act": "gelu", "max_position_embeddings": 512, "type_vocab_size": 2,
    "layer_norm_eps": 1e-12, "pad_token_id": 0, "tie_word_embeddings": True, "position_embedding_type": "absolute",
}  # fmt: skip
ROBERTA_DEFAULTS: Hf = {**DEFAULTS, "vocab_size": 50_265, "pad_token_id": 1}

LAYER = {
    "attn.q_proj": "attention.self.query",
    "attn.k_proj": "attention.self.key",
    "attn.v_proj": "attention.self.value",
    "attn.o_proj": "attention.output.dense",
    "attn_norm": "attention.output.LayerNorm",
    "mlp.up_proj": "intermediate.dense",
    "mlp.down_proj": "output.dense",
    "mlp_norm": "output.LayerNorm",
}
BODY: Names = {
    "stack.embed": "embeddings.word_embeddings",
    "stack.position_embed": "embeddings.position_embeddings",
    "stack.embed_norm": "embeddings.LayerNorm",
    "type_embed": "embeddings.token_type_embeddings",
    "pooler": "pooler.dense",
    **{f"stack.blocks.{{i}}.{ours}": f"encoder.layer.{{i}}.{theirs}" for ours, theirs in LAYER.items()},
}
BODY_PARTS = ("embeddings.", "encoder.", "pooler.")
BERT_HEAD = ("cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm", "cls.predictions")
ROBERTA_HEAD = ("lm_head.dense", "lm_head.layer_norm", "lm_head")


def names(cfg: EncoderConfig, head: tuple[str, str, str]) -> Names:
    """An untied output layer is a `Linear`, and the bias that counts is its own."""
    dense, norm, output = head
    bias = f"{output}.bias" if cfg.tied else f"{output}.decoder.bias"
    return {
        **BODY, "next_sentence": "cls.seq_relationship", "lm_head.dense": dense, "lm_head.norm": norm, "lm_head.bias": bias,
        "stack.lm_head": f"{output}.decoder",
    }  # fmt: skip


def read(hf: Hf, *, defaults: Hf = DEFAULTS, roberta: bool = False) -> EncoderConfig:
    hf = filled(hf, defaults)
    if hf["position_embedding_type"] != "absolute" or hf.get("is_decoder"):
        raise OrreryError("a BERT with relative positions, or one that is a decoder, is not known")
    model = (hf.get("architectures") or [""])[0]
    masked = model.endswith(("ForMaskedLM", "ForPreTraining"))
    activation, positions = read_activation(hf), hf["max_position_embeddings"]
    first = hf["pad_token_id"] + 1 if roberta else 0
    stack = DecoderConfig(
        vocab_size=hf["vocab_size"], d_model=hf["hidden_size"], n_layers=hf["num_hidden_layers"],
        n_heads=hf["num_attention_heads"], norm="layernorm", norm_eps=hf["layer_norm_eps"], placement="post",
        feed_forward=Mlp(d_ff=hf["intermediate_size"], activation=activation, gated=False, bias=True),
        position=Learned(max_positions=positions, offset=first), max_positions=positions - first,
        embedding_norm="added", attention_bias=True, output_bias=True, tied=hf["tie_word_embeddings"] or not masked,
    )  # fmt: skip
    return EncoderConfig(
        stack=stack,
        token_types=hf["type_vocab_size"],
        pooler=hf.get("add_pooling_layer", not model.endswith("ForMaskedLM")),
        next_sentence=model.endswith(("ForPreTraining", "ForNextSentencePrediction")),
        masked_lm=MaskedLm(activation="gelu" if roberta else activation) if masked else None,
    )


def write(cfg: EncoderConfig, name: str) -> Hf:
    stack, mlp, position = cfg.stack, cfg.stack.feed_forward, cfg.stack.position
    if not isinstance(mlp, Mlp) or not isinstance(position, Learned):
        raise OrreryError("BERT learns its positions and has no experts")
    masked = "ForPreTraining" if cfg.next_sentence else "ForMaskedLM"
    other = "ForNextSentencePrediction" if cfg.next_sentence else "Model"
    return {
        "architectures": [name + (masked if cfg.masked_lm else other)],
        "vocab_size": stack.vocab_size,
        "hidden_size": stack.d_model,
        "num_hidden_layers": stack.n_layers,
        "num_attention_heads": stack.n_heads,
        "intermediate_size": mlp.d_ff,
        "hidden_act": ACTIVATIONS[mlp.activation],
        "max_position_embeddings": position.max_positions,
        "type_vocab_size": cfg.token_types,
        "layer_norm_eps": stack.norm_eps,
        "pad_token_id": max(position.offset - 1, 0),
        "tie_word_embeddings": stack.tied,
        "add_pooling_layer": cfg.pooler,
        "initializer_range": stack.init.std,
    }


def make(model_type: str, name: str, head: tuple[str, str, str], defaults: Hf, *, roberta: bool) -> Family:
    """One of the line. Tensors of the body have a prefix where there is a head."""
    base = "roberta" if roberta else "bert"

    def fit(cfg: EncoderConfig, there: set[str]) -> EncoderConfig:
        """Which heads a file has does not always show in its config.json."""
        mlp, masked = cfg.stack.feed_forward, f"{head[0]}.weight" in there
        activation = "gelu" if roberta or not isinstance(mlp, Mlp) else mlp.activation
        return replace(
            cfg,
            stack=replace(cfg.stack, tied=cfg.tied or not masked or f"{head[2]}.decoder.weight" not in there),
            pooler="pooler.dense.weight" in there,
            next_sentence="cls.seq_relationship.weight" in there,
            masked_lm=(cfg.masked_lm or MaskedLm(activation=activation)) if masked else None,
        )

    def spelling(cfg: EncoderConfig, name: str) -> str:
        headed = cfg.masked_lm is not None or cfg.next_sentence
        return f"{base}.{name}" if headed and name.startswith(BODY_PARTS) else name

    return Family(
        model_type=model_type, architecture=f"{name}Model", names=lambda cfg: names(cfg, head), fit=fit, spelling=spelling,
        read=lambda hf: read(hf, defaults=defaults, roberta=roberta), write=lambda cfg: write(cfg, name),
        renames=((rf"^{base}\.", ""), (r"LayerNorm\.gamma$", "LayerNorm.weight"), (r"LayerNorm\.beta$", "LayerNorm.bias")),
        redundant=(r"embeddings\.position_ids$", rf"^{re.escape(head[2])}\.(bias|decoder\.(weight|bias))$"),
    )  # fmt: skip


BERT = make("bert", "Bert", BERT_HEAD, DEFAULTS, roberta=False)
ROBERTA = make("roberta", "Roberta", ROBERTA_HEAD, ROBERTA_DEFAULTS, roberta=True)
XLM_ROBERTA = make("xlm-roberta", "XLMRoberta", ROBERTA_HEAD, ROBERTA_DEFAULTS, roberta=True)
