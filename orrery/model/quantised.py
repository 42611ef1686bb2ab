"""Quantised weights in a model's layers: those of a file put into a model that was built as shapes, or a float model's own, frozen so that
adapters beside them can learn (QLoRA: Dettmers et al. 2023, arXiv:2305.14314).

    freeze_quantised(model, "NF4")                     # the linear layers of the blocks; then new_adapter(model, Lora(...))
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from orrery.kit.errors import OrreryError, suggest
from orrery.model.lowbit import KINDS, QuantEmbedding, QuantLinear
from orrery.model.lowbit.dense import NATIVE
from orrery.model.lowbit.experts import QuantStack
from orrery.model.lowbit.nf4_matrix import Nf4Matrix
from orrery.model.moe import Experts
from orrery.model.quant import fallback, quantize
from orrery.model.quant.nf4 import quantize_nf4
from orrery.model.surgery import replace


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


def freeze_quantised(model: nn.Module, kind: str = "NF4", *, tables: str | None = None) -> None:
    """Quantise the linear layers of a float model's blocks in place, each to `kind` ("NF4", or one of GGUF's such as "Q4_K"), and freeze
    everything else. `tables`: to what the embedding and the head are quantised; None leaves them floats.

    Rows that are no whole blocks of the kind take the next one whose blocks they fill. Inputs are rounded to 16 bits.

    Raises:
        OrreryError: an unknown kind, or weights that are not finite.
    """
    for name in (kind, *([tables] if tables else [])):
        if name != "NF4" and name not in KINDS:
            known = ("NF4", *KINDS)
            raise OrreryError(
                f"no frozen layer is kept as '{name}'; there are {', '.join(known)}.{suggest(name, known)}"
            )
    model.requires_grad_(False)
    replace(
        model,
        lambda name, module: isinstance(module, nn.Linear) and name.startswith("blocks."),
        lambda layer: _frozen_linear(layer, kind),
        operation="quantise",
        arguments={"kind": kind},
    )
    if tables is not None:
        replace(
            model,
            lambda name, module: name in ("embed", "lm_head"),
            lambda layer: _frozen_table(layer, tables),
            operation="quantise",
            arguments={"kind": tables},
        )


def _frozen_linear(layer: nn.Module, kind: str) -> QuantLinear:
    assert isinstance(layer, nn.Linear)
    if kind == "NF4":
        made = QuantLinear(Nf4Matrix(quantize_nf4(layer.weight)), kind, layer.bias)
    else:
        fitting = fallback(kind, layer.in_features)
        made = QuantLinear.from_blocks(quantize(layer.weight, fitting), fitting, layer.bias)
    made.activation_bits = 16
    return made


def _frozen_table(layer: nn.Module, kind: str) -> QuantLinear | QuantEmbedding:
    if isinstance(layer, nn.Linear):
        return _frozen_linear(layer, kind)
    assert isinstance(layer, nn.Embedding)
    if kind == "NF4":
        made = QuantEmbedding(Nf4Matrix(quantize_nf4(layer.weight)), kind)
    else:
        fitting = fallback(kind, layer.embedding_dim)
        made = QuantEmbedding.from_blocks(quantize(layer.weight, fitting), fitting)
    made.activation_bits = 16
    return made


def quantised_bytes(model: nn.Module) -> int:
    """Memory of all weights, quantised ones too."""
    tables = [m for m in model.modules() if isinstance(m, QuantLinear | QuantEmbedding)]
    return sum(p.nbytes for p in model.parameters()) + sum(m.matrix.nbytes for m in tables)


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
