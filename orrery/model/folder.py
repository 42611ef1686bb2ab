"""A model as a folder that any Hugging Face tool can open: config.json and safetensors under the family's names.

    save_model(model, "out")        # transformers.AutoModelForCausalLM.from_pretrained("out") gives equal logits
    model = load_model("out")

A network that no known family expresses is saved under our own names with `model_type` "orrery".
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from orrery.kit.config import resolve, to_dict
from orrery.kit.errors import OrreryError, suggest
from orrery.kit.files import atomic_folder, atomic_write
from orrery.model.config import DecoderConfig
from orrery.model.decoder import Decoder
from orrery.model.families import FAMILIES, family_of
from orrery.model.families.family import Names
from orrery.model.names import Source, sources

CONFIG, WEIGHTS, INDEX, GENERATION = (
    "config.json", "model.safetensors", "model.safetensors.index.json", "generation_config.json",
)  # fmt: skip
OURS = "orrery"


def save_model(
    model: Decoder,
    folder: str | Path,
    *,
    bos_id: int | None = None,
    eos_id: int | None = None,
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
    config, names = _describe(model, bos_id, eos_id)
    state = model.state_dict()
    _check_whole(model.cfg, state)
    table = sources({name: tensor.shape for name, tensor in state.items()}, names)
    shards = _shards(state, shard_bytes)
    files = [WEIGHTS] if len(shards) == 1 else [_shard_name(i, len(shards)) for i in range(len(shards))]
    where: dict[str, str] = {}
    for file, shard in zip(files, shards, strict=True):
        theirs = {
            name: part
            for ours in shard
            for name, part in table[ours].take_apart(state[ours].detach()).items()
        }
        where |= dict.fromkeys(theirs, file)
        atomic_write(folder / file, to_safetensors(theirs, metadata={"format": "pt"}))
    if len(shards) > 1:
        size = sum(tensor.nbytes for tensor in state.values())
        atomic_write(folder / INDEX, _json({"metadata": {"total_size": size}, "weight_map": where}))
    if eos_id is not None:
        atomic_write(folder / GENERATION, _json({"bos_token_id": bos_id, "eos_token_id": eos_id}))
    atomic_write(folder / CONFIG, _json(config))


def load_config(folder: str | Path) -> DecoderConfig:
    """The shape of the model in a folder, without its weights.

    Raises:
        OrreryError: no config.json, or one that does not describe a model we know.
    """
    return _read_config(Path(folder))[0]


def load_model(
    folder: str | Path, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
) -> Decoder:
    """Open a model folder; every tensor must be there with its right shape, and no other.

    On a CPU with `dtype` None (as stored) plain tensors stay in the mapped file until they are used or changed.

    Raises:
        OrreryError: a file is missing or damaged, or the tensors are not those the config asks for.
    """
    folder = Path(folder)
    cfg, names = _read_config(folder)
    model = _shell(cfg)
    wanted = model.state_dict()
    table = sources({name: tensor.shape for name, tensor in wanted.items()}, names)
    files = {path: _open(path) for path in _weight_files(folder)}
    where = {name: path for path, file in files.items() for name in file.keys()}  # noqa: SIM118 (not a dict)
    _check(folder, where, files, {name: (table[name], wanted[name].shape) for name in wanted}, tied=cfg.tied)
    state = {}
    for ours, source in table.items():
        theirs = {name: files[where[name]].get_tensor(name) for parts in source.names for name in parts}
        state[ours] = source.join(theirs).to(
            device=device, dtype=dtype if wanted[ours].is_floating_point() else None
        )
    model.load_state_dict(state, strict=True, assign=True)
    return model


def _check_whole(cfg: DecoderConfig, state: dict[str, Tensor]) -> None:
    plain = {name: tensor.shape for name, tensor in _shell(cfg).state_dict().items()}
    strange = [name for name, tensor in state.items() if plain.get(name) != tensor.shape]
    if strange or len(state) < len(plain):
        names = strange or [name for name in plain if name not in state]
        raise OrreryError(
            f"the tensors of the model are not those of its config ({_some(names)}); merge adapters or undo surgery "
            "before saving"
        )


def _describe(model: Decoder, bos_id: int | None, eos_id: int | None) -> tuple[dict[str, Any], Names | None]:
    """The content of config.json, and the family's table of names."""
    family = family_of(model.cfg)
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    ids = {"bos_token_id": bos_id, "eos_token_id": eos_id, "pad_token_id": None}
    if family is None:
        return {
            "model_type": OURS,
            "architectures": ["Decoder"],
            "decoder": to_dict(model.cfg),
            **ids,
            "dtype": dtype,
        }, None
    head = {"architectures": [family.architecture], "model_type": family.model_type}
    return {**head, **family.write(model.cfg), **ids, "dtype": dtype, "torch_dtype": dtype}, family.names


