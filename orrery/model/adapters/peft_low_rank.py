"""LoRA, rsLoRA, DoRA and PiSSA in peft's files.

".lora_A.weight" (r, in), ".lora_B.weight" (out, r), ".lora_B.bias" (out,), ".lora_magnitude_vector" (out,) of DoRA; a bias of the base that was
trained too, ".base_layer.bias". PiSSA is written as plain LoRA of twice the rank, which fits the model as published; peft's own PiSSA
files, which fit a model that lacks its largest singular directions, are read by computing these again.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from orrery.kit.errors import OrreryError
from orrery.model.adapters.adapter import Adapter, plain_layer
from orrery.model.adapters.config import Lora
from orrery.model.adapters.dora import Dora
from orrery.model.adapters.low_rank import LowRank, Pissa
from orrery.model.adapters.part import Part, float_weight
from orrery.model.adapters.peft_config import ADAPTER, LoraSettings, lora_settings
from orrery.model.adapters.peft_tensors import PREFIX, WEIGHTS, Place, Places, by_module, check_shapes

BASE_BIAS, BIAS = "base_layer.bias", "lora_B.bias"
TENSOR = re.compile(
    r"(?P<module>.+?)(\.base_layer)?\.(?P<part>lora_A\.weight|lora_B\.weight|lora_B\.bias|lora_magnitude_vector|bias)"
)


def read_lora(
    folder: Path, hf: Mapping[str, Any], tensors: Mapping[str, Tensor], model: nn.Module
) -> Adapter:
    """The adapter that the config `hf` and the tensors are.

    Raises:
        OrreryError: parts we do not compute, or another model's.
    """
    settings = lora_settings(folder, hf)
    parts: dict[str, Part] = {}
    found = by_module(folder, tensors, TENSOR, Places(model), kind="LoRA")
    for module, place, theirs in found:
        parts |= _read_module(folder, module, place, theirs, model, settings)
    plain = all(isinstance(part, LowRank) for part in parts.values())
    config = Lora(
        rank=settings.rank,
        alpha=settings.alpha,
        rslora=settings.rslora,
        dora=settings.dora,
        init="pissa" if settings.pissa else "default",
        dropout=settings.dropout,
        bias=plain and any(part.bias is not None for part in parts.values()),
        targets=tuple(parts),
    )
    return Adapter(config, parts)


def _read_module(
    folder: Path,
    module: str,
    place: Place,
    theirs: Mapping[str, Tensor],
    model: nn.Module,
    settings: LoraSettings,
) -> dict[str, Part]:
    """Our layers' parts from one module of theirs."""
    if settings.dora != ("lora_magnitude_vector" in theirs):
        raise OrreryError(
            f"'{folder / WEIGHTS}' holds {'no ' * settings.dora}lora_magnitude_vector, which is no part of a LoRA adapter with use_dora "
            f"{str(settings.dora).lower()}, at '{module}'; the files do not belong together"
        )
    out, width = place.out, place.width
    # A module of which the bias alone was trained has a product that is zero.
    nothing = "bias" in theirs
    a = theirs.get("lora_A.weight", torch.zeros(1, width) if nothing else torch.empty(0))
    b = theirs.get("lora_B.weight", torch.zeros(out, 1) if nothing else torch.empty(0))
    vectors = [theirs.get(key, torch.zeros(out)) for key in (BIAS, "bias", "lora_magnitude_vector")]
    fits = a.shape == (a.shape[0], width) and b.shape == (out, a.shape[0]) and len(a) > 0
    check_shapes(folder, module, place, theirs, fits and all(v.shape == (out,) for v in vectors))
    if "lora_A.weight" in theirs and len(a) not in settings.ranks:
        raise OrreryError(
            f"'{folder}': '{module}' has rank {len(a)}, but {ADAPTER} says {sorted(settings.ranks)}; they do not belong together"
        )
    if (settings.dora or settings.pissa) and (nothing or BIAS in theirs):
        raise OrreryError(
            f"'{folder}' has biases beside DoRA or PiSSA, which is not known here; train it without"
        )
    scale = settings.scale(module, len(a))
    layers = {name: plain_layer(model.get_submodule(name)) for name in place.names}
    added, trained, lengths = (place.rows(v) for v in vectors)
    start = None
    if settings.pissa:
        whole = place.joined([float_weight(layer) for layer in layers.values()])
        start = Pissa.of(whole, len(a), scale=scale)
    made: dict[str, Part] = {}
    for i, ((name, layer), mine) in enumerate(zip(layers.items(), place.rows(b), strict=True)):
        bias = added[i] * scale if BIAS in theirs else None
        if nothing:
            if layer.bias is None:
                raise OrreryError(f"'{folder}' trained a bias of '{module}', which has none in this model")
            bias = trained[i] - layer.bias.detach().float() + (0.0 if bias is None else bias)
        low = LowRank(a, mine.contiguous(), scale=scale, bias=bias, dropout=settings.dropout)
        if start is not None:
            made[name] = Pissa(low, start.start_a, place.rows(start.start_b)[i].contiguous())
        else:
            made[name] = Dora.of(layer, low, lengths[i]) if settings.dora else low
    return made


