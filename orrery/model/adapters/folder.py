"""Adapters as folders: in the `peft` library's format where it has the kind, in a plain one of our own where it has not.

    save_adapter(adapter, model, "out/adapter")        # PeftModel.from_pretrained opens it: equal logits
    adapter = load_adapter("out/adapter", model)       # peft's own too, by the names of the model's family

Bottleneck adapters and ReFT, which peft has not, are written as orrery_adapter.json (the config) and orrery_adapter.safetensors (the parts under
our names, module + "/" + tensor).

Format: huggingface.co/docs/peft, "PEFT checkpoint format".
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor

from orrery.kit.config import resolve, to_dict
from orrery.kit.errors import OrreryError
from orrery.kit.files import atomic_folder, atomic_write
from orrery.kit.json import read_object
from orrery.kit.model_folder import OWN_ADAPTER, Weights
from orrery.kit.safetensors import open_safetensors
from orrery.kit.untrusted import inside
from orrery.model.adapters.adapter import Adapter, check_fits
from orrery.model.adapters.config import AdapterConfig, Bottleneck, Ia3, Lora, Prefix, Prompt, Reft, Vera
from orrery.model.adapters.create import new_adapter
from orrery.model.adapters.peft_config import read_config
from orrery.model.adapters.peft_low_rank import read_lora, write_lora
from orrery.model.adapters.peft_tensors import read_tensors, write_folder
from orrery.model.adapters.peft_vectors import read_ia3, read_vera, write_ia3, write_vera
from orrery.model.adapters.peft_virtual import read_virtual, write_virtual
from orrery.model.decoder import Decoder
from orrery.model.weights import not_finite, read_tensor

OWN_WEIGHTS = "orrery_adapter.safetensors"


def save_adapter(adapter: Adapter, model: Decoder, folder: str | Path, *, base_model: str = "") -> None:
    """Write the folder, whole or not at all. `base_model` is the name or path that others load the model from.

    Raises:
        OrreryError: the adapter is not this model's, the format has no place for it, or the folder cannot be written.
    """
    check_fits(model, adapter)
    match adapter.config:
        case Lora():
            written = ("LORA", *write_lora(adapter, adapter.config, model))
        case Vera():
            written = ("VERA", *write_vera(adapter, adapter.config, model))
        case Ia3():
            written = ("IA3", *write_ia3(adapter, model))
        case Prefix() | Prompt():
            written = write_virtual(adapter, model)
        case Bottleneck() | Reft():
            return _save_own(adapter, folder, base_model)
    write_folder(folder, *written, base_model=base_model)
    return None


def load_adapter(folder: str | Path, model: Decoder) -> Adapter:
    """The adapter in a folder, for `model`; it is not put beside it yet.

    Raises:
        OrreryError: no adapter, a damaged one, one of a kind or with parts that are not known here, or another model's.
    """
    folder = Path(folder)
    if (folder / OWN_ADAPTER).is_file():
        return _load_own(folder, model)
    hf = read_config(folder)
    tensors = read_tensors(folder)
    match hf["peft_type"]:
        case "LORA":
            return read_lora(folder, hf, tensors, model)
        case "VERA":
            return read_vera(folder, hf, tensors, model)
        case "IA3":
            return read_ia3(folder, hf, tensors, model)
    return read_virtual(folder, hf, tensors, model)


def _save_own(adapter: Adapter, folder: str | Path, base_model: str) -> None:
    config = {"format": 1, "base_model": base_model, "adapter": to_dict(adapter.config)}
    tensors = {
        f"{name}/{leaf}": tensor.detach().cpu().contiguous()
        for name, part in adapter.parts.items()
        for leaf, tensor in part.state_dict().items()
    }
    with atomic_folder(folder) as temporary:
        atomic_write(temporary / OWN_WEIGHTS, to_safetensors(tensors))
        atomic_write(temporary / OWN_ADAPTER, json.dumps(config, indent=2) + "\n")


@torch.no_grad()
def _load_own(folder: Path, model: Decoder) -> Adapter:
    path = inside(folder, OWN_ADAPTER)
    data: dict[str, Any] = read_object(path, max_bytes=1 << 20, what="an adapter's config")
    if data.get("format") != 1:
        raise OrreryError(f"'{path}' is of another version; save the adapter again")
    adapter = new_adapter(model, resolve(AdapterConfig, data.get("adapter"), where=str(path)))
    with open_safetensors(inside(folder, OWN_WEIGHTS)) as file:
        weights = Weights(dict.fromkeys(file.tensors, file))
        tensors: dict[str, Tensor] = {name: read_tensor(weights, name) for name in weights.tensors}
    wanted = {
        f"{name}/{leaf}": parameter
        for name, part in adapter.parts.items()
        for leaf, parameter in part.state_dict(keep_vars=True).items()
    }
    wrong = sorted(wanted.keys() ^ tensors.keys()) or [
        n for n, t in wanted.items() if t.shape != tensors[n].shape
    ]
    if wrong or not_finite(tensors):
        raise OrreryError(
            f"'{folder / OWN_WEIGHTS}': '{(wrong or not_finite(tensors))[0]}' is not what the adapter of this model has there; it is another "
            "model's, or damaged"
        )
    for name, parameter in wanted.items():
        parameter.copy_(tensors[name])
        parameter.requires_grad_(False)
    return adapter
