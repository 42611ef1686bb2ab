"""BERT in GGUF: an encoder for embeddings. Its pooler and its heads have no place there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from orrery.kit.errors import OrreryError
from orrery.model.encoder import EncoderConfig
from orrery.model.families.family import Hf
from orrery.model.gguf.architecture import Architecture, Metadata
from orrery.model.gguf.tensors import Contents
from orrery.model.names import Names

LAYER = {
    "attn.q_proj": "attn_q",
    "attn.k_proj": "attn_k",
    "attn.v_proj": "attn_v",
    "attn.o_proj": "attn_output",
    "attn_norm": "attn_output_norm",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "mlp_norm": "layer_output_norm",
}
NAMES: Names = {
    "stack.embed": "token_embd",
    "stack.position_embed": "position_embd",
    "stack.embed_norm": "token_embd_norm",
    "type_embed": "token_types",
    "pooler": None,
    "next_sentence": None,
    **{f"stack.blocks.{{i}}.{ours}": f"blk.{{i}}.{theirs}" for ours, theirs in LAYER.items()},
}
TYPES = "token_types.weight"


def _read(hf: Hf, keys: Metadata, file: Contents) -> Hf:
    if keys.get("attention.causal", False) is not False:
        raise OrreryError(
            f"'{file.where}' holds a BERT that sees only what came before; such a model is not known"
        )
    return {"type_vocab_size": file.shapes[TYPES][0] if TYPES in file.shapes else 0}


def kept(cfg: EncoderConfig) -> Any:
    """The encoder without what gives one vector for its first token, which such a file does not keep."""
    return replace(cfg, pooler=False, next_sentence=False)


BERT = Architecture(
    name="bert",
    families=("bert",),
    settings={
        "context_length": "max_position_embeddings",
        "embedding_length": "hidden_size",
        "block_count": "num_hidden_layers",
        "feed_forward_length": "intermediate_size",
        "attention.head_count": "num_attention_heads",
        "attention.layer_norm_epsilon": "layer_norm_eps",
    },
    fixed={"hidden_act": "gelu", "add_pooling_layer": False, "architectures": ["BertModel"]},
    names=lambda cfg: NAMES,
    read=_read,
    whole_heads=False,
    write=lambda hf: {"attention.causal": False},
)