def write_lora(adapter: Adapter, config: Lora, model: nn.Module) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The settings and the tensors."""
    parts, places = adapter.parts, Places(model)
    tensors: dict[str, Tensor] = {}
    ranks, alphas = {}, {}
    biased = any(_low(part).bias is not None for part in parts.values())
    for place in places.all:
        mine = [parts.get(name) for name in place.names]
        if not any(mine):
            continue
        a, b, bias, scale = _fused([None if p is None else _low(p) for p in mine], place, config)
        ranks[place.module], alphas[place.module] = len(a), _alpha(scale, len(a), config.rslora)
        prefix = f"{PREFIX}{place.module}."
        tensors[f"{prefix}lora_A.weight"], tensors[f"{prefix}lora_B.weight"] = a, b
        if biased:  # peft gives all layers one or none
            tensors[f"{prefix}{BIAS}"] = bias / scale
        if config.dora:
            lengths = [_length(part, model, name) for part, name in zip(mine, place.names, strict=True)]
            tensors[f"{prefix}lora_magnitude_vector"] = place.joined(lengths)
    r = config.rank if config.init == "default" else 2 * config.rank
    alpha = _alpha(config.scale(), r, config.rslora)
    settings = {
        "r": r,
        "lora_alpha": alpha,
        "lora_dropout": config.dropout,
        "use_rslora": config.rslora,
        "use_dora": config.dora,
        "lora_bias": biased,
        "bias": "none",
        "fan_in_fan_out": places.turned,
        "target_modules": list(ranks),
        "rank_pattern": {module: n for module, n in ranks.items() if n != r},
        "alpha_pattern": {module: x for module, x in alphas.items() if x != alpha},
        "modules_to_save": None,
        "init_lora_weights": True,
    }
    return settings, tensors


def _low(part: Part) -> LowRank:
    """The thin product of a part of any of these kinds."""
    if isinstance(part, Pissa):
        return part.plain()
    low = part.low if isinstance(part, Dora) else part
    assert isinstance(low, LowRank)
    return low


def _length(part: Part | None, model: nn.Module, name: str) -> Tensor:
    """The lengths of a layer's rows, those of the model where it is not adapted."""
    if isinstance(part, Dora):
        return part.magnitude.detach().cpu()
    return float_weight(plain_layer(model.get_submodule(name))).norm(dim=1)


def _fused(lows: list[LowRank | None], place: Place, config: Lora) -> tuple[Tensor, Tensor, Tensor, float]:
    """A, B, bias and scale of one module of theirs from those of our layers.

    Layers with one A between them keep it; others get their ranks end to end, each B zero where the rank is another's.
    """
    present = [low for low in lows if low is not None]
    one = all(torch.equal(low.a, present[0].a) for low in present)
    rank = present[0].rank if one else sum(low.rank for low in present)
    scale = present[0].scale if one else config.scale(rank)
    parts, biases, at = [], [], 0
    for (out, _), low in zip(place.sizes, lows, strict=True):
        b, bias = torch.zeros(out, rank), torch.zeros(out)
        if low is not None:
            b[:, at : at + low.rank] = low.b.detach().cpu() * (low.scale / scale)
            bias = bias if low.bias is None else low.bias.detach().cpu()
            at += 0 if one else low.rank
        parts.append(b)
        biases.append(bias)
    a = present[0].a if one else torch.cat([low.a for low in present])
    return a, place.joined(parts), place.joined(biases), scale


def _alpha(scale: float, rank: int, rslora: bool) -> float:
    alpha = scale * (math.sqrt(rank) if rslora else rank)
    return round(alpha) if abs(alpha - round(alpha)) < 1e-9 * max(1.0, abs(alpha)) else alpha
