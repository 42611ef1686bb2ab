"""Published model families as data: how each spells its config and its tensors."""

from __future__ import annotations

from typing import Any

from orrery.model.families.family import Family
from orrery.model.families.llama import LLAMA
from orrery.model.families.mixtral import MIXTRAL
from orrery.model.families.qwen3 import QWEN3
from orrery.model.families.qwen3_moe import QWEN3_MOE

FAMILIES: tuple[Family, ...] = (LLAMA, QWEN3, MIXTRAL, QWEN3_MOE)
"""In the order in which they are asked whether they express a network."""

BY_TYPE: dict[str, Family] = {name: f for f in FAMILIES for name in (f.model_type, *f.aliases)}


def family_of(cfg: Any, *, prefer: str | None = None) -> Family | None:
    """A family that expresses `cfg` exactly: the one named `prefer` if it does, else the first; or None."""
    first = [BY_TYPE[prefer]] if prefer in BY_TYPE else []
    return next((family for family in (*first, *FAMILIES) if family.expresses(cfg)), None)
