"""Prefix and prompt tuning in peft's files: one tensor, "prompt_embeddings".

Prompt tuning: (P, d), embeddings as the first layer reads them. Prefix tuning: (P, layers * 2 * K * D), of each layer the keys, then the
values, as attention reads them (rotated). P virtual tokens, K kv heads, D head dim.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from orrery.kit.errors import OrreryError
from orrery.model.adapters.adapter import Adapter
from orrery.model.adapters.config import Prefix, Prompt
from orrery.model.adapters.peft_tensors import WEIGHTS
from orrery.model.adapters.virtual import Virtual
from orrery.model.decoder import Decoder

TENSOR = "prompt_embeddings"


def read_virtual(
    folder: Path, hf: Mapping[str, Any], tensors: Mapping[str, Tensor], model: Decoder
) -> Adapter:
    """Raises:
    OrreryError: another model's, or damaged.
    """
    prefix = hf["peft_type"] == "PREFIX_TUNING"
    heads, width = _kv(model) if prefix else (1, model.cfg.d_model)
    table = tensors.get(TENSOR, torch.empty(0))
    whole = 2 * len(model.blocks) * heads * width if prefix else width
    if tensors.keys() != {TENSOR} or table.ndim != 2 or not len(table) or table.shape[1] != whole:
        raise OrreryError(
            f"'{folder / WEIGHTS}' holds {sorted(tensors)[:3]} of the shape {list(table.shape)}, but a {'prefix' if prefix else 'prompt'} of "
            f"this model is one tensor '{TENSOR}' of {whole} columns; it is another model's, or damaged"
        )
    if not prefix:
        return Adapter(Prompt(tokens=len(table)), {"embedded": Virtual(table)})
    layers = table.view(len(table), len(model.blocks), 2, heads, width)
    parts = {
        f"blocks.{i}.attn.{name}": Virtual(layers[:, i, side].clone())
        for i in range(len(model.blocks))
        for side, name in enumerate(("keys", "values"))
    }
    return Adapter(Prefix(tokens=len(table)), parts)


def write_virtual(adapter: Adapter, model: Decoder) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
    """The kind, the settings and the tensors."""
    parts, cfg = adapter.parts, model.cfg
    settings = {
        "num_virtual_tokens": adapter.virtual_tokens,
        "token_dim": cfg.d_model,
        "num_transformer_submodules": 1,
        "num_attention_heads": cfg.n_heads,
        "num_layers": len(model.blocks),
    }
    tables = {name: part.table for name, part in parts.items() if isinstance(part, Virtual)}
    if "embedded" in tables:
        return "PROMPT_TUNING", settings | {"prompt_tuning_init": "RANDOM"}, {TENSOR: tables["embedded"]}
    heads, width = _kv(model)
    flat = [
        tables[f"blocks.{i}.attn.{side}"].flatten(1)
        for i in range(len(model.blocks))
        for side in ("keys", "values")
    ]
    settings |= {
        "token_dim": heads * width,
        "num_attention_heads": heads,
        "encoder_hidden_size": heads * width,
        "prefix_projection": False,
    }
    return "PREFIX_TUNING", settings, {TENSOR: torch.cat(flat, 1)}


def _kv(model: Decoder) -> tuple[int, int]:
    """Heads and width of the keys, which are one for all layers.

    Raises:
        OrreryError: layers differ, or some have no keys.
    """
    kept = {(s.kv_heads, s.key_dim, s.value_dim) for s in model.cache_spec()}
    if len(kept) != 1 or model.state_spec() or len(set(next(iter(kept))[1:])) != 1:
        raise OrreryError("a prefix needs the same keys and values in every layer, which this model has not")
    heads, width, _ = kept.pop()
    return heads, width
