"""Cached prefixes kept across restarts: what an engine's pools can find, as one safetensors file.

    write_prefixes(engine, "prefixes.safetensors")        # between requests, before the process ends
    read_prefixes(engine, "prefixes.safetensors")         # in the next one

The file names the model by what it computes (a hash of its logits for a few tokens) and the cache by its shape; another engine's file
is refused. Whoever can write the file decides what cached prefixes hold: keep it where only the server writes.

n blocks of `size` tokens.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import save

from orrery.kit.errors import OrreryError
from orrery.kit.files import atomic_write
from orrery.kit.safetensors import open_safetensors

if TYPE_CHECKING:
    from orrery.serve.engine.engine import Engine

PROBE = 8
"""Tokens whose logits name the model."""
DIGEST = 32


def write_prefixes(engine: Engine, path: str | Path) -> int:
    """Write all that can be found, least recently used first; returns how many tokens the group with most blocks holds.

    Raises:
        OrreryError: requests are under way, or the file cannot be written.
    """
    if engine.jobs:
        raise OrreryError(f"{len(engine.jobs)} requests are under way; write the cache when all have ended")
    store, tensors, most = engine.memory.store, {}, 0
    for group, pool in enumerate(engine.memory.pools):
        seals = pool.sealed()
        most = max(most, len(seals) * pool.block_size)
        blocks = [seal.block for seal in seals]
        tensors[f"{group}.tokens"] = torch.tensor([s.tokens for s in seals], dtype=torch.int64).flatten()
        tensors[f"{group}.parents"] = torch.frombuffer(bytearray(b"".join(s.parent for s in seals) or b"\0"), dtype=torch.uint8)  # fmt: skip
        tensors[f"{group}.roots"] = torch.frombuffer(bytearray(b"".join(s.root for s in seals) or b"\0"), dtype=torch.uint8)  # fmt: skip
        for layer in store.layers(group):
            for i, kept in enumerate(store.tensors(layer)):
                tensors[f"{group}.{layer}.{i}"] = kept[blocks].cpu().contiguous().view(-1).view(torch.uint8)
    atomic_write(path, save(tensors, {"identity": identity(engine)}))
    return most


def read_prefixes(engine: Engine, path: str | Path) -> int:
    """Fill the pools with what a file holds, as much of its end as there is room for; returns tokens as `write_prefixes`.

    Raises:
        OrreryError: requests are under way, or the file is damaged or of another model or configuration.
    """
    if engine.jobs:
        raise OrreryError(f"{len(engine.jobs)} requests are under way; read the cache before the first")
    store, most = engine.memory.store, 0
    with open_safetensors(path) as file:
        if file.metadata.get("identity") != identity(engine):
            raise OrreryError(
                f"'{path}' was written with another model, or another kind or block size of cache; delete it and begin anew"
            )
        for group, pool in enumerate(engine.memory.pools):
            tokens = file.raw(f"{group}.tokens").view(np.int64).reshape(-1, pool.block_size)
            parents, roots = (file.raw(f"{group}.{name}").tobytes() for name in ("parents", "roots"))
            first = max(len(tokens) - pool.free, 0)
            taken = pool.allocate(len(tokens) - first)
            if not taken:
                continue
            for layer in store.layers(group):
                for i, kept in enumerate(store.tensors(layer)):
                    content = torch.from_numpy(file.raw(f"{group}.{layer}.{i}")).view(kept.dtype)
                    kept[taken] = content.view(-1, *kept.shape[1:])[first:].to(kept.device)
            for at, block in enumerate(taken, start=first):
                here = slice(at * DIGEST, (at + 1) * DIGEST)
                pool.seal(block, parents[here], tuple(tokens[at].tolist()), root=roots[here])
                pool.release([block])
            most = max(most, len(taken) * pool.block_size)
    return most


def identity(engine: Engine) -> str:
    """The model by its logits, and the cache by its shape, as a hash."""
    model, store = engine.lm.model, engine.memory.store
    probe = [i % model.cfg.vocab_size for i in range(min(PROBE, model.cfg.max_positions))]
    shape = repr([(window, specs) for window, specs in store.groups])
    digest = hashlib.sha256(engine.lm.logits(probe).numpy().tobytes())
    digest.update(f"{shape} {store.block_size} {engine.config.kv_dtype}".encode())
    return digest.hexdigest()
