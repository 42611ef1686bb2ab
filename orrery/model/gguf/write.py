"""Write a model as a GGUF file: its weights quantised tensor by tensor while the file is written.

Memory stays at the model's own plus one tensor. The type of each tensor comes from a named mixture
(`model.quant.mixtures`); vectors stay float32, and a row that does not divide into a format's blocks takes another.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from orrery.kit.errors import OrreryError
from orrery.kit.gguf import Typed, write_gguf
from orrery.model.encoder import EncoderConfig
from orrery.model.families import family_of
from orrery.model.families.family import canonical
from orrery.model.gguf.architecture import Architecture
from orrery.model.gguf.encoders import kept
from orrery.model.gguf.read import config_of
from orrery.model.gguf.tables import BY_FAMILY
from orrery.model.gguf.tensors import Contents, plain
from orrery.model.mamba2 import Mamba2
from orrery.model.moe import Moe
from orrery.model.names import sources
from orrery.model.positions import LongRope, Rope
from orrery.model.quant import mixture, quantize

BLOCK = re.compile(r"blk\.(\d+)\.")
FLOAT_KEYS = (
    "epsilon",
    "freq_base",
    "freq_base_swa",
    "softcapping",
    "factor",
    "scale",
    "beta_fast",
    "beta_slow",
    "multiplier",
)


@dataclass(frozen=True)
class Piece:
    """One tensor to be written; `numbers` makes it, float32."""

    name: str
    kind: str
    shape: tuple[int, ...]
    numbers: Callable[[], Tensor]

    def blocks(self) -> np.ndarray:
        """Its bytes."""
        return quantize(self.numbers().float(), self.kind).numpy()


def architecture_of(model: nn.Module) -> tuple[Architecture, dict[str, Any]]:
    """The architecture that a model is written as, and its settings as config.json has them.

    Raises:
        OrreryError: GGUF has no architecture for it.
    """
    family = family_of(model.cfg, prefer=getattr(model, "family", None))
    if family is None or family.model_type not in BY_FAMILY:
        what = "a network of our own making" if family is None else f"a {family.model_type} model"
        raise OrreryError(f"{what} has no GGUF architecture here; known are {', '.join(BY_FAMILY)}")
    return BY_FAMILY[family.model_type], family.write(model.cfg)


def pieces(model: nn.Module, kind: str) -> Iterator[Piece]:
    """The tensors of the file in the mixture `kind` ("q4_k_m", "bf16", ...), none of them made yet.

    Raises:
        OrreryError: an unknown mixture, or a model without a GGUF architecture.
    """
    architecture, _ = architecture_of(model)
    choose, cfg = mixture(kind), model.cfg
    stack: Any = cfg.stack if isinstance(cfg, EncoderConfig) else cfg
    experts = stack.feed_forward.n_experts if isinstance(stack.feed_forward, Moe) else 0
    about = {
        "n_layers": stack.n_layers,
        "tied": stack.tied and stack is cfg,  # an encoder has no output to be careful with
        "groups": stack.n_heads // stack.kv_heads,
        "experts": experts,
    }
    state = model.state_dict()
    for source in sources({name: t.shape for name, t in state.items()}, architecture.names(cfg)):
        parts = source.shapes({name: state[name].shape for name in source.ours})
        for place, (name, shape) in enumerate(parts.items()):

            def numbers(source: Any = source, place: int = place) -> Tensor:
                ours = [state[name].detach().float().cpu() for name in source.ours]
                return source.layout.split(ours)[place].contiguous()

            found = BLOCK.match(name)
            layer = int(found[1]) if found else None
            yield Piece(name, choose(name, shape, layer=layer, **about), shape, numbers)
    for name, tensor in architecture.extra(cfg).items():
        yield Piece(name, "F32", tuple(tensor.shape), lambda tensor=tensor: tensor)


def metadata(model: nn.Module, *, kind: str, name: str) -> dict[str, Any]:
    """The keys that describe the model itself.

    Raises:
        OrreryError: as `pieces`.
    """
    architecture, hf = architecture_of(model)
    keys = {
        key: hf[setting] for key, setting in architecture.settings.items() if hf.get(setting) is not None
    } | architecture.write(hf)
    return {
        "general.architecture": architecture.name,
        "general.type": "model",
        "general.name": name,
        "general.file_type": mixture(kind).file_type,
        "general.quantization_version": 2,
        **{f"{architecture.name}.{key}": _typed(key, value) for key, value in keys.items()},
    }


def check_whole(model: nn.Module, keys: Mapping[str, Any], todo: Sequence[Piece]) -> None:
    """Prove that a reader of the file will build the same network.

    Raises:
        OrreryError: the format has no key for a part of it; names the part.
    """
    plain = {key: value.value if isinstance(value, Typed) else value for key, value in keys.items()}
    made = {piece.name: piece.numbers for piece in todo}
    shapes = {piece.name: piece.shape for piece in todo}
    meant, said = (
        same(model.cfg),
        same(config_of(Contents("the file", plain, shapes, lambda name: made[name]()))[1]),
    )
    different = [f.name for f in fields(meant) if getattr(meant, f.name) != getattr(said, f.name)]
    if different:
        lost = ", ".join(f"{name} = {getattr(meant, name)}" for name in different)
        raise OrreryError(
            f"the GGUF architecture '{keys['general.architecture']}' has no words for this model: {lost}; "
            "keep it as a Hugging Face folder"
        )


def same(cfg: Any) -> Any:
    """The config without what is only about how it is computed, and floats as a file keeps them."""
    if isinstance(cfg, EncoderConfig):
        return replace(kept(cfg), stack=same(cfg.stack))
    cfg = canonical(cfg)
    if isinstance(cfg.recurrent, Mamba2):
        cfg = replace(cfg, recurrent=replace(cfg.recurrent, chunk=256))
    if isinstance(cfg.position, Rope) and isinstance(cfg.position.scaling, LongRope):
        scaling = cfg.position.scaling  # the file says the temperature that follows from the factor
        scaling = replace(
            scaling,
            factor=1.0,
            attention_factor=float(f"{scaling.temperature:.6g}"),
            short_factor=tuple(plain(x) for x in scaling.short_factor),
            long_factor=tuple(plain(x) for x in scaling.long_factor),
        )
        cfg = replace(cfg, position=replace(cfg.position, scaling=scaling))
    short = {f.name: float(f"{v:.6g}") for f in fields(cfg) if isinstance(v := getattr(cfg, f.name), float)}
    return replace(cfg, **short)


def write_model(
    path: str | Path,
    model: nn.Module,
    *,
    kind: str,
    name: str,
    vocabulary: Mapping[str, Any],
    progress: Callable[[int, int, str], None] | None = None,
) -> None:
    """Write `model` with its vocabulary's keys; a reader sees the whole new file or none.

    Raises:
        OrreryError: as `pieces`, or the file cannot be written.
    """
    todo, keys = list(pieces(model, kind)), metadata(model, kind=kind, name=name)
    check_whole(model, keys, todo)
    total = sum(numbers_in(piece.shape) for piece in todo)
    done = 0

    def make(piece: Piece) -> Callable[[], np.ndarray]:
        def blocks() -> np.ndarray:
            nonlocal done
            with torch.inference_mode():
                raw = piece.blocks()
            done += numbers_in(piece.shape)
            if progress is not None:
                progress(done, total, piece.name)
            return raw

        return blocks

    write_gguf(
        path,
        {**keys, **vocabulary},
        [(piece.name, piece.kind, piece.shape, make(piece)) for piece in todo],
    )


def numbers_in(shape: tuple[int, ...]) -> int:
    """How many numbers a tensor of `shape` has."""
    return int(np.prod(shape, dtype=np.int64))


def _typed(key: str, value: Any) -> Any:
    """Readers are strict about types: lengths and counts are uint32, the rest float32."""
    if isinstance(value, bool | str | list | Typed):
        return value
    return Typed("float32", float(value)) if key.endswith(FLOAT_KEYS) else Typed("uint32", int(value))
