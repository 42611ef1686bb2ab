"""Linear and embedding layers whose weights stay block-quantised in memory.

    layer = QuantLinear.from_blocks(raw, "Q4_K")      # raw: the rows of a GGUF tensor, uint8
    y = layer(x)                                      # (T, in) -> (T, out)

Activations are rounded to int8 by blocks of 32; against float32 products of the same dequantised weights the result is off by about half a
percent of its size. With `activation_bits` 16, what rounding lost is rounded again and added: off by some 1e-5, for a quarter more time
a token and twice as much a prompt. A row's result is the same, bit for bit, in any batch and with any number of threads.

On a CPU. Inputs get gradients (`frozen`), so that adapters beside such layers can learn; the weights get none. They are neither parameters
nor buffers: `state_dict` does not list them, and `.to` does not touch them (`save_model` refuses such a model; `blocks` gives back what to write). T tokens.
"""

from __future__ import annotations

from typing import Literal, Self

import torch
from torch import Tensor, nn

from orrery.kit.errors import OrreryError
from orrery.model.lowbit import ops
from orrery.model.lowbit.choice import make_matrix
from orrery.model.lowbit.frozen import FrozenProduct, FrozenWeight
from orrery.model.lowbit.kinds import KINDS
from orrery.model.lowbit.matrix import Matrix
from orrery.model.lowbit.native import recording

ActivationBits = Literal[8, 16]


def set_activation_bits(model: nn.Module, bits: ActivationBits) -> None:
    """Make every block-quantised layer of `model` round its inputs to 8 bits (fast) or 16 (as good as float32)."""
    for module in model.modules():
        if isinstance(module, QuantLinear | QuantEmbedding):
            module.activation_bits = bits


class QuantLinear(nn.Module):
    """x W^T + b with quantised W. Build one by `from_blocks`."""

    def __init__(self, matrix: Matrix, kind: str, bias: Tensor | None = None) -> None:
        super().__init__()
        self.matrix, self.weight_kind = matrix, kind
        self.out_features, self.in_features = matrix.shape
        self.bias = None if bias is None else bias.detach().float()
        self.activation_bits: ActivationBits = 8

    @classmethod
    def from_blocks(cls, raw: Tensor, kind: str, bias: Tensor | None = None) -> Self:
        """Take the rows of a tensor, (out, bytes of a row) uint8; they are copied into a layout of our own.

        Kinds in `KINDS` keep their size in memory. Others that can be read (F16, ...) are dequantised to dense float32,
        and their products are torch's.

        Raises:
            OrreryError: the bytes are not rows of that kind.
        """
        return cls(_matrix(raw, kind), kind, bias)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) of any float type -> (..., out) of the same type.

        Raises:
            OrreryError: x is not on the CPU, or has another width.
        """
        y = _multiply(self.matrix, x, self.activation_bits)
        return y if self.bias is None else ops.add_bias(y, self.bias)

    def dequantized(self) -> Tensor:
        """(out, in) float32."""
        return self.matrix.piece(0, self.out_features)

    def frozen(self) -> FrozenWeight:
        """The weight as the loss of a head takes it."""
        return FrozenWeight(self.matrix, self.activation_bits // 8)

    def blocks(self) -> Tensor:
        """(out, bytes of a row) uint8: exactly the bytes it was made from."""
        return self.matrix.blocks()

    @property
    def finite(self) -> bool:
        """No weight is NaN or infinite."""
        return self.matrix.finite

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, {self.weight_kind}, bias={self.bias is not None}"


class QuantEmbedding(nn.Module):
    """A table of quantised rows: looked up, and multiplied by when it is also the head (`as_linear`)."""

    def __init__(self, matrix: Matrix, kind: str) -> None:
        super().__init__()
        self.matrix, self.weight_kind = matrix, kind
        self.num_embeddings, self.embedding_dim = matrix.shape
        self.activation_bits: ActivationBits = 8

    @classmethod
    def from_blocks(cls, raw: Tensor, kind: str) -> Self:
        """Take the rows of a tensor, (vocabulary, bytes of a row) uint8; as `QuantLinear.from_blocks`.

        Raises:
            OrreryError: the bytes are not rows of that kind.
        """
        return cls(_matrix(raw, kind), kind)

    def forward(self, ids: Tensor) -> Tensor:
        """(...,) ids -> (..., d) float32, the rows dequantised.

        Raises:
            OrreryError: an id is outside the table, or ids are not on the CPU.
        """
        _on_cpu(ids)
        flat = ids.reshape(-1).long()
        if flat.numel() and not recording():
            low, high = (int(x) for x in flat.aminmax())
            if low < 0 or high >= self.num_embeddings:
                raise OrreryError(
                    f"the ids {low}..{high} are outside a table of {self.num_embeddings} rows; check the tokenizer"
                )
        return self.matrix.rows(flat).view(*ids.shape, self.embedding_dim)

    def as_linear(self, x: Tensor) -> Tensor:
        """Logits of a tied head: (..., d) -> (..., vocabulary), from the same memory.

        Raises:
            OrreryError: as `QuantLinear.forward`.
        """
        return _multiply(self.matrix, x, self.activation_bits)

    def dequantized(self) -> Tensor:
        """(vocabulary, d) float32."""
        return self.matrix.piece(0, self.num_embeddings)

    def frozen(self) -> FrozenWeight:
        """The table as the loss of a tied head takes it."""
        return FrozenWeight(self.matrix, self.activation_bits // 8)

    def blocks(self) -> Tensor:
        """(vocabulary, bytes of a row) uint8: exactly the bytes it was made from."""
        return self.matrix.blocks()

    @property
    def finite(self) -> bool:
        """No weight is NaN or infinite."""
        return self.matrix.finite

    def extra_repr(self) -> str:
        return f"{self.num_embeddings}, {self.embedding_dim}, {self.weight_kind}"


def _matrix(raw: Tensor, kind: str) -> Matrix:
    if raw.dtype != torch.uint8 or raw.ndim != 2 or raw.device.type != "cpu":
        raise OrreryError(
            f"quantised rows are a (rows, bytes) uint8 tensor on the CPU, not {tuple(raw.shape)} {raw.dtype} on {raw.device}"
        )
    if kind in KINDS and (raw.numel() == 0 or raw.shape[1] % KINDS[kind].size):
        raise OrreryError(
            f"rows of {raw.shape[1]} bytes are not whole {kind} blocks of {KINDS[kind].size}; check the tensor's type"
        )
    return make_matrix(raw, kind)


def _multiply(matrix: Matrix, x: Tensor, bits: ActivationBits) -> Tensor:
    _on_cpu(x)
    n, k = matrix.shape
    if x.shape[-1] != k:
        raise OrreryError(f"inputs of width {x.shape[-1]} do not fit a weight of {k} columns")
    flat = x.reshape(-1, k).float().contiguous()
    if flat.requires_grad and torch.is_grad_enabled():
        y = FrozenProduct.apply(flat, matrix, bits // 8)
        return y.to(x.dtype).view(*x.shape[:-1], n)
    y = matrix.multiply(flat, bits // 8) if flat.shape[0] else flat.new_empty(0, n)
    return y.to(x.dtype).view(*x.shape[:-1], n)


def _on_cpu(x: Tensor) -> None:
    if x.device.type != "cpu":
        raise OrreryError(
            f"block-quantised layers run on the CPU, but the input is on {x.device}; load the model dequantised for other devices"
        )
