"""Published model families as data: how each spells its config and its tensors."""

from __future__ import annotations

from typing import Any

from orrery.model.families.bert import BERT, ROBERTA, XLM_ROBERTA
from orrery.model.families.cohere import COHERE
from orrery.model.families.cohere2 import COHERE2
from orrery.model.families.deepseek import DEEPSEEK_V2, DEEPSEEK_V3
from orrery.model.families.distilbert import DISTILBERT
from orrery.model.families.family import Family
from orrery.model.families.gemma import GEMMA
from orrery.model.families.gemma2 import GEMMA2
from orrery.model.families.gemma3 import GEMMA3
from orrery.model.families.glm import GLM
from orrery.model.families.glm4 import GLM4
from orrery.model.families.gpt2 import GPT2
from orrery.model.families.gpt_neox import GPT_NEOX
from orrery.model.families.gpt_oss import GPT_OSS
from orrery.model.families.granite import GRANITE
from orrery.model.families.granite_hybrid import GRANITE_HYBRID
from orrery.model.families.llama import LLAMA
from orrery.model.families.mamba2 import MAMBA2
from orrery.model.families.ministral import MINISTRAL
from orrery.model.families.ministral3 import MINISTRAL3
from orrery.model.families.mistral import MISTRAL
from orrery.model.families.mixtral import MIXTRAL
from orrery.model.families.modernbert import MODERNBERT
from orrery.model.families.nemotron_h import NEMOTRON_H
from orrery.model.families.olmo import OLMO
from orrery.model.families.olmo2 import OLMO2
from orrery.model.families.olmo3 import OLMO3
from orrery.model.families.phi import PHI
from orrery.model.families.phi3 import PHI3
from orrery.model.families.qwen2 import QWEN2
from orrery.model.families.qwen2_moe import QWEN2_MOE
from orrery.model.families.qwen3 import QWEN3
from orrery.model.families.qwen3_moe import QWEN3_MOE
from orrery.model.families.qwen3_next import QWEN3_NEXT
from orrery.model.families.smollm3 import SMOLLM3
from orrery.model.families.t5 import MT5, T5

FAMILIES: tuple[Family, ...] = (
    LLAMA, MISTRAL, MINISTRAL, MINISTRAL3, QWEN2, QWEN3, GEMMA, GEMMA2, GEMMA3, PHI, PHI3, OLMO, OLMO2, OLMO3,
    SMOLLM3, GRANITE, COHERE, COHERE2, GLM, GLM4, GPT2, GPT_NEOX, MIXTRAL, QWEN3_MOE, QWEN2_MOE, GPT_OSS,
    DEEPSEEK_V2, DEEPSEEK_V3, MAMBA2, NEMOTRON_H, GRANITE_HYBRID, QWEN3_NEXT,
    BERT, ROBERTA, XLM_ROBERTA, DISTILBERT, MODERNBERT, T5, MT5,
)  # fmt: skip
"""In the order in which they are asked whether they express a network."""

BY_TYPE: dict[str, Family] = {name: f for f in FAMILIES for name in (f.model_type, *f.aliases)}


def family_of(cfg: Any, *, prefer: str | None = None) -> Family | None:
    """A family that expresses `cfg` exactly: the one named `prefer` if it does, else the first; or None."""
    first = [BY_TYPE[prefer]] if prefer in BY_TYPE else []
    return next((family for family in (*first, *FAMILIES) if family.expresses(cfg)), None)
