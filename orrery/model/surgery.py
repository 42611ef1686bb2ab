"""Swap modules of a model for others (adapters, quantised or sparse layers), and keep a list of what was done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from torch import nn

from orrery.kit.errors import OrreryError

Model = TypeVar("Model", bound=nn.Module)


def replace(
    model: Model,
    match: Callable[[str, nn.Module], bool],
    make: Callable[[nn.Module], nn.Module],
    *,
    operation: str | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> Model:
    """Replace every module for which `match(name, module)` holds by `make(module)`, in place.

    A module is looked at before its children, and what it is replaced by is not looked into. `operation` (the name
    of `make` by default) and `arguments` go with the modules' names into `model.surgery`, which receipts carry.

    Raises:
        OrreryError: nothing matched.
    """
    done: list[str] = []
    for name, module in list(model.named_modules()):
        inside = any(name.startswith(f"{parent}.") for parent in done)
        if name and not inside and match(name, module):
            parent, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(parent), leaf, make(module))
            done.append(name)
    if not done:
        raise OrreryError(
            "no module of the model matched, so nothing was replaced; check the names you match on"
        )
    entry = {
        "operation": operation or getattr(make, "__qualname__", type(make).__name__),
        "modules": done,
        "arguments": dict(arguments or {}),
    }
    model.surgery = [*getattr(model, "surgery", []), entry]  # type: ignore[bad-argument-type]
    return model
