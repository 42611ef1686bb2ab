"""Which adapters a model carries, and which of them each token of a pass goes through.

    slots = AdapterSlots.of(model)
    slot = slots.add(adapter)
    ctx.adapters = slots_of_tokens([slot, None], lengths)       # sequence 0 by the adapter, sequence 1 by the model alone
    hidden = model(tokens, ctx)

A linear layer is wrapped, so that nobody multiplies by its weight past the adapters; what else is adapted (sublayers, blocks, probes) gets a
hook. A sequence of an adapter with virtual tokens begins with that many placeholders: `virtual`. T tokens.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from orrery.kit.errors import OrreryError
from orrery.model.adapters.adapter import Adapter, adaptable, check_fits, plain_layer
from orrery.model.adapters.part import Rows, behind, is_linear, through
from orrery.model.context import Context
from orrery.model.decoder import Decoder
from orrery.model.surgery import replace

NONE = -1
"""In `Context.adapters`: a token that goes through the model alone."""


class Using(threading.local):
    """Which adapters the pass under way goes through: the rows of each.

    Linear layers are handed no context, so the block around them sets this; each thread has its own.
    """

    rows: tuple[Rows, ...] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        """Of a copied model the layers share one of their own."""
        return Using, ()


class Beside(nn.Module):
    """The parts that stand at one module, by slot."""

    def __init__(self, using: Using) -> None:
        super().__init__()
        self.parts, self.using = nn.ModuleDict(), using

    def active(self) -> list[tuple[nn.Module, Rows]]:
        """Those of the pass under way, with their rows."""
        return [(self.parts[str(r.slot)], r) for r in self.using.rows if str(r.slot) in self.parts]

    def hook(self, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        """What the module's callers get in place of its output."""
        return behind(self.active(), module, inputs[0], output)


class Adapted(nn.Module):
    """A linear layer with adapters beside it."""

    def __init__(self, base: nn.Module, using: Using) -> None:
        super().__init__()
        self.base, self.beside = base, Beside(using)
        self.out_features, self.in_features = base.out_features, base.in_features

    def forward(self, x: Tensor) -> Tensor:
        """(T, in) -> (T, out) in the type of the base."""
        return through(self.beside.active(), self.base, x)

    @property
    def bias(self) -> Tensor | None:
        return self.base.bias  # type: ignore[bad-return]

    @property
    def weight(self) -> Tensor:
        """Refused: whoever multiplies by the weight itself would leave the adapters out.

        Raises:
            OrreryError: always.
        """
        raise OrreryError(
            "the weight of an adapted layer is not what it computes with; merge the adapter, or run the layer expanded"
        )


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
        self._entries: list[Any] = []
        self._hooked: dict[str, tuple[Beside, Any]] = {}

    @classmethod
    def of(cls, model: Decoder) -> AdapterSlots:
        """Those of `model`, made at the first call."""
        slots = model.__dict__.get("adapter_slots")
        if slots is None:
            slots = cls(model)
            model.adapter_slots = slots  # type: ignore[bad-argument-type]
        return slots

    def add(self, adapter: Adapter) -> int:
        """Put an adapter beside the modules it names and give it a slot, a number that is never used again.

        Raises:
            OrreryError: a module that is missing, of another size, or one that no block and no probe of the model reaches.
        """
        check_fits(self.model, adapter)
        outside = next((n for n in adapter.parts if not n.startswith("blocks.") and n != "embedded"), None)
        if outside is not None:
            raise OrreryError(
                f"the adapter changes '{outside}', which is outside the model's blocks; merge it into the model instead"
            )
        slot, self._next = self._next, self._next + 1
        modules = adaptable(self.model)
        linear = {name for name in adapter.parts if is_linear(modules[name])}
        plain = {name for name in linear if not isinstance(self.model.get_submodule(name), Adapted)}
        if plain:
            replace(
                self.model,
                lambda name, module: name in plain,
                lambda base: Adapted(base, self._using),
                operation=adapter.config.kind,
            )
        for name, part in adapter.parts.items():
            self._beside(name).parts[str(slot)] = part.train(self.model.training)
        self.adapters[slot] = adapter
        if not self._entries:
            entered = [self.model.embedded, *self.model.blocks]
            self._entries = [module.register_forward_pre_hook(self._enter) for module in entered]
        return slot

    def remove(self, slot: int) -> None:
        """Take an adapter away; modules without any are the model's own again, and its surgery list forgets them."""
        freed: set[str] = set()
        for name in self.adapters.pop(slot).parts:
            beside = self._beside(name)
            del beside.parts[str(slot)]
            if beside.parts:
                continue
            if name in self._hooked:
                self._hooked.pop(name)[1].remove()
            else:
                self.model.set_submodule(name, plain_layer(self.model.get_submodule(name)))
                freed.add(name)
        kept = (
            {**entry, "modules": [name for name in entry["modules"] if name not in freed]}
            for entry in self.model.surgery
        )
        self.model.surgery = [entry for entry in kept if entry["modules"]]
        if self.default == slot:
            self.default = None
        if not self.adapters:
            for entry in self._entries:
                entry.remove()
            self._entries = []

    def virtual_tokens(self, slot: int | None) -> int:
        """Placeholders that a sequence of this slot begins with."""
        return 0 if slot is None else self.adapters[slot].virtual_tokens

    def _beside(self, name: str) -> Beside:
        module: Any = self.model.get_submodule(name)
        if isinstance(module, Adapted):
            return module.beside
        if name not in self._hooked:
            beside = Beside(self._using)
            self._hooked[name] = beside, module.register_forward_hook(beside.hook)
        return self._hooked[name][0]

    def _enter(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        ctx: Context = inputs[1]
        self._using.rows = ctx.once("adapters", lambda: self._rows(ctx))

    def _rows(self, ctx: Context) -> tuple[Rows, ...]:
        """Rows by adapter. A pass whose tokens all go through one adapter needs no gathering."""
        slots = ctx.adapters
        if slots is None:
            whole = () if self.default is None else (self.default,)
            return tuple(Rows(slot, None, ctx.positions, ctx.edited) for slot in whole)
        present: list[int] = slots.unique().tolist()
        strange = [slot for slot in present if slot != NONE and slot not in self.adapters]
        if strange:
            raise OrreryError(f"the model carries no adapter in slot {strange[0]}; it was removed")
        if len(present) == 1:
            return () if present == [NONE] else (Rows(present[0], None, ctx.positions, ctx.edited),)
        found = []
        for slot in present:
            if slot != NONE:
                index = (slots == slot).nonzero().flatten()
                edited = None if ctx.edited is None else ctx.edited[index]
                found.append(Rows(slot, index, ctx.positions[index], edited))
        return tuple(found)


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
