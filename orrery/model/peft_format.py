"""LoRA adapters as the folders of the `peft` library: adapter_config.json and adapter_model.safetensors.

    adapter = read_peft("out/adapter", model)          # by the names of the model's family
    write_peft(adapter, model, "out/adapter")          # PeftModel.from_pretrained opens it: equal logits

A tensor is named after the Hugging Face module: "base_model.model." + module + ".lora_A.weight" (r, in), ".lora_B.weight" (out, r),
".lora_B.bias" (out,); a bias of the base that was trained too, module + ".base_layer.bias". Where a family keeps several of our layers
as one (fused projections), the rows of its B are theirs. Other kinds of adapter are refused by name.

Format: huggingface.co/docs/peft, "PEFT checkpoint format".
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
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
from orrery.model.families import family_of
from orrery.model.families.family import Family
from orrery.model.lora import Adapter, Lora, LowRank, linear_shapes, plain_layer
from orrery.model.names import TRANSPOSED, TRANSPOSED_ROWS, Source, sources
from orrery.model.peft_config import Settings, read_settings
from orrery.model.weights import not_finite, read_tensor

WEIGHTS, PICKLED = "adapter_model.safetensors", "adapter_model.bin"
PREFIX = "base_model.model."
BASE_BIAS = "base_layer.bias"
TENSOR = re.compile(
    r"(?P<module>.+?)\.(?P<part>lora_A\.weight|lora_B\.weight|lora_B\.bias|base_layer\.bias|bias)"
)


def read_peft(folder: str | Path, model: nn.Module) -> Adapter:
    """The adapter in a folder, for `model`; it is not put beside it yet.

    Raises:
        OrreryError: no adapter, a damaged one, one of another kind or with parts we do not compute, or another model's.
    """
    folder = Path(folder)
    settings = read_settings(folder)
    theirs = _read_tensors(folder)
    family = _family(model)
    shapes = linear_shapes(model)
    table = {source.theirs[0]: source for source in _sources(model, family, shapes)}
    layers: dict[str, LowRank] = {}
    for name, (module, parts) in _by_module(folder, theirs, family).items():
        source = table.get(name)
        if source is None:
            raise OrreryError(
                f"'{folder}' adapts '{module}', which is no linear layer of this model; it is another model's, or adapts experts or "
                "embeddings, which is not known here"
            )
        layers |= _layers_of(folder, module, parts, source, model, shapes, settings)
    if not layers:
        raise OrreryError(f"'{folder / WEIGHTS}' holds no tensors; the adapter was not saved whole")
    config = Lora(
        rank=settings.rank,
        alpha=settings.alpha,
        rslora=settings.rslora,
        dropout=settings.dropout,
        bias=any(low.bias is not None for low in layers.values()),
        targets=tuple(layers),
    )
    return Adapter(config, layers)


def write_peft(adapter: Adapter, model: nn.Module, folder: str | Path, *, base_model: str = "") -> None:
    """Write the folder, whole or not at all. `base_model` is the name or path that others load the model from.

    Raises:
        OrreryError: the adapter is not this model's, or the folder cannot be written.
    """
    family = _family(model)
    tensors: dict[str, Tensor] = {}
    ranks, alphas = {}, {}
    biased = any(low.bias is not None for low in adapter.layers.values())
    modules: list[str] = []
    shapes = linear_shapes(model)
    table = _sources(model, family, shapes)
    for source in table:
        a, b, bias, scale = _fused(source, adapter, shapes)
        if a is None:
            continue
        spelt = source.theirs[0] if family is None else family.spelt(model.cfg, source.theirs[0])  # type: ignore[missing-attribute]
        module = spelt.removesuffix(".weight")
        modules.append(module)
        ranks[module] = len(a)
        alphas[module] = _alpha(scale, len(a), adapter.config.rslora)
        tensors[f"{PREFIX}{module}.lora_A.weight"] = a
        tensors[f"{PREFIX}{module}.lora_B.weight"] = b
        if biased:  # peft gives all layers one or none
            tensors[f"{PREFIX}{module}.lora_B.bias"] = bias / scale
    r, alpha = adapter.config.rank, _whole(adapter.config.alpha)
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model or None,
        "inference_mode": True,
        "r": r,
        "lora_alpha": alpha,
        "lora_dropout": adapter.config.dropout,
        "use_rslora": adapter.config.rslora,
        "lora_bias": biased,
        "bias": "none",
        "fan_in_fan_out": any(s.layout in (TRANSPOSED, TRANSPOSED_ROWS) for s in table),
        "target_modules": modules,
        "rank_pattern": {module: n for module, n in ranks.items() if n != r},
        "alpha_pattern": {module: x for module, x in alphas.items() if x != alpha},
        "modules_to_save": None,
        "init_lora_weights": True,
    }
    with atomic_folder(folder) as temporary:
        stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        atomic_write(temporary / WEIGHTS, to_safetensors(stored, metadata={"format": "pt"}))
        atomic_write(temporary / ADAPTER, json.dumps(settings, indent=2) + "\n")


def _read_tensors(folder: Path) -> dict[str, Tensor]:
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


def _by_module(
    folder: Path, tensors: Mapping[str, Tensor], family: Family | None
) -> dict[str, tuple[str, dict[str, Tensor]]]:
    """By the weight that is adapted, as the family's table spells it: its module as the file spells it, and its parts."""
    found: dict[str, tuple[str, dict[str, Tensor]]] = {}
    for name, tensor in tensors.items():
        match = TENSOR.fullmatch(name.removeprefix(PREFIX))
        if match is None or not name.startswith(PREFIX):
            raise OrreryError(
                f"'{folder / WEIGHTS}' holds '{name}', which is no part of a LoRA adapter that is known here (embeddings, whole "
                "modules and magnitudes are not); train it without modules_to_save and DoRA"
            )
        weight = f"{match['module']}.weight"
        parts = found.setdefault(family.canonical_name(weight) if family else weight, (match["module"], {}))[
            1
        ]
        part = BASE_BIAS if match["part"] in ("bias", BASE_BIAS) else match["part"]
        if part in parts:
            raise OrreryError(
                f"'{folder / WEIGHTS}' holds {part} of '{match['module']}' twice; the adapter is damaged"
            )
        parts[part] = tensor
    return found


