"""Attention over a paged cache in plain torch: what the compiled kernel is held to, and what serves where it does not.

    out_t = sum_j softmax_j(q_t . k_j scale) v_j      over the keys of t's own sequence, position t - window < j <= t

Queries are computed by the block that their position lies in: always the same matrices of whole blocks, each query in the row
of its place in the block, rows that are not asked for being zero. So a query's numbers are the same bits whatever else is in the
call, and however a prompt was cut into chunks.

T queries, H heads, K kv heads, D key width, Dv value width, P blocks of the pool, S tables of up to B blocks, N keys of whole blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Bias = Callable[[Tensor, Tensor], Tensor]
"""(q_pos (Q,), k_pos (N,)) -> (H, Q, N), added to the scores."""


@dataclass(frozen=True)
class Group:
    """Queries of one sequence whose positions lie in one block, and the keys of every block that any of them could see.

    Attributes:
        rows: places of the queries on the token axis; within: their places in the block.
        q_pos: (block,) positions of the block; k_pos: (N,) positions of the keys.
        places: (N,) where the keys lie in the pool, block * block size + place in it.
        hidden: (block, N) keys a query does not see. unused: (N, 1, 1) keys that none of the queries sees.
    """

    rows: Tensor
    within: Tensor
    q_pos: Tensor
    k_pos: Tensor
    places: Tensor
    hidden: Tensor
    unused: Tensor


def paged_attention(
    q: Tensor,
    keys: Tensor,
    values: Tensor | None,
    tables: Tensor,
    owner: Tensor,
    positions: Tensor,
    *,
    value_dim: int,
    scale: float,
    window: int | None,
    softcap: float | None,
    sinks: Tensor | None,
    key_scales: Tensor | None = None,
    value_scales: Tensor | None = None,
    own: Tensor | None = None,
) -> Tensor:
    """q (T, H, D), keys (P, block, K, D), values (P, block, K, Dv) -> (T, H, Dv).

    Args:
        values: None where the values are the first `value_dim` numbers of the keys (absorbed latent attention).
        tables: (S, B) int32 blocks of each sequence. owner: (T,) int32 the table a query reads.
        positions: (T,) int64 place of each query in its sequence.
        key_scales, value_scales: (P, block, K) factors of numbers that are stored as integers or 8-bit floats.
        own: (T, 2) int64 for trees of drafts: where in the sequence the tree's tokens begin, and a bit for each of them that a
            query sees (itself included); for a query outside of trees, positions[t] + 1 and 0.
    """
    groups = make_groups(tables, owner, positions, block_size=keys.shape[1], window=window, own=own)
    return attend_groups(
        groups, q, keys, values, value_dim=value_dim, scale=scale, softcap=softcap, sinks=sinks,
        key_scales=key_scales, value_scales=value_scales,
    )  # fmt: skip


def make_groups(
    tables: Tensor,
    owner: Tensor,
    positions: Tensor,
    *,
    block_size: int,
    window: int | None,
    own: Tensor | None = None,
) -> list[Group]:
    """The queries of a pass by sequence and block; a query of a tree is a group of its own."""
    trees = [(0, 0)] * len(owner) if own is None else [tuple(row) for row in own.tolist()]
    found: dict[tuple[int, int, int], list[int]] = {}
    for t, (s, p, (_, bits)) in enumerate(zip(owner.tolist(), positions.tolist(), trees, strict=True)):
        found.setdefault((s, p // block_size, t if bits else -1), []).append(t)
    return [
        _group(tables[s], rows, positions, block, block_size, window, trees[t] if t >= 0 else None)
        for (s, block, t), rows in found.items()
    ]


def _group(
    table: Tensor,
    rows: Sequence[int],
    positions: Tensor,
    block: int,
    block_size: int,
    window: int | None,
    tree: tuple[int, int] | None,
) -> Group:
    device = positions.device
    begin, end = block * block_size, (block + 1) * block_size
    first = 0 if window is None else max(begin - window + 1, 0) // block_size * block_size
    q_pos, k_pos = torch.arange(begin, end, device=device), torch.arange(first, end, device=device)
    hidden = k_pos > q_pos[:, None]
    if window is not None:
        hidden |= k_pos <= q_pos[:, None] - window
    asked = positions[rows]
    slots = k_pos
    if tree is not None:  # the key of each position is that of the ancestor which has it
        base, bits = tree
        line = [base + i for i in range(64) if bits >> i & 1]
        behind = torch.tensor(line + [base] * (end - base), device=device)
        slots = torch.where(k_pos < base, k_pos, behind[(k_pos - base).clamp(min=0)])
    within = asked - begin
    return Group(
        rows=torch.tensor(rows, device=device),
        within=within,
        q_pos=q_pos,
        k_pos=k_pos,
        places=table[slots // block_size].long() * block_size + slots % block_size,
        hidden=hidden,
        unused=hidden[within].all(0)[:, None, None],
    )


def attend_groups(
    groups: Sequence[Group],
    q: Tensor,
    keys: Tensor,
    values: Tensor | None,
    *,
    value_dim: int,
    scale: float,
    softcap: float | None,
    sinks: Tensor | None,
    key_scales: Tensor | None = None,
    value_scales: Tensor | None = None,
    bias: Bias | None = None,
) -> Tensor:
    """`paged_attention` for queries that are grouped already; `bias` is added to the scores."""
    out = q.new_empty(q.shape[0], q.shape[1], value_dim)
    kept, factors = (keys, key_scales) if values is None else (values, value_scales)
    for group in groups:
        weights = attention_weights(
            group, q, keys, scale=scale, softcap=softcap, sinks=sinks, key_scales=key_scales, bias=bias
        )
        mix_values(group, weights, kept, factors, out)
    return out


def attention_weights(
    group: Group,
    q: Tensor,
    keys: Tensor,
    *,
    scale: float,
    softcap: float | None,
    sinks: Tensor | None,
    key_scales: Tensor | None = None,
    bias: Bias | None = None,
) -> Tensor:
    """(H, block, N) probabilities of the group's queries, each in the row of its place in the block."""
    k = _read(keys, key_scales, group.places)  # (N, K, D)
    asked = q.new_zeros(len(group.q_pos), *q.shape[1:], dtype=k.dtype)
    asked[group.within] = q[group.rows].to(k.dtype)
    asked = asked.transpose(0, 1).reshape(keys.shape[2], -1, q.shape[2])  # (K, G * block, D)
    scores = (asked @ k.permute(1, 2, 0)).view(q.shape[1], len(group.q_pos), -1) * scale
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if bias is not None:
        scores = scores + bias(group.q_pos, group.k_pos)
    return _softmax(scores.masked_fill(group.hidden, -torch.inf), sinks)


