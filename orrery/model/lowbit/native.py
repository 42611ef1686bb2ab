"""kernel.cpp through ctypes: a matrix's pointers are set up once, a product is one call of five arguments (about two microseconds)."""

from __future__ import annotations

import ctypes
from functools import cache

import torch
from torch import Tensor

from orrery.model.lowbit.build import library
from orrery.model.lowbit.matrix import PackedMatrix
from orrery.model.lowbit.pack import pack


class _Matrix(ctypes.Structure):
    """`Matrix` of kernel.cpp."""

    _fields_ = (
        ("kind", ctypes.c_int32),
        ("columns", ctypes.c_int32),
        ("rows", ctypes.c_int64),
        ("codes", ctypes.c_void_p),
        ("d", ctypes.c_void_p),
        ("m", ctypes.c_void_p),
        ("sub", ctypes.c_void_p),
        ("submin", ctypes.c_void_p),
    )


@cache
def load() -> ctypes.CDLL:
    """The library for this machine.

    Raises:
        BuildError: it cannot be compiled here.
    """
    return declare(library())


def declare(lib: ctypes.CDLL) -> ctypes.CDLL:
    """Tell ctypes the signatures of kernel.cpp."""
    pointer, i64 = ctypes.c_void_p, ctypes.c_int64
    lib.orrery_isa.restype = ctypes.c_char_p
    lib.orrery_multiply.argtypes = (pointer, pointer, i64, ctypes.c_int, pointer, ctypes.c_int)
    lib.orrery_multiply.restype = None
    lib.orrery_rows.argtypes = (pointer, pointer, i64, pointer, ctypes.c_int)
    lib.orrery_rows.restype = None
    f32, count = ctypes.c_float, ctypes.c_int
    lib.orrery_rms_norm.argtypes = (pointer, pointer, f32, f32, i64, i64, pointer, count)
    lib.orrery_rms_norm.restype = None
    lib.orrery_rope.argtypes = (pointer, pointer, pointer, i64, i64, i64, i64, pointer, count)
    lib.orrery_rope.restype = None
    lib.orrery_read.argtypes = (pointer, i64, ctypes.c_int)
    lib.orrery_read.restype = ctypes.c_uint64
    return lib


def instruction_set() -> str:
    """Which of the kernel's versions was compiled: avx512-vnni, avx2-vnni, avx2, neon-dotprod or plain."""
    return load().orrery_isa().decode()


class NativeMatrix(PackedMatrix):
    """A packed matrix and the kernel's view of it."""

    def __init__(self, raw: Tensor, kind: str, lib: ctypes.CDLL | None = None) -> None:
        lib = lib or load()
        super().__init__(pack(raw, kind, panel=lib.orrery_panel(), quad=4))
        p = self.packed
        addresses = (None if x is None else x.data_ptr() for x in (p.codes, p.d, p.m, p.sub, p.submin))
        self._matrix = _Matrix(p.layout.index, p.columns, p.rows, *addresses)
        self._address = ctypes.addressof(self._matrix)
        self._multiply, self._rows = lib.orrery_multiply, lib.orrery_rows

    def multiply(self, x: Tensor, terms: int = 1) -> Tensor:
        out = x.new_empty(x.shape[0], self.shape[0])
        self._multiply(
            self._address, x.data_ptr(), x.shape[0], terms, out.data_ptr(), torch.get_num_threads()
        )
        return out

    def rows(self, ids: Tensor) -> Tensor:
        out = torch.empty(ids.shape[0], self.shape[1])
        self._rows(self._address, ids.data_ptr(), ids.shape[0], out.data_ptr(), torch.get_num_threads())
        return out
