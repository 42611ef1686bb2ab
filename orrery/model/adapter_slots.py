"""Which adapters a model carries, and which of them each token of a pass goes through.

    slots = AdapterSlots.of(model)
    slot = slots.add(adapter)
    ctx.adapters = slots_of_tokens([slot, None], lengths)       # sequence 0 by the adapter, sequence 1 by the model alone
    hidden = model(tokens, ctx)

T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from orrery.kit.errors import OrreryError
from orrery.model.context import Context
from orrery.model.decoder import Decoder
from orrery.model.lora import Adapter, LoRALayer, Using, check_fits
from orrery.model.surgery import replace

NONE = -1
"""In `Context.adapters`: a token that goes through the model alone."""


class AdapterSlots:
    """The adapters that a model carries beside its own weights. Change them between passes only.

    `default` is the slot of tokens whose context names none (`ctx.adapters` None): None for the model alone.
    """

    def __init__(self, model: Decoder) -> None:
        self.model = model
        self.default: int | None = None
        self.adapters: dict[int, Adapter] = {}
        self._using = Using()
        self._next = 0
        self._hooks: list[Any] = []

    @classmethod
    def of(cls, model: Decoder) -> AdapterSlots:
        """Those of `model`, made at the first call."""
        slots = model.__dict__.get("adapter_slots")
        if slots is None:
            slots = cls(model)
            model.adapter_slots = slots  # type: ignore[bad-argument-type]
        return slots

    def add(self, adapter: Adapter) -> int:
        """Put an adapter beside the layers it names and give it a slot, a number that is never used again.

        Raises:
            OrreryError: a layer that is missing, of another size, or outside the blocks.
        """
        check_fits(self.model, adapter)
        outside = next((name for name in adapter.layers if not name.startswith("blocks.")), None)
        if outside is not None:
            raise OrreryError(
                f"the adapter changes '{outside}', which is outside the model's blocks; merge it into the model instead"
            )
        slot, self._next = self._next, self._next + 1
        plain = {name for name in adapter.layers if not isinstance(self.model.get_submodule(name), LoRALayer)}
        if plain:
            replace(
                self.model,
                lambda name, module: name in plain,
                lambda base: LoRALayer(base, self._using),  # type: ignore[bad-argument-type]
                operation="lora",
            )
        for name, low in adapter.layers.items():
            self.model.get_submodule(name).low[str(slot)] = low.train(self.model.training)  # type: ignore[bad-argument-type]
        self.adapters[slot] = adapter
        if not self._hooks:
            self._hooks = [block.register_forward_pre_hook(self._enter) for block in self.model.blocks]
        return slot

    def remove(self, slot: int) -> None:
        """Take an adapter away; layers without any are the model's own again, and its surgery list forgets them."""
        freed: set[str] = set()
        for name in self.adapters.pop(slot).layers:
            layer: Any = self.model.get_submodule(name)
            del layer.low[str(slot)]
            if not layer.low:
                self.model.set_submodule(name, layer.base)
                freed.add(name)
        kept = (
            {**entry, "modules": [name for name in entry["modules"] if name not in freed]}
            if entry["operation"] == "lora"
            else entry
            for entry in self.model.surgery
        )
        self.model.surgery = [entry for entry in kept if entry["modules"]]
        if self.default == slot:
            self.default = None
        if not self.adapters:
            for hook in self._hooks:
                hook.remove()
            self._hooks = []

    def _enter(self, block: nn.Module, inputs: tuple[Any, ...]) -> None:
        ctx: Context = inputs[1]
        self._using.groups = ctx.once("adapters", lambda: self._groups(ctx.adapters))

    def _groups(self, slots: Tensor | None) -> tuple[tuple[int, Tensor | None], ...]:
        """Rows by adapter. A pass whose tokens all go through one adapter needs no gathering."""
        if slots is None:
            return () if self.default is None else ((self.default, None),)
        present: list[int] = slots.unique().tolist()
        strange = [slot for slot in present if slot != NONE and slot not in self.adapters]
        if strange:
            raise OrreryError(f"the model carries no adapter in slot {strange[0]}; it was removed")
        if len(present) == 1:
            return () if present == [NONE] else ((present[0], None),)
        return tuple((slot, (slots == slot).nonzero().flatten()) for slot in present if slot != NONE)


def slots_of_tokens(
    slots: Sequence[int | None], lengths: Sequence[int], *, device: torch.device | str | None = None
) -> Tensor | None:
    """What `Context.adapters` takes: the slot of each sequence (None: the model alone), spread over its tokens; (T,) int64.

    None if no sequence has an adapter and so nothing is to be looked up.
    """
    if all(slot is None for slot in slots):
        return None
    numbers = torch.tensor([NONE if slot is None else slot for slot in slots])
    return numbers.repeat_interleave(torch.tensor(list(lengths))).to(device)
