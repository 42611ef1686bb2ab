"""What it takes to open one of GGUF's architectures: its keys as settings of a config.json, and its names of tensors.

A GGUF file says what a config.json says under other keys, so both ways go through the family's own reader and writer:

    metadata -> settings as in config.json -> family.read -> DecoderConfig
    DecoderConfig -> family.write -> settings -> metadata
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from orrery.model.families.family import Hf
from orrery.model.gguf.tensors import Contents
from orrery.model.names import As, Layout, Names, Tensors

Metadata = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """One value of `general.architecture`.

    Attributes:
        families: values of `model_type` that are written as this architecture.
        settings: key without the architecture's name in front -> setting of config.json.
        fixed: settings that such a file never says because they do not vary.
        names: our modules or tensors to the file's; a function of the config where layouts depend on it.
        read: (settings so far, keys without the architecture's name, the file) -> what the table cannot say.
        write: (settings of config.json) -> keys that the table cannot say.
        extra: tensors of a file that follow from the config.
        optional: tensors of a file that `read` looks at, or that say nothing new.
        whole_heads: rotary positions turn whole heads, and values are as wide as keys; else `read` sees to it.
        older: names as files of earlier years spell them, from today's and the names that a file has.
    """

    name: str
    families: tuple[str, ...]
    settings: Mapping[str, str]
    fixed: Hf = field(default_factory=dict)
    names: Callable[[Any], Names]
    read: Callable[[Hf, Metadata, Contents], Hf] = lambda hf, keys, file: {}
    write: Callable[[Hf], dict[str, Any]] = lambda hf: {}
    extra: Callable[[Any], dict[str, Tensor]] = lambda cfg: {}
    optional: tuple[str, ...] = ()
    whole_heads: bool = True
    older: Callable[[Names, Collection[str]], Names] = lambda names, there: names


COMMON = {
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "rope.freq_base": "rope_theta",
}

EXPERTS = {
    "expert_count": "num_experts",
    "expert_used_count": "num_experts_per_tok",
    "expert_feed_forward_length": "moe_intermediate_size",
}

NAMES: Names = {
    "embed": "token_embd",
    "blocks.{i}.attn_norm": "blk.{i}.attn_norm",
    "blocks.{i}.attn.q_proj": "blk.{i}.attn_q",
    "blocks.{i}.attn.k_proj": "blk.{i}.attn_k",
    "blocks.{i}.attn.v_proj": "blk.{i}.attn_v",
    "blocks.{i}.attn.o_proj": "blk.{i}.attn_output",
    "blocks.{i}.attn.q_norm": "blk.{i}.attn_q_norm",
    "blocks.{i}.attn.k_norm": "blk.{i}.attn_k_norm",
    "blocks.{i}.mlp_norm": "blk.{i}.ffn_norm",
    "blocks.{i}.mlp.gate_proj": "blk.{i}.ffn_gate",
    "blocks.{i}.mlp.up_proj": "blk.{i}.ffn_up",
    "blocks.{i}.mlp.down_proj": "blk.{i}.ffn_down",
    "norm": "output_norm",
    "lm_head": "output",
}

SANDWICH: Names = {
    "blocks.{i}.attn_out_norm": "blk.{i}.post_attention_norm",
    "blocks.{i}.mlp_out_norm": "blk.{i}.post_ffw_norm",
}


def rows_turned(heads: int) -> Layout:
    """Theirs has the rows of a head's two rotary halves one by one in turn (a0 b0 a1 b1 ...), ours half after half."""

    def join(theirs: Tensors, shapes: Any) -> Tensors:
        return [t.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2) for t in theirs]

    def split(ours: Tensors) -> Tensors:
        return [t.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2) for t in ours]

    return Layout(join, split, rows=True)


def changed(back: Callable[[Tensor], Tensor]) -> Callable[[Tensors], Tensors]:
    """Numbers changed one by one; of shapes alone nothing is computed, for which torch would import its compiler (3 s, 80 MB)."""
    return lambda ours: [t if t.is_meta else back(t.float()) for t in ours]


PLUS_ONE = Layout(lambda theirs, shapes: [t - 1 for t in theirs], changed(lambda t: t + 1))
"""Theirs is what the norm multiplies by; ours is that less one (Gemma)."""


def _experts_in(theirs: Tensors, shapes: Any) -> Tensors:
    return [torch.cat(list(theirs), 1).transpose(1, 2)]


EXPERTS_IN = Layout(_experts_in, lambda ours: list(ours[0].transpose(1, 2).chunk(2, 1)))
"""Gates (E, ff, d) and ups (E, ff, d) to ours (E, d, 2 ff)."""

EXPERTS_OUT = Layout(
    lambda theirs, shapes: [t.transpose(1, 2) for t in theirs], lambda ours: [t.transpose(1, 2) for t in ours]
)
"""(E, d, ff) to ours (E, ff, d)."""

EXPERT_NAMES: Names = {
    "blocks.{i}.mlp.router.weight": "blk.{i}.ffn_gate_inp.weight",
    "blocks.{i}.mlp.experts.gate_up": As(
        ("blk.{i}.ffn_gate_exps.weight", "blk.{i}.ffn_up_exps.weight"), EXPERTS_IN
    ),
    "blocks.{i}.mlp.experts.down": As(("blk.{i}.ffn_down_exps.weight",), EXPERTS_OUT),
}


def turned(cfg: Any) -> Names:
    """`NAMES` with queries and keys whose rotary halves lie one by one in turn (llama)."""
    return {
        **NAMES,
        "blocks.{i}.attn.q_proj": As("blk.{i}.attn_q", rows_turned(cfg.n_heads)),
        "blocks.{i}.attn.k_proj": As("blk.{i}.attn_k", rows_turned(cfg.kv_heads)),
    }


def plus_one(names: Names, *modules: str) -> Names:
    """The same names, with these norms stored as what they multiply by."""
    return {**names, **{module: As(_plain(names[module]), PLUS_ONE) for module in modules}}


def _plain(value: Any) -> str:
    assert isinstance(value, str)
    return value
