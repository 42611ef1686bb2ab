"""The context of serving: any mix of prompt chunks, single tokens and trees of drafts over one pool of blocks.

    store = PagedStore(model, n_blocks=[64])
    rows = TableRows(groups=1, rows=8, blocks=32)
    hidden = model(tokens, Paged(store, rows, [Piece(row=0, ticket=7, start=0, n=40), Piece(row=1, ticket=8, start=17, n=1)]))

Every query's numbers are a function of its own sequence alone, bit for bit, as far as attention goes.

T tokens, H heads, K kv heads, D head dim, S keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from orrery.model.context import Context, Site, Step
from orrery.model.lowbit import attention as kernel
from orrery.model.scaled_dot_product import kernel_serves
from orrery.serve.engine.paged_reference import (
    Group,
    attend_groups,
    attention_weights,
    make_groups,
    mix_values,
)
from orrery.serve.engine.store import PagedStore


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Tokens `start` .. `start + n` of one sequence.

    Attributes:
        row: of the block tables. ticket: owner of the recurrent states.
        span: how many tokens of the sequence are known by now, those of later pieces included (rotations by length look at it).
        tree: for drafts at the end of the piece that branch, the draft that each one follows (-1: the token before them all). A
            draft then stands at the depth it has, and sees what is before the drafts, its ancestors and itself.
    """

    row: int
    ticket: int
    start: int
    n: int
    span: int = 0
    tree: tuple[int, ...] = ()

    @property
    def positions(self) -> list[int]:
        """Of each token in the sequence."""
        behind = self.start + self.n - len(self.tree)
        depths: list[int] = []
        for parent in self.tree:
            depths.append(depths[parent] + 1 if parent >= 0 else 0)
        return [*range(self.start, behind), *(behind + depth for depth in depths)]

    @property
    def sights(self) -> list[tuple[int, int]]:
        """For each token where the tree begins and a bit for each of its tokens that it sees, as `paged_attention` reads it."""
        behind = self.start + self.n - len(self.tree)
        seen: list[int] = []
        for i, parent in enumerate(self.tree):
            seen.append((seen[parent] if parent >= 0 else 0) | 1 << i)
        bits = [x - (1 << 64) if x >> 63 else x for x in seen]  # the last of 64 is the sign
        return [*((p + 1, 0) for p in range(self.start, behind)), *((behind, x) for x in bits)]


class TableRows:
    """The block tables of all running sequences, one row each, kept as tensors that are changed in place: a step that decodes
    writes one number every block_size tokens."""

    def __init__(self, *, groups: int, rows: int, blocks: int, device: torch.device | str = "cpu") -> None:
        self.tensors = [torch.zeros(rows, blocks, dtype=torch.int32, device=device) for _ in range(groups)]
        self._written: list[list[list[int]]] = [[[] for _ in range(groups)] for _ in range(rows)]
        self._free = list(range(rows - 1, -1, -1))

    def take(self) -> int:
        """A row for a new sequence."""
        return self._free.pop()

    def give(self, row: int) -> None:
        """The sequence no longer runs."""
        self._written[row] = [[] for _ in self.tensors]
        self._free.append(row)

    def update(self, row: int, blocks: Sequence[Sequence[int]]) -> None:
        """Write what changed since the last time; `blocks` has a list for each group."""
        for tensor, written, ids in zip(self.tensors, self._written[row], blocks, strict=True):
            if written == ids:
                continue
            same = next((i for i, (a, b) in enumerate(zip(written, ids, strict=False)) if a != b), min(len(written), len(ids)))  # fmt: skip
            tensor[row, same : len(ids)] = torch.tensor(ids[same:], dtype=torch.int32)
            written[same:] = ids[same:]


