"""IA3 and VeRA in peft's files: vectors for each module.

IA3: ".ia3_l" (out, 1) where outputs are scaled, (1, in) where inputs are. VeRA: ".vera_lambda_d" (r,), ".vera_lambda_b" (out,), and the shared
"base_model.vera_A" (r, in) and "base_model.vera_B" (out, r).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from orrery.kit.errors import OrreryError
from orrery.model.adapters.adapter import Adapter
from orrery.model.adapters.config import Ia3, Vera
from orrery.model.adapters.part import Part
from orrery.model.adapters.peft_config import ADAPTER, number
from orrery.model.adapters.peft_tensors import PREFIX, WEIGHTS, Places, by_module, check_shapes
from orrery.model.adapters.scaling import InputScale, OutputScale
from orrery.model.adapters.vera import VeraVectors, projections

IA3 = re.compile(r"(?P<module>.+)\.(?P<part>ia3_l)")
VERA = re.compile(r"(?P<module>.+)\.(?P<part>vera_lambda_d|vera_lambda_b)")
SHARED = ("base_model.vera_A", "base_model.vera_B")
LARGEST = 1 << 24


def read_ia3(folder: Path, hf: Mapping[str, Any], tensors: Mapping[str, Tensor], model: nn.Module) -> Adapter:
    """Raises:
    OrreryError: another model's, or damaged.
    """
    parts: dict[str, Part] = {}
    for module, place, theirs in by_module(folder, tensors, IA3, Places(model), kind="IA3"):
        factors = theirs["ia3_l"]
        on_input = factors.shape == (1, place.width) and factors.shape != (place.out, 1)
        check_shapes(folder, module, place, theirs, on_input or factors.shape == (place.out, 1))
        if on_input:
            parts |= {name: InputScale(factors.flatten()) for name in place.names}
        else:
            rows = place.rows(factors.flatten())
            parts |= {name: OutputScale(mine) for name, mine in zip(place.names, rows, strict=True)}
    outputs = tuple(name for name, part in parts.items() if isinstance(part, OutputScale))
    return Adapter(Ia3(targets=outputs, feedforward=tuple(n for n in parts if n not in outputs)), parts)


def write_ia3(adapter: Adapter, model: nn.Module) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The settings and the tensors.

    Raises:
        OrreryError: layers that the family keeps as one are scaled in ways that one module cannot be.
    """
    parts, places = adapter.parts, Places(model)
    tensors: dict[str, Tensor] = {}
    scaled: dict[bool, list[str]] = {False: [], True: []}
    for place in places.all:
        mine = [parts.get(name) for name in place.names]
        if not any(mine):
            continue
        inputs = [part.factors for part in mine if isinstance(part, InputScale)]
        if inputs and not (len(inputs) == len(mine) and all(torch.equal(x, inputs[0]) for x in inputs)):
            raise OrreryError(
                f"the family keeps {', '.join(place.names)} as one, whose inputs have one factor each; adapt them alike"
            )
        if inputs:
            factors = inputs[0][None]
        else:
            rows = [
                part.factors.detach().cpu() if isinstance(part, OutputScale) else torch.ones(out)
                for part, (out, _) in zip(mine, place.sizes, strict=True)
            ]
            factors = place.joined(rows)[:, None]
        scaled[bool(inputs)].append(place.module)
        tensors[f"{PREFIX}{place.module}.ia3_l"] = factors
    settings = {
        "target_modules": scaled[False] + scaled[True],
        "feedforward_modules": scaled[True],
        "fan_in_fan_out": places.turned,
        "modules_to_save": None,
        "init_ia3_weights": True,
    }
    return settings, tensors


