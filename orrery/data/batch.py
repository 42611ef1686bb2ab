"""What a training step learns from: packed tokens, their targets, and where every one of them came from.

Legend: T tokens on one flat axis. Rows of a batch lie end to end; there is no padding, only lengths.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from orrery.kit.errors import OrreryError


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of tokens of one document: inputs are its tokens [start, start + length), targets the next ones.

    `document` counts within its shard set, `corpus` says which shard set of the mixture.
    """

    document: int
    start: int
    length: int
    corpus: int = 0


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One micro-batch. Attention sees the runs given by `lengths` and never across them.

    Attributes:
        tokens: (T,) int64 inputs.
        targets: (T,) int64, what each position should predict; -1 where there is nothing to predict.
        weights: (T,) float32, the weight of each target in the loss; 0 is no loss.
        lengths: the runs, in order; they sum to T.
        pieces: one per run, where its tokens came from (empty when the batch was made by hand).

    Raises:
        OrreryError: nothing to learn from (no positive weight), shapes or types that do not fit, a run of no
            tokens, a negative or non-finite weight, a negative id, or a target of -1 that carries weight.
    """

    tokens: Tensor
    targets: Tensor
    weights: Tensor
    lengths: tuple[int, ...]
    pieces: tuple[Piece, ...] = ()

    def __post_init__(self) -> None:
        size = self.tokens.shape
        if len(size) != 1 or self.targets.shape != size or self.weights.shape != size:
            raise OrreryError(
                "a batch needs tokens, targets and weights of one shape (T,), "
                f"not {tuple(size)}, {tuple(self.targets.shape)}, {tuple(self.weights.shape)}"
            )
        if self.tokens.dtype != torch.int64 or self.targets.dtype != torch.int64:
            raise OrreryError(
                f"tokens and targets must be int64, not {self.tokens.dtype} and {self.targets.dtype}"
            )
        if self.weights.dtype != torch.float32:
            raise OrreryError(f"weights must be float32, not {self.weights.dtype}")
        if sum(self.lengths) != size[0] or min(self.lengths, default=0) < 1:
            raise OrreryError(
                f"lengths must be positive and sum to the {size[0]} tokens of the batch, not {self.lengths}"
            )
        if self.pieces and len(self.pieces) != len(self.lengths):
            raise OrreryError(
                f"a batch with lineage needs one piece per run, not {len(self.pieces)} for {len(self.lengths)}"
            )
        # On a device every look at a value would wait for it; batches are made, and checked, on the CPU.
        if self.tokens.device.type == "cpu":
            self._check_values()

    def _check_values(self) -> None:
        learned = self.weights > 0
        if not bool(learned.any()):
            raise OrreryError("this batch has nothing to learn from: no target has a positive weight")
        if not bool(torch.isfinite(self.weights).all()) or bool((self.weights < 0).any()):
            raise OrreryError("the weights of a batch must be finite and not negative")
        if int(self.tokens.min()) < 0 or int(self.targets.min()) < -1:
            raise OrreryError("token ids cannot be negative (a target of -1 means: nothing to predict)")
        if bool((learned & (self.targets < 0)).any()):
            raise OrreryError("a target of -1 cannot carry weight in the loss")

    def __len__(self) -> int:
        return self.tokens.shape[0]

    def check_vocabulary(self, vocab_size: int) -> None:
        """Refuse ids that a model of `vocab_size` has no row for.

        Raises:
            OrreryError: names the largest id.
        """
        largest = max(int(self.tokens.max()), int(self.targets.max()))
        if largest >= vocab_size:
            raise OrreryError(
                f"the batch holds token id {largest}, but the model knows only ids below {vocab_size}; "
                "prepare the data with the model's own tokenizer"
            )

    def to(self, device: torch.device | str) -> Batch:
        """The same batch with its tensors on `device`."""
        return Batch(
            tokens=self.tokens.to(device),
            targets=self.targets.to(device),
            weights=self.weights.to(device),
            lengths=self.lengths,
            pieces=self.pieces,
        )


def batch_of(documents: list[list[int]]) -> Batch:
    """A batch of whole documents given as ids: each predicts its tokens from the second on.

    Raises:
        OrreryError: a document of fewer than two tokens.
    """
    if any(len(ids) < 2 for ids in documents):
        raise OrreryError("a document needs at least two tokens: one to read and one to predict")
    tokens = torch.tensor([token for ids in documents for token in ids[:-1]], dtype=torch.int64)
    targets = torch.tensor([token for ids in documents for token in ids[1:]], dtype=torch.int64)
    return Batch(
        tokens=tokens,
        targets=targets,
        weights=torch.ones(len(tokens)),
        lengths=tuple(len(ids) - 1 for ids in documents),
        pieces=tuple(Piece(i, 0, len(ids) - 1) for i, ids in enumerate(documents)),
    )
