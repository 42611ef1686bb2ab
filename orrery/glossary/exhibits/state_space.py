"""Exhibits of layers that carry a state of fixed size: state spaces, linear attention, and stacks that mix them with attention."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from orrery.glossary.exhibit import Exhibit, Series
from orrery.glossary.exhibits import _tiny
from orrery.kit.seeds import numpy_generator, torch_generator
from orrery.model.cache import Cached, KVCache
from orrery.model.config import DecoderConfig, LayerKind
from orrery.model.decoder import Decoder
from orrery.model.delta_rule import delta_rule, delta_step
from orrery.model.families import BY_TYPE
from orrery.model.gated_delta import GatedDelta
from orrery.model.mamba2 import Mamba2
from orrery.model.mlp import Mlp
from orrery.model.moe import Moe
from orrery.model.packed import Packed
from orrery.model.positions import NoPosition
from orrery.model.ssd import ssd, ssd_step
from orrery.plan.kv_cache import kv_bytes, state_bytes
from orrery.plan.parameters import count_parameters
from orrery.train.objectives.fill_in_the_middle import FimTokens
from orrery.train.objectives.fill_in_the_middle import draw as draw_gaps

LENGTH = 150


def scan_equals_recurrence() -> Exhibit:
    """The state-space recurrence and the gated delta rule: one token at a time against chunks of matrix products, in float64."""
    generator = torch_generator(0, "scan")

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    T, H, G, P, N = LENGTH, 4, 2, 8, 16
    x, dt, A = draw(T, H, P), F.softplus(draw(T, H)), -draw(H).exp()
    B, C = draw(T, G, N), draw(T, G, N)
    q, k, v = draw(T, H, N), F.normalize(draw(T, H, N), dim=-1), draw(T, H, P)
    fade, beta = -F.softplus(draw(T, H)), draw(T, H).sigmoid()

    state, outputs = torch.zeros(H, P, N, dtype=torch.float64), []
    for t in range(T):
        y, state = ssd_step(x[t], dt[t], A, B[t], C[t], state)
        outputs.append(y)
    table, written = torch.zeros(H, N, P, dtype=torch.float64), []
    for t in range(T):
        o, table = delta_step(q[t], k[t], v[t], fade[t], beta[t], table)
        written.append(o)
    rows: list[tuple[Any, ...]] = [("both, token by token", T, 0.0, 0.0, 0.0)]
    for chunk in (8, 32, 64, T):
        y, after = ssd(x, dt, A, B, C, torch.zeros_like(state), chunk=chunk)
        o, _ = delta_rule(q, k, v, fade, beta, torch.zeros_like(table), chunk=chunk)
        rows.append(
            (
                f"chunks of {chunk}",
                -(-T // chunk),
                (y - torch.stack(outputs)).abs().max().item(),
                (after - state).abs().max().item(),
                (o - torch.stack(written)).abs().max().item(),
            )
        )
    return Exhibit(
        title=f"{T} tokens, 4 heads; largest differences from the recurrence",
        columns=("way", "steps one after another", "state space, outputs", "its last state", "delta rule, outputs"),
        rows=rows,
        reads="What a token reads from the state is a sum over all before it, with weights that only depend on what was gated between. "
        "Inside a chunk that sum is a masked product of matrices; only the state goes from chunk to chunk. Same numbers, fewer steps.",
    )  # fmt: skip


def _state_shape(pattern: tuple[LayerKind, ...], **changes: Any) -> DecoderConfig:
    """Byte-level, 48 wide, with state-space layers where the pattern says so, and no positions."""
    settings: dict[str, Any] = {
        "n_layers": len(pattern), "layer_pattern": pattern, "position": NoPosition(), "n_kv_heads": 2,
        "recurrent": Mamba2(n_heads=6, head_dim=16, state_dim=16), "feed_forward": Mlp(d_ff=96),
    }  # fmt: skip
    return _tiny.shape(**(settings | changes))


def state_or_cache() -> Exhibit:
    """What generating keeps of a sequence, by its length: attention, state space, and one attention layer in eight; planned and measured."""
    stacks: dict[str, tuple[LayerKind, ...]] = {
        "8 attention": ("global",) * 8,
        "1 attention, 7 state space": ("recurrent",) * 3 + ("global",) + ("recurrent",) * 4,
        "8 state space": ("recurrent",) * 8,
    }
    lengths, rows, series = [64, 512, 4096, 32_768], [], []
    for name, pattern in stacks.items():
        cfg = _state_shape(pattern)
        planned = [
            (kv_bytes(cfg, n, bytes_per_number=4) + state_bytes(cfg, bytes_per_number=4)) / 1024
            for n in lengths
        ]
        measured = KVCache(Decoder(cfg), rows=1, capacity=512).bytes / 1024
        rows.append((name, *planned, measured))
        series.append(Series(name=name, x=lengths, y=planned))
    return Exhibit(
        title="KiB of one sequence in fp32, width 48, 2 kv heads of 12, states of 6 heads of 16 by 16",
        columns=("layers", *(f"{n:,} tokens" for n in lengths), "keys and values in a real cache of 512"),
        rows=rows,
        series=series,
        x="tokens", y="KiB", log_x=True, log_y=True,
        reads="A state is as large after the first token as after a million: generating costs the same at every length. Whatever attention is left "
        "in the stack sets how the memory grows.",
    )  # fmt: skip


def hybrid_cached_and_trained() -> Exhibit:
    """Attention only, state space only, and both: training on bytes, and generating from the state against the whole sequence."""
    rows, series = [], []
    for name, pattern in (
        ("attention", ("global",) * 4),
        ("state space", ("recurrent",) * 4),
        ("1 to 3", ("recurrent", "recurrent", "global", "recurrent")),
    ):
        model = Decoder(_state_shape(pattern))  # type: ignore[arg-type]
        losses = _tiny.train(model, steps=18, rows=4)
        model.eval()
        ids, cache = _tiny.text_ids()[:40], KVCache(model, rows=1, capacity=40)
        with torch.no_grad():
            whole = model.head(model(ids, Packed([40])))
            steps = [model.head(model(ids[i : i + 1], Cached(cache, [(0, i, 1)]))) for i in range(40)]
        difference = (torch.cat(steps) - whole).abs().max().item()
        rows.append((name, model.num_parameters(), losses[0], sum(losses[-5:]) / 5, difference))
        series.append(Series(name=name, x=list(range(18)), y=_tiny.smooth(losses)))
    return Exhibit(
        title="4 layers 48 wide, no positions anywhere, 18 steps of 256 bytes",
        columns=("layers", "weights", "first loss", "last losses", "token by token, largest difference of a logit"),
        rows=rows,
        series=series,
        x="step", y="nats a byte",
        reads="One model, one training loop, one cache: what a layer keeps between tokens is its own affair. None of the three "
        "is told positions: a state knows order by its decay and short convolution, causal attention only by how many tokens it sees.",
    )  # fmt: skip


def _hybrids() -> dict[str, tuple[DecoderConfig, str]]:
    """Published stacks: two by their families' readers, Jamba's pattern written as a config."""
    coder: dict[str, Any] = {
        "model_type": "qwen3_next", "vocab_size": 151_936, "hidden_size": 2048, "num_hidden_layers": 48, "rope_theta": 5e6,
    }  # fmt: skip
    mamba: dict[str, Any] = {
        "model_type": "mamba2", "vocab_size": 50_288, "hidden_size": 2560, "num_hidden_layers": 64, "num_heads": 80, "head_dim": 64,
        "state_size": 128, "n_groups": 1, "tie_word_embeddings": True,
    }  # fmt: skip
    return {
        "Mamba-2 2.7B": (BY_TYPE["mamba2"].read(mamba), "2.7B"),
        "Qwen3-Next / Qwen3-Coder-Next": (BY_TYPE["qwen3_next"].read(coder), "80B, 3B active"),
        "Jamba's interleave, Mamba-2 layers": (_jamba(4096, 32, 8, 14_336, 16, vocabulary=65_536), "52B, 12B active"),
    }  # fmt: skip


def _jamba(d: int, layers: int, kv: int, d_ff: int, experts: int, *, vocabulary: int) -> DecoderConfig:
    """Eight layers repeated: the fifth attends, the others run a state space; every second feed-forward is a mixture."""
    pattern: list[LayerKind] = []
    for i in range(8):
        pattern.append("global" if i == 4 else "recurrent")
        pattern.append("feed_forward" if i % 2 else "dense_feed_forward")
    return DecoderConfig(
        vocab_size=vocabulary, d_model=d, n_layers=2 * layers, n_heads=4 * kv, n_kv_heads=kv, sublayers="one", tied=False,
        position=NoPosition(), layer_pattern=tuple(pattern), dense_feed_forward=Mlp(d_ff=d_ff),
        feed_forward=Moe(n_experts=experts, top_k=2, d_ff=d_ff), recurrent=Mamba2(n_heads=d // 32, head_dim=64, state_dim=16),
    )  # fmt: skip


def hybrids_by_config() -> Exhibit:
    """Published stacks with a state from their configurations: weights, what attends, and bytes kept at 262,144 tokens."""
    rows = []
    for name, (cfg, published) in _hybrids().items():
        kinds = [cfg.layer_kind(i) for i in range(cfg.n_layers)]
        n = count_parameters(cfg)
        kept = [kv_bytes(cfg, length) / 2**20 for length in (4096, 262_144)]
        rows.append(
            (
                name,
                f"{n.total / 1e9:.2f}",
                f"{n.active / 1e9:.2f}",
                published,
                f"{sum(kind == 'global' for kind in kinds)} : {kinds.count('recurrent')}",
                *kept,
                state_bytes(cfg) / 2**20,
            )
        )
    return Exhibit(
        title="Billions of weights by formula; MiB of one sequence, keys and values in bf16, states in fp32",
        columns=("model", "weights", "active", "published", "attention : state", "cache at 4,096", "at 262,144", "state"),
        rows=rows,
        reads="A pattern of layers is data, so a hybrid is a config. Jamba itself uses Mamba-1 layers, whose few weights more or less do not "
        "show beside the experts; its sizes come out.",
    )  # fmt: skip


def jamba_in_small() -> Exhibit:
    """Jamba's period of eight layers, one attending and seven with a state, every second feed-forward of 4 experts, trained 20 steps."""
    cfg = dataclasses.replace(_jamba(48, 8, 1, 64, 4, vocabulary=256), max_positions=512)
    model = Decoder(cfg)
    losses = _tiny.train(model, steps=20, rows=4)
    rows = [
        (i, cfg.layer_kind(2 * i), "mixture of 4, 2 chosen" if isinstance(cfg.layer_feed_forward(2 * i + 1), Moe) else "dense")
        for i in range(8)
    ]  # fmt: skip
    return Exhibit(
        title=f"{model.num_parameters():,} weights, {model.num_parameters(active=True):,} of them for a token",
        columns=("layer", "mixes tokens by", "feed-forward"),
        rows=rows,
        series=[Series(name="loss", x=list(range(20)), y=_tiny.smooth(losses))],
        x="step", y="nats a byte",
        reads=f"The loss goes from {losses[0]:.2f} to {sum(losses[-3:]) / 3:.2f} nats a byte. No positions are given: the one attention layer gets "
        "its sense of order from the layers below.",
    )  # fmt: skip


