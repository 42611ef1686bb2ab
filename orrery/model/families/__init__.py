"""Published model families as data: how each spells its config and its tensors."""

from __future__ import annotations

from orrery.model.config import DecoderConfig
from orrery.model.families.family import Family
from orrery.model.families.llama import LLAMA
from orrery.model.families.mixtral import MIXTRAL
from orrery.model.families.qwen3 import QWEN3
from orrery.model.families.qwen3_moe import QWEN3_MOE

FAMILIES: dict[str, Family] = {family.model_type: family for family in (LLAMA, QWEN3, MIXTRAL, QWEN3_MOE)}


def family_of(cfg: DecoderConfig) -> Family | None:
    """The first family that expresses `cfg` exactly, or None."""
    return next((family for family in FAMILIES.values() if family.expresses(cfg)), None)
