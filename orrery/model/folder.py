"""A model as a folder that any Hugging Face tool can open: config.json and safetensors under the family's names.

    save_model(model, "out")        # transformers.AutoModelForCausalLM.from_pretrained("out") gives equal logits
    model = load_model("out")

A network that no known family expresses is saved under our own names with `model_type` "orrery".
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from orrery.kit.config import resolve, to_dict
from orrery.kit.errors import OrreryError, suggest
from orrery.kit.files import atomic_folder, atomic_write
from orrery.kit.model_folder import Weights, open_weights, read_model_config
from orrery.model.build import KINDS, build, kind_of
from orrery.model.decoder import Decoder
from orrery.model.families import BY_TYPE, family_of
from orrery.model.families.family import Family, Names
from orrery.model.lowbit.experts import QuantStack
from orrery.model.mxfp4_experts import BLOCKS, SCALES, from_rows, quantised_names, stored_shapes, to_rows
from orrery.model.names import SAME, Source, sources
from orrery.model.quantised import dense_shape, place, stacks
from orrery.model.shell import shell
from orrery.model.weights import not_finite, read_tensor

CONFIG, WEIGHTS, INDEX, GENERATION = (
    "config.json", "model.safetensors", "model.safetensors.index.json", "generation_config.json",
)  # fmt: skip
OURS = "orrery"
REDUNDANT = (r"rotary_emb\.inv_freq$",)
TIED = r"^lm_head\.weight$"
SCALE, BLOCK = "_scale_inv", 128
"""DeepSeek-V3's float8 weights: one scale for every block of 128 x 128."""


def save_model(
    model: nn.Module,
    folder: str | Path,
    *,
    bos_id: int | None = None,
    eos_id: int | Sequence[int] | None = None,
    shard_bytes: int = 4_000_000_000,
) -> None:
    """Write config.json, model.safetensors (several beyond `shard_bytes`) and, if `eos_id` is given, generation_config.json.

    A folder that does not exist is made whole or not at all; in one that does, each file is replaced in one step, the
    config last (fill it inside `kit.files.atomic_folder` if other files belong to it).

    Raises:
        OrreryError: the model's tensors are not those of its config (surgery), or the folder cannot be written.
    """
    folder = Path(folder)
    if not folder.exists():
        with atomic_folder(folder) as temporary:
            save_model(model, temporary, bos_id=bos_id, eos_id=eos_id, shard_bytes=shard_bytes)
        return
    family = family_of(model.cfg, prefer=getattr(model, "family", None))
    held = stacks(model)
    state = _state(model) | {name: dense_shape(stack) for name, stack in held.items()}
    _check_whole(model, state)
    config = _describe(model, family, bos_id, eos_id)
    shards = _shards(
        sources({name: tensor.shape for name, tensor in state.items()}, _table(family, model.cfg)),
        state,
        shard_bytes,
    )
    files = [WEIGHTS] if len(shards) == 1 else [_shard_name(i, len(shards)) for i in range(len(shards))]
    where: dict[str, str] = {}
    for file, shard in zip(files, shards, strict=True):
        parts = (item for source in shard for item in _stored(source, state, held).items())
        theirs = {family.spelt(model.cfg, name) if family else name: part.detach() for name, part in parts}
        where |= dict.fromkeys(theirs, file)
        atomic_write(folder / file, to_safetensors(theirs, metadata={"format": "pt"}))
    if len(shards) > 1:
        size = sum(tensor.nbytes for tensor in state.values())
        atomic_write(folder / INDEX, _json({"metadata": {"total_size": size}, "weight_map": where}))
    if eos_id is not None:
        atomic_write(folder / GENERATION, _json({"bos_token_id": bos_id, "eos_token_id": eos_id}))
    atomic_write(folder / CONFIG, _json(config))


def load_config(folder: str | Path) -> Any:
    """The shape of the model in a folder or of a bare config.json, without its weights: a `DecoderConfig`, or an encoder's.

    Raises:
        OrreryError: no config.json, or one that does not describe a model we know.
    """
    return read_config(Path(folder))[1]


