"""Between our tensors and those of a file: which are joined to make one of ours, and how one of ours is taken apart."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import Tensor

from orrery.model.families.family import Names

LAYER = re.compile(r"(?<=blocks\.)\d+")


@dataclass(frozen=True)
class Source:
    """The tensors of a file that make one of ours: `names[expert][part]`; a plain tensor is one expert of one part.

    Stacked experts: ours (E, in, out) from E times their parts (out_p, in), joined along out and transposed.
    """

    names: tuple[tuple[str, ...], ...]
    stacked: bool

    def shapes(self, ours: torch.Size) -> dict[str, tuple[int, ...]]:
        """The shape each tensor of the file must have."""
        if not self.stacked:
            return {self.names[0][0]: tuple(ours)}
        _, width, out = ours
        return {name: (out // len(parts), width) for parts in self.names for name in parts}

    def join(self, theirs: dict[str, Tensor]) -> Tensor:
        """Ours from theirs; a plain tensor is not copied."""
        if not self.stacked:
            return theirs[self.names[0][0]]
        return torch.stack([torch.cat([theirs[name] for name in parts]).T for parts in self.names])

    def take_apart(self, ours: Tensor) -> dict[str, Tensor]:
        """Theirs from ours."""
        if not self.stacked:
            return {self.names[0][0]: ours.contiguous()}
        return {
            name: part.T.contiguous()
            for expert, parts in zip(ours, self.names, strict=True)
            for name, part in zip(parts, expert.chunk(len(parts), -1), strict=True)
        }


def sources(ours: dict[str, torch.Size], table: Names | None) -> dict[str, Source]:
    """Where each of our tensors comes from by a family's table; None: a file under our own names."""
    if table is None:
        return {name: Source(((name,),), False) for name in ours}
    return {name: _source(name, shape, table) for name, shape in ours.items()}


def _source(name: str, shape: torch.Size, table: Names) -> Source:
    layer = LAYER.search(name)
    index = layer[0] if layer else ""
    key = LAYER.sub("{i}", name)
    module, _, leaf = key.rpartition(".")
    theirs = table[key] if key in table else table[module]
    if isinstance(theirs, str):
        whole = theirs if key in table else f"{theirs}.{leaf}"
        return Source(((whole.replace("{i}", index),),), False)
    return Source(
        tuple(tuple(n.replace("{i}", index).replace("{e}", str(e)) for n in theirs) for e in range(shape[0])),
        True,
    )
