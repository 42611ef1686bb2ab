"""Exhibits of published models: their sizes from their shapes, their files, and one of them very small."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from orrery.data.batch import Batch
from orrery.glossary.exhibit import Exhibit, Series
from orrery.glossary.exhibits import _tiny
from orrery.kit.seeds import torch_generator
from orrery.model.config import DecoderConfig, Mla, Mlp, Moe
from orrery.model.decoder import Decoder
from orrery.model.folder import load_model, save_model
from orrery.model.moe import MoE
from orrery.model.packed import Packed
from orrery.plan.kv_cache import kv_bytes_per_token
from orrery.plan.parameters import count_parameters
from orrery.train.objectives.apply import compute
from orrery.train.objectives.config import MultiToken
from orrery.train.optim.build import build_optimizer
from orrery.train.optim.config import AdamW


def published_configs_built() -> Exhibit:
    """PaLM, Mixtral, DeepSeek-V3 and Kimi K2 from their configurations: weights by formula and as built, against their papers."""
    latent = Mla(
        q_lora_rank=1536, kv_lora_rank=512, qk_nope_head_dim=128, qk_rope_head_dim=64, v_head_dim=128
    )
    deepseek: dict[str, Any] = {
        "d_model": 7168,
        "n_layers": 61,
        "attention": latent,
        "tied": False,
        "dense_feed_forward": Mlp(d_ff=18432),
    }
    fine: dict[str, Any] = {
        "top_k": 8,
        "d_ff": 2048,
        "shared_experts": 1,
        "router": "sigmoid",
        "bias_update": 1e-3,
    }
    v3 = DecoderConfig(
        **deepseek,
        vocab_size=129_280,
        n_heads=128,
        first_dense_layers=3,
        feed_forward=Moe(n_experts=256, groups=8, top_groups=4, **fine),
    )
    models = {
        "PaLM 540B": (_palm(), "540B"),
        "Mixtral 8x7B": (_mixtral(), "46.7B, 12.9B active"),
        "DeepSeek-V3": (v3, "671B, 37B active"),
        "Kimi K2": (
            DecoderConfig(
                **deepseek,
                vocab_size=163_840,
                n_heads=64,
                first_dense_layers=1,
                feed_forward=Moe(n_experts=384, **fine),
            ),
            "1.04T, 32.6B active",
        ),
    }
    rows = []
    for name, (cfg, published) in models.items():
        sizes = count_parameters(cfg)
        with torch.device("meta"):
            whole = Decoder(cfg).num_parameters()
        rows.append((name, sizes.total, whole, sizes.active, published, kv_bytes_per_token(cfg)))
    return Exhibit(
        title="Counted by formula and on models without memory (meta device); cache in bf16",
        columns=("model", "weights", "built", "active", "published", "cache bytes a token"),
        rows=rows,
        reads="A configuration is enough to know what a model weighs. Reports differ in whether the input table, which is looked up and not "
        "multiplied, counts as active; Kimi K2's says 1.04T where its configuration adds up to 1.03T.",
    )


def _mixtral() -> DecoderConfig:
    return DecoderConfig(
        vocab_size=32_000, d_model=4096, n_layers=32, n_heads=32, n_kv_heads=8, tied=False,
        feed_forward=Moe(n_experts=8, top_k=2, d_ff=14336),
    )  # fmt: skip


def _palm() -> DecoderConfig:
    return DecoderConfig(
        vocab_size=256_000, d_model=18432, n_layers=118, n_heads=48, n_kv_heads=1, head_dim=256, parallel=True, norm="layernorm",
        feed_forward=Mlp(d_ff=73728),
    )  # fmt: skip


def folders_of_families() -> Exhibit:
    """Small decoders saved and loaded: the family that other tools see, a tensor's name, and whether logits come back bit for bit."""
    routed: dict[str, Any] = {"feed_forward": Moe(n_experts=4, top_k=2, d_ff=32)}
    shapes: dict[str, dict[str, Any]] = {
        "default": {},
        "queries and keys normed": {"qk_norm": True},
        "experts": routed,
        "experts, queries and keys normed": {**routed, "qk_norm": True},
        "sandwich norms": {"placement": "sandwich"},
    }
    rows, tokens = [], torch.randint(256, (20,), generator=torch_generator(0, "tokens"))
    for name, changes in shapes.items():
        model = Decoder(_tiny.shape(n_kv_heads=2, **changes)).eval()
        with tempfile.TemporaryDirectory() as temporary, torch.no_grad():
            folder = Path(temporary) / "model"
            save_model(model, folder)
            loaded = load_model(folder).eval()
            same = torch.equal(
                model.head(model(tokens, Packed([20]))), loaded.head(loaded(tokens, Packed([20])))
            )
            kind = json.loads((folder / "config.json").read_text())["model_type"]
            with safe_open(folder / "model.safetensors", "pt") as file:
                feed = sorted(key for key in file.keys() if "layers.0" in key or "blocks.0" in key)  # noqa: SIM118
        rows.append((name, kind, len(feed), next(key for key in feed if "mlp" in key or "moe" in key), same))
    return Exhibit(
        title="Two-layer decoders 48 wide",
        columns=("shape", "model_type", "tensors a layer", "the first of the feed-forward", "equal bits"),
        rows=rows,
        reads="A family is a shape with a spelling: what its config can say is saved under its names and opens elsewhere; what none can say is "
        "saved under our own.",
    )