def load_model(
    folder: str | Path,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    strict: bool = False,
) -> Decoder:
    """Open the folder of a decoder; every tensor must be there with its right shape, and no other.

    Args:
        strict: refuse weights that hold NaN or an infinity; else the model's `not_finite` names them.

    Raises:
        OrreryError: a file is missing or damaged, the tensors are not those the config asks for, or the model is no decoder.
    """
    model = open_model(folder, dtype=dtype, device=device, strict=strict)
    if not isinstance(model, Decoder):
        raise OrreryError(
            f"'{folder}' holds an {type(model).__name__}, which does not continue text; give a decoder (a causal language model)"
        )
    return model


def open_model(
    folder: str | Path,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    strict: bool = False,
) -> nn.Module:
    """Open the folder of any model we know: decoder, encoder, encoder-decoder. Otherwise as `load_model`."""
    folder = Path(folder)
    family, cfg = read_config(folder)
    with open_weights(folder) as weights:
        where = _tensors_of(weights, family, folder)
        if family is not None and family.fit is not None:
            cfg = family.fit(cfg, set(where))
        _check_layers(folder, cfg, where)
        model = shell(lambda: build(cfg))
        wanted = _state(model)
        shapes = {name: tensor.shape for name, tensor in wanted.items()}
        table = sources(shapes, _table(family, cfg))
        _check(folder, where, weights, table, shapes, redundant=_redundant(family, tied=cfg.tied))
        if cfg.tied:
            _check_tied(weights, where, table)
        state: dict[str, Tensor] = {}
        held = quantised_names(where)
        for source in table:
            if source.theirs[0] in held:
                parts = [_read(weights, where, source.theirs[0] + end) for end in (BLOCKS, SCALES)]
                place(model, source.ours[0], to_rows(*parts, gated=source.layout is not SAME), "MXFP4")
                continue
            theirs = {name: _read_number(weights, where, name) for name in source.theirs}
            for name, tensor in source.join(theirs, shapes).items():
                state[name] = tensor.to(
                    device=device, dtype=dtype if wanted[name].is_floating_point() else None
                )
    bad = not_finite(state)
    if strict and bad:
        raise OrreryError(
            f"the weights in '{folder}' are not finite: {_some(list(bad))} hold NaN or an infinity; get them again"
        )
    model.not_finite = bad  # type: ignore[bad-argument-type]
    model.load_state_dict(state | _shared(model, state), strict=True, assign=True)
    model.family = family.model_type if family else None  # type: ignore[bad-argument-type]
    return model


def read_config(path: Path) -> tuple[Family | None, Any]:
    """The family and the shape of the model in a folder, or of a config.json; no family: one saved under our own names.

    Raises:
        OrreryError: no such file, or one that does not describe a model we know.
    """
    path = path if path.suffix == ".json" else path / CONFIG
    hf = read_model_config(path)
    kind = hf.get("model_type")
    if kind == OURS:
        which = next((name for name in KINDS if name in hf), "decoder")
        return None, resolve(KINDS[which], hf.get(which), where=str(path))
    if not isinstance(kind, str) or kind not in BY_TYPE:
        known = [OURS, *BY_TYPE]
        raise OrreryError(
            f"'{path}': model_type '{kind}' is not known; known are {', '.join(known)}.{suggest(str(kind), known)}"
        )
    try:
        return BY_TYPE[kind], BY_TYPE[kind].read(hf)
    except KeyError as error:
        raise OrreryError(f"'{path}' lacks the setting {error}; a {kind} model needs it") from None
    except (TypeError, AttributeError) as error:
        raise OrreryError(f"'{path}' has a setting of the wrong type ({error})") from None
    except OrreryError as error:
        raise OrreryError(f"'{path}': {error}") from None
    except (ArithmeticError, IndexError, ValueError) as error:
        raise OrreryError(f"'{path}' has a setting that cannot be meant ({error})") from None


def _table(family: Family | None, cfg: Any) -> Names | None:
    return None if family is None else family.table(cfg)


