"""Tensor parallelism: every rank holds a slice of every matrix, and all of them compute every token together.

    column parallel   Y_r = X A_r                 a slice of the outputs: heads, or inner features of the feed-forward
    row parallel      Y   = sum_r Y_r B_r         a slice of the inputs; the sum is an all-reduce
    attention, feed-forward = row(f(column(x))): one all-reduce each (Shoeybi et al. 2019, Megatron-LM, arXiv:1909.08053)

Query heads are divided among the ranks, and kv heads too where there are enough; where there are fewer than ranks, each rank has a
copy of the one that its query heads read. Embedding and head are divided by the vocabulary: a lookup is an all-reduce, logits are
gathered. Norms are every rank's. What crosses ranks is summed in the order of the ranks, on every rank alike: all ranks see the
same bits, and a token's numbers do not depend on what else is in the batch.

    ranks = Ranks.join()                     # under torchrun
    parallelise(model, ranks)                # on every rank; then run the same passes on all of them

T tokens, H heads, K kv heads, D head dim, V vocabulary, d model width, R ranks.
"""

from __future__ import annotations

import atexit
import os
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from orrery.kit.errors import OrreryError
from orrery.model.attention import Attention
from orrery.model.decoder import Decoder
from orrery.model.lowbit.dense import NativeEmbedding, NativeLinear
from orrery.model.mlp import MLP
from orrery.model.norm import HeadNorm
from orrery.model.surgery import replace

DIVIDED = (nn.Linear, nn.Embedding, NativeLinear, NativeEmbedding)
"""Layers over float weights; those over quantised ones, and adapters around either, are others."""
PATIENCE = timedelta(days=365)
"""A rank waits for the others as long as nobody asks anything."""


@dataclass(eq=False)
class Ranks:
    """The processes that hold one model.

    Attributes:
        together: whether the other ranks run the pass that runs here. A pass that they do not know of would wait for them for ever.
    """

    rank: int
    size: int
    together: bool = field(default=True)

    @classmethod
    def join(cls) -> Ranks:
        """Meet the other processes that torchrun started, over gloo.

        Raises:
            OrreryError: torchrun did not start this process.
        """
        if "RANK" not in os.environ or "MASTER_ADDR" not in os.environ:
            raise OrreryError(
                "tensor parallelism needs its ranks: start with torchrun --nproc-per-node 2 -m orrery.cli ..."
            )
        if not dist.is_initialized():
            dist.init_process_group("gloo", timeout=PATIENCE)
            atexit.register(
                _leave
            )  # its threads must not outlive the interpreter: the process would end by abort
        return cls(dist.get_rank(), dist.get_world_size())

    def slice(self, size: int) -> slice:
        """This rank's share of `size` things, which divide evenly."""
        share = size // self.size
        return slice(self.rank * share, (self.rank + 1) * share)

    def parts(self, x: Tensor) -> list[Tensor]:
        """The `x` of every rank, in their order; all have one shape.

        Raises:
            OrreryError: the other ranks do not run this pass.
        """
        if not self.together:
            raise OrreryError(
                "embeddings and steering by texts are not computed by a model that is divided among ranks; start one without torchrun"
            )
        x = x.contiguous()
        found = [torch.empty_like(x) for _ in range(self.size)]
        dist.all_gather(found, x)
        return found

    def sum(self, x: Tensor) -> Tensor:
        """The all-reduce: the sum over ranks, the first one first."""
        first, *others = self.parts(x)
        for other in others:
            first += other
        return first


class RowParallel(nn.Module):
    """x W^T + b, of which every rank multiplies some columns of W with its part of x."""

    def __init__(self, layer: nn.Linear, columns: slice, ranks: Ranks) -> None:
        super().__init__()
        self.ranks = ranks
        self.local = _linear(layer, layer.weight[:, columns], None)
        self.bias = layer.bias

    def forward(self, x: Tensor) -> Tensor:
        """(..., in / R) -> (..., out)."""
        y = self.ranks.sum(self.local(x))
        return y if self.bias is None else y + self.bias


