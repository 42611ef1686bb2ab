"""A model as a folder that any Hugging Face tool can open: config.json and safetensors under the family's names.

    save_model(model, "out")        # transformers.AutoModelForCausalLM.from_pretrained("out") gives equal logits
    model = load_model("out")

A network that no known family expresses is saved under our own names with `model_type` "orrery".
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from orrery.kit.config import resolve, to_dict
from orrery.kit.errors import OrreryError, suggest
from orrery.kit.files import atomic_folder, atomic_write
from orrery.model.build import build
from orrery.model.config import DecoderConfig
from orrery.model.decoder import Decoder
from orrery.model.families import BY_TYPE, family_of
from orrery.model.families.family import Family, Names
from orrery.model.names import Source, sources
from orrery.model.shell import shell

CONFIG, WEIGHTS, INDEX, GENERATION = (
    "config.json", "model.safetensors", "model.safetensors.index.json", "generation_config.json",
)  # fmt: skip
OURS = "orrery"
REDUNDANT = (r"rotary_emb\.inv_freq$",)


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
    state = model.state_dict()
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
        theirs = {name: part.detach() for source in shard for name, part in source.split(state).items()}
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
    folder: str | Path, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
) -> Decoder:
    """Open the folder of a decoder; every tensor must be there with its right shape, and no other.

    On a CPU with `dtype` None (as stored) plain tensors stay in the mapped file until they are used or changed.

    Raises:
        OrreryError: a file is missing or damaged, the tensors are not those the config asks for, or the model is no decoder.
    """
    model = open_model(folder, dtype=dtype, device=device)
    if not isinstance(model, Decoder):
        raise OrreryError(
            f"'{folder}' holds a {type(model).__name__}, which does not continue text; give a decoder (a causal language model)"
        )
    return model


def open_model(
    folder: str | Path, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
) -> nn.Module:
    """Open the folder of any model we know: decoder, encoder, encoder-decoder. Otherwise as `load_model`."""
    folder = Path(folder)
    family, cfg = read_config(folder)
    files = {path: _open(path) for path in _weight_files(folder)}
    where = _tensors_of(files, family)
    if family is not None and family.fit is not None:
        cfg = family.fit(cfg, set(where))
    model = shell(lambda: build(cfg))
    wanted = model.state_dict()
    shapes = {name: tensor.shape for name, tensor in wanted.items()}
    table = sources(shapes, _table(family, cfg))
    _check(folder, where, files, table, shapes, tied=getattr(cfg, "tied", True))
    state: dict[str, Tensor] = {}
    for source in table:
        theirs = {name: _read(files, *where[name]) for name in source.theirs}
        for name, tensor in source.join(theirs, shapes).items():
            state[name] = tensor.to(device=device, dtype=dtype if wanted[name].is_floating_point() else None)
    model.load_state_dict(state, strict=True, assign=True)
    model.family = family.model_type if family else None  # type: ignore[bad-argument-type]
    return model


def read_config(path: Path) -> tuple[Family | None, Any]:
    """The family and the shape of the model in a folder, or of a config.json; no family: one saved under our own names.

    Raises:
        OrreryError: no such file, or one that does not describe a model we know.
    """
    path = path if path.suffix == ".json" else path / CONFIG
    try:
        hf = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        what = "is not a folder" if not path.parent.is_dir() else f"has no {CONFIG}"
        raise OrreryError(f"'{path.parent}' {what}; give the folder of a model") from None
    except (OSError, ValueError) as error:
        raise OrreryError(f"cannot read '{path}': {error}") from None
    kind = hf.get("model_type") if isinstance(hf, dict) else None
    if kind == OURS:
        return None, resolve(DecoderConfig, hf.get("decoder"), where=str(path))
    if kind not in BY_TYPE:
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


def _table(family: Family | None, cfg: Any) -> Names | None:
    return None if family is None else family.table(cfg)


def _check_whole(model: nn.Module, state: dict[str, Tensor]) -> None:
    plain = {name: tensor.shape for name, tensor in shell(lambda: build(model.cfg)).state_dict().items()}
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
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    ids = {"bos_token_id": bos_id, "eos_token_id": eos_id, "pad_token_id": None}
    if family is None:
        return {
            "model_type": OURS,
            "architectures": [type(model).__name__],
            "decoder": to_dict(model.cfg),
            **ids,
            "dtype": dtype,
        }
    head = {"architectures": [family.architecture], "model_type": family.model_type}
    return {**head, **ids, **family.write(model.cfg), "dtype": dtype, "torch_dtype": dtype}


def _tensors_of(files: dict[Path, Any], family: Family | None) -> dict[str, tuple[Path, str]]:
    """Where each tensor is: its name as our tables spell it -> the file, and its name there."""
    where = {}
    for path, file in files.items():
        for name in file.keys():  # noqa: SIM118 (not a dict)
            spelt = family.canonical_name(name) if family else name
            if family is None or not family.is_redundant(spelt):
                where[spelt] = (path, name)
    return where


def _read(files: dict[Path, Any], path: Path, name: str) -> Tensor:
    return files[path].get_tensor(name)


def _weight_files(folder: Path) -> list[Path]:
    if (folder / INDEX).exists():
        try:
            names = sorted(
                set(json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values())
            )
        except (OSError, ValueError, KeyError, AttributeError, TypeError):
            raise OrreryError(f"'{folder / INDEX}' is damaged; get the model again") from None
        return [folder / name for name in names]
    if not (folder / WEIGHTS).exists() and any(folder.glob("*.bin")):
        raise OrreryError(
            f"'{folder}' has pickled weights only, which can run code; convert them to safetensors first"
        )
    return [folder / WEIGHTS]


def _open(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except FileNotFoundError:
        raise OrreryError(f"'{path.parent}' has no {path.name}: the weights are missing") from None
    except (SafetensorError, OSError) as error:
        raise OrreryError(f"'{path}' is damaged or not a safetensors file ({error}); get it again") from None


def _check(
    folder: Path,
    where: dict[str, tuple[Path, str]],
    files: dict[Path, Any],
    table: list[Source],
    ours: dict[str, torch.Size],
    *,
    tied: bool,
) -> None:
    """Exactly the tensors that are wanted, in exactly their shapes."""
    shapes = {name: shape for source in table for name, shape in source.shapes(ours).items()}
    missing = sorted(shapes.keys() - where.keys())
    unexpected = sorted(name for name in where.keys() - shapes.keys() if not _redundant(name, tied=tied))
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
        path, there = where[name]
        found = tuple(files[path].get_slice(there).get_shape())
        if found != shape:
            raise OrreryError(
                f"'{path}': tensor '{there}' has shape {list(found)}, but the config asks for {list(shape)}"
            )


def _redundant(name: str, *, tied: bool) -> bool:
    """Tensors that some writers add and that say nothing new."""
    return any(re.search(pattern, name) for pattern in REDUNDANT) or (tied and name == "lm_head.weight")


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
