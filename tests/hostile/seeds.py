"""Small valid files, made by orrery itself, that the cases and the mutations start from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
VOCAB = 16


def tokenizer() -> dict[str, Any]:
    """A whole tokenizer.json of 16 tokens: bytes-free BPE over a few letters, one special token."""
    letters = ["<s>", "a", "b", "c", "d", "e", "f", "g", "h", "ab", "cd", "abcd", "ef", "gh", "efgh", "i"]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": 0, "content": "<s>", "special": True, **FLAGS}],
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "BPE",
            "vocab": {name: i for i, name in enumerate(letters)},
            "merges": [["a", "b"], ["c", "d"], ["ab", "cd"], ["e", "f"], ["g", "h"], ["ef", "gh"]],
        },
    }


def model_config(**changes: Any) -> dict[str, Any]:
    """The config.json of `model_folder`."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": VOCAB,
        "hidden_size": 8,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 4,
        "hidden_act": "silu",
        "max_position_embeddings": 32,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "attention_bias": False,
        "mlp_bias": False,
        "dtype": "float32",
        "torch_dtype": "float32",
    } | changes


def shapes() -> dict[str, tuple[int, ...]]:
    """The tensors of `model_folder`."""
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCAB, 8)}
    for i in range(2):
        at = f"model.layers.{i}."
        found |= {
            f"{at}input_layernorm.weight": (8,),
            f"{at}self_attn.q_proj.weight": (8, 8),
            f"{at}self_attn.k_proj.weight": (4, 8),
            f"{at}self_attn.v_proj.weight": (4, 8),
            f"{at}self_attn.o_proj.weight": (8, 8),
            f"{at}post_attention_layernorm.weight": (8,),
            f"{at}mlp.gate_proj.weight": (16, 8),
            f"{at}mlp.up_proj.weight": (16, 8),
            f"{at}mlp.down_proj.weight": (8, 16),
        }
    return found | {"model.norm.weight": (8,), "lm_head.weight": (VOCAB, 8)}


def weights() -> dict[str, np.ndarray]:
    """Random weights of `model_folder`."""
    random = np.random.default_rng(0)
    return {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes().items()}


def safetensors_bytes(arrays: dict[str, np.ndarray], **changes: Any) -> bytes:
    """A safetensors file, written here and not by the library; `changes` replace entries of the header."""
    header: dict[str, Any] = {}
    at = 0
    for name, array in arrays.items():
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
    return with_header(json.dumps(header | changes), b"".join(array.tobytes() for array in arrays.values()))


def with_header(header: str | bytes, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file of a header as it stands; `length` may lie."""
    text = header.encode() if isinstance(header, str) else header
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def model_folder(folder: Path, **changes: Any) -> Path:
    """A model folder with weights and a tokenizer; `changes` go into config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(model_config(**changes)))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer()))
    (folder / "model.safetensors").write_bytes(safetensors_bytes(weights()))
    return folder


def sharded_folder(folder: Path, **changes: Any) -> Path:
    """The same with two shards and an index; `changes` go into the index."""
    model_folder(folder)
    (folder / "model.safetensors").unlink()
    arrays = weights()
    names = list(arrays)
    parts = {"model-00001-of-00002.safetensors": names[:10], "model-00002-of-00002.safetensors": names[10:]}
    for file, part in parts.items():
        (folder / file).write_bytes(safetensors_bytes({name: arrays[name] for name in part}))
    where = {name: file for file, part in parts.items() for name in part}
    size = sum(array.nbytes for array in arrays.values())
    index = {"metadata": {"total_size": size}, "weight_map": where} | changes
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


RECIPE = """\
name: tiny
source: {kind: files, paths: [corpus.txt]}
stages:
  - {kind: tokenizer, name: tokenizer, tokenizer: {vocab_size: 300}}
  - {kind: prepare, name: data, tokenizer: tokenizer}
  - kind: train
    name: train
    data: data
    model: {d_model: 8, n_layers: 2, n_heads: 2, feed_forward: {kind: mlp, d_ff: 16}}
    loop: {minutes: 1.0}
"""


def shard_folder(folder: Path) -> Path:
    """A prepared data set of two documents in each split."""
    from orrery.data.manifest import Split, write_manifest
    from orrery.data.shard_writer import ShardWriter

    folder.mkdir(parents=True, exist_ok=True)
    splits: dict[Split, dict[str, Any]] = {}
    dtype = np.dtype("<u2")
    for split in ("train", "heldout"):
        with ShardWriter(folder, split, vocab_size=VOCAB, shard_tokens=4) as writer:
            for i, ids in enumerate(([1, 2, 3, 0], [4, 5, 0])):
                writer.add(ids, n_bytes=3, record={"id": f"d{i}", "path": "corpus.txt", "text": "abc"})
        splits[split] = writer.manifest  # type: ignore[index]
        dtype = writer.dtype

    class Known:
        fingerprint = "0" * 64
        vocab_size = VOCAB

    write_manifest(folder, splits, tokenizer=Known(), dtype=dtype, start_id=None, eos_id=0)
    return folder


def checkpoint_folder(folder: Path, step: int = 3) -> Path:
    """A run's checkpoints: one, after `step` steps."""
    import torch

    from orrery.train.checkpoint import Checkpoints

    tensors = {"model": {"w": torch.arange(6.0).reshape(2, 3)}, "optimizer": {"w/step": torch.tensor(3.0)}}
    Checkpoints(folder, keep_last=5).save(step, tensors=tensors, state={"step": step, "metric": 1.0})
    return folder