class VocabularyParallel(nn.Module):
    """A table of V rows, of which every rank has some: an embedding, and the head tied to it."""

    def __init__(self, table: nn.Embedding | nn.Linear, ranks: Ranks) -> None:
        super().__init__()
        self.ranks, self.vocabulary = ranks, table.weight.shape[0]
        share = -(-self.vocabulary // ranks.size)
        self.first = ranks.rank * share
        rows = table.weight.detach()[self.first : self.first + share]
        rows = F.pad(rows, (0, 0, 0, share - len(rows)))  # the last rank's, so that all parts have one shape
        bias = getattr(table, "bias", None)
        if bias is not None:
            bias = F.pad(bias.detach()[self.first :][:share], (0, max(0, self.first + share - len(bias))))
        self.local = _linear(table, rows, bias)

    def forward(self, ids: Tensor) -> Tensor:
        """(...,) ids -> (..., d): the rank that has a row gives it, the others zeros."""
        here = ids - self.first
        mine = (here >= 0) & (here < len(self.local.weight))
        rows = F.embedding(here.where(mine, 0), self.local.weight)
        return self.ranks.sum(rows * mine[..., None])

    def as_linear(self, x: Tensor) -> Tensor:
        """(..., d) -> (..., V) logits, the same on every rank."""
        return torch.cat(self.ranks.parts(self.local(x)), -1)[..., : self.vocabulary]


class ParallelHead(VocabularyParallel):
    """A head of its own."""

    def forward(self, ids: Tensor) -> Tensor:
        """(..., d) -> (..., V)."""
        return self.as_linear(ids)


class OwnHeads(nn.Module):
    """A bias on scores, of this rank's heads alone."""

    def __init__(self, bias: nn.Module, heads: slice) -> None:
        super().__init__()
        self.bias, self.heads = bias, heads

    def forward(self, q_pos: Tensor, k_pos: Tensor) -> Tensor:
        """(Q,), (S,) -> (H / R, Q, S)."""
        return self.bias(q_pos, k_pos)[self.heads]


@torch.no_grad()
def parallelise(model: Decoder, ranks: Ranks) -> Decoder:
    """Keep this rank's slices of a model that every rank has opened, in place. Its passes must then run on all ranks alike.

    Raises:
        OrreryError: the model has parts that are not divided (experts, recurrences, latent attention, quantised or adapted layers,
            norms over all heads), or heads or features that do not divide evenly.
    """
    _check(model, ranks.size)

    def whole(name: str, module: nn.Module) -> bool:
        inside = name.startswith("blocks.") and isinstance(module, Attention | MLP)
        return inside or name in ("embed", "lm_head")

    replace(
        model, whole, partial(_divided, ranks=ranks), operation="tensor_parallel",
        arguments={"rank": ranks.rank, "ranks": ranks.size},
    )  # fmt: skip
    model.native = False  # nothing is recorded: a replay would leave out what crosses ranks
    return model


def ranks_of(model: nn.Module) -> Ranks | None:
    """The ranks that a model is divided among; None: it is whole."""
    return next((m.ranks for m in model.modules() if isinstance(m, VocabularyParallel)), None)


def _divided(module: nn.Module, ranks: Ranks) -> nn.Module:
    match module:
        case Attention():
            return _divide_attention(module, ranks)
        case MLP():
            return _divide_mlp(module, ranks)
        case nn.Embedding():
            return VocabularyParallel(module, ranks)
        case nn.Linear():
            return ParallelHead(module, ranks)
    raise AssertionError(type(module))


def _divide_attention(attn: Attention, ranks: Ranks) -> Attention:
    size, h, k = attn.head_dim, attn.q_proj.out_features // attn.head_dim, attn.kv_heads
    heads = ranks.slice(h)
    kv = ranks.slice(k) if k >= ranks.size else slice(heads.start * k // h, heads.start * k // h + 1)
    queries, keys = (slice(x.start * size, x.stop * size) for x in (heads, kv))
    attn.q_proj, attn.k_proj = _rows(attn.q_proj, queries), _rows(attn.k_proj, keys)
    attn.v_proj = _rows(attn.v_proj, keys)
    if attn.gate_proj is not None:
        attn.gate_proj = _rows(attn.gate_proj, queries)
    attn.o_proj = RowParallel(attn.o_proj, queries, ranks)  # type: ignore[bad-assignment]
    for norm, own in ((attn.q_norm, heads), (attn.k_norm, kv)):
        if isinstance(norm, HeadNorm):
            norm.weight = nn.Parameter(norm.weight[own].clone())
    if attn.sinks is not None:
        attn.sinks = nn.Parameter(attn.sinks[heads].clone())
    if attn.bias is not None:
        attn._bias = (OwnHeads(attn.bias, heads),)
    attn.kv_heads = kv.stop - kv.start
    return attn


def _divide_mlp(mlp: MLP, ranks: Ranks) -> MLP:
    inner = ranks.slice(mlp.cfg.d_ff)
    if mlp.gate_proj is not None:
        mlp.gate_proj = _rows(mlp.gate_proj, inner)
    mlp.up_proj = _rows(mlp.up_proj, inner)
    mlp.down_proj = RowParallel(mlp.down_proj, inner, ranks)  # type: ignore[bad-assignment]
    return mlp


def _rows(layer: nn.Linear, rows: slice) -> nn.Linear:
    """Column parallel: these outputs alone."""
    return _linear(layer, layer.weight[rows], None if layer.bias is None else layer.bias[rows])


def _linear(like: nn.Module, weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A layer of its own memory, multiplied as `like` is."""
    out, into = weight.shape
    made = nn.Linear(into, out, bias=bias is not None, device="meta")
    made.weight = nn.Parameter(weight.detach().clone(memory_format=torch.contiguous_format))
    if bias is not None:
        made.bias = nn.Parameter(bias.detach().clone())
    return NativeLinear.of(made) if isinstance(like, NativeLinear | NativeEmbedding) else made


def _check(model: Decoder, size: int) -> None:
    """Refuse what cannot be divided among `size` ranks."""
    cfg = model.cfg
    for i, block in enumerate(model.blocks):
        parts = [m for m in block.children() if isinstance(m, Attention | MLP)]
        others = [m for m in (block.attn, block.recurrent, block.mlp) if m is not None and m not in parts]  # type: ignore[missing-attribute]
        layers = [m for part in parts for name, m in part.named_children() if name.endswith("_proj")]
        if others or hasattr(block, "cross") or any(type(m) not in DIVIDED for m in layers):
            raise OrreryError(
                f"layer {i} is not divided among ranks: only dense layers with plain attention are, opened from float weights and "
                "without adapters; run this model on one rank"
            )
    if any(type(m) not in DIVIDED for m in (model.embed, model.lm_head or model.embed)):
        raise OrreryError(
            "quantised embeddings are not divided among ranks; open the model with float weights"
        )
    if cfg.qk_norm == "width":
        raise OrreryError(
            "queries are normed over all heads together, which no rank has; run this model on one rank"
        )
    widths = {part.cfg.d_ff for part in model.modules() if isinstance(part, MLP)}
    kv = cfg.kv_heads
    if (
        cfg.n_heads % size
        or (kv % size if kv >= size else size % kv)
        or any(width % size for width in widths)
    ):
        raise OrreryError(
            f"{cfg.n_heads} heads, {kv} kv heads and inner widths {sorted(widths)} do not all divide among {size} ranks; start "
            "another number of them"
        )


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
