"""New adapters, which change nothing yet: at the beginning the adapted model is the model (but for virtual tokens, which are there at once).

adapter = new_adapter(model, Lora(rank=8, targets=("q_proj", "v_proj")), seed=0)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from orrery.kit.errors import OrreryError
from orrery.model.adapters.adapter import Adapter, adaptable
from orrery.model.adapters.bottleneck import BottleneckPart
from orrery.model.adapters.config import (
    AdapterConfig,
    Bottleneck,
    Ia3,
    Lora,
    Prefix,
    Prompt,
    Reft,
    Vera,
    matches,
)
from orrery.model.adapters.dora import Dora
from orrery.model.adapters.low_rank import LowRank, Pissa, tie_rates
from orrery.model.adapters.part import Linear, Part, float_weight, is_linear
from orrery.model.adapters.reft import Edit, orthonormal
from orrery.model.adapters.scaling import InputScale, OutputScale
from orrery.model.adapters.vera import VeraVectors, projections
from orrery.model.adapters.virtual import Virtual
from orrery.model.decoder import Decoder
from orrery.model.packed import Packed
from orrery.model.probe import record


def new_adapter(model: Decoder, cfg: AdapterConfig, *, seed: int = 0) -> Adapter:
    """An adapter of that kind for `model`, which is left as it is; put it beside the model with `AdapterSlots`.

    Its weights want gradients; freeze the model's own to train it alone.

    Raises:
        OrreryError: the model has nothing that the config names.
    """
    generator = torch.Generator().manual_seed(seed)
    match cfg:
        case Lora():
            parts = {
                name: _low_rank(layer, cfg, generator) for name, layer in _linear(model, cfg.targets).items()
            }
        case Vera():
            parts = _vera(_linear(model, cfg.targets), cfg)
        case Ia3():
            layers = _linear(model, (*cfg.targets, *cfg.feedforward))
            parts = {name: _scale(layer, matches(cfg.feedforward, name)) for name, layer in layers.items()}
        case Prefix():
            parts = _prefix(model, cfg.tokens, generator)
        case Prompt():
            ids = torch.randint(model.cfg.vocab_size, (cfg.tokens,), generator=generator).to(model.device)
            parts = {"embedded": Virtual(model.embed_tokens(ids).detach())}
        case Bottleneck():
            parts = {
                name: _bottleneck(model.cfg.d_model, cfg, generator) for name in _sublayers(model, cfg.after)
            }
        case Reft():
            parts = {
                f"blocks.{i}": _edit(model.cfg.d_model, cfg, generator) for i in _chosen_layers(model, cfg)
            }
    adapter = Adapter(cfg, parts).to(model.device)
    for parameter in adapter.parameters():
        parameter.requires_grad_(True)
    return adapter


def _linear(model: Decoder, targets: tuple[str, ...]) -> dict[str, Linear]:
    found = {
        name: module
        for name, module in adaptable(model).items()
        if is_linear(module) and name.startswith("blocks.") and matches(targets, name)
    }
    if not found:
        raise OrreryError(
            f"no linear layer of the model's blocks is named {' or '.join(targets)}; take names from "
            f"model.named_modules(), such as 'q_proj'"
        )
    return found


def _uniform(shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    bound = shape[1] ** -0.5
    return torch.empty(shape).uniform_(-bound, bound, generator=generator)


def _low_rank(layer: Linear, cfg: Lora, generator: torch.Generator) -> Part:
    out, width = layer.out_features, layer.in_features
    bias = torch.zeros(out) if cfg.bias else None
    settings = {"scale": cfg.scale(), "dropout": cfg.dropout, "bias": bias}
    if cfg.init == "pissa":
        rank = min(cfg.rank, out, width)
        part = Pissa.of(float_weight(layer), rank, **settings)
        tie_rates(part.low, cfg.lr_ratio)
        return part
    low = LowRank(_uniform((cfg.rank, width), generator), torch.zeros(out, cfg.rank), **settings)
    tie_rates(low, cfg.lr_ratio)
    return Dora.of(layer, low) if cfg.dora else low


def _vera(layers: dict[str, Linear], cfg: Vera) -> dict[str, Part]:
    most = [
        max(sizes) for sizes in zip(*((m.out_features, m.in_features) for m in layers.values()), strict=True)
    ]
    a, b = projections(cfg.rank, most[0], most[1], cfg.projection_seed)
    return {
        name: VeraVectors(
            a[:, : layer.in_features], b[: layer.out_features],
            inner=torch.full((cfg.rank,), cfg.d_initial), outer=torch.zeros(layer.out_features), dropout=cfg.dropout,
        )
        for name, layer in layers.items()
    }  # fmt: skip


def _scale(layer: Linear, on_input: bool) -> Part:
    return (
        InputScale(torch.ones(layer.in_features)) if on_input else OutputScale(torch.ones(layer.out_features))
    )


@torch.no_grad()
def _prefix(model: Decoder, tokens: int, generator: torch.Generator) -> dict[str, Part]:
    """The keys and values that the model itself has for random tokens: the paper's best start is real words'."""
    names = [name for name in adaptable(model) if name.endswith((".attn.keys", ".attn.values"))]
    if len(names) < 2 * len(model.blocks):
        raise OrreryError(
            "prefix tuning needs keys and values in every layer, and this model has layers without (latent or recurrent ones); "
            "take kind: prompt"
        )
    ids = torch.randint(model.cfg.vocab_size, (tokens,), generator=generator).to(model.device)
    with record(model, names) as seen:
        model(ids, Packed([tokens], device=model.device))
    return {name: Virtual(seen[name][0].clone()) for name in names}


def _sublayers(model: Decoder, after: str) -> list[str]:
    names = ("mlp",) if after == "mlp" else ("attn", "recurrent", "mlp")
    return [
        f"blocks.{i}.{name}"
        for i, block in enumerate(model.blocks)
        for name in names
        if isinstance(getattr(block, name), nn.Module)
    ]


def _bottleneck(d: int, cfg: Bottleneck, generator: torch.Generator) -> Part:
    return BottleneckPart(
        _uniform((cfg.width, d), generator), torch.zeros(d, cfg.width),
        activation=cfg.activation, down_bias=torch.zeros(cfg.width), up_bias=torch.zeros(d),
    )  # fmt: skip


def _chosen_layers(model: Decoder, cfg: Reft) -> list[int]:
    n = len(model.blocks)
    if strange := [i for i in cfg.layers if not 0 <= i < n]:
        raise OrreryError(f"there is no layer {strange[0]} to edit behind; the model's are 0 to {n - 1}")
    return sorted(set(cfg.layers)) or list(range(n))


def _edit(d: int, cfg: Reft, generator: torch.Generator) -> Part:
    basis = orthonormal(torch.randn(cfg.rank, d, generator=generator))
    return Edit(basis, basis.clone(), torch.zeros(cfg.rank), positions=cfg.positions, count=cfg.count)