def mix_values(group: Group, weights: Tensor, values: Tensor, scales: Tensor | None, out: Tensor) -> None:
    """Write the group's rows of `out` (T, H, Dv): values weighed by `weights` (H, block, N)."""
    v = _read(values, scales, group.places)[..., : out.shape[-1]]  # (N, K, Dv)
    v = v.masked_fill(group.unused, 0.0)  # what another sequence left there may be no number
    heads, n = weights.shape[0], weights.shape[-1]
    mixed = weights.view(v.shape[1], -1, n) @ v.transpose(0, 1)  # (K, G * block, Dv)
    mixed = mixed.view(heads, -1, out.shape[-1])[:, group.within]
    out[group.rows] = mixed.transpose(0, 1).to(out.dtype)


def _read(stored: Tensor, scales: Tensor | None, places: Tensor) -> Tensor:
    """(N, K, D) float32 (float64 as it is): rows of the pool, times their factors."""
    rows = stored.flatten(0, 1)
    if stored.dtype == torch.float8_e4m3fn:
        found = rows.view(torch.uint8)[places].view(torch.float8_e4m3fn)
    else:
        found = rows[places]
    found = found if found.dtype == torch.float64 else found.float()
    return found if scales is None else found * scales.flatten(0, 1)[places][..., None]


def _softmax(scores: Tensor, sinks: Tensor | None) -> Tensor:
    """(H, Q, N): rows sum to 1, less what a head's sink takes."""
    if sinks is None:
        return scores.softmax(-1)
    column = sinks.to(scores.dtype).view(-1, 1, 1).expand(*scores.shape[:-1], 1)
    return torch.cat((scores, column), -1).softmax(-1)[..., :-1]