def _read_config(folder: Path) -> tuple[DecoderConfig, Names | None]:
    path = folder / CONFIG
    try:
        hf = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        what = "is not a folder" if not folder.is_dir() else f"has no {CONFIG}"
        raise OrreryError(f"'{folder}' {what}; give the folder of a model") from None
    except (OSError, ValueError) as error:
        raise OrreryError(f"cannot read '{path}': {error}") from None
    kind = hf.get("model_type") if isinstance(hf, dict) else None
    if kind == OURS:
        return resolve(DecoderConfig, hf.get("decoder"), where=str(path)), None
    if kind not in FAMILIES:
        known = [OURS, *FAMILIES]
        raise OrreryError(
            f"'{path}': model_type '{kind}' is not known; known are {', '.join(known)}.{suggest(str(kind), known)}"
        )
    try:
        return FAMILIES[kind].read(hf), FAMILIES[kind].names
    except KeyError as error:
        raise OrreryError(f"'{path}' lacks the setting {error}; a {kind} model needs it") from None
    except (TypeError, AttributeError) as error:
        raise OrreryError(f"'{path}' has a setting of the wrong type ({error})") from None
    except OrreryError as error:
        raise OrreryError(f"'{path}': {error}") from None


def _shell(cfg: DecoderConfig) -> Decoder:
    """The model with parameters that are shapes only, so that building it costs no memory and no time."""

    def shape_only(module: nn.Module, name: str, parameter: nn.Parameter | None) -> nn.Parameter | None:
        return None if parameter is None else nn.Parameter(parameter.detach().to("meta"))

    hook = register_module_parameter_registration_hook(shape_only)  # type: ignore[arg-type]
    try:
        return Decoder(cfg)
    finally:
        hook.remove()


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
    where: dict[str, Path],
    files: dict[Path, Any],
    wanted: dict[str, tuple[Source, torch.Size]],
    *,
    tied: bool,
) -> None:
    """Exactly the tensors that are wanted, in exactly their shapes."""
    shapes = {name: shape for source, ours in wanted.values() for name, shape in source.shapes(ours).items()}
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
        found = tuple(files[where[name]].get_slice(name).get_shape())
        if found != shape:
            raise OrreryError(
                f"'{where[name]}': tensor '{name}' has shape {list(found)}, but the config asks for {list(shape)}"
            )


def _redundant(name: str, *, tied: bool) -> bool:
    """Tensors that some writers add and that say nothing new."""
    return name.endswith("rotary_emb.inv_freq") or (tied and name == "lm_head.weight")


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def _shards(state: dict[str, Tensor], limit: int) -> list[list[str]]:
    """Names of our tensors, split so that no file is larger than `limit` unless one tensor is."""
    shards: list[list[str]] = [[]]
    size = 0
    for name, tensor in state.items():
        if shards[-1] and size + tensor.nbytes > limit:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += tensor.nbytes
    return shards


def _shard_name(index: int, count: int) -> str:
    return f"model-{index + 1:05d}-of-{count:05d}.safetensors"


def _json(data: dict[str, Any]) -> str:
    return json.dumps(data, indent=2) + "\n"
