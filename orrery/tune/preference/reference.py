"""What the reference model says of every answer, read once before training and kept beside the run.

The reference is the model before its first step: of an adapter its frozen model. After this it is not needed, so it takes no memory in
training and no gradient could reach it. A run that goes on finds its numbers in `reference.safetensors`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from orrery.kit.files import atomic_write
from orrery.model.decoder import Decoder
from orrery.serve.mode import evaluating
from orrery.tune.preference.answers import Item, fingerprint_of
from orrery.tune.preference.loader import Part
from orrery.tune.preference.reading import read_items

Parent = Callable[[], AbstractContextManager[None]]
"""Within what it gives the model is as it began (an adapter's frozen model)."""

FILE = "reference.safetensors"


def referenced(
    name: str, items: Sequence[Item], model: Decoder, *, parent: Parent | None = None, share: bool = True, keep: Path | None = None
) -> Part:  # fmt: skip
    """The items with the reference's log-probabilities.

    Args:
        model: as it is before training. parent: see there; None: the model itself.
        keep: a folder for the file in which they are kept, or found.
    """
    title = f"{_stamp(model)}-{fingerprint_of(items)}"
    path = None if keep is None else keep / f"{name}-{FILE}"
    numbers = None if path is None else _found(path, title)
    if numbers is None:
        with (parent or nullcontext)(), evaluating(model):
            own = read_items(model, items, share=share)
            others = read_items(model, items, share=share, others=True) if items[0].other is not None else []
        numbers = {"own": torch.cat(own), "other": torch.cat(others) if others else torch.empty(0)}
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(path, save(numbers, metadata={"of": title}))
    sizes = [len(item.tails) for item in items]
    other = numbers["other"].split([len(item.other.tails) for item in items if item.other is not None])
    return Part(
        name=name,
        items=tuple(items),
        reference=numbers["own"].split(sizes),
        other=tuple(other) if len(numbers["other"]) else (),
    )


def _found(path: Path, title: str) -> dict[str, Tensor] | None:
    """The numbers in a file, if it is whole and of these items and this model."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            known = (file.metadata() or {}).get("of") == title
            return {name: file.get_tensor(name) for name in ("own", "other")} if known else None
    except SafetensorError:
        return None


def _stamp(model: Decoder) -> str:
    """Names the weights, by some numbers of every tensor."""
    total = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        total.update(f"{name} {tuple(tensor.shape)}".encode())
        total.update(tensor.detach().flatten()[:64].float().cpu().numpy().tobytes())
    return total.hexdigest()
