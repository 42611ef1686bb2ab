"""How fast a device can run a model at best: work over speed, bytes over bandwidth, whichever takes longer.

    intensity  I = FLOPs / bytes moved
    attainable     min(peak, I * bandwidth)                              Williams, Waterman & Patterson 2009, CACM 52
    decode         b tokens:    FLOPs = b f(s),   bytes = W(b) + b C(s)
    prefill        b s tokens:  FLOPs = sum f,    bytes = W(b s) + b C(s)

W the weights that are read (of a mixture of experts, those some token was sent to), C the cache of a sequence of s tokens, f the
FLOPs of a token. Activations are left out: they stay in caches and fused kernels, or the true time is longer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from orrery.model.config import DecoderConfig
from orrery.model.mla import Mla
from orrery.model.moe import Moe
from orrery.plan.flops import attention_width, count_flops
from orrery.plan.hardware import Device, Precision
from orrery.plan.kv_cache import kv_bytes, state_bytes
from orrery.plan.parameters import count_parameters


@dataclass(frozen=True, kw_only=True)
class Work:
    """One pass over a model: its FLOPs and the bytes it moves between main memory and the chip."""

    phase: Literal["prefill", "decode"]
    batch: int
    """Sequences."""
    context: int
    """Tokens of each: those of the prompt, or those in the cache."""
    flops: float
    weight_bytes: float
    cache_bytes: float

    @property
    def tokens(self) -> int:
        """Processed in this pass."""
        return self.batch * self.context if self.phase == "prefill" else self.batch

    @property
    def intensity(self) -> float:
        """FLOPs a byte."""
        return self.flops / (self.weight_bytes + self.cache_bytes)


@dataclass(frozen=True, kw_only=True)
class Roof:
    """What a device makes of a pass, at best."""

    work: Work
    compute_s: float
    memory_s: float

    @property
    def seconds(self) -> float:
        """Of the pass, moving and computing at the same time."""
        return max(self.compute_s, self.memory_s)

    @property
    def bound(self) -> Literal["compute", "memory"]:
        """The side that takes longer."""
        return "compute" if self.compute_s >= self.memory_s else "memory"

    @property
    def tokens_per_s(self) -> float:
        return self.work.tokens / self.seconds

    @property
    def flops_per_s(self) -> float:
        """Attained: min(peak, intensity * bandwidth)."""
        return self.work.flops / self.seconds


def roof(work: Work, device: Device, precision: Precision = "bf16") -> Roof:
    """Put a pass under a device's roof.

    Raises:
        OrreryError: the device has no such precision.
    """
    return Roof(
        work=work,
        compute_s=work.flops / device.flops(precision),
        memory_s=(work.weight_bytes + work.cache_bytes) / device.bandwidth,
    )


def decode_work(
    cfg: DecoderConfig,
    *,
    batch: int = 1,
    context: int,
    weight_bytes: float = 2,
    kv_bytes_per_number: float = 2,
) -> Work:
    """One new token for each of `batch` sequences that have `context` tokens in the cache.

    Args:
        weight_bytes: of a weight on average (2 is bf16; a Q4_K_M file has about 0.6).
    """
    seen = [min(context, cfg.layer_window(i) or context) for i in range(cfg.n_layers) if cfg.attends(i)]
    flops = count_flops(cfg, context)
    return Work(
        phase="decode",
        batch=batch,
        context=context,
        flops=batch * (flops.matmul + flops.recurrence + 2.0 * cfg.n_heads * cached_width(cfg) * sum(seen)),
        weight_bytes=weight_bytes * weights_read(cfg, batch),
        cache_bytes=batch * _cache(cfg, context, kv_bytes_per_number, states=2),
    )


def prefill_work(
    cfg: DecoderConfig,
    *,
    batch: int = 1,
    context: int,
    weight_bytes: float = 2,
    kv_bytes_per_number: float = 2,
) -> Work:
    """Prompts of `context` tokens at once; logits of their last tokens only. The cache is written once."""
    flops, head = count_flops(cfg, context), 2.0 * cfg.vocab_size * cfg.d_model
    token = flops.forward("causal") - head
    return Work(
        phase="prefill",
        batch=batch,
        context=context,
        flops=batch * (context * token + head),
        weight_bytes=weight_bytes * weights_read(cfg, batch * context),
        cache_bytes=batch * _cache(cfg, context, kv_bytes_per_number, states=1),
    )


def weights_read(cfg: DecoderConfig, tokens: int) -> float:
    """Weights that a pass over `tokens` tokens reads: all but the look-up table, and of E experts those that were chosen.

    A token misses an expert with probability 1 - k / E, all tokens miss it with (1 - k / E)^tokens, if routing is even.
    """
    n = count_parameters(cfg)
    if not isinstance(cfg.feed_forward, Moe):
        return n.active_without_input_embedding
    missed = 1 - cfg.feed_forward.top_k / cfg.feed_forward.n_experts
    idle = n.feed_forward - n.active_feed_forward  # what one token misses
    return n.active_without_input_embedding + idle * (1 - missed ** (tokens - 1))


def cached_width(cfg: DecoderConfig) -> int:
    """Width of a query's product with a cached key, plus that of a cached value: of latents, in latent attention."""
    if isinstance(cfg.attention, Mla):
        return 2 * cfg.attention.kv_lora_rank + cfg.attention.qk_rope_head_dim
    return attention_width(cfg)


def sequences_that_fit(
    cfg: DecoderConfig,
    device: Device,
    *,
    context: int,
    weight_bytes: float = 2,
    kv_bytes_per_number: float = 2,
) -> int:
    """Sequences of `context` tokens that memory has room for beside the weights; 0 where not even they fit."""
    free = device.memory_bytes - weight_bytes * count_parameters(cfg).total
    return max(0, int(free // _cache(cfg, context, kv_bytes_per_number, states=1)))


def _cache(cfg: DecoderConfig, context: int, number: float, *, states: int) -> int:
    """Bytes of a sequence's keys and values, and its recurrent states so many times (a step reads and writes them)."""
    return kv_bytes(cfg, context, bytes_per_number=number) + states * state_bytes(
        cfg, bytes_per_number=number
    )
