"""A step of a model recorded once and replayed: the operations of our kernel, without the Python between them.

    tape = Tape()
    with tape.record():
        hidden = model(tokens, ctx)          # every operation must be the kernel's, or a view
    tokens.copy_(next_tokens)                # what the step reads is changed in place
    tape.replay()                            # and `hidden` is new

What CUDA graphs are to a GPU. Results are bit for bit those of running the modules: the same operations on the same memory.
Nothing can be left out silently: an operation of torch that computes, seen while recording, is an error.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

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
    """Operations in order. The tensors they read and write are kept, so that their addresses stay good."""

    def __init__(self) -> None:
        self._words: list[int] = []
        self._kept: list[tuple[Argument, ...]] = []
        self._program: ctypes.Array[ctypes.c_int64] | None = None

    def __len__(self) -> int:
        return len(self._kept)

    @contextmanager
    def record(self) -> Iterator[None]:
        """Append whatever the kernel runs on this thread.

        Raises:
            NotRecordable: torch computed something, which a replay would leave out.
        """
        outer, here.listener = here.listener, self
        try:
            with _OnlyViews():
                yield
        finally:
            here.listener = outer
        self._program = (ctypes.c_int64 * len(self._words))(*self._words)

    def heard(self, operation: Operation, words: list[int], arguments: tuple[Argument, ...]) -> None:
        self._words += (int(operation), len(words), *words)
        self._kept.append(arguments)

    def replay(self) -> None:
        """Run everything again."""
        load().orrery_replay(self._program, len(self), torch.get_num_threads())


class _OnlyViews(TorchFunctionMode):
    """Lets torch make new memory and look at memory in other shapes, nothing else."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", str(func))
        if name in _READS or (name.endswith("_") and not name.endswith("__")):
            raise NotRecordable(f"torch's {name} reads or changes numbers")
        out = func(*args, **(kwargs or {}))
        known = {x.untyped_storage().data_ptr() for x in _tensors((*args, *(kwargs or {}).values()))}
        new = any(x.untyped_storage().data_ptr() not in known for x in _tensors((out,)))
        if new and name not in ("empty", "empty_like", "new_empty"):
            raise NotRecordable(f"torch computes {name}")
        return out


def _tensors(values: tuple[Any, ...]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(tuple(value))
