"""Two ways to run the same blocks: recomputed in the backward pass, or compiled. Both are undone when the run ends."""

from __future__ import annotations

import importlib.util
import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from orrery.kit.errors import OrreryError
from orrery.model.context import Context
from orrery.model.decoder import Decoder

COMPILERS = ("g++", "clang++", "c++", "cl")
Forward = Callable[[Tensor, Context], Tensor]


@contextmanager
def recomputed(model: Decoder) -> Iterator[None]:
    """Keep only each block's input and compute the block again in the backward pass (Chen et al. 2016, arXiv:1604.06174).

    Dropout is drawn again the same, so the gradients are the same bits.
    """
    with _wrapped(model, lambda forward: partial(_forward_to_recompute, forward)):
        yield


@contextmanager
def compiled(model: Decoder) -> Iterator[None]:
    """torch.compile for all of a block but the attention itself, whose shapes change with every batch's documents.

    Raises:
        OrreryError: there is no compiler to do it with.
    """
    _require_compiler(next(model.parameters()).device)
    with _wrapped(model, lambda forward: partial(_forward_compiled, forward, torch.compile(forward))):
        yield


@contextmanager
def _wrapped(model: Decoder, wrap: Callable[[Forward], Forward]) -> Iterator[None]:
    before = [vars(block).get("forward") for block in model.blocks]
    for block in model.blocks:
        block.forward = wrap(block.forward)
    try:
        yield
    finally:
        for block, forward in zip(model.blocks, before, strict=True):
            del block.forward  # the class's own is seen again
            if forward is not None:
                block.forward = forward


def _forward_to_recompute(forward: Forward, x: Tensor, ctx: Context) -> Tensor:
    """What a pass makes once (masks, rotary tables) and this block made first must be made again when it is recomputed."""
    memo = ctx._made
    known, passes = set(memo), itertools.count()

    def run(x: Tensor) -> Tensor:
        if next(passes) == 0:
            return forward(x, ctx)
        aside = {key: memo.pop(key) for key in [*memo] if key not in known}
        try:
            return forward(x, ctx)
        finally:
            memo.update(aside)

    return checkpoint(run, x, use_reentrant=False)


def _forward_compiled(plain: Forward, fast: Forward, x: Tensor, ctx: Context) -> Tensor:
    """Only what is trained is compiled: validation and samples have shapes of their own."""
    return fast(x, Uncompiled(ctx)) if torch.is_grad_enabled() else plain(x, ctx)  # type: ignore[arg-type]


class Uncompiled:
    """A context whose methods the compiler leaves alone: it breaks its graph there and goes on after."""

    def __init__(self, inner: Context) -> None:
        self.inner = inner

    @property
    def lengths(self) -> tuple[int, ...]:
        return self.inner.lengths

    @property
    def positions(self) -> Tensor:
        return self.inner.positions

    @property
    def max_length(self) -> int:
        return self.inner.max_length

    @torch.compiler.disable
    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        return self.inner.once(key, make)

    @torch.compiler.disable
    def record(self, *report: Any) -> None:
        self.inner.record(*report)

    @torch.compiler.disable
    def replay(self, site: Any) -> Tensor | None:
        return self.inner.replay(site)

    @torch.compiler.disable
    def attend(self, site: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return self.inner.attend(site, q, k, v)

    @torch.compiler.disable
    def recur(self, site: Any, x: Tensor, step: Any) -> Tensor:
        return self.inner.recur(site, x, step)


def _require_compiler(device: torch.device) -> None:
    if device.type == "cpu" and not any(
        shutil.which(name) for name in (os.environ.get("CXX", ""), *COMPILERS) if name
    ):
        raise OrreryError(
            "compile: true needs a C++ compiler and none was found; install g++ or clang, or set compile: false"
        )
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        raise OrreryError(
            "compile: true needs the package 'triton' on this device; install it or set compile: false"
        )