def read_vera(
    folder: Path, hf: Mapping[str, Any], tensors: Mapping[str, Tensor], model: nn.Module
) -> Adapter:
    """Raises:
    OrreryError: another model's, or damaged.
    """
    rank, seed = (
        int(number(folder / ADAPTER, hf, key, default))
        for key, default in (("r", 256), ("projection_prng_key", 0))
    )
    dropout = min(max(number(folder / ADAPTER, hf, "vera_dropout", 0.0), 0.0), 0.99)
    own = {name: tensor for name, tensor in tensors.items() if name not in SHARED}
    found = by_module(folder, own, VERA, Places(model), kind="VeRA")
    out, width = max(place.out for _, place, _ in found), max(place.width for _, place, _ in found)
    if not 1 <= rank * max(out, width) <= LARGEST:
        raise OrreryError(f"'{folder / ADAPTER}': a rank of {rank} makes no projections of a sensible size")
    a, b = (
        (tensors[name] for name in SHARED)
        if all(n in tensors for n in SHARED)
        else projections(rank, out, width, seed)
    )
    if (
        a.ndim != 2
        or b.ndim != 2
        or len(a) != rank
        or b.shape[1] != rank
        or a.shape[1] < width
        or len(b) < out
    ):
        raise OrreryError(
            f"'{folder / WEIGHTS}': vera_A and vera_B are too small for this model; it is another model's"
        )
    parts: dict[str, Part] = {}
    for module, place, theirs in found:
        inner, outer = (theirs.get(key, torch.empty(0)) for key in ("vera_lambda_d", "vera_lambda_b"))
        check_shapes(folder, module, place, theirs, inner.shape == (rank,) and outer.shape == (place.out,))
        shares = zip(place.names, place.rows(b[: place.out]), place.rows(outer), strict=True)
        for name, mine, factors in shares:
            parts[name] = VeraVectors(
                a[:, : place.width], mine, inner=inner.clone(), outer=factors, dropout=dropout
            )
    config = Vera(
        rank=rank, projection_seed=seed, d_initial=number(folder / ADAPTER, hf, "d_initial", 0.1), dropout=dropout, targets=tuple(parts)
    )  # fmt: skip
    return Adapter(config, parts)


def write_vera(adapter: Adapter, config: Vera, model: nn.Module) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The settings and the tensors, the shared projections among them.

    Raises:
        OrreryError: layers that the family keeps as one have each their own vectors, which one module has no place for.
    """
    parts, places = adapter.parts, Places(model)
    tensors: dict[str, Tensor] = {}
    names: list[str] = []
    a, b = torch.empty(0, 0), torch.empty(0, 0)
    for place in places.all:
        mine = [part for name in place.names if isinstance(part := parts.get(name), VeraVectors)]
        if not mine:
            continue
        joined = place.joined([part.b for part in mine]) if len(mine) == len(place.names) else None
        shorter = min((len(b), place.out))
        if (
            joined is None
            or (not torch.equal(joined[:shorter], b[:shorter]) and b.numel())
            or any(not torch.equal(part.inner, mine[0].inner) for part in mine)
        ):
            raise OrreryError(
                f"the family keeps {', '.join(place.names)} as one, and peft's VeRA has no place for vectors of each; "
                "merge the adapter, or take kind: lora"
            )
        b = joined if len(joined) > len(b) else b
        a = mine[0].a if mine[0].a.shape[1] > a.shape[1] else a
        names.append(place.module)
        tensors[f"{PREFIX}{place.module}.vera_lambda_d"] = mine[0].inner
        tensors[f"{PREFIX}{place.module}.vera_lambda_b"] = place.joined(
            [part.outer.detach().cpu() for part in mine]
        )
    tensors |= dict(zip(SHARED, (a, b), strict=True))
    settings = {
        "r": config.rank,
        "projection_prng_key": config.projection_seed,
        "save_projection": True,
        "vera_dropout": config.dropout,
        "d_initial": config.d_initial,
        "bias": "none",
        "fan_in_fan_out": places.turned,
        "target_modules": names,
        "modules_to_save": None,
        "init_weights": True,
    }
    return settings, tensors
