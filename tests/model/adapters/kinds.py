"""One adapter of every kind, with weights that matter, and passes through them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from orrery.model import Decoder, Packed
from orrery.model.adapters import (
    Adapter,
    AdapterConfig,
    AdapterSlots,
    Bottleneck,
    Ia3,
    Lora,
    Prefix,
    Prompt,
    Reft,
    Vera,
    new_adapter,
)
from orrery.model.adapters.slots import slots_of_tokens
from orrery.model.adapters.virtual import PLACEHOLDER

KINDS: dict[str, AdapterConfig] = {
    "lora": Lora(rank=3, alpha=6.0, bias=True),
    "rslora": Lora(rank=3, alpha=3.0, rslora=True, targets=("q_proj", "up_proj")),
    "dora": Lora(rank=3, alpha=6.0, dora=True),
    "pissa": Lora(rank=3, alpha=6.0, init="pissa", targets=("attn.*_proj", "blocks.1.*")),
    "vera": Vera(rank=8, targets=("q_proj", "down_proj")),
    "ia3": Ia3(),
    "prefix": Prefix(tokens=3),
    "prompt": Prompt(tokens=4),
    "bottleneck": Bottleneck(width=5),
    "pfeiffer": Bottleneck(width=5, after="mlp", activation="relu"),
    "reft": Reft(rank=2, layers=(0, 2)),
    "reft-first": Reft(rank=2, positions="first", count=2),
}
MERGEABLE = ("rslora", "dora", "pissa", "vera", "ia3")
CHANGES_AT_ONCE = ("prefix", "prompt")


def made(model: Decoder, name: str, seed: int = 0) -> Adapter:
    """An adapter of that kind as it would be after some training."""
    adapter = new_adapter(model, KINDS[name], seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.requires_grad_(False).add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return adapter


def with_placeholders(
    model: Decoder, parts: Sequence[Tensor], slots: Sequence[int | None]
) -> tuple[Tensor, list[int]]:
    """(tokens, lengths) of a pass: each text behind the placeholders of its adapter."""
    carried = AdapterSlots.of(model)
    whole = [
        torch.cat([part.new_full((carried.virtual_tokens(slot),), PLACEHOLDER), part])
        for part, slot in zip(parts, slots, strict=True)
    ]
    return torch.cat(whole), [len(part) for part in whole]


def packed(lengths: Sequence[int], slots: Sequence[int | None]) -> Packed:
    ctx = Packed(lengths)
    ctx.adapters = slots_of_tokens(slots, lengths)
    return ctx


def adapted(model: Decoder, adapter: Adapter, ids: Tensor) -> Tensor:
    """Logits of the text alone, by the adapter beside the model, which is as it was afterwards."""
    slots = AdapterSlots.of(model)
    slot = slots.add(adapter)
    try:
        tokens, lengths = with_placeholders(model, [ids], [slot])
        return model.head(model(tokens, packed(lengths, [slot])))[-len(ids) :]
    finally:
        slots.remove(slot)
