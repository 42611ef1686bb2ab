"""Exhibits of the planner: weights, work and memory of models, counted from their shapes."""

from __future__ import annotations

from typing import Any

import torch

from orrery.glossary.exhibit import Exhibit
from orrery.glossary.exhibits import _tiny
from orrery.model.config import DecoderConfig
from orrery.model.decoder import Decoder
from orrery.model.explicit import Explicit
from orrery.model.mlp import Mlp
from orrery.model.moe import Moe
from orrery.plan.flops import count_flops
from orrery.plan.memory import training_memory
from orrery.plan.parameters import count_parameters


def _published() -> dict[str, DecoderConfig]:
    def llama(
        layers: int, d: int, heads: int, kv: int, d_ff: int, vocabulary: int, *, tied: bool = False
    ) -> DecoderConfig:
        return DecoderConfig(
            n_layers=layers, d_model=d, n_heads=heads, n_kv_heads=kv, feed_forward=Mlp(d_ff=d_ff), vocab_size=vocabulary, tied=tied,
        )  # fmt: skip

    return {
        "Llama 3.2 1B": llama(16, 2048, 32, 8, 8192, 128_256, tied=True),
        "Llama 2 7B": llama(32, 4096, 32, 32, 11_008, 32_000),
        "Llama 3 8B": llama(32, 4096, 32, 8, 14_336, 128_256),
        "Mixtral 8x7B": DecoderConfig(
            n_layers=32, d_model=4096, n_heads=32, n_kv_heads=8, vocab_size=32_000, tied=False,
            feed_forward=Moe(n_experts=8, top_k=2, d_ff=14_336),
        ),
        "Llama 3 70B": llama(80, 8192, 64, 8, 28_672, 128_256),
        "Llama 3.1 405B": llama(126, 16_384, 128, 8, 53_248, 128_256),
    }  # fmt: skip


def published_sizes() -> Exhibit:
    """Six published models from their shapes alone: weights, what a token meets, memory and work for one token."""
    rows = []
    for name, cfg in _published().items():
        n, gib = count_parameters(cfg), 2 * count_parameters(cfg).total / 2**30
        parts = [f"{part / 1e9:.3f}" for part in (n.total, n.active, n.embedding + n.head)]
        rows.append((name, *parts, f"{gib:.1f}", f"{count_flops(cfg, 4096).forward() / 1e9:.1f}"))
    return Exhibit(
        title="Billions of weights, by formula; nothing is allocated",
        columns=("model", "all", "in a token", "embeddings", "GiB in bf16", "GFLOPs a token at 4096"),
        rows=rows,
        reads="'Large' has meant a billion weights and hundreds of billions. What a model costs to run follows the active weights, what it "
        "needs of memory follows all of them; a mixture of experts parts the two.",
    )


def six_nd_against_counting() -> Exhibit:
    """The rule 6 N FLOPs a token against the planner and against torch's own counter, for small and published shapes."""
    from torch.utils.flop_counter import FlopCounterMode

    rows = []
    for name, cfg, length in (
        ("2 layers, 48 wide", _tiny.shape(), 64),
        ("the same, context 512", _tiny.shape(), 512),
    ):
        model = Decoder(cfg)
        ids = torch.zeros(length, dtype=torch.long)
        with FlopCounterMode(display=False) as counter:
            torch.nn.functional.cross_entropy(model.head(model(ids, Explicit([length]))), ids).backward()
        n = count_parameters(cfg)
        counted = counter.get_total_flops() / length
        rows.append(
            (
                name,
                6.0 * n.total,
                6.0 * n.non_embedding,
                count_flops(cfg, length).training(),
                f"{counted:.3e}",
            )
        )
    for name in ("Llama 3 8B", "Llama 3 70B"):
        for length in (4096, 131_072):
            cfg = _published()[name]
            n = count_parameters(cfg)
            rows.append(
                (
                    f"{name} at {length:,}",
                    6.0 * n.total,
                    6.0 * n.non_embedding,
                    count_flops(cfg, length).training(),
                    "",
                )
            )
    return Exhibit(
        title="Training FLOPs a token",
        columns=("model", "6 N, all weights", "6 N, without embeddings", "planner", "torch's counter"),
        rows=[(row[0], *(f"{value:.3e}" for value in row[1:4]), row[4]) for row in rows],
        reads="Two FLOPs a weight forward, four backward. The rule leaves out attention over the context and, by one reading of N, the head; "
        "for large models at usual lengths that is six or seven per cent. At long contexts it is most of the work.",
    )


def memory_switches() -> Exhibit:
    """What training the shape of Llama 3 8B needs on one device, and what each switch takes away."""
    cfg = _published()["Llama 3 8B"]
    base = {"batch_tokens": 8192, "context": 8192}
    cases: dict[str, dict[str, Any]] = {
        "fp32, AdamW": {},
        "mixed precision": {"precision": "mixed"},
        "and checkpointing": {"precision": "mixed", "checkpointing": True},
        "and Muon": {"precision": "mixed", "checkpointing": True, "optimizer": "muon"},
        "and Adafactor instead": {"precision": "mixed", "checkpointing": True, "optimizer": "adafactor"},
        "AdamW split over 8 devices": {
            "precision": "mixed",
            "checkpointing": True,
            "devices": 8,
            "zero_stage": 1,
        },
    }
    rows = []
    for name, settings in cases.items():
        m = training_memory(cfg, **base, **settings)
        rows.append(
            (
                name,
                *(
                    part / 2**30
                    for part in (m.weights, m.gradients, m.optimizer, m.activations, m.head, m.total)
                ),
            )
        )
    return Exhibit(
        title="GiB, one sequence of 8192 tokens at a time (an estimate)",
        columns=("switches", "weights", "gradients", "optimiser", "activations", "head", "together"),
        rows=rows,
        reads="The optimiser outweighs the weights, and at this length activations outweigh both until they are recomputed. Mixed precision hardly "
        "touches the model's own 16 bytes a weight: it halves the activations.",
    )
