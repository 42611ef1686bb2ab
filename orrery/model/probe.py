"""Names for activations, and a way to look at them.

A `Probe` is an identity module: torch hooks attach to its name, and it costs nothing while none does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from orrery.kit.errors import OrreryError, suggest


class Probe(nn.Module):
    """Gives back what it gets. `ctx` is for hooks that ask which tokens these are."""

    def forward(self, x: Tensor, ctx: Any = None) -> Tensor:
        return x


@contextmanager
def record(model: nn.Module, names: Iterable[str]) -> Iterator[dict[str, list[Tensor]]]:
    """Collect the outputs of the named sub-modules while the block runs, in the order they were made.

        with record(model, ["blocks.3.attn.pattern", "blocks.3.mlp.down_proj:input"]) as seen: ...

    `name:input` collects what goes into the module instead. Tensors stay attached to autograd.

    Raises:
        OrreryError: the model has no module of that name.
    """
    modules = dict(model.named_modules())
    seen: dict[str, list[Tensor]] = {name: [] for name in names}
    handles = []
    try:
        for name, found in seen.items():
            path, _, side = name.partition(":")
            if path not in modules or side not in ("", "input", "output"):
                raise OrreryError(f"the model has no activation '{name}'.{suggest(path, modules)}")
            handles.append(modules[path].register_forward_hook(_collect(found, of_input=side == "input")))
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _collect(found: list[Tensor], *, of_input: bool) -> Any:
    def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        found.append(inputs[0] if of_input else output)

    return hook
