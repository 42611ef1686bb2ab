"""The same products compiled by numba, where there is no C++ compiler.

Codes take a byte each and scales are spread to float32: LLVM does not make good vector code of anything smaller. Whole numbers
are added in float32, exactly, for a block's sums stay below 2^24.
"""

from __future__ import annotations

import threading

import numba
import numpy as np
import torch
from torch import Tensor

from orrery.model.lowbit.matrix import PackedMatrix
from orrery.model.lowbit.pack import pack
from orrery.model.lowbit.torch_kernel import dequantize, lost, quantize_activations, scales

PANEL = 64
_ONE_AT_A_TIME = threading.Lock()  # some of numba's thread pools end the process when two threads enter


@numba.njit(inline="always")
def _dot(w, first, a, whole):  # type: ignore[no-untyped-def]
    """whole (R,) += eight rows of w (32, R) from `first` on, times eight activations: one pass that LLVM makes vectors of."""
    a0, a1, a2, a3, a4, a5, a6, a7 = a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]
    for r in range(PANEL):
        low = np.float32(w[first, r]) * a0 + np.float32(w[first + 1, r]) * a1
        low += np.float32(w[first + 2, r]) * a2 + np.float32(w[first + 3, r]) * a3
        high = np.float32(w[first + 4, r]) * a4 + np.float32(w[first + 5, r]) * a5
        high += np.float32(w[first + 6, r]) * a6 + np.float32(w[first + 7, r]) * a7
        whole[r] += low + high


@numba.njit(parallel=True, cache=True, error_model="numpy")
def _multiply(codes, table, scale, minimum, group, q, s, bias, mass, out):  # type: ignore[no-untyped-def]
    """out (T, P, R) = sum over groups of scale * s * (codes . q + bias) + minimum * mass."""
    tokens, groups = q.shape[0], 32 // group
    for p in numba.prange(codes.shape[0]):
        looked_up = np.empty((32, PANEL), np.int8)
        whole = np.empty(PANEL, np.float32)
        for t in range(tokens):
            for r in range(PANEL):
                out[t, p, r] = 0
        for b in range(codes.shape[1]):
            w = codes[p, b]
            if table.size:
                for k in range(32):
                    for r in range(PANEL):
                        looked_up[k, r] = table[w[k, r]]
                w = looked_up
            for t in range(tokens):
                for g in range(groups):
                    at = b * groups + g
                    whole[:] = bias[t, at]
                    for k in range(g * group, (g + 1) * group, 8):
                        _dot(w, k, q[t, b * 32 + k : b * 32 + k + 8], whole)
                    step = s[t, b]
                    for r in range(PANEL):
                        out[t, p, r] += whole[r] * (scale[p, at, r] * step)
                    if minimum.size:
                        low = mass[t, at]
                        for r in range(PANEL):
                            out[t, p, r] += minimum[p, at, r] * low


class NumbaMatrix(PackedMatrix):
    """A packed matrix multiplied by the function above."""

    def __init__(self, raw: Tensor, kind: str) -> None:
        super().__init__(pack(raw, kind, panel=PANEL, quad=1, bits=8))
        k, panels = self.packed.layout, self.packed.codes.shape[0]
        groups = self.packed.columns // k.group
        scale = torch.zeros(panels * PANEL, groups)
        minimum = torch.zeros(panels * PANEL, groups) if k.minimum else None
        for part, fields in self.packed.pieces():
            scale[part], low = scales(fields, k)
            if minimum is not None and low is not None:
                minimum[part] = low

        def lanes(x: Tensor | None) -> np.ndarray:
            if x is None:
                return np.empty((0, 0, 0), np.float32)
            return x.unflatten(0, (-1, PANEL)).transpose(1, 2).contiguous().numpy()

        codes = self.packed.codes.view(torch.int8).numpy()  # below 128, or signed
        self._weights = (codes, np.array(k.table or (), np.int8), lanes(scale), lanes(minimum), k.group)

    def multiply(self, x: Tensor, terms: int = 1) -> Tensor:
        if terms == 2:
            return self.multiply(x) + self.multiply(lost(x))
        k = self.packed.layout
        q, s = quantize_activations(x)
        sums = q.unflatten(-1, (-1, k.group)).sum(-1).flatten(1)
        mass = sums * s.repeat_interleave(32 // k.group, -1)
        arrays = (array.numpy() for array in (q.flatten(1), s, sums * -k.offset, mass))
        out = np.empty((x.shape[0], self.packed.codes.shape[0], PANEL), np.float32)
        with _ONE_AT_A_TIME:
            numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))  # type: ignore[missing-attribute]
            _multiply(*self._weights, *arrays, out)  # type: ignore[bad-argument-count]
        return torch.from_numpy(out).flatten(1)[:, : self.packed.rows]

    def rows(self, ids: Tensor) -> Tensor:
        return dequantize(self.packed.select(ids), self.packed.layout)
