"""A step of a model recorded once and replayed: the operations of our kernel, without the Python between them.

    tape = Tape()
    with tape.record():
        hidden = model(tokens, ctx)          # every operation must be the kernel's, or a view
    tokens.copy_(next_tokens)                # what the step reads is changed in place
    tape.replay()                            # and `hidden` is new

What CUDA graphs are to a GPU. Results are bit for bit those of running the modules: the same operations on the same memory.
Nothing can be left out silently: an operation of torch that computes, seen while recording, is an error. What a step made and let go of
is memory for what it makes later, as it is when modules run.
"""

from __future__ import annotations

import ctypes
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from orrery.model.lowbit.lent import lent
from orrery.model.lowbit.native import Argument, Operation, here, load

_READS = frozenset(
    [
        "item",
        "tolist",
        "numpy",
        "__setitem__",
        "__int__",
        "__float__",
        "__bool__",
        "__index__",
        "equal",
        "allclose",
    ]
)


class NotRecordable(Exception):
    """The step does something that our kernel does not; the message says what."""


class Tape:
    """Operations in order, the memory they write to, and what they read besides."""

    def __init__(self) -> None:
        self._words: list[int] = []
        self._kept: list[Tensor | ctypes.Structure] = []
        self._memory = _Memory()
        self._program: ctypes.Array[ctypes.c_int64] | None = None
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def nbytes(self) -> int:
        """Memory of everything between its inputs and its results."""
        return self._memory.nbytes

    @contextmanager
    def record(self) -> Iterator[None]:
        """Append whatever the kernel runs on this thread.

        Raises:
            NotRecordable: torch computed something, which a replay would leave out.
        """
        outer, here.listener = here.listener, self
        try:
            with _OnlyViews(self._memory):
                yield
        finally:
            here.listener = outer
        self._program = (ctypes.c_int64 * len(self._words))(*self._words)

    def heard(self, operation: Operation, words: list[int], arguments: tuple[Argument, ...]) -> None:
        self._words += (int(operation), len(words), *words)
        self._count += 1
        for x in arguments:
            if isinstance(x, ctypes.Structure):
                self._keep(getattr(x, "held", ()))
                x.held = ()  # type: ignore[missing-attribute]
                self._kept.append(x)
        self._keep(arguments)

    def _keep(self, arguments: tuple[Argument, ...]) -> None:
        """What the step was given; what it made and let go of may be used again."""
        self._kept += [x for x in arguments if isinstance(x, Tensor) and not self._memory.owns(x)]

    def replay(self) -> None:
        """Run everything again."""
        load().orrery_replay(self._program, self._count, torch.get_num_threads())


class _Memory:
    """Memory that goes back when the last tensor over it is gone, and is never given to anybody else."""

    def __init__(self) -> None:
        self._free: defaultdict[int, list[Tensor]] = defaultdict(list)
        self._all: list[tuple[int, int]] = []  # where each piece begins and ends

    @property
    def nbytes(self) -> int:
        return sum(end - start for start, end in self._all)

    def owns(self, x: Tensor) -> bool:
        return any(start <= x.data_ptr() < end for start, end in self._all)

    def take(self, shape: torch.Size, dtype: torch.dtype) -> Tensor:
        size = max(64, -(-shape.numel() * dtype.itemsize // 64) * 64)
        if not self._free[size]:
            new = torch.empty(size, dtype=torch.uint8)
            self._free[size].append(new)
            self._all.append((new.data_ptr(), new.data_ptr() + size))
        if not shape.numel():
            return torch.empty(shape, dtype=dtype)
        return lent(self._free[size].pop(), shape, dtype, self._free[size].append)


class _OnlyViews(TorchFunctionMode):
    """Lets torch make new memory and look at memory in other shapes, nothing else."""

    def __init__(self, memory: _Memory) -> None:
        super().__init__()
        self._memory = memory

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", str(func))
        if name in _READS or (name.endswith("_") and not name.endswith("__")):
            raise NotRecordable(f"torch's {name} reads or changes numbers")
        out = func(*args, **(kwargs or {}))
        if name in ("empty", "empty_like", "new_empty"):
            return self._memory.take(out.shape, out.dtype)
        known = {x.untyped_storage().data_ptr() for x in _tensors((*args, *(kwargs or {}).values()))}
        if any(x.untyped_storage().data_ptr() not in known for x in _tensors((out,))):
            raise NotRecordable(f"torch computes {name}")
        return out


def _tensors(values: tuple[Any, ...]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(tuple(value))
