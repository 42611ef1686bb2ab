"""Float layers whose rows do not notice each other: the same weights, multiplied by our kernel.

A library's matrix product sums in another order for another number of rows, so a token's logits change in the last bits with what
else is in the batch. Here a row's result is its own (cpp/dense.h). Everything else - training, other devices, other number formats - is torch's.
"""

from __future__ import annotations

from typing import Self

from torch import Tensor, nn

from orrery.model.lowbit import ops


class NativeLinear(nn.Linear):
    """x W^T + b, with the parameters of the layer it was made of."""

    @classmethod
    def of(cls, layer: nn.Linear) -> Self:
        """The same layer; the parameters are shared."""
        new = cls(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
        new.weight, new.bias = layer.weight, layer.bias
        return new.train(layer.training)

    def forward(self, input: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        return ops.linear(input, self.weight, self.bias)


class NativeEmbedding(nn.Embedding):
    """A table of rows, and the head tied to it."""

    @classmethod
    def of(cls, layer: nn.Embedding) -> Self:
        """The same layer; the table is shared."""
        new = cls(layer.num_embeddings, layer.embedding_dim, device="meta")
        new.weight = layer.weight
        return new.train(layer.training)

    def forward(self, input: Tensor) -> Tensor:
        """(...,) ids -> (..., d)."""
        return ops.embedding(input, self.weight)

    def as_linear(self, x: Tensor) -> Tensor:
        """Logits of a tied head: (..., d) -> (..., vocabulary)."""
        return ops.linear(x, self.weight)


class NativeLayerNorm(nn.LayerNorm):
    """LayerNorm over the last axis."""

    @classmethod
    def of(cls, layer: nn.LayerNorm) -> Self:
        """The same layer; the parameters are shared."""
        new = cls(
            list(layer.normalized_shape),
            layer.eps,
            layer.elementwise_affine,
            layer.bias is not None,
            device="meta",
        )
        new.weight, new.bias = layer.weight, layer.bias
        return new.train(layer.training)

    def forward(self, input: Tensor) -> Tensor:
        """(..., width) -> (..., width)."""
        return ops.layer_norm(input, self.weight, self.bias, self.eps)


NATIVE: dict[type[nn.Module], type[NativeLinear | NativeEmbedding | NativeLayerNorm]] = {
    nn.Linear: NativeLinear, nn.Embedding: NativeEmbedding, nn.LayerNorm: NativeLayerNorm,
}  # fmt: skip