def _layers_of(
    folder: Path,
    module: str,
    parts: Mapping[str, Tensor],
    source: Source,
    model: nn.Module,
    sizes: Mapping[str, tuple[int, int]],
    settings: Settings,
) -> dict[str, LowRank]:
    """Our layers' low-rank parts from one module of theirs."""
    names = [name.removesuffix(".weight") for name in source.ours]
    shapes = [sizes[name] for name in names]
    out, width = sum(shape[0] for shape in shapes), shapes[0][1]
    # A module of which the bias alone was trained has a product that is zero.
    a = parts.get("lora_A.weight", torch.zeros(1, width) if BASE_BIAS in parts else torch.empty(0))
    b = parts.get("lora_B.weight", torch.zeros(out, 1) if BASE_BIAS in parts else torch.empty(0))
    biases = [parts.get(key, torch.zeros(out)) for key in ("lora_B.bias", BASE_BIAS)]
    fits = a.shape == (a.shape[0], width) and b.shape == (out, a.shape[0]) and len(a)
    if not fits or any(bias.shape != (out,) for bias in biases):
        raise OrreryError(
            f"'{folder / WEIGHTS}': the parts of '{module}' have the shapes {[list(t.shape) for t in parts.values()]}, but the model's "
            f"layer goes from {width} to {out} numbers; it is another model's, or damaged"
        )
    if "lora_A.weight" in parts and len(a) not in settings.ranks:
        raise OrreryError(
            f"'{folder}': '{module}' has rank {len(a)}, but {ADAPTER} says {sorted(settings.ranks)}; they do not belong together"
        )
    scale = settings.scale(module, len(a))
    added = _rows(source, biases[0], shapes)
    trained = _rows(source, biases[1], shapes) if BASE_BIAS in parts else None
    layers: dict[str, LowRank] = {}
    for i, (name, part) in enumerate(zip(names, _rows(source, b, shapes), strict=True)):
        bias = added[i] * scale if "lora_B.bias" in parts else None
        if trained is not None:
            own = plain_layer(model.get_submodule(name)).bias
            if own is None:
                raise OrreryError(f"'{folder}' trained a bias of '{module}', which has none in this model")
            bias = trained[i] - own.detach().float() + (0.0 if bias is None else bias)
        layers[name] = LowRank(a, part.contiguous(), scale=scale, bias=bias, dropout=settings.dropout)
    return layers


