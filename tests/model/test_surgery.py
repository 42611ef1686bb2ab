"""Swapping modules: what matches, what is recorded."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor, nn

from orrery.kit.errors import OrreryError
from orrery.model import Cached, KVCache, Packed, replace

from .shapes import ids, tiny


class LowRank(nn.Module):
    """base(x) + b(a(x)), the shape of a LoRA layer."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.a = nn.Linear(base.in_features, 2, bias=False)
        self.b = nn.Linear(2, base.out_features, bias=False)
        nn.init.zeros_(self.b.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.b(self.a(x))


def linear_in_attention(name: str, module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) and ".attn." in name


@torch.no_grad()
def test_layers_are_wrapped_and_the_list_is_kept() -> None:
    model, tokens = tiny(), ids(7)
    before = model(tokens, Packed([7]))
    assert replace(model, linear_in_attention, LowRank, operation="lora", arguments={"rank": 2}) is model
    assert torch.equal(model(tokens, Packed([7])), before)  # b starts at zero
    assert isinstance(model.blocks[2].attn.o_proj, LowRank)
    assert isinstance(model.blocks[2].mlp.up_proj, nn.Linear)
    (entry,) = model.surgery
    assert entry["operation"] == "lora" and entry["arguments"] == {"rank": 2}
    assert entry["modules"][:2] == ["blocks.0.attn.q_proj", "blocks.0.attn.k_proj"]
    assert len(entry["modules"]) == 12
    nn.init.ones_(model.blocks[1].attn.v_proj.b.weight)
    after = model(tokens, Packed([7]))
    assert not torch.equal(after, before)
    assert torch.equal(model(tokens, Cached(KVCache(model, 1, 7), [(0, 0, 7)])), after)
    replace(model, lambda name, module: isinstance(module, LowRank), lambda module: module.base)
    assert torch.equal(model(tokens, Packed([7])), before)
    assert len(model.surgery) == 2 and json.loads(json.dumps(model.surgery)) == model.surgery


def test_what_is_put_in_is_not_looked_into() -> None:
    model = tiny()
    replace(model, lambda name, module: isinstance(module, nn.Linear), LowRank)
    assert all(type(m.base) is nn.Linear for m in model.modules() if isinstance(m, LowRank))


def test_a_match_takes_its_children_along() -> None:
    model = tiny()
    replace(model, lambda name, module: name.startswith("blocks.1"), lambda module: nn.Identity())
    assert model.surgery[0]["modules"] == ["blocks.1"] and isinstance(model.blocks[1], nn.Identity)


def test_nothing_matched_is_an_error() -> None:
    with pytest.raises(OrreryError, match="nothing was replaced"):
        replace(tiny(), lambda name, module: name == "layers.0", nn.Identity)
