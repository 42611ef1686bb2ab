"""Attention over keys and values that lie in pages, by our kernel (cpp/attention.h says how its sums are ordered).

Legend: T new tokens, H query heads, K kv heads, D width of keys, Dv width of values, P pages of `block` tokens, S sequences.
"""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from orrery.model.lowbit.choice import backend

STORED = {torch.float32: 0, torch.bfloat16: 1, torch.int8: 2, torch.float8_e4m3fn: 3}


class _Pages(ctypes.Structure):
    """`Pages` of attention.h."""

    _fields_ = (
        ("keys", ctypes.c_void_p),
        ("values", ctypes.c_void_p),
        ("key_scales", ctypes.c_void_p),
        ("value_scales", ctypes.c_void_p),
        ("tables", ctypes.c_void_p),
        ("stride", ctypes.c_int64),
        ("block", ctypes.c_int64),
        ("heads", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("value_width", ctypes.c_int64),
        ("stored", ctypes.c_int64),
    )


class _Queries(ctypes.Structure):
    """`Queries` of attention.h."""

    _fields_ = (
        ("q", ctypes.c_void_p),
        ("out", ctypes.c_void_p),
        ("owners", ctypes.c_void_p),
        ("positions", ctypes.c_void_p),
        ("own", ctypes.c_void_p),
        ("sinks", ctypes.c_void_p),
        ("tokens", ctypes.c_int64),
        ("heads", ctypes.c_int64),
        ("window", ctypes.c_int64),
        ("scale", ctypes.c_float),
        ("softcap", ctypes.c_float),
    )


def available() -> bool:
    """Whether the compiled kernel serves here and nobody wants a gradient."""
    return not torch.is_grad_enabled() and backend() == "c++"


def write_pages(
    k: Tensor,
    v: Tensor | None,
    keys: Tensor,
    values: Tensor | None,
    tables: Tensor,
    owner: Tensor,
    slots: Tensor,
    *,
    key_scales: Tensor | None = None,
    value_scales: Tensor | None = None,
) -> None:
    """Put k (T, K, D) and v (T, K, Dv), float32, to their places in the pages.

    Token t goes to place slots[t] (int64) of sequence owner[t] (int32): page tables[owner, slot // block], where tables (S, stride) is
    int32. keys (P, block, K, D), values (P, block, K, Dv) or None where values are the first numbers of the keys; float32,
    bfloat16, or int8 and float8_e4m3fn with scales (P, block, K) float32, one for each token and head.
    """
    from orrery.model.lowbit.native import Operation, run

    pages = _pages(keys, values, tables, key_scales, value_scales, 0)
    k, v = k.contiguous(), None if v is None else v.contiguous()
    run(
        Operation.WRITE_PAGES,
        _holding(pages, keys, values, tables, key_scales, value_scales),
        k,
        v,
        owner,
        slots,
        len(k),
    )


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
    window: int | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
    key_scales: Tensor | None = None,
    value_scales: Tensor | None = None,
    own: Tensor | None = None,
) -> Tensor:
    """softmax(scale q k^T) v: q (T, H, D) float32 -> (T, H, value_dim).

    Query t, at positions[t] (int64), sees the keys j of sequence owner[t] with positions[t] - window < j <= positions[t].
    Where there are trees of drafts, own (T, 2) int64: where the tree's tokens begin, and a bit for each of them that t sees; for a
    query outside of trees, positions[t] + 1 and 0.
    Pages as in `write_pages`; with a table of one column and pages for single sequences they are a contiguous cache, and
    keys (T', K, D) without pages are sequences end to end, tables (S, 1) saying where each starts.
    """
    from orrery.model.lowbit.native import Operation, run

    pages = _pages(keys, values, tables, key_scales, value_scales, value_dim)
    q = q.contiguous()
    out = q.new_empty(q.shape[0], q.shape[1], value_dim)
    queries = _Queries(
        q.data_ptr(), out.data_ptr(), owner.data_ptr(), positions.data_ptr(), _address(own), _address(sinks),
        q.shape[0], q.shape[1], window or 0, scale, softcap or 0.0,
    )  # fmt: skip
    run(
        Operation.ATTEND,
        _holding(pages, keys, values, tables, key_scales, value_scales),
        _holding(queries, q, out, owner, positions, own, sinks),
    )
    return out


def _pages(
    keys: Tensor,
    values: Tensor | None,
    tables: Tensor,
    key_scales: Tensor | None,
    value_scales: Tensor | None,
    value_dim: int,
) -> _Pages:
    block = keys.shape[1] if keys.ndim == 4 else 0
    return _Pages(
        keys.data_ptr(), _address(values), _address(key_scales), _address(value_scales), tables.data_ptr(),
        tables.stride(0), block, keys.shape[-2], keys.shape[-1],
        value_dim if values is None else values.shape[-1], STORED[keys.dtype],
    )  # fmt: skip


def _address(x: Tensor | None) -> int | None:
    return None if x is None else x.data_ptr()


def _holding(structure: ctypes.Structure, *tensors: Tensor | None) -> ctypes.Structure:
    """The structure, which keeps alive what it points at."""
    structure.held = tensors  # type: ignore[missing-attribute]
    return structure
