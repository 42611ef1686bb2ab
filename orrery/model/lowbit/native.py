"""cpp/kernel.cpp through ctypes: every operation is a number and some words, so that a list of them can be recorded (`tape`)."""

from __future__ import annotations

import ctypes
import struct
import threading
from enum import IntEnum
from functools import cache
from typing import Protocol

import torch
from torch import Tensor

from orrery.model.lowbit.build import library
from orrery.model.lowbit.lent import large
from orrery.model.lowbit.matrix import PackedMatrix
from orrery.model.lowbit.pack import pack

Argument = Tensor | ctypes.Structure | int | float | None


class Operation(IntEnum):
    """What `orrery_run` of kernel.cpp can do, by its number there; the arguments are listed there too."""

    MULTIPLY = 0
    ROWS = 1
    LINEAR = 2
    RMS_NORM = 3
    ROTARY = 4
    ROPE = 5
    ADD = 6
    ADD_BIAS = 7
    SCALED = 8
    SOFT_CAPPED = 9
    GATED = 10
    WRITE_PAGES = 11
    ATTEND = 12
    LAYER_NORM = 13
    GATHER = 14
    LIKELIEST = 15
    FINITE = 16


class Listener(Protocol):
    """Whoever wants to know of each operation: a tape that records."""

    def heard(self, operation: Operation, words: list[int], arguments: tuple[Argument, ...]) -> None: ...


class _Here(threading.local):
    listener: Listener | None = None


here = _Here()
"""Of this thread: who listens."""


def recording() -> bool:
    """Whether this thread's operations are being recorded: checks of values are then left to whoever replays."""
    return here.listener is not None


def run(operation: Operation, *arguments: Argument, lib: ctypes.CDLL | None = None) -> None:
    """Run one operation: tensors and structures go by their address, None as no address."""
    words = [_word(x) for x in arguments]
    (lib or load()).orrery_run(operation, (ctypes.c_int64 * len(words))(*words), torch.get_num_threads())
    if here.listener is not None:
        here.listener.heard(operation, words, arguments)


def _word(x: Argument) -> int:
    if isinstance(x, Tensor):
        return x.data_ptr()
    if isinstance(x, float):
        return struct.unpack("<q", struct.pack("<d", x))[0]
    if isinstance(x, ctypes.Structure):
        return ctypes.addressof(x)
    return 0 if x is None else int(x)


class _Matrix(ctypes.Structure):
    """`Matrix` of blocks.h."""

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
    lib.orrery_run.argtypes = (i64, pointer, ctypes.c_int)
    lib.orrery_run.restype = None
    lib.orrery_replay.argtypes = (pointer, i64, ctypes.c_int)
    lib.orrery_replay.restype = None
    lib.orrery_read.argtypes = (pointer, i64, ctypes.c_int)
    lib.orrery_read.restype = ctypes.c_uint64
    return lib


def instruction_set() -> str:
    """Which of the kernel's versions was compiled: avx512-vnni, avx2-vnni, avx2, neon-dotprod or plain."""
    return load().orrery_isa().decode()


class NativeMatrix(PackedMatrix):
    """A packed matrix and the kernel's view of it."""

    def __init__(self, raw: Tensor, kind: str, lib: ctypes.CDLL | None = None) -> None:
        self._lib = lib = lib or load()
        super().__init__(pack(raw, kind, panel=lib.orrery_panel(), quad=4))
        p = self.packed
        addresses = (None if x is None else x.data_ptr() for x in (p.codes, p.d, p.m, p.sub, p.submin))
        self._matrix = _Matrix(p.layout.index, p.columns, p.rows, *addresses)

    def multiply(self, x: Tensor, terms: int = 1) -> Tensor:
        shape = x.shape[0], self.shape[0]
        out = x.new_empty(shape) if recording() else large(*shape)
        run(Operation.MULTIPLY, self._matrix, x, x.shape[0], terms, out, lib=self._lib)
        return out

    def rows(self, ids: Tensor) -> Tensor:
        out = torch.empty(ids.shape[0], self.shape[1])
        run(Operation.ROWS, self._matrix, ids, ids.shape[0], out, lib=self._lib)
        return out