def qwen3_next_in_small() -> Exhibit:
    """Three layers of gated delta rule to one of gated attention, many small experts beside a shared one, trained to fill gaps in code."""
    hf: dict[str, Any] = {
        "model_type": "qwen3_next", "vocab_size": 260, "hidden_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 16, "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 12,
        "linear_value_head_dim": 12, "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 24,
        "shared_expert_intermediate_size": 24, "tie_word_embeddings": False, "max_position_embeddings": 512,
    }  # fmt: skip
    model = Decoder(BY_TYPE["qwen3_next"].read(hf))
    assert isinstance(model.cfg.recurrent, GatedDelta)
    text, rng = _tiny.text_ids(), numpy_generator(0, "gaps")
    marks = FimTokens(prefix=256, suffix=257, middle=258)
    pieces = [draw_gaps(piece.numpy(), rng, marks, rate=1.0, spm_rate=0.5) for piece in text.split(60)]
    before = _tiny.train(model, steps=10, rows=4)
    after = _tiny.train(model, steps=14, rows=4, ids=torch.from_numpy(np.concatenate(pieces)))
    return Exhibit(
        title="4 layers 48 wide; 10 steps on code, then 14 on the same code with middles moved to the end",
        columns=("quantity", "value"),
        rows=[
            ("layers", " ".join(model.cfg.layer_kind(i) for i in range(4))),
            ("weights", model.num_parameters()),
            ("of them for a token", model.num_parameters(active=True)),
            ("loss on code, first", before[0]),
            ("last three", sum(before[-3:]) / 3),
            ("loss on code with gaps, first", after[0]),
            ("last three, gaps", sum(after[-3:]) / 3),
        ],
        series=[Series(name="code, then gaps", x=list(range(24)), y=_tiny.smooth([*before, *after]))],
        x="step", y="nats a token",
        reads="The family's config in small, read by the reader of the large one. A second stage on other data is the same loop on other ids: what "
        "was learned of the code carries over, and the marks are learned on top.",
    )  # fmt: skip
