"""Exhibits of the cache of keys and values: its size, that it changes nothing, and what windows save."""

from __future__ import annotations

from typing import Any

import torch

from orrery.glossary.exhibit import Exhibit, Series
from orrery.glossary.exhibits import _tiny
from orrery.model.cache import Cached, KVCache
from orrery.model.config import DecoderConfig
from orrery.model.decoder import Decoder
from orrery.model.mla import Mla
from orrery.model.mlp import Mlp
from orrery.model.packed import Packed
from orrery.plan.kv_cache import kv_bytes_per_token
from orrery.train.init import initialize


def kv_cache_bytes() -> Exhibit:
    """Bytes of a real cache after a prompt, against the formula, for many, few and one kv head, and a latent."""
    latent = {"attention": Mla(kv_lora_rank=16, qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=8)}
    shapes: dict[str, dict[str, Any]] = {
        "MHA, 8 kv heads": {"n_kv_heads": 8},
        "GQA, 2 kv heads": {"n_kv_heads": 2},
        "MQA, 1 kv head": {"n_kv_heads": 1},
        "MLA, latent 16 + rope 4, absorbed": latent,
        "MLA, expanded": latent,
    }
    rows, tokens = [], 100
    ids = _tiny.text_ids()[:tokens]
    for name, changes in shapes.items():
        cfg = _tiny.shape(d_model=64, n_heads=8, **changes)
        model = Decoder(cfg).eval()
        attentions: list[Any] = [block.attn for block in model.blocks]
        for attention in attentions if "absorbed" in name else ():
            attention.absorbed = True
        cache = KVCache(model, rows=1, capacity=tokens)
        with torch.no_grad():
            model(ids, Cached(cache, [(0, 0, tokens)]))
        formula = kv_bytes_per_token(cfg, bytes_per_number=4)
        rows.append(
            (
                name,
                sum(spec.bytes_per_token() for spec in model.cache_spec()),
                formula,
                cache.bytes,
                formula * tokens,
            )
        )
    return Exhibit(
        title="2 layers, 8 query heads of width 8, fp32, a prompt of 100 tokens",
        columns=("attention", "bytes a token, by layers", "planned", "cache measured", "planned for 100"),
        rows=rows,
        reads="2 * layers * kv heads * head dim * bytes: sharing heads shrinks the cache by the group's size. MLA's absorbed "
        "form keeps one latent a token for all heads; expanded, it keeps full keys and values and saves nothing.",
    )


def cached_equals_whole() -> Exhibit:
    """Logits of a text: whole sequence at once, from a cache token by token, and in two chunks."""
    model = Decoder(_tiny.shape()).eval()
    initialize(model, "xavier")
    ids = _tiny.text_ids()[:40]
    with torch.no_grad():
        whole = model.head(model(ids, Packed([40])))
        cache = KVCache(model, rows=2, capacity=40)
        steps = torch.cat([model.head(model(ids[i : i + 1], Cached(cache, [(0, i, 1)]))) for i in range(40)])
        parts = [model.head(model(ids[a:b], Cached(cache, [(1, a, b - a)]))) for a, b in ((0, 25), (25, 40))]
        again = torch.cat([model.head(model(ids[: i + 1], Packed([i + 1])))[-1:] for i in range(40)])
    chunks = torch.cat(parts)
    pairs = 40 * 41 // 2
    return Exhibit(
        title="40 tokens through a two-layer decoder",
        columns=("way", "passes", "tokens computed", "largest difference of a logit"),
        rows=[
            ("whole sequence", 1, 40, 0.0),
            ("token by token from the cache", 40, 40, (steps - whole).abs().max().item()),
            ("25 tokens, then 15", 2, 40, (chunks - whole).abs().max().item()),
            ("token by token without a cache", 40, pairs, (again - whole).abs().max().item()),
        ],
        reads="Keys and values of a token never change once computed, since later tokens cannot reach back. Keeping them turns "
        f"{pairs} token passes into 40.",
    )


def context_memory() -> Exhibit:
    """Sliding windows: bytes a sequence needs in the cache by length, for global, local and interleaved layers."""
    from orrery.plan.kv_cache import kv_bytes

    base = {
        "d_model": 512,
        "n_layers": 12,
        "n_heads": 8,
        "n_kv_heads": 2,
        "feed_forward": Mlp(d_ff=1408),
        "max_positions": 32768,
    }
    shapes = {
        "all global": DecoderConfig(**base),  # type: ignore[arg-type]
        "5 local (1024) to 1 global": DecoderConfig(
            **base, window=1024, layer_pattern=("local",) * 5 + ("global",)
        ),  # type: ignore[arg-type]
        "all local (1024)": DecoderConfig(**base, window=1024, layer_pattern=("local",)),  # type: ignore[arg-type]
    }
    lengths = [256, 1024, 4096, 16384, 32768]
    table = {name: [kv_bytes(cfg, n) / 2**20 for n in lengths] for name, cfg in shapes.items()}
    return Exhibit(
        title="MiB of keys and values for one sequence, 12 layers, 2 kv heads of 64, bf16",
        columns=("layers", *(f"{n:,} tokens" for n in lengths)),
        rows=[(name, *values) for name, values in table.items()],
        series=[Series(name=name, x=lengths, y=values) for name, values in table.items()],
        x="tokens", y="MiB", log_x=True, log_y=True,
        reads="A local layer never needs more than its window. One global layer in six still sees everything, and the cache grows at a sixth of the rate.",
    )  # fmt: skip


def gqa_is_shared_heads() -> Exhibit:
    """Grouped-query attention against multi-head attention whose key and value heads are repeated."""
    grouped = Decoder(_tiny.shape(d_model=64, n_heads=8, n_kv_heads=2)).eval()
    full = Decoder(_tiny.shape(d_model=64, n_heads=8)).eval()
    state = grouped.state_dict()
    for name in [n for n in state if n.endswith(("k_proj.weight", "v_proj.weight"))]:
        state[name] = state[name].unflatten(0, (2, 8)).repeat_interleave(4, 0).flatten(0, 1)
    full.load_state_dict(state)
    ids = _tiny.text_ids()[:30]
    with torch.no_grad():
        difference = (grouped(ids, Packed([30])) - full(ids, Packed([30]))).abs().max().item()
    rows = [
        (
            name,
            sum(p.numel() for n, p in model.named_parameters() if "attn." in n),
            sum(s.bytes_per_token() for s in model.cache_spec()),
        )
        for name, model in (("GQA, 2 kv heads", grouped), ("MHA, 8 kv heads", full))
    ]
    return Exhibit(
        title="8 query heads, width 64",
        columns=("attention", "weights", "cache bytes a token"),
        rows=rows,
        reads=f"With each of the two key and value heads copied four times the full model gives the same outputs (difference {difference:.0e}): "
        "GQA is a tied special case, with a quarter of the cache.",
    )
