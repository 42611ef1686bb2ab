"""Adapters: small learned parts beside a frozen model, many to a model, mixed in one batch.

config     the kinds                                  part       what all of them are: a change of some rows at one module
low_rank   LoRA, rsLoRA, LoRA+, PiSSA                 dora, vera, scaling (IA3), bottleneck, reft, virtual (prompts, prefixes)
create     new ones                                   slots      beside a model: which token goes through which
adapter    fit, share, merging                        folder     files: peft's format, and one of our own for what peft has not
"""

from __future__ import annotations

from orrery.model.adapters.adapter import Adapter, linear_shapes, merge_adapter, merge_adapters
from orrery.model.adapters.config import AdapterConfig, Bottleneck, Ia3, Lora, Prefix, Prompt, Reft, Vera
from orrery.model.adapters.create import new_adapter
from orrery.model.adapters.slots import AdapterSlots, slots_of_tokens

__all__ = [
    "Adapter",
    "AdapterConfig",
    "AdapterSlots",
    "Bottleneck",
    "Ia3",
    "Lora",
    "Prefix",
    "Prompt",
    "Reft",
    "Vera",
    "linear_shapes",
    "merge_adapter",
    "merge_adapters",
    "new_adapter",
    "slots_of_tokens",
]