def deepseek_v3_in_small() -> Exhibit:
    """Latent attention, shared and routed experts balanced by a bias, and a multi-token module, trained together for 45 steps."""
    cfg = _tiny.shape(
        n_layers=2, mtp_heads=1, first_dense_layers=1, dense_feed_forward=Mlp(d_ff=96),
        attention=Mla(q_lora_rank=24, kv_lora_rank=16, qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=8),
        feed_forward=Moe(n_experts=8, top_k=2, d_ff=32, shared_experts=1, router="sigmoid", balance_loss=0.0, bias_update=0.03),
    )  # fmt: skip
    model = Decoder(cfg)
    optimizer, steps = build_optimizer(model, AdamW(lr=5e-3)), 45
    first, second, loads = [], [], torch.zeros(8)
    for step in range(steps):
        tokens, targets = _tiny.draw(step, 4)
        batch = Batch(tokens=tokens, targets=targets, weights=torch.ones(256), lengths=(64,) * 4)
        optimizer.zero_grad()
        ctx = Packed(batch.lengths)
        loss = compute(MultiToken(weights=(0.3,)), model, batch, ctx)
        loss.mean().backward()
        optimizer.step()
        for layer, load in ctx.recorded["expert_load"]:
            assert isinstance(layer, MoE)
            layer.update_bias(load)
            loads += load if step >= steps - 10 else 0
        first.append(loss.stats["nll"].item() / 256)
        second.append(loss.stats["depth_1"].item() / 0.3 / (256 - 4))
    sizes, share = count_parameters(cfg), loads / loads.sum()
    return Exhibit(
        title="48 wide, one dense layer, one of 8 experts and a shared one",
        columns=("quantity", "value"),
        rows=[
            ("weights", sizes.total),
            ("active when it runs", sizes.active),
            ("multi-token module", sizes.multi_token),
            ("loss of the next token, last 5 steps", sum(first[-5:]) / 5),
            ("loss of the one after, last 5 steps", sum(second[-5:]) / 5),
            ("busiest expert's share (even: 0.125)", share.max().item()),
            ("idlest expert's share", share.min().item()),
        ],
        series=[
            Series(name="next token", x=list(range(steps)), y=_tiny.smooth(first)),
            Series(name="token after next", x=list(range(steps)), y=_tiny.smooth(second)),
        ],
        x="step", y="nats a byte",
        reads="All parts learn together, and the bias alone keeps every expert in use. Two tokens ahead is no harder than one: the module is "
        "told the token between. It is for training and drafting, and left out of a plain run.",
    )  # fmt: skip
