"""What a decoder is made of: every tensor with its component, shape and size.

To print it:

    for row in model.describe(): print(row.component, row.name, row.shape, row.parameters)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from orrery.model.config import Moe

if TYPE_CHECKING:
    from orrery.model.decoder import Decoder

Part = Literal["embedding", "attention", "feed_forward", "norm", "head", "multi_token"]


@dataclass(frozen=True, kw_only=True)
class Component:
    """One tensor. `active` numbers take part in one token's pass: fewer than `parameters` in experts of an MoE."""

    name: str
    component: Part
    shape: tuple[int, ...]
    parameters: int
    active: int


def describe(model: Decoder) -> list[Component]:
    """A row for every tensor, each counted once; a tied head has no row of its own."""
    rows = []
    for name, parameter in model.named_parameters():
        size = parameter.numel()
        rows.append(
            Component(
                name=name,
                component=component_of(name),
                shape=tuple(parameter.shape),
                parameters=size,
                active=_active(model, name, size),
            )
        )
    return rows


def parameters_by_component(model: Decoder, *, active: bool = False) -> dict[str, int]:
    """Totals of `describe`, in the order the components appear in."""
    totals: dict[str, int] = {}
    for row in describe(model):
        totals[row.component] = totals.get(row.component, 0) + (row.active if active else row.parameters)
    return totals


def component_of(name: str) -> Part:
    """The part of the model a parameter belongs to, by its name."""
    parts = name.split(".")
    if parts[0] == "mtp":
        return "multi_token"
    if parts[0] == "lm_head":
        return "head"
    if parts[0] in ("embed", "position_embed"):
        return "embedding"
    if any(part == "norm" or part.endswith("_norm") for part in parts):
        return "norm"
    return "feed_forward" if "mlp" in parts else "attention"


def _active(model: Decoder, name: str, size: int) -> int:
    """Of E stacked experts a token passes through top_k; multi-token heads take no part when a model runs."""
    moe = model.cfg.feed_forward
    if isinstance(moe, Moe) and ".mlp.experts." in name:
        size = size * moe.top_k // moe.n_experts
    return 0 if component_of(name) == "multi_token" else size