def _fused(
    source: Source, adapter: Adapter, shapes: Mapping[str, tuple[int, int]]
) -> tuple[Tensor | None, Tensor, Tensor, float]:
    """A, B, bias and scale of one module of theirs from those of our layers; A None: it is not adapted.

    Layers with one A between them keep it; others get their ranks end to end, each B zero where the rank is another's.
    """
    names = [name.removesuffix(".weight") for name in source.ours]
    lows = [adapter.layers.get(name) for name in names]
    present = [low for low in lows if low is not None]
    if not present:
        return None, torch.empty(0), torch.empty(0), 1.0
    one = all(torch.equal(low.a, present[0].a) for low in present)
    scale = present[0].scale if one else adapter.config.scale(sum(low.rank for low in present))
    rank = present[0].rank if one else sum(low.rank for low in present)
    parts, biases, at = [], [], 0
    for name, low in zip(names, lows, strict=True):
        b, bias = torch.zeros(shapes[name][0], rank), torch.zeros(shapes[name][0])
        if low is not None:
            b[:, at : at + low.rank] = low.b.detach().cpu() * (low.scale / scale)
            bias = bias if low.bias is None else low.bias.detach().cpu()
            at += 0 if one else low.rank
        parts.append(b)
        biases.append(bias)
    a = present[0].a if one else torch.cat([low.a for low in present])
    return a, _joined(source, parts), _joined(source, biases), scale


def _rows(source: Source, theirs: Tensor, shapes: list[tuple[int, int]]) -> list[Tensor]:
    """The rows of (out, r) or (out,) that each of ours has."""
    turned = source.layout in (TRANSPOSED, TRANSPOSED_ROWS)  # A and B are not, however the weight is stored
    sizes = [torch.Size((out, *theirs.shape[1:])) for out, _ in shapes]
    return list(source.layout.join([theirs.t() if turned else theirs], sizes))


def _joined(source: Source, ours: list[Tensor]) -> Tensor:
    made = source.layout.split(ours)[0]
    return made.t() if source.layout in (TRANSPOSED, TRANSPOSED_ROWS) else made


def _family(model: Any) -> Family | None:
    return family_of(model.cfg, prefer=getattr(model, "family", None))


def _sources(model: Any, family: Family | None, shapes: Mapping[str, tuple[int, int]]) -> list[Source]:
    """Where the linear layers' weights are in the family's files; only whole rows may change places."""
    ours = {f"{name}.weight": torch.Size(shape) for name, shape in shapes.items()}
    found = sources(ours, None if family is None else family.table(model.cfg))
    return [s for s in found if s.layout.rows or s.layout in (TRANSPOSED, TRANSPOSED_ROWS)]


def _alpha(scale: float, rank: int, rslora: bool) -> float:
    return _whole(scale * (math.sqrt(rank) if rslora else rank))


def _whole(x: float) -> float:
    """A whole number that rounding took away from, as such."""
    return round(x) if abs(x - round(x)) < 1e-9 * max(1.0, abs(x)) else x