def _state(model: nn.Module) -> dict[str, Tensor]:
    """Every tensor once, one that several modules share under its first name."""
    first = {id(tensor): name for name, tensor in reversed(model.state_dict(keep_vars=True).items())}
    return {name: t for name, t in model.state_dict(keep_vars=True).items() if first[id(t)] == name}


def _shared(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The further names of tensors that several modules share."""
    names = model.state_dict(keep_vars=True)
    by_id = {id(tensor): state[name] for name, tensor in names.items() if name in state}
    return {
        name: by_id[id(tensor)] for name, tensor in names.items() if name not in state and id(tensor) in by_id
    }


def _check_whole(model: nn.Module, state: dict[str, Tensor]) -> None:
    cfg: Any = model.cfg
    plain = {name: tensor.shape for name, tensor in _state(shell(lambda: build(cfg))).items()}
    strange = [name for name, tensor in state.items() if plain.get(name) != tensor.shape]
    if strange or len(state) < len(plain):
        names = strange or [name for name in plain if name not in state]
        raise OrreryError(
            f"the tensors of the model are not those of its config ({_some(names)}); merge adapters or undo surgery "
            "before saving"
        )


def _describe(
    model: nn.Module, family: Family | None, bos_id: int | None, eos_id: int | Sequence[int] | None
) -> dict[str, Any]:
    """The content of config.json."""
    cfg: Any = model.cfg
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    ids = {"bos_token_id": bos_id, "eos_token_id": eos_id, "pad_token_id": None}
    if family is None:
        return {
            "model_type": OURS,
            "architectures": [type(model).__name__],
            kind_of(cfg): to_dict(cfg),
            **ids,
            "dtype": dtype,
        }
    head = {"architectures": [family.architecture], "model_type": family.model_type}
    return {**head, **ids, **family.write(cfg), "dtype": dtype, "torch_dtype": dtype}


def _stored(source: Source, state: dict[str, Tensor], held: dict[str, QuantStack]) -> dict[str, Tensor]:
    """Theirs from ours; a quantised stack of experts goes back as the blocks and scales it came as."""
    stack = held.get(source.ours[0])
    if stack is None:
        return source.split(state)
    if stack.weight_kind != "MXFP4":
        raise OrreryError(
            f"a Hugging Face folder has no place for experts in {stack.weight_kind} blocks; load the model dequantised"
        )
    blocks, scales = from_rows(stack.blocks(), gated=source.layout is not SAME)
    return {source.theirs[0] + BLOCKS: blocks, source.theirs[0] + SCALES: scales}


def _tensors_of(weights: Weights, family: Family | None, folder: Path) -> dict[str, str]:
    """Names as our tables spell them -> names in the files."""
    where: dict[str, str] = {}
    for name in weights.tensors:
        spelt = family.canonical_name(name) if family else name
        if spelt in where:
            raise OrreryError(
                f"the weights in '{folder}' hold one tensor twice, as {where[spelt]!r} and as {name!r}"
            )
        where[spelt] = name
    return where


def _read(weights: Weights, where: dict[str, str], name: str) -> Tensor:
    """A tensor of a file; one stored as float8 with a scale for every block becomes the numbers it stands for."""
    tensor = read_tensor(weights, where[name])
    if name + SCALE not in where:
        return tensor
    scale = read_tensor(weights, where[name + SCALE]).float()
    if tensor.dim() != 2 or scale.shape != tuple(-(-size // BLOCK) for size in tensor.shape):
        raise OrreryError(
            f"'{weights.files[where[name]].path}': tensor '{where[name + SCALE]}' of shape {list(scale.shape)} has not one scale "
            f"for every {BLOCK} x {BLOCK} of '{where[name]}', {list(tensor.shape)}"
        )
    rows, columns = tensor.shape
    spread = scale.repeat_interleave(BLOCK, 0)[:rows].repeat_interleave(BLOCK, 1)[:, :columns]
    return tensor.float() * spread


def _read_number(weights: Weights, where: dict[str, str], name: str) -> Tensor:
    """`_read` of a tensor that is numbers as they stand."""
    tensor = _read(weights, where, name)
    if not tensor.is_floating_point() or tensor.itemsize == 1:
        entry = weights.tensors[where[name]]
        raise OrreryError(
            f"'{weights.files[where[name]].path}': tensor '{where[name]}' is stored as {entry.dtype}, without what makes it weights; "
            "get the model in bf16 or as GGUF"
        )
    return tensor


def _check_layers(folder: Path, cfg: Any, where: dict[str, str]) -> None:
    """Every layer has a tensor: a config of a thousand layers over a small file is refused before the layers are made."""
    layers = getattr(cfg, "n_layers", 0)
    if layers > len(where):
        raise OrreryError(
            f"the weights in '{folder}' hold {len(where)} tensors, fewer than the {layers} layers its {CONFIG} asks for"
        )


def _check_tied(weights: Weights, where: dict[str, str], table: list[Source]) -> None:
    """A tied head that is stored as well must be the embedding that it is tied to."""
    head = next((name for name in where if re.search(TIED, name)), None)
    embedding = next((source.theirs[0] for source in table if source.ours[0].startswith("embed")), None)
    if head is None or embedding not in where:
        return
    first, second = (weights.tensors[where[name]] for name in (head, embedding))
    same = (first.dtype, first.shape) == (second.dtype, second.shape)
    if not same or not np.array_equal(weights.raw(where[head]), weights.raw(where[embedding])):
        raise OrreryError(
            f"'{weights.files[where[head]].path}': '{where[head]}' differs from '{where[embedding]}', but the config says that they "
            "are tied; get the model again"
        )


def _check(
    folder: Path,
    where: dict[str, str],
    weights: Weights,
    table: list[Source],
    ours: dict[str, torch.Size],
    *,
    redundant: Callable[[str], bool],
) -> None:
    """Exactly the tensors that are wanted, in exactly their shapes."""
    shapes = {name: shape for source in table for name, shape in source.shapes(ours).items()}
    for source in table:  # experts stored as blocks and scales
        if source.theirs[0] in quantised_names(where):
            dense = shapes.pop(source.theirs[0])
            shapes |= stored_shapes(source.theirs[0], dense)
    missing = sorted(shapes.keys() - where.keys())
    unexpected = sorted(
        name for name in where.keys() - shapes.keys() - {n + SCALE for n in shapes} if not redundant(name)
    )
    if missing or unexpected:
        parts = [
            f"{what}: {_some(names)}"
            for what, names in (("missing", missing), ("unexpected", unexpected))
            if names
        ]
        raise OrreryError(
            f"the weights in '{folder}' are not those its {CONFIG} asks for; {'; '.join(parts)}"
        )
    for name, shape in shapes.items():
        found = weights.tensors[where[name]].shape
        if found != tuple(shape):
            raise OrreryError(
                f"'{weights.files[where[name]].path}': tensor '{where[name]}' has shape {list(found)}, but the config asks for "
                f"{list(shape)}"
            )


def _redundant(family: Family | None, *, tied: bool) -> Callable[[str], bool]:
    """Tensors that some writers add and that say nothing new, where the config does not ask for them."""
    patterns = [*REDUNDANT, *(family.redundant if family else ()), *([TIED] if tied else [])]
    return lambda name: any(re.search(pattern, name) for pattern in patterns)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def _shards(table: list[Source], state: dict[str, Tensor], limit: int) -> list[list[Source]]:
    """What is stored, split so that no file is larger than `limit` unless one piece is."""
    shards: list[list[Source]] = [[]]
    size = 0
    for source in table:
        nbytes = sum(state[name].nbytes for name in source.ours)
        if shards[-1] and size + nbytes > limit:
            shards.append([])
            size = 0
        shards[-1].append(source)
        size += nbytes
    return shards


def _shard_name(index: int, count: int) -> str:
    return f"model-{index + 1:05d}-of-{count:05d}.safetensors"


def _json(data: dict[str, Any]) -> str:
    return json.dumps(data, indent=2) + "\n"
