"""How an engine is set up: its memory, its limits, what it does besides plain decoding; and how large its pools then are."""

from __future__ import annotations

from typing import Literal

from orrery.kit.config import config
from orrery.kit.errors import OrreryError
from orrery.model.decoder import Decoder
from orrery.serve.engine.store import KvDtype, bytes_per_token, cache_groups
from orrery.serve.speculate.config import Drafting

MOST_BYTES = 1 << 30
"""What the cache takes unless it is told otherwise."""
USUAL_CONTEXT = 4096
"""A sequence is counted with at most so many tokens when the cache's size is chosen."""


@config
class EngineConfig:
    """Attributes:
    block_size: tokens a block of the cache.
    kv_memory: bytes for keys and values; None: enough for max_sequences of the context (4096 tokens at most), 1 GiB at most.
    kv_dtype: how keys and values are stored. What is not float32 changes the numbers.
    max_sequences: how many sequences run at once. max_queue: how many requests may wait.
    token_budget: how many tokens one step of the model reads at most.
    prefix_cache: requests read and leave cached prefixes, unless they say otherwise.
    preemption: what becomes of a sequence that must make room: its cache goes to ordinary memory, or is computed again.
    speculation: how tokens are drafted; None: they are not.
    checksums: compare what is cached with its checksums before every step that reads it, and fail requests whose cache changed by
        itself; for debugging, slow.
    fast: faster kernels with which the same request may give other bytes in other company (`determinism.settle_kernels`).
    """

    block_size: int = 16
    kv_memory: int | None = None
    kv_dtype: KvDtype = "float32"
    max_sequences: int = 64
    max_queue: int = 1024
    token_budget: int = 512
    prefix_cache: bool = True
    preemption: Literal["recompute", "swap"] = "recompute"
    speculation: Drafting | None = None
    checksums: bool = False
    fast: bool = False

    def __post_init__(self) -> None:
        for name in ("block_size", "max_sequences", "max_queue", "token_budget"):
            if getattr(self, name) < 1:
                raise OrreryError(f"{name} must be 1 or more, not {getattr(self, name)}")


def pool_sizes(model: Decoder, config: EngineConfig) -> list[int]:
    """Blocks of each group of layers (see `cache_groups`), the scratch block included.

    The memory is shared out so that every group holds as many sequences of the usual length; a group with a window needs for each
    the window and what one step adds.

    Raises:
        OrreryError: the memory does not hold one block a group.
    """
    size, groups = config.block_size, cache_groups(model)
    usual = min(model.cfg.max_positions, USUAL_CONTEXT)
    step = max(config.token_budget, size)
    needs = [-(-min(usual, usual if window is None else window + step) // size) + 1 for window in groups]
    block_bytes = [size * bytes_per_token(specs, config.kv_dtype) for specs in groups.values()]
    per_sequence = sum(n * b for n, b in zip(needs, block_bytes, strict=True))
    if not groups:
        return []
    scratch = sum(block_bytes)
    memory = config.kv_memory
    if memory is None:
        memory = scratch + min(config.max_sequences * per_sequence, MOST_BYTES)
    sequences = (memory - scratch) / per_sequence
    blocks = [1 + int(sequences * n) for n in needs]
    if min(blocks) < 2:
        least = scratch + per_sequence
        raise OrreryError(
            f"{memory:,} bytes of cache do not hold one sequence of this model; set kv_memory to {least:,} or more"
        )
    return blocks
