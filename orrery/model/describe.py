"""What a decoder is made of: every tensor with its component, shape and size.

To print it:

    for row in model.describe(): print(row.component, row.name, row.shape, row.parameters)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

from orrery.model.moe import MoE

HOLDERS = ("stack", "encoder", "decoder")
"""What an encoder and an encoder-decoder call the decoders in them."""

Part = Literal["embedding", "attention", "recurrent", "feed_forward", "norm", "head", "multi_token"]


@dataclass(frozen=True, kw_only=True)
class Component:
    """One tensor. `active` numbers take part in one token's pass: fewer than `parameters` in the experts of an MoE.

    Multi-token-prediction modules take part in training only, which is when theirs are active.
    """

    name: str
    component: Part
    shape: tuple[int, ...]
    parameters: int
    active: int


def describe(model: nn.Module) -> list[Component]:
    """A row for every tensor, each counted once; a tied head has no row of its own."""
    share = {
        parameter: module.cfg.top_k / module.cfg.n_experts
        for module in model.modules()
        if isinstance(module, MoE)
        for parameter in module.experts.parameters()
    }
    return [
        Component(
            name=name,
            component=component_of(name),
            shape=tuple(parameter.shape),
            parameters=parameter.numel(),
            active=round(parameter.numel() * share.get(parameter, 1)),
        )
        for name, parameter in model.named_parameters()
    ]


def parameters_by_component(model: nn.Module, *, active: bool = False) -> dict[str, int]:
    """Totals of `describe`, in the order the components appear in."""
    totals: dict[str, int] = {}
    for row in describe(model):
        totals[row.component] = totals.get(row.component, 0) + (row.active if active else row.parameters)
    return totals


def component_of(name: str) -> Part:
    """The part of the model a parameter belongs to, by its name."""
    parts = [part for part in name.split(".") if part not in HOLDERS]
    if parts[0] == "mtp":
        return "multi_token"
    if parts[0] in ("lm_head", "pooler", "next_sentence"):
        return "head"
    if parts[0] in ("embed", "position_embed", "type_embed"):
        return "embedding"
    if any(part == "norm" or part.endswith("_norm") for part in parts):
        return "norm"
    if "recurrent" in parts:
        return "recurrent"
    return "feed_forward" if "mlp" in parts else "attention"
