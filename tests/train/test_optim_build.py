"""Groups, the joint optimiser and its state, on a decoder and on what it is made of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from orrery.data.batch import batch_of
from orrery.kit.config import resolve
from orrery.kit.errors import OrreryError
from orrery.model.config import DecoderConfig
from orrery.model.decoder import Decoder
from orrery.model.mlp import Mlp
from orrery.train.objectives import CausalLM
from orrery.train.objectives.apply import compute
from orrery.train.optim import config as c
from orrery.train.optim.build import build_optimizer
from orrery.train.optim.clip import guarded_step
from orrery.train.optim.groups import parameter_groups
from orrery.train.optim.joint import JointOptimizer

CONFIGS: list[c.OptimizerConfig] = [
    c.SGD(momentum=0.9),
    c.Adagrad(),
    c.RMSprop(),
    c.Adam(),
    c.AdamW(),
    c.AdamW(fused=False),
    c.Adafactor(),
    c.Muon(),
]


class Tiny(nn.Module):
    """Table, matrix, stack of experts, norm, head."""

    def __init__(self, tied: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(9, 4)
        self.up_proj = nn.Linear(4, 6)
        self.experts = nn.Parameter(torch.randn(2, 6, 4) / 3)
        self.norm = nn.LayerNorm(4)
        self.lm_head = nn.Linear(4, 9, bias=False)
        if tied:
            self.lm_head.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.up_proj(self.embed(tokens)).relu()
        return self.lm_head(self.norm(x @ self.experts[0] + x @ self.experts[1]))


def train(model: nn.Module, optimizer: JointOptimizer, steps: int, start: int = 0) -> list[Tensor]:
    for step in range(start, start + steps):
        tokens = (torch.arange(12) * (step + 1)) % 9
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(tokens), (tokens * 2) % 9).backward()
        optimizer.step()
    return [p.detach().clone() for p in model.parameters()]


def test_sorts_of_parameters() -> None:
    sorts = parameter_groups(Tiny())
    assert list(sorts.matrices) == ["experts", "up_proj.weight"]
    assert list(sorts.embeddings) == ["embed.weight", "lm_head.weight"]
    assert list(sorts.vectors) == ["up_proj.bias", "norm.weight", "norm.bias"]
    assert list(parameter_groups(Tiny(tied=True)).embeddings) == ["embed.weight"]


def test_frozen_parameters_are_left_out() -> None:
    model = Tiny()
    model.up_proj.requires_grad_(False)
    optimizer = build_optimizer(model, c.AdamW())
    assert all(p is not model.up_proj.weight for p in optimizer.parameters)
    with pytest.raises(OrreryError, match="no trainable parameter"):
        build_optimizer(model.requires_grad_(False), c.AdamW())


@pytest.mark.parametrize("decay_embeddings", [False, True])
@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_decay_shrinks_matrices_only(kind: str, decay_embeddings: bool) -> None:
    """With zero gradients nothing but decay moves a weight: by the factor 1 - lr wd."""
    cfg: Any = resolve(
        c.OptimizerConfig,
        {"kind": kind, "lr": 0.1, "weight_decay": 0.5, "decay_embeddings": decay_embeddings},
    )
    model = Tiny()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = build_optimizer(model, cfg)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    decayed = {"up_proj.weight", "experts"} | (
        {"embed.weight", "lm_head.weight"} if decay_embeddings else set()
    )
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.detach(), before[name] * (0.95 if name in decayed else 1.0))


def test_muon_takes_matrices_and_adamw_the_rest() -> None:
    optimizer = build_optimizer(Tiny(), c.Muon(lr=0.02, adam_lr=0.005))
    muon, adam = optimizer.parts
    assert [p.ndim for g in muon.param_groups for p in g["params"]] == [3, 2]
    assert sum(len(g["params"]) for g in adam.param_groups) == 5
    assert optimizer.set_lr(0.5) == 0.01
    assert [g["lr"] for g in muon.param_groups] == [0.01]
    assert [g["lr"] for g in adam.param_groups] == pytest.approx([0.0025])
    with pytest.raises(OrreryError, match="muon needs hidden weight matrices"):
        build_optimizer(nn.Embedding(3, 2), c.Muon())


@pytest.mark.parametrize("cfg", CONFIGS, ids=lambda cfg: cfg.kind)
def test_state_round_trips_bit_for_bit(cfg: c.OptimizerConfig, tmp_path: Path) -> None:
    """Five steps straight, or three, through a safetensors file and JSON, and two more: the same bits."""
    model = Tiny()
    unbroken = train(model, build_optimizer(model, cfg), 5)

    first = Tiny()
    optimizer = build_optimizer(first, cfg)
    optimizer.set_lr(1.0)
    train(first, optimizer, 3)
    tensors, scalars = optimizer.state_tensors()
    save_file({name: t.contiguous() for name, t in tensors.items()}, tmp_path / "optimizer.safetensors")
    (tmp_path / "optimizer.json").write_text(json.dumps(scalars))

    second = Tiny()
    second.load_state_dict(first.state_dict())
    resumed = build_optimizer(second, cfg)
    resumed.load_state_tensors(
        load_file(tmp_path / "optimizer.safetensors"), json.loads((tmp_path / "optimizer.json").read_text())
    )
    assert all(torch.equal(a, b) for a, b in zip(train(second, resumed, 2, start=3), unbroken, strict=True))
    again, settings = resumed.state_tensors()
    assert again.keys() == tensors.keys() and settings == scalars


def test_state_is_copied_when_loaded() -> None:
    model = Tiny()
    optimizer = build_optimizer(model, c.AdamW())
    train(model, optimizer, 1)
    state = optimizer.state_dict()
    other = Tiny()
    resumed = build_optimizer(other, c.AdamW())
    resumed.load_state_dict(state)
    train(other, resumed, 1)
    assert float(state["tensors"]["embed.weight/step"]) == 1.0


def test_state_of_something_else_is_refused() -> None:
    model = Tiny()
    optimizer = build_optimizer(model, c.AdamW())
    train(model, optimizer, 1)
    tensors, scalars = optimizer.state_tensors()
    with pytest.raises(OrreryError, match="resume with the recipe"):
        build_optimizer(Tiny(), c.Muon()).load_state_tensors(tensors, scalars)
    with pytest.raises(OrreryError, match="resume with the recipe"):
        build_optimizer(nn.Linear(2, 2), c.AdamW()).load_state_tensors(tensors, scalars)
    fresh = build_optimizer(Tiny(), c.AdamW())
    with pytest.raises(OrreryError, match="weights not under training: ghost"):
        fresh.load_state_tensors(tensors | {"ghost/exp_avg": torch.zeros(1)}, scalars)
    assert fresh.state_bytes() == 0  # refused before anything was touched


def test_state_bytes() -> None:
    """An 8 x 16 matrix: Adam 2 * 128 numbers, Adafactor 8 + 16, SGD none, Muon 128; 4 bytes each, and a step
    count.
    """
    expected = {"sgd": 0, "adam": 4 * 256 + 4, "adamw": 4 * 256 + 4, "adafactor": 4 * 24 + 4, "muon": 4 * 128}
    for kind, size in expected.items():
        model = nn.Linear(16, 8, bias=False)
        optimizer = build_optimizer(model, resolve(c.OptimizerConfig, {"kind": kind}))
        model(torch.ones(2, 16)).sum().backward()
        optimizer.step()
        assert optimizer.state_bytes() == size


@pytest.mark.parametrize("cfg", CONFIGS, ids=lambda cfg: cfg.kind)
def test_every_optimiser_minimises_a_quadratic(cfg: c.OptimizerConfig) -> None:
    """|| W A - B ||^2 / 2 in W from a bad start falls to less than a hundredth."""
    g = torch.Generator().manual_seed(0)
    a, b = torch.randn(6, 20, generator=g), torch.randn(5, 20, generator=g)
    b = torch.randn(5, 6, generator=g) @ a  # a solution exists
    layer = nn.Linear(6, 5, bias=False)
    rate = {"sgd": 0.002, "adagrad": 0.5, "adafactor": 0.05, "muon": 0.05}.get(cfg.kind, 0.05)
    optimizer = build_optimizer(
        layer, resolve(c.OptimizerConfig, {"kind": cfg.kind, "lr": rate, "weight_decay": 0.0})
    )
    losses = []
    for step in range(400):
        optimizer.set_lr(1 - step / 400)
        optimizer.zero_grad()
        loss = (layer(a.t()) - b.t()).square().sum() / 2
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 100


@pytest.mark.parametrize(
    "cfg", [c.AdamW(lr=5e-3), c.Muon(lr=5e-3), c.Adafactor(lr=0.1)], ids=lambda cfg: cfg.kind
)
def test_trains_a_small_language_model(cfg: c.OptimizerConfig) -> None:
    """Documents that count in threes modulo 32 from different starts."""
    shape = DecoderConfig(vocab_size=32, d_model=32, n_layers=2, n_heads=2, feed_forward=Mlp(d_ff=64))
    model = Decoder(shape)
    optimizer = build_optimizer(model, cfg)
    losses = []
    for step in range(60):
        batch = batch_of([[(7 * step + start + 3 * t) % 32 for t in range(17)] for start in range(0, 32, 4)])
        optimizer.set_lr(1 - step / 60)
        optimizer.zero_grad()
        loss = compute(CausalLM(), model, batch).mean()
        loss.backward()
        assert guarded_step(optimizer, max_norm=1.0).applied
        losses.append(loss.item())
    assert losses[0] > 3.3 and losses[-1] < 1.2  # log 32 = 3.47 to begin with


def test_typo_in_the_recipe() -> None:
    with pytest.raises(OrreryError, match="kinds: sgd, adagrad"):
        resolve(c.OptimizerConfig, {"kind": "adam-w"})
    with pytest.raises(OrreryError, match="Did you mean 'weight_decay'"):
        resolve(c.OptimizerConfig, {"kind": "adamw", "weight_decya": 0.1})
    with pytest.raises(OrreryError, match="lr"):
        resolve(c.OptimizerConfig, {"kind": "adamw", "lr": -1})
