"""Between our tensors and those of a file: which are joined to make ours, and how ours are taken apart.

A family's table says it as data (`Names`):

    "blocks.{i}.attn.q_proj": "model.layers.{i}.self_attn.q_proj"                       one for one, weight and bias
    ("…q_proj", "…k_proj", "…v_proj"): "model.layers.{i}.self_attn.qkv_proj"             theirs is ours, rows end to end
    "blocks.{i}.mlp.down_proj": As("h.{i}.mlp.c_proj", TRANSPOSED)                       another layout
    "blocks.{i}.mlp.experts.down": ("model.layers.{i}.mlp.experts.{e}.down_proj.weight",)  a stack over experts

`{i}` stands for the layer and `{e}` for the expert. A key names a module (its tensors keep their last name) or a tensor.
A value None says that the file has no such tensor: ours keeps what it was made with.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from orrery.kit.errors import OrreryError

LAYER = re.compile(r"(?<=blocks\.)\d+")

Tensors = Sequence[Tensor]


@dataclass(frozen=True)
class Layout:
    """How tensors of a file become ours and back. `split` must work on shapes alone (meta tensors).

    join(theirs, the shapes ours must have) -> ours; split(ours) -> theirs; each in the order of the names. `rows`: only
    whole rows change places, so that rows in a quantised format can too.
    """

    join: Callable[[Tensors, Sequence[torch.Size]], Tensors]
    split: Callable[[Tensors], Tensors]
    rows: bool = False


@dataclass(frozen=True)
class As:
    """Under these names in the file, in this layout."""

    theirs: str | tuple[str, ...]
    layout: Layout


Names = Mapping[str | tuple[str, ...], str | tuple[str, ...] | As | None]


def _rows(tensors: Tensors, shapes: Sequence[torch.Size]) -> Tensors:
    return tensors[0].split([shape[0] for shape in shapes])


SAME = Layout(lambda theirs, shapes: theirs, lambda ours: ours, rows=True)
"""One for one."""

ROWS = Layout(_rows, lambda ours: [torch.cat(list(ours))], rows=True)
"""Theirs is ours end to end (fused projections)."""

TRANSPOSED = Layout(lambda theirs, shapes: [t.t() for t in theirs], lambda ours: [t.t() for t in ours])
"""Theirs stores (in, out); vectors are the same."""

TRANSPOSED_ROWS = Layout(
    lambda theirs, shapes: _rows([theirs[0].t()], shapes), lambda ours: [torch.cat(list(ours)).t()]
)
"""Fused and stored (in, out)."""


def per_head(heads: int) -> Layout:
    """Theirs holds, head by head, that head's rows of each of ours (GPT-NeoX: q, k, v of head 0, then of head 1, ...)."""

    def join(theirs: Tensors, shapes: Sequence[torch.Size]) -> Tensors:
        sizes = [shape[0] // heads for shape in shapes]
        parts = theirs[0].unflatten(0, (heads, sum(sizes))).split(sizes, 1)
        return [part.flatten(0, 1) for part in parts]

    def split(ours: Tensors) -> Tensors:
        return [torch.cat([t.unflatten(0, (heads, -1)) for t in ours], 1).flatten(0, 1)]

    return Layout(join, split, rows=True)


def stacked(parts: int) -> Layout:
    """Ours (E, in, out) from `parts` matrices (out / parts, in) of each expert, expert by expert."""

    def join(theirs: Tensors, shapes: Sequence[torch.Size]) -> Tensors:
        experts = [torch.cat(list(theirs[i : i + parts])).t() for i in range(0, len(theirs), parts)]
        return [torch.stack(experts)]

    def split(ours: Tensors) -> Tensors:
        return [part.t() for expert in ours[0] for part in expert.chunk(parts, -1)]

    return Layout(join, split)


@dataclass(frozen=True)
class Source:
    """Tensors of a file that make some of ours."""

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    layout: Layout

    def shapes(self, ours: Mapping[str, torch.Size]) -> dict[str, tuple[int, ...]]:
        """The shape each tensor of the file must have."""
        shells = [torch.empty(ours[name], device="meta") for name in self.ours]
        parts = self.layout.split(shells)
        return {name: tuple(part.shape) for name, part in zip(self.theirs, parts, strict=True)}

    def join(self, theirs: Mapping[str, Tensor], ours: Mapping[str, torch.Size]) -> dict[str, Tensor]:
        """Ours from theirs; plain tensors are not copied."""
        made = self.layout.join([theirs[name] for name in self.theirs], [ours[name] for name in self.ours])
        return dict(zip(self.ours, made, strict=True))

    def split(self, ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Theirs from ours."""
        parts = self.layout.split([ours[name] for name in self.ours])
        return {name: part.contiguous() for name, part in zip(self.theirs, parts, strict=True)}


def sources(ours: Mapping[str, torch.Size], table: Names | None) -> list[Source]:
    """Where our tensors come from by a family's table, each named once; None: a file under our own names.

    Raises:
        OrreryError: the table has no word for one of ours.
    """
    if table is None:
        return [Source((name,), (name,), SAME) for name in ours]
    entries = {one: key for key in table for one in ((key,) if isinstance(key, str) else key)}
    found: dict[tuple[str, ...], Source] = {}
    for name, shape in ours.items():
        layer = LAYER.search(name)
        index = layer[0] if layer else ""
        pattern = LAYER.sub("{i}", name)
        whole = pattern in entries
        module, _, leaf = pattern.rpartition(".")
        if not whole and module not in entries:
            raise OrreryError(f"this family of models has no tensor for '{name}'")
        key = entries[pattern if whole else module]
        group = tuple(
            (one if whole else f"{one}.{leaf}").replace("{i}", index)
            for one in ((key,) if isinstance(key, str) else key)
        )
        value = table[key]
        if value is not None and group not in found:
            found[group] = _source(group, value, index, "" if whole else leaf, shape)
    return list(found.values())


def _source(
    ours: tuple[str, ...], value: str | tuple[str, ...] | As, index: str, leaf: str, shape: torch.Size
) -> Source:
    if isinstance(value, str):
        value = As(value, ROWS if len(ours) > 1 else SAME)
    elif isinstance(value, tuple):
        value = As(value, stacked(len(value)))
    names = (value.theirs,) if isinstance(value.theirs, str) else value.theirs
    if any("{e}" in name for name in names):
        names = tuple(name.replace("{e}", str(e)) for e in range(shape[0]) for name in names)
    return Source(
        ours,
        tuple(f"{name}.{leaf}" if leaf else name for name in (n.replace("{i}", index) for n in names)),
        value.layout,
    )
