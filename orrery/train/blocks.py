"""Two ways to run the same blocks: recomputed in the backward pass, or compiled. Both are undone when the run ends."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch.utils.checkpoint import checkpoint

from orrery.kit.errors import OrreryError
from orrery.model.decoder import Decoder

COMPILERS = ("g++", "clang++", "c++", "cl")


@contextmanager
def recomputed(model: Decoder) -> Iterator[None]:
    """Keep only each block's input and compute the block again in the backward pass (Chen et al. 2016, arXiv:1604.06174).

    Dropout is drawn again the same, so the gradients are the same bits.
    """
    for block in model.blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    try:
        yield
    finally:
        for block in model.blocks:
            del block.forward  # the class's own is seen again


@contextmanager
def compiled(model: Decoder) -> Iterator[None]:
    """torch.compile for each block.

    Raises:
        OrreryError: there is no compiler to do it with.
    """
    _require_compiler(next(model.parameters()).device)
    for block in model.blocks:
        block.compile()
    try:
        yield
    finally:
        for block in model.blocks:
            block._compiled_call_impl = None


def _require_compiler(device: torch.device) -> None:
    if device.type == "cpu" and not any(shutil.which(name) for name in (os.environ.get("CXX", ""), *COMPILERS) if name):
        raise OrreryError("compile: true needs a C++ compiler and none was found; install g++ or clang, or set compile: false")
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        raise OrreryError("compile: true needs the package 'triton' on this device; install it or set compile: false")
