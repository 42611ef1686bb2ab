"""The tensors of peft's files, and how the modules they are named after correspond to our layers.

A tensor is named after the Hugging Face module: "base_model.model." + module + "." + part. Where a family keeps several of our layers as one
(fused projections), the rows of theirs are ours, in some order.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from orrery.kit.errors import OrreryError
from orrery.kit.files import atomic_folder, atomic_write
from orrery.kit.model_folder import ADAPTER, Weights
from orrery.kit.safetensors import open_safetensors
from orrery.kit.untrusted import FOREIGN, inside
from orrery.model.adapters.adapter import linear_shapes
from orrery.model.families import family_of
from orrery.model.families.family import Family
from orrery.model.names import TRANSPOSED, TRANSPOSED_ROWS, Source, sources
from orrery.model.weights import not_finite, read_tensor

WEIGHTS, PICKLED = "adapter_model.safetensors", "adapter_model.bin"
PREFIX = "base_model.model."


@dataclass(frozen=True)
class Place:
    """One module of theirs: as a file spells it, the layers of ours that it holds, and how their rows lie in it."""

    module: str
    source: Source
    sizes: tuple[tuple[int, int], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Our layers."""
        return tuple(name.removesuffix(".weight") for name in self.source.ours)

    @property
    def out(self) -> int:
        """Rows of theirs."""
        return sum(out for out, _ in self.sizes)

    @property
    def width(self) -> int:
        """Columns."""
        return self.sizes[0][1]

    @property
    def turned(self) -> bool:
        """Whether their weight is stored (in, out); parts of adapters never are."""
        return self.source.layout in (TRANSPOSED, TRANSPOSED_ROWS)

    def rows(self, theirs: Tensor) -> list[Tensor]:
        """The rows of (out, r) or (out,) that each of ours has."""
        sizes = [torch.Size((out, *theirs.shape[1:])) for out, _ in self.sizes]
        return list(self.source.layout.join([theirs.t() if self.turned else theirs], sizes))

    def joined(self, ours: list[Tensor]) -> Tensor:
        """The other way."""
        made = self.source.layout.split(ours)[0]
        return made.t() if self.turned else made


class Places:
    """Where each linear layer of a model is in the files of its family; only whole rows may change places."""

    def __init__(self, model: nn.Module) -> None:
        self.family: Family | None = family_of(model.cfg, prefer=getattr(model, "family", None))  # type: ignore[bad-argument-type]
        shapes = linear_shapes(model)
        ours = {f"{name}.weight": torch.Size(shape) for name, shape in shapes.items()}
        found = sources(ours, None if self.family is None else self.family.table(model.cfg))  # type: ignore[bad-argument-type]
        self.all: list[Place] = []
        for source in found:
            if source.layout.rows or source.layout in (TRANSPOSED, TRANSPOSED_ROWS):
                names = [name.removesuffix(".weight") for name in source.ours]
                spelt = (
                    source.theirs[0]
                    if self.family is None
                    else self.family.spelt(model.cfg, source.theirs[0])
                )
                sizes = tuple(shapes[name] for name in names)
                self.all.append(Place(spelt.removesuffix(".weight"), source, sizes))
        self._by_weight = {place.source.theirs[0]: place for place in self.all}

    def find(self, module: str) -> Place | None:
        """The place that a file calls `module`."""
        weight = f"{module}.weight"
        return self._by_weight.get(self.family.canonical_name(weight) if self.family else weight)

    @property
    def turned(self) -> bool:
        """Whether the family stores weights (in, out)."""
        return any(place.turned for place in self.all)


def by_module(
    folder: Path, tensors: Mapping[str, Tensor], parts: re.Pattern[str], places: Places, *, kind: str
) -> list[tuple[str, Place, dict[str, Tensor]]]:
    """Of each module its name in the file, its place, and its parts by what `parts` calls "part".

    Raises:
        OrreryError: a tensor that is none of the parts, a part that is there twice, or a module that is not in the model.
    """
    found: dict[str, tuple[str, Place, dict[str, Tensor]]] = {}
    for name, tensor in tensors.items():
        match = parts.fullmatch(name.removeprefix(PREFIX))
        if match is None or not name.startswith(PREFIX):
            raise OrreryError(
                f"'{folder / WEIGHTS}' holds '{name}', which is no part of a {kind} adapter that is known here (embeddings and whole "
                "modules are not); train it without modules_to_save"
            )
        module = match["module"]
        place = places.find(module)
        if place is None:
            raise OrreryError(
                f"'{folder}' adapts '{module}', which is no linear layer of this model; it is another model's, or adapts experts or "
                "embeddings, which is not known here"
            )
        _, _, mine = found.setdefault(place.module, (module, place, {}))
        if match["part"] in mine:
            raise OrreryError(
                f"'{folder / WEIGHTS}' holds {match['part']} of '{module}' twice; the adapter is damaged"
            )
        mine[match["part"]] = tensor
    if not found:
        raise OrreryError(f"'{folder / WEIGHTS}' holds no tensors; the adapter was not saved whole")
    return list(found.values())


def check_shapes(folder: Path, module: str, place: Place, parts: Mapping[str, Tensor], fits: bool) -> None:
    """Refuse parts that do not fit.

    Raises:
        OrreryError: says the shapes.
    """
    if not fits:
        raise OrreryError(
            f"'{folder / WEIGHTS}': the parts of '{module}' have the shapes {[list(t.shape) for t in parts.values()]}, but the model's "
            f"layer goes from {place.width} to {place.out} numbers; it is another model's, or damaged"
        )


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """What the folder's safetensors file holds, as float32.

    Raises:
        OrreryError: missing, damaged, or numbers that are not finite.
    """
    if not (folder / WEIGHTS).is_symlink() and not (folder / WEIGHTS).exists():
        pickled = (folder / PICKLED).exists()
        raise OrreryError(
            f"'{folder}' has no {WEIGHTS}" + (f", only {PICKLED}: {FOREIGN['.bin']}" if pickled else "")
        )
    with open_safetensors(inside(folder, WEIGHTS)) as file:
        weights = Weights(dict.fromkeys(file.tensors, file))
        tensors = {name: read_tensor(weights, name) for name in weights.tensors}
    strange = [name for name, t in tensors.items() if not t.is_floating_point() or t.itemsize == 1]
    bad = strange or list(not_finite(tensors))
    if bad:
        raise OrreryError(
            f"'{folder / WEIGHTS}': tensor '{bad[0]}' does not hold finite floats; the adapter is damaged"
        )
    return {name: tensor.float() for name, tensor in tensors.items()}


def write_folder(
    folder: str | Path,
    kind: str,
    settings: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    *,
    base_model: str,
) -> None:
    """adapter_config.json and adapter_model.safetensors, both or neither."""
    config = {
        "peft_type": kind,
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model or None,
        "inference_mode": True,
        **settings,
    }
    with atomic_folder(folder) as temporary:
        stored = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        atomic_write(temporary / WEIGHTS, to_safetensors(stored, metadata={"format": "pt"}))
        atomic_write(temporary / ADAPTER, json.dumps(config, indent=2) + "\n")
