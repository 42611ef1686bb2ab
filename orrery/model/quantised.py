"""Put block-quantised weights into a model that was built as shapes: layers over the blocks take the places of its own."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from orrery.model.lowbit import QuantEmbedding, QuantLinear
from orrery.model.lowbit.dense import NATIVE
from orrery.model.lowbit.experts import QuantStack
from orrery.model.moe import Experts


def takes_blocks(model: nn.Module, name: str) -> bool:
    """Whether the weight `name` belongs to a layer that can work on blocks: linear, embedding, or a stack of experts."""
    module, _, leaf = name.rpartition(".")
    owner = model.get_submodule(module)
    if isinstance(owner, Experts):
        return leaf in ("gate_up", "up", "down")
    return leaf == "weight" and isinstance(owner, nn.Linear | nn.Embedding)


def place(model: nn.Module, name: str, raw: Tensor, kind: str, bias: Tensor | None = None) -> None:
    """Let the weight `name` be the rows `raw` of format `kind`: (out, bytes), or (E, out, bytes) of experts.

    Raises:
        OrreryError: the bytes are not rows of that kind.
    """
    module, _, leaf = name.rpartition(".")
    owner = model.get_submodule(module)
    if isinstance(owner, Experts):
        delattr(owner, leaf)
        setattr(owner, leaf, QuantStack.from_blocks(raw, kind))
        return
    parent, _, last = module.rpartition(".")
    new = (
        QuantEmbedding.from_blocks(raw, kind)
        if isinstance(owner, nn.Embedding)
        else QuantLinear.from_blocks(raw, kind, bias)
    )
    setattr(model.get_submodule(parent), last, new)


def use_native_kernels(model: nn.Module) -> None:
    """Let all that a model does at inference be computed by our own kernel: products, norms, rotations, attention, activations,
    sums. What the kernel has no operation for stays torch's, and so does whatever needs a gradient."""
    for module in list(model.modules()):
        if hasattr(module, "native"):
            module.native = True  # type: ignore[bad-argument-type]
        for name, child in module.named_children():
            if type(child) in NATIVE:
                setattr(module, name, NATIVE[type(child)].of(child))  # type: ignore[bad-argument-type]


def not_finite_blocks(model: nn.Module) -> tuple[str, ...]:
    """The quantised layers with a scale or a minimum that is NaN or infinite: no other number of a block can be."""
    layers = ((n, m) for n, m in model.named_modules() if isinstance(m, QuantLinear | QuantEmbedding))
    return tuple(f"{name}.weight" for name, layer in layers if not layer.finite)


def stacks(model: nn.Module) -> dict[str, QuantStack]:
    """The quantised stacks of experts in a model, by the names of the parameters they stand for."""
    return {name: module for name, module in model.named_modules() if isinstance(module, QuantStack)}


def dense_shape(stack: QuantStack) -> Tensor:
    """The parameter a stack stands for, as a shape."""
    return torch.empty(stack.shape, device="meta")
