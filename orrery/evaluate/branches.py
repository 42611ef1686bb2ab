"""Sequences that share their beginnings, read in one pass: each shared token is computed once.

    slots       one place for the key and value of every token, in no order
    tables      for each branch the slots of its tokens, from the first on; branches name the same slots as far as they agree

A branch's tokens see the slots of their own line up to themselves, so the numbers are those of the whole sequence read alone. This is
attention over a tree of tokens (Cai et al. 2024, arXiv:2401.10774, section 2.1.2), and a paged cache with pages of one token
(Kwon et al. 2023, arXiv:2309.06180).

T new tokens, H heads, K kv heads, D head dim, P slots, B branches, L tokens of the longest branch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from orrery.model.context import Context, Site, Step, attention_mask
from orrery.model.lowbit import attention as kernel
from orrery.model.scaled_dot_product import fast_attention, kernel_serves


class Slots:
    """Keys and values of every layer, one slot a token: (P, 1, K, D) by layer, made when a layer first writes."""

    def __init__(self) -> None:
        self.size = 0
        self.keys: dict[int, Tensor] = {}
        self.values: dict[int, Tensor] = {}

    def reserve(self, size: int) -> None:
        """Have at least `size` slots; what is in the first ones stays."""
        if size <= self.size:
            return
        for kept in (self.keys, self.values):
            for layer, old in kept.items():
                kept[layer] = old.new_empty(size, *old.shape[1:])
                kept[layer][: self.size] = old
        self.size = size

    def of(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """The slots of a layer whose new keys and values look like k (T, K, D) and v (T, K, Dv)."""
        if layer not in self.keys:
            self.keys[layer] = k.new_empty(self.size, 1, *k.shape[1:])
            self.values[layer] = v.new_empty(self.size, 1, *v.shape[1:])
        return self.keys[layer], self.values[layer]


@dataclass(frozen=True)
class Branch:
    """`n` new tokens behind `start` tokens that are in their slots already or come earlier in the pass."""

    start: int
    n: int


class Branches(Context):
    """One pass over new tokens of several branches, in the order of the branches.

    Args:
        tables: (B, L) int32; row i names the slots of branch i's tokens 0 .. start + n - 1.
    """

    def __init__(self, slots: Slots, tables: Tensor, branches: Sequence[Branch]) -> None:
        super().__init__()
        self.slots, self.tables, self.branches = slots, tables, tuple(branches)
        self.lengths = tuple(branch.n for branch in branches)
        self.max_length = max(branch.start + branch.n for branch in branches)
        device = tables.device
        self.positions = torch.cat([torch.arange(b.start, b.start + b.n) for b in branches]).to(device)
        owners = torch.arange(len(branches)).repeat_interleave(torch.tensor(self.lengths))
        self.owners = owners.to(device=device, dtype=torch.int32)
        self.places = tables[self.owners.long(), self.positions].long()  # (T,)

    def attend(self, site: Site, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        keys, values = self.slots.of(site.index, k, v)
        if kernel_serves(site, q):
            kernel.write_pages(k, v, keys, values, self.tables, self.owners, self.positions)
            return kernel.paged_attention(
                q, keys, values, self.tables, self.owners, self.positions, value_dim=v.shape[-1],
                scale=site.scale, window=site.window, softcap=site.softcap, sinks=site.sinks,
            )  # fmt: skip
        keys, values = keys[:, 0], values[:, 0]
        keys[self.places], values[self.places] = k, v
        out = v.new_empty(q.shape[0], q.shape[1], v.shape[-1])
        for branch, (rows, lines) in self.once("alike", self._alike).items():
            first = 0 if site.window is None else max(0, branch.start - site.window + 1)
            seen = lines[:, first:]
            q_rows, k_seen, v_seen = (
                x.transpose(1, 2) for x in (q[rows], keys[seen], values[seen])
            )  # (B, H or K, n or S, D)
            mixed = fast_attention(site, q_rows, k_seen, v_seen, self._mask(site, branch, first), causal=True)
            out[rows] = mixed.transpose(1, 2)
        return out

    def recur(self, site: nn.Module, x: Tensor, step: Step) -> Tensor:
        raise AssertionError("a recurrent state cannot be shared between branches; read the sequences whole")

    def _alike(self) -> dict[Branch, tuple[Tensor, Tensor]]:
        """Branches of equal place and length are attended in one call: rows (B, n) of the pass, lines (B, start + n) of slots."""
        begins = torch.tensor((0, *self.lengths)).cumsum(0)
        found: dict[Branch, list[int]] = {}
        for i, branch in enumerate(self.branches):
            found.setdefault(branch, []).append(i)
        device = self.tables.device
        return {
            branch: (
                (begins[same][:, None] + torch.arange(branch.n)).to(device),
                self.tables[same, : branch.start + branch.n].long(),
            )
            for branch, same in found.items()
        }

    def _mask(self, site: Site, branch: Branch, first: int) -> Tensor | None:
        """What hides keys first .. end from the branch's queries; None where causality or nothing hides."""
        end = branch.start + branch.n
        windowed = site.window is not None and site.window < end and branch.n > 1
        if site.bias is None and not windowed and (branch.start == 0 or branch.n == 1):
            return None
        q_pos = torch.arange(branch.start, end, device=self.tables.device)
        k_pos = torch.arange(first, end, device=self.tables.device)
        return attention_mask(site, self, q_pos, k_pos, (branch.start, branch.n, first))
