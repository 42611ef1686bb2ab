"""Sizes of models with recurrent layers: published parameters, state, operations and activations."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch

from orrery.model import Decoder, DecoderConfig, KVCache, Packed
from orrery.model.cache import Cached
from orrery.model.config import GatedDelta, Mamba2, Mlp, Moe
from orrery.model.families.mamba2 import MAMBA2
from orrery.model.families.nemotron_h import NEMOTRON_H
from orrery.model.families.qwen3_next import QWEN3_NEXT
from orrery.model.folder import load_config
from orrery.plan.flops import count_flops
from orrery.plan.kv_cache import kv_bytes_per_token, state_bytes
from orrery.plan.memory import layer_activations
from orrery.plan.parameters import count_parameters
from orrery.plan.plan import plan_model
from orrery.plan.render import render

SSM = Mamba2(n_heads=8, head_dim=16, state_dim=32, n_groups=2, chunk=32)
DELTA = GatedDelta(n_key_heads=4, n_value_heads=8, key_dim=16, value_dim=24, chunk=32)
NANO = "Nemotron-3-Nano-30B-A3B"


def tiny(recurrent: Any, **settings: Any) -> DecoderConfig:
    """Layers of nothing but a recurrence, unless `settings` say otherwise."""
    return DecoderConfig(
        **{
            "vocab_size": 64, "d_model": 64, "n_layers": 3, "recurrent": recurrent, "layer_pattern": ("recurrent",),
            "sublayers": "one", **settings,
        }
    )  # fmt: skip


def test_nemotron_3_nano(shared_data: Path) -> None:
    """Counted from its config.json within seconds, without allocating; 6 attention layers keep keys and values."""
    rows = [line.split("\t") for line in (shared_data / "model_configs/params.tsv").read_text().splitlines()]
    want = next(int(row[1]) for row in rows if row[0] == NANO)
    cfg = load_config(shared_data / f"model_configs/{NANO}.json")
    start = time.process_time()
    counted = count_parameters(cfg)
    assert time.process_time() - start < 5
    assert counted.total == want == 31_577_937_344
    assert 3.0e9 < counted.active < 4.0e9  # "A3B"
    kinds = [cfg.layer_kind(i) for i in range(cfg.n_layers)]
    assert [kinds.count(kind) for kind in ("recurrent", "feed_forward", "global")] == [23, 23, 6]
    assert kv_bytes_per_token(cfg) == 6 * 2 * 2 * 128 * 2
    assert state_bytes(cfg) == 23 * (3 * (4096 + 2 * 8 * 128) * 2 + 64 * 64 * 128 * 4)


def test_published_sizes_of_other_models() -> None:
    """mamba2-2.7b (64 layers of 2560), Nemotron-H-8B (8.1 B), Qwen3-Next-80B-A3B (79.7 B, 3.9 B active)."""
    mamba = {
        "vocab_size": 50288, "hidden_size": 2560, "num_hidden_layers": 64, "num_heads": 80, "head_dim": 64, "n_groups": 1,
        "tie_word_embeddings": True,
    }  # fmt: skip
    inner, conv = 5120, 5120 + 2 * 128
    layer = 2560 * (inner + conv + 80) + 5 * conv + 3 * 80 + inner + inner * 2560 + 2560
    counted = count_parameters(MAMBA2.read(mamba))
    assert counted.total == 50288 * 2560 + 64 * layer + 2560 == 2_702_599_680
    assert counted.attention == counted.feed_forward == 0
    nemotron = {
        "hybrid_override_pattern": "M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-", "hidden_size": 4096,
        "attention_head_dim": 128,
    }  # fmt: skip
    assert count_parameters(NEMOTRON_H.read(nemotron)).total == 8_100_852_736
    qwen = count_parameters(QWEN3_NEXT.read({}))
    assert qwen.total == 79_674_391_296
    assert qwen.active == pytest.approx(3.9e9, rel=0.03)


@pytest.mark.parametrize("recurrent", [SSM, DELTA], ids=["ssm", "delta"])
@pytest.mark.parametrize("length", [1, 9, 40])
def test_state_is_what_generating_keeps(recurrent: Any, length: int) -> None:
    cfg = tiny(recurrent)
    model = Decoder(cfg).eval()
    cache = KVCache(model, rows=1, capacity=64)
    with torch.no_grad():
        model(torch.zeros(length, dtype=torch.long), Cached(cache, [(0, 0, length)]))
    kept = [tensor for rows in cache.states.values() for tensor in rows[0][1]]
    assert sum(t.numel() * t.itemsize for t in kept) == state_bytes(cfg, bytes_per_number=4)
    assert sum(spec.bytes() for spec in model.state_spec()) == state_bytes(cfg, bytes_per_number=4)
    assert sum(spec.bytes(torch.bfloat16) for spec in model.state_spec()) == state_bytes(cfg)
    assert [spec.layer for spec in model.state_spec()] == [0, 1, 2] and not model.cache_spec()
    assert [tuple(t.shape) for t in kept[:2]] == [recurrent.conv_state, recurrent.state]
    assert all(
        t.untyped_storage().nbytes() == t.numel() * t.itemsize for t in kept
    )  # nothing larger is held on to


def test_operations_by_hand() -> None:
    """Two layers with a state of 8 * 16 * 32 numbers: 5 operations each a token, at any context; and by 7 for the delta rule."""
    for recurrent, per_number in ((SSM, 5), (DELTA, 7)):
        h, a, b = recurrent.state
        one, two = (count_flops(tiny(recurrent, n_layers=2), context) for context in (16, 4096))
        assert one.recurrence == two.recurrence == 2 * per_number * h * a * b
        assert one.forward("full") == two.forward("causal") == one.matmul + one.recurrence
    mixed = DecoderConfig(
        n_layers=4, recurrent=SSM, layer_pattern=("recurrent", "recurrent", "recurrent", "global")
    )
    assert count_flops(mixed, 10).recurrence == 3 * 5 * 8 * 16 * 32
    assert count_flops(mixed, 10).attention_full == 4 * 256 * 10
    assert count_flops(DecoderConfig(), 10).recurrence == 0


def test_the_plan_shows_states() -> None:
    plan = plan_model(tiny(SSM))
    assert plan.to_dict()["state_bytes_per_sequence"] == plan.state_bytes == state_bytes(tiny(SSM)) > 0
    assert plan.to_dict()["parameters"]["by_component"]["recurrent"] > 0

    def shown(cfg: DecoderConfig) -> str:
        from rich.console import Console

        console = Console(width=120)
        with console.capture() as capture:
            console.print(render(plan_model(cfg)))
        return capture.get()

    assert "recurrent layers" in shown(tiny(SSM)) and "recurrent states" in shown(tiny(SSM))
    assert "recurrent" not in shown(DecoderConfig())


ACTIVATIONS: dict[str, dict[str, Any]] = {
    "ssm": {"recurrent": SSM},
    "ssm-groups": {"recurrent": Mamba2(n_heads=8, head_dim=16, state_dim=48, n_groups=4, chunk=64)},
    "ssm-short": {"recurrent": Mamba2(n_heads=8, head_dim=16, state_dim=32, chunk=256)},
    "delta": {"recurrent": DELTA},
    "delta-wide": {"recurrent": GatedDelta(n_key_heads=2, n_value_heads=8, key_dim=32, value_dim=16, chunk=16)},
    "both-sublayers": {"recurrent": DELTA, "sublayers": "both", "feed_forward": Mlp(d_ff=176)},
    "gated-attention": {"recurrent": None, "sublayers": "both", "layer_pattern": ("global",), "attention_gate": True},
    "experts": {
        "layer_pattern": ("feed_forward",),
        "feed_forward": Moe(
            n_experts=4, top_k=2, d_ff=96, activation="relu2", gated=False, shared_width=160, latent_width=48, shared_gate=True
        ),
    },
}  # fmt: skip


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_what_autograd_keeps(name: str) -> None:
    """Of one layer: four layers less three, within 7 percent (copies; experts' padding)."""
    lengths = [128] * 4

    def saved(n_layers: int) -> float:
        model, storages = (
            Decoder(tiny(**{"recurrent": SSM, **ACTIVATIONS[name], "n_layers": n_layers})).train(),
            {},
        )
        weights = {p.untyped_storage().data_ptr() for p in model.parameters()}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                storages[storage.data_ptr()] = storage
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            model(torch.zeros(sum(lengths), dtype=torch.long), Packed(lengths))
        return sum(storage.nbytes() for storage in storages.values()) / 4

    estimate = layer_activations(tiny(**{"recurrent": SSM, **ACTIVATIONS[name]}), 0, 128) * sum(lengths)
    assert estimate == pytest.approx(saved(4) - saved(3), rel=0.07)