class Paged(Context):
    """One pass over pieces of running sequences, in the order of the tokens."""

    def __init__(self, store: PagedStore, rows: TableRows, work: Sequence[Piece]) -> None:
        super().__init__()
        self.store, self.rows, self.work = store, rows, tuple(work)
        self.lengths = tuple(piece.n for piece in work)
        self.spans = tuple(max(piece.span, piece.start + piece.n) for piece in work)
        self.trees = any(piece.tree for piece in work)
        device, places = store.device, [piece.positions for piece in work]
        self.max_length = max(max(p) for p in places) + 1
        owner = [piece.row for piece in work for _ in range(piece.n)]
        positions = [p for piece in places for p in piece]
        self.owner = torch.tensor(owner, dtype=torch.int32, device=device)
        self.positions = torch.tensor(positions, dtype=torch.int64, device=device)

    @classmethod
    def singles(cls, store: PagedStore, rows: TableRows, positions: Tensor, owner: Tensor) -> Paged:
        """One token each of B sequences without recurrent states: positions (B,) int64, owner (B,) int32 rows of the tables."""
        made = cls.__new__(cls)
        Context.__init__(made)
        made.store, made.rows, made.work, made.trees = store, rows, (), False
        made.positions, made.owner = positions, owner
        made.lengths, made.max_length = (1,) * len(owner), int(positions.max()) + 1
        return made

    @property
    def slots(self) -> Tensor:
        """(T,) where in its sequence each token's key is kept: its position, but in a tree its place in the piece."""
        if not self.trees:
            return self.positions
        return self.once(
            "slots",
            lambda: torch.cat([torch.arange(p.start, p.start + p.n) for p in self.work]).to(
                self.store.device
            ),
        )

    def places(self, group: int) -> Tensor:
        """(T,) where in the pool of `group` each token's key is kept."""

        def make() -> Tensor:
            size = self.store.block_size
            blocks = self.rows.tensors[group][self.owner, self.slots // size]
            return blocks.long() * size + self.slots % size

        return self.once(("places", group), make)

    def attend(self, site: Site, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        store, layer = self.store, site.index
        group = store.group_of[layer]
        tables, window = self.rows.tensors[group], store.groups[group][0]
        keys, values = store.keys[layer], store.values.get(layer)
        settings = {"scale": site.scale, "softcap": site.softcap, "sinks": site.sinks}
        scales = {"key_scales": store.key_scales.get(layer), "value_scales": store.value_scales.get(layer)}
        stored = {"value_dim": v.shape[-1], **settings, **scales}
        if kernel_serves(site, q):
            own = None if values is None else v
            kernel.write_pages(k, own, keys, values, tables, self.owner, self.slots, **scales)
            where = tables, self.owner, self.positions
            out = kernel.paged_attention(q, keys, values, *where, window=window, own=self.sights, **stored)
        else:
            store.write(layer, self.places(group), k, v)
            out = attend_groups(self.queries(group), q, keys, values, bias=site.bias, **stored)
        if site.pattern._forward_hooks:
            self._show(site, q, out, settings)
        return out

    @property
    def sights(self) -> Tensor | None:
        """(T, 2): what the tokens of trees see of each other; None without trees."""
        if not self.trees:
            return None
        device = self.store.device
        return self.once("own", lambda: torch.tensor([x for p in self.work for x in p.sights], device=device))

    def queries(self, group: int) -> list[Group]:
        """The pass's queries as the torch path takes them."""
        size, window = self.store.block_size, self.store.groups[group][0]
        tables = self.rows.tensors[group]
        return self.once(
            ("queries", group),
            lambda: make_groups(
                tables, self.owner, self.positions, block_size=size, window=window, own=self.sights
            ),
        )

    def _show(self, site: Site, q: Tensor, out: Tensor, settings: dict[str, Any]) -> None:
        """Let the hooks on `site.pattern` see each piece's probabilities (H, n, S), S = start + n keys by their position.

        Where a hook gives back others, they weigh the values of that piece; what is not touched keeps its bits.
        """
        store, layer = self.store, site.index
        keys, key_scales = store.keys[layer], store.key_scales.get(layer)
        kept = (
            (store.values[layer], store.value_scales.get(layer))
            if layer in store.values
            else (keys, key_scales)
        )
        first = 0
        for piece in self.work:
            mine = [
                g for g in self.queries(store.group_of[layer]) if first <= int(g.rows[0]) < first + piece.n
            ]
            weights = [
                attention_weights(g, q, keys, bias=site.bias, key_scales=key_scales, **settings) for g in mine
            ]
            seen = q.new_zeros(q.shape[1], piece.n, max(int(g.k_pos[-1]) for g in mine) + 1)
            for group, weight in zip(mine, weights, strict=True):
                seen[:, (group.rows - first)[:, None], group.k_pos] = weight[:, group.within].to(q.dtype)
            end = max(piece.positions) + 1  # a block's last places may be empty yet
            shown = site.pattern(seen[..., :end])
            if shown is not None and shown.data_ptr() != seen.data_ptr():
                seen[..., :end] = shown
                for group, weight in zip(mine, weights, strict=True):
                    weight[:, group.within] = seen[:, (group.rows - first)[:, None], group.k_pos].to(
                        weight.dtype
                    )
                    mix_values(group, weight, *kept, out)
            first += piece.n

    def recur(self, site: nn.Module, x: Tensor, step: Step) -> Tensor:
        states = self.store.states.setdefault(site, {})
        out = []
        for part, piece in zip(x.split(self.lengths), self.work, strict=True):
            reached, state = states[piece.ticket] if piece.start else (0, None)
            assert reached == piece.start and not piece.tree, "a recurrent state goes on from where it stands"
            y, state = step(part, state)
            states[piece.ticket] = (piece.start + piece.n, state)
            out.append(y)
        return torch.cat(out)
