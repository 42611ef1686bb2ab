"""Exhibits of models that others trained: their sizes from the words of their config.json, and small ones in their folders."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from orrery.glossary.exhibit import Exhibit
from orrery.kit.seeds import torch_generator
from orrery.model.build import build
from orrery.model.config import DecoderConfig
from orrery.model.decoder import Decoder
from orrery.model.encoder import Encoder
from orrery.model.encoder_decoder import EncoderDecoder
from orrery.model.families import BY_TYPE
from orrery.model.folder import open_model, save_model
from orrery.model.packed import Packed
from orrery.plan.kv_cache import kv_bytes_per_token
from orrery.plan.parameters import count_parameters

PUBLISHED: dict[str, tuple[dict[str, Any], str]] = {
    "GPT-2 small": ({"model_type": "gpt2"}, "124M"),
    "BERT base": ({"model_type": "bert", "architectures": ["BertModel"]}, "110M"),
    "T5 small": ({"model_type": "t5"}, "60.5M"),
    "Mistral 7B": ({"model_type": "mistral", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
                    "intermediate_size": 14336, "tie_word_embeddings": False}, "7.24B"),
    "Gemma 2 2B": ({"model_type": "gemma2", "vocab_size": 256_000, "hidden_size": 2304, "num_hidden_layers": 26,
                    "num_attention_heads": 8, "head_dim": 256, "intermediate_size": 9216}, "2.61B"),
    "Gemma 3 270M": ({"model_type": "gemma3_text", "vocab_size": 262_144, "hidden_size": 640, "num_hidden_layers": 18,
                      "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256, "intermediate_size": 2048,
                      "sliding_window": 512}, "268M"),
    "gpt-oss-20b": ({"model_type": "gpt_oss", "vocab_size": 201_088, "hidden_size": 2880, "num_hidden_layers": 24,
                     "num_attention_heads": 64, "num_key_value_heads": 8, "intermediate_size": 2880, "num_local_experts": 32,
                     "tie_word_embeddings": False}, "20.91B, 3.61B active"),
    "gpt-oss-120b": ({"model_type": "gpt_oss", "vocab_size": 201_088, "hidden_size": 2880, "num_hidden_layers": 36,
                      "num_attention_heads": 64, "num_key_value_heads": 8, "intermediate_size": 2880, "num_local_experts": 128,
                      "tie_word_embeddings": False}, "116.83B, 5.13B active"),
    "Qwen3-Coder-Next": ({"model_type": "qwen3_next", "hidden_size": 2048, "num_hidden_layers": 48}, "80B, 3B active"),
}  # fmt: skip
"""What their config.json says where it differs from the family's defaults, and the published size."""


def published_folders_counted() -> Exhibit:
    """Nine published models from the words of their config.json: weights, those a token meets, bytes of cache a token."""
    rows = []
    for name, (hf, published) in PUBLISHED.items():
        cfg = BY_TYPE[hf["model_type"]].read(hf)
        n = count_parameters(cfg)
        cache = kv_bytes_per_token(cfg) if isinstance(cfg, DecoderConfig) else ""
        rows.append((name, n.total, n.active_without_input_embedding, published, cache))
    return Exhibit(
        title="Counted without allocating a weight; active ones without the table of inputs, as gpt-oss's card counts; cache in bf16",
        columns=("model", "weights", "active", "published", "cache bytes a token"),
        rows=rows,
        reads="A reader for each family turns its words into our configuration, and shapes follow from that. Most of the smallest language model "
        "here is its table of tokens; four per cent of gpt-oss-120b are used for a token.",
    )  # fmt: skip


SMALL: dict[str, Any] = {
    "vocab_size": 120, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
    "intermediate_size": 48, "max_position_embeddings": 64, "sliding_window": 8, "pad_token_id": 0,
}  # fmt: skip
TINY: dict[str, dict[str, Any]] = {
    "mistral": SMALL,
    "gemma2": {**SMALL, "query_pre_attn_scalar": 8},
    "gemma3_text": {**SMALL, "num_hidden_layers": 6, "query_pre_attn_scalar": 8},
    "qwen2": {**SMALL, "tie_word_embeddings": True},
    "phi3": {**SMALL, "tie_word_embeddings": False},
    "gpt_oss": {**SMALL, "num_local_experts": 4, "num_experts_per_tok": 2, "tie_word_embeddings": False},
    "qwen3_next": {**SMALL, "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "num_experts": 4,
                   "linear_value_head_dim": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "tie_word_embeddings": False,
                   "shared_expert_intermediate_size": 16},
    "mamba2": {**SMALL, "num_heads": 8, "head_dim": 8, "state_size": 16, "n_groups": 2},
    "bert": {**SMALL, "architectures": ["BertForMaskedLM"]},
    "t5": {"vocab_size": 120, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4},
}  # fmt: skip


def foreign_folders_round_trip() -> Exhibit:
    """Small models of ten families in their own folders: layers as we see them, tensors as they name them, and equal bits after a trip."""
    rows, tokens = [], torch.randint(120, (20,), generator=torch_generator(0, "tokens"))
    for kind, hf in TINY.items():
        model: Any = build(BY_TYPE[kind].read(hf)).eval()
        model.family = kind
        with tempfile.TemporaryDirectory() as temporary, torch.no_grad():
            folder = Path(temporary) / "model"
            save_model(model, folder)
            written = json.loads((folder / "config.json").read_text())
            opened = open_model(folder).eval()
            same = torch.equal(_logits(model, tokens), _logits(opened, tokens))
        stack = (
            model.cfg
            if isinstance(model, Decoder)
            else getattr(model.cfg, "stack", None) or model.cfg.decoder
        )
        layers = "".join(stack.layer_kind(i)[0].upper() for i in range(stack.n_layers))
        rows.append(
            (written["model_type"], written["architectures"][0], layers, model.num_parameters(), same)
        )
    return Exhibit(
        title="Layers: G attends to all, L to a window, R carries a state",
        columns=("model_type", "architecture", "layers", "weights", "equal bits"),
        rows=rows,
        reads="The same decoder serves all of them; a family is a reader of its config, a writer, and a table of names. That their numbers are "
        "those of `transformers` is what the project's tests check, with models made by it.",
    )  # fmt: skip


def _logits(model: Any, tokens: Tensor) -> Tensor:
    """Of the text itself: next tokens, or for an encoder the tokens in their places; an encoder-decoder reads it as source too."""
    both = Packed([len(tokens)], causal=False)
    if isinstance(model, Encoder):
        return model.head(model(tokens, both))
    if isinstance(model, EncoderDecoder):
        return model.head(model(tokens, Packed([len(tokens)], memory=model.encode(tokens, both))))
    return model.head(model(tokens, Packed([len(tokens)])))
