"""How a sentence-transformers folder says that hidden states become one vector.

    modules.json                     the steps, in order: Transformer, Pooling, Dense, Normalize
    sentence_bert_config.json        max_seq_length, do_lower_case (beside the model)
    1_Pooling/config.json            which pooling
    2_Dense/config.json, *.safetensors   a projection
    config_sentence_transformers.json    prompts: text put before every query or document

T tokens, d model width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from orrery.kit.errors import OrreryError, suggest
from orrery.kit.json import read_json
from orrery.kit.safetensors import check_safetensors
from orrery.kit.untrusted import inside, plain_name

MODULES, PROMPTS, SETTINGS, CONFIG = (
    "modules.json", "config_sentence_transformers.json", "sentence_bert_config.json", "config.json",
)  # fmt: skip


def _weighted(states: Tensor) -> Tensor:
    weights = torch.arange(1, len(states) + 1, device=states.device, dtype=states.dtype)
    return weights @ states / weights.sum()


POOLINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda states: states.mean(0),
    "cls": lambda states: states[0],
    "max": lambda states: states.amax(0),
    "lasttoken": lambda states: states[-1],
    "mean_sqrt_len_tokens": lambda states: states.sum(0) / len(states) ** 0.5,
    "weightedmean": _weighted,  # later tokens count more (Muennighoff 2022, SGPT, arXiv:2202.08904)
}
"""(T, d) hidden states of one text -> (d,)."""

FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""How a 1_Pooling/config.json spells them; those that are true are put side by side, in this order."""

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "Tanh": torch.tanh, "Identity": lambda x: x, "ReLU": F.relu, "GELU": F.gelu, "Sigmoid": torch.sigmoid, "SiLU": F.silu,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Projection:
    """activation(x W^T + b): (n, in) -> (n, out)."""

    weight: Tensor
    bias: Tensor | None
    activation: str

    def __call__(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(x)
        return ACTIVATIONS[self.activation](F.linear(x, self.weight.to(x), bias))


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """From texts to vectors.

    Attributes:
        model: the folder of the model itself.
        pooling: names in `POOLINGS`; what several give is put side by side.
        projections: what the pooled vector passes through.
        normalize: vectors have length 1.
        max_tokens: of a text, its frame included; None: what the model reads.
        lower: texts are made lower case first.
        prompts: texts to put before texts of a kind, by its name.
    """

    model: Path
    pooling: tuple[str, ...] = ("mean",)
    projections: tuple[Projection, ...] = ()
    normalize: bool = True
    max_tokens: int | None = None
    lower: bool = False
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None

    def prompt(self, name: str | None) -> str:
        """The text of a prompt; with None that of the default one, if there is one.

        Raises:
            OrreryError: no prompt of that name.
        """
        name = self.default_prompt if name is None else name
        if name is None:
            return ""
        if name not in self.prompts:
            known = ", ".join(self.prompts) or "none"
            raise OrreryError(
                f"this model has no prompt '{name}'; it has: {known}.{suggest(name, self.prompts)}"
            )
        return self.prompts[name]


def read_recipe(folder: Path) -> Recipe | None:
    """What the folder says; None: it says nothing.

    Raises:
        OrreryError: a damaged file, or a step we do not know.
    """
    if not (folder / MODULES).is_file():
        return None
    model, pooling, projections, normalize = folder, ("mean",), [], False
    for step in _list(folder / MODULES):
        place = inside(folder, plain_name(step["path"], folder / MODULES)) if step.get("path") else folder
        match str(step.get("type", "")).rpartition(".")[2]:
            case "Transformer":
                model = place
            case "Pooling":
                pooling = _pooling(_object(place / CONFIG))
            case "Dense":
                projections.append(_projection(place))
            case "Normalize":
                normalize = True
            case kind:
                raise OrreryError(
                    f"'{folder / MODULES}' has a step '{kind}'; known are Transformer, Pooling, Dense, Normalize"
                )
    settings, told = _object(model / SETTINGS), _object(folder / PROMPTS)
    longest, prompts = settings.get("max_seq_length"), told.get("prompts") or {}
    if (
        not isinstance(longest, int | None)
        or not isinstance(prompts, dict)
        or not all(map(_is_text, prompts.values()))
    ):
        raise OrreryError(
            f"'{folder}' has a max_seq_length or prompts of the wrong type; get the model again"
        )
    return Recipe(
        model=model,
        pooling=pooling,
        projections=tuple(projections),
        normalize=normalize,
        max_tokens=longest,
        lower=bool(settings.get("do_lower_case")),
        prompts=prompts,
        default_prompt=told.get("default_prompt_name"),
    )


def _pooling(config: dict[str, Any]) -> tuple[str, ...]:
    named = config.get("pooling_mode")
    if named is not None:
        return (named,) if isinstance(named, str) else tuple(named)
    return tuple(mode for flag, mode in FLAGS.items() if config.get(flag)) or ("mean",)


def _projection(place: Path) -> Projection:
    config, path = _object(place / CONFIG), place / "model.safetensors"
    activation = str(config.get("activation_function", "Tanh")).rpartition(".")[2]
    if activation not in ACTIVATIONS or config.get("use_residual"):
        raise OrreryError(
            f"'{place / CONFIG}' asks for a projection we do not know (activation '{activation}')"
        )
    try:
        check_safetensors(path)
        tensors = load_file(path)
        return Projection(tensors["linear.weight"], tensors.get("linear.bias"), activation)
    except (OSError, SafetensorError, KeyError) as error:
        raise OrreryError(f"'{path}' is missing or damaged ({error}); get the model again") from None


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _object(path: Path) -> dict[str, Any]:
    """The object in a file; empty where there is no file."""
    value = read_json(path) if path.is_file() else {}
    if not isinstance(value, dict):
        raise OrreryError(f"'{path}' must hold an object; get the model again")
    return value


def _list(path: Path) -> list[dict[str, Any]]:
    value = read_json(path)
    if not isinstance(value, list) or not all(isinstance(step, dict) for step in value):
        raise OrreryError(f"'{path}' must hold a list of steps; get the model again")
    return value
