"""An adapter: its parts by the names of the modules they belong to, and what can be done with them.

    adapter = new_adapter(model, Lora(rank=8), seed=0)
    print(adapter.share(model))                         # "344,064 weights learn, 0.13% of the model's 268,098,176; 1.4 MB"
    merge_adapter(model, adapter)                       # for good

It is a module of its own: its state dict holds what is learned and nothing of the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from orrery.kit.errors import OrreryError
from orrery.model.adapters.config import AdapterConfig
from orrery.model.adapters.part import Part, is_linear
from orrery.model.adapters.virtual import Virtual
from orrery.model.lowbit import QuantEmbedding, QuantLinear


class Adapter(nn.Module):
    """The parts of one adapter by the names of modules of the model."""

    def __init__(self, config: AdapterConfig, parts: Mapping[str, Part]) -> None:
        super().__init__()
        self.config = config
        self.modules_by_name = nn.ModuleDict({name.replace(".", "/"): part for name, part in parts.items()})

    @property
    def parts(self) -> dict[str, Part]:
        """By the modules' names."""
        return {name.replace("/", "."): part for name, part in self.modules_by_name.items()}  # type: ignore[bad-return]

    @property
    def virtual_tokens(self) -> int:
        """Placeholders that a sequence begins with (see `virtual`)."""
        return max((len(p.table) for p in self.parts.values() if isinstance(p, Virtual)), default=0)

    @property
    def bytes(self) -> int:
        """Memory of what is learned."""
        return sum(parameter.nbytes for parameter in self.parameters())

    @property
    def size(self) -> int:
        """How many numbers are learned."""
        return sum(parameter.numel() for parameter in self.parameters())

    def share(self, model: nn.Module) -> str:
        """What learns beside what stands still, as a person reads it."""
        mine = {id(p) for p in self.parameters()}
        whole = sum(p.numel() for p in model.parameters() if id(p) not in mine) + frozen_size(model)
        return f"{self.size:,} weights learn, {self.size / whole:.2%} of the model's {whole:,}; {self.bytes / 1e6:,.1f} MB"


def frozen_size(model: nn.Module) -> int:
    """Weights in quantised layers, which are no parameters."""
    tables = [m for m in model.modules() if isinstance(m, QuantLinear | QuantEmbedding)]
    return sum(m.matrix.shape[0] * m.matrix.shape[1] for m in tables)


def adaptable(model: nn.Module) -> dict[str, nn.Module]:
    """Every module of the model by its name, without the adapters beside it."""
    found: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        if {"base", "beside"} & set(name.split(".")):
            continue
        found[name] = plain_layer(module)
    return found


def linear_shapes(model: nn.Module) -> dict[str, tuple[int, int]]:
    """(out, in) of every linear layer, adapted or quantised ones too, by name."""
    return {n: (m.out_features, m.in_features) for n, m in adaptable(model).items() if is_linear(m)}  # type: ignore[bad-return]


def plain_layer(layer: nn.Module) -> Any:
    """The layer itself, without the adapters beside it."""
    from orrery.model.adapters.slots import Adapted

    return layer.base if isinstance(layer, Adapted) else layer


def check_fits(model: nn.Module, adapter: Adapter) -> None:
    """Every module that the adapter names is there, and of its size.

    Raises:
        OrreryError: names the first that is not.
    """
    modules = adaptable(model)
    for name, part in adapter.parts.items():
        if name not in modules:
            raise OrreryError(
                f"the adapter changes '{name}', which is no linear layer or other part of this model; it is another model's"
            )
        if made_for := part.fits(modules[name]):
            raise OrreryError(
                f"the adapter's part of '{name}' is for {made_for}, but the model has {_shape(modules[name])} there; it is another model's"
            )


def _shape(module: nn.Module) -> str:
    if is_linear(module):
        return f"a layer from {module.in_features} to {module.out_features} numbers"
    return f"a {type(module).__name__}"


def merge_adapter(model: nn.Module, adapter: Adapter, *, weight: float = 1.0) -> None:
    """`merge_adapters` of one."""
    merge_adapters(model, [(adapter, weight)])


@torch.no_grad()
def merge_adapters(model: nn.Module, adapters: Sequence[tuple[Adapter, float]]) -> None:
    """Put what adapters do into the model's own weights, in place: W + sum_i weight_i (W_i - W), where W_i is the weight with adapter i,
    computed in float32 and rounded once (task arithmetic: Ilharco et al. 2022, arXiv:2212.04089).

    Raises:
        OrreryError: one does not fit, is of a kind that is no matrix product, a layer is quantised, or a bias has no place; the
            model is as it was.
    """
    made: dict[str, tuple[Any, Tensor, Tensor | None]] = {}
    for adapter, share in adapters:
        check_fits(model, adapter)
        for name, part in adapter.parts.items():
            layer = plain_layer(model.get_submodule(name))
            weight, bias = _merged(name, layer, part)
            _, whole, whole_bias = made.get(name, (layer, layer.weight.float(), _floats(layer.bias)))
            whole = whole + share * (weight - layer.weight.float())
            if bias is not None and whole_bias is not None:
                whole_bias = whole_bias + share * (bias - layer.bias.float())
            made[name] = layer, whole, whole_bias
    for layer, weight, bias in made.values():
        layer.weight.copy_(weight)
        if bias is not None:
            layer.bias.copy_(bias)


def check_mergeable(adapter: Adapter) -> None:
    """Refuse an adapter of a kind that no weights can stand for.

    Raises:
        OrreryError: it is one.
    """
    for part in adapter.parts.values():
        if type(part).merged is Part.merged:
            part.merged(torch.empty(0), None)


def _merged(name: str, layer: Any, part: Part) -> tuple[Tensor, Tensor | None]:
    if is_linear(layer) and not isinstance(layer, nn.Linear):
        raise OrreryError(
            f"the weights of '{name}' are quantised, and an adapter cannot be added to them; load the model dequantised"
        )
    if not isinstance(layer, nn.Linear):
        return part.merged(torch.empty(0), None)  # which refuses
    weight, bias = part.merged(layer.weight.float(), _floats(layer.bias))
    if layer.bias is None and bias is not None:
        raise OrreryError(
            f"the adapter adds a bias at '{name}', where the model has none to merge it into; keep it apart"
        )
    return weight, bias


def _floats(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.float()
