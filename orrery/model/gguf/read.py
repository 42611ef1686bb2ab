"""Open the model inside a GGUF file: quantised weights stay quantised, or become plain numbers.

with GgufFile.open("model.gguf") as file:
    cfg = config_of(file)
    model = model_of(file)                       # linear layers over the file's own blocks
    model = model_of(file, quantised=False)      # float32 weights, for training or conversion
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from orrery.kit.errors import OrreryError, suggest
from orrery.kit.gguf import GgufFile
from orrery.model.build import build
from orrery.model.families import BY_TYPE
from orrery.model.families.family import Family, Hf
from orrery.model.gguf.architecture import EXPERTS_IN, EXPERTS_OUT, Architecture
from orrery.model.gguf.ranges import check_head_size, check_layers, checked
from orrery.model.gguf.tables import BY_NAME
from orrery.model.gguf.tensors import Contents, MappedRows, contents_of, numbers_of, plain, raw_tensor
from orrery.model.lowbit import KINDS, set_activation_bits
from orrery.model.names import SAME, Source, sources
from orrery.model.quant import READABLE
from orrery.model.quantised import not_finite_blocks, place, takes_blocks, use_native_kernels
from orrery.model.shell import shell
from orrery.model.weights import not_finite

FLOATS = ("F32", "F16", "BF16")


def architecture_of(contents: Contents) -> Architecture:
    """The architecture a file names.

    Raises:
        OrreryError: none, or one we do not know.
    """
    name = contents.metadata.get("general.architecture")
    if not isinstance(name, str):
        raise OrreryError(
            f"'{contents.where}' does not say general.architecture; it holds no model we can build"
        )
    if name not in BY_NAME:
        raise OrreryError(
            f"'{contents.where}': architecture '{name}' is not known; known are {', '.join(BY_NAME)}.{suggest(name, BY_NAME)}"
        )
    return BY_NAME[name]


def config_of(file: GgufFile | Contents) -> tuple[Family, Any]:
    """The family and the shape of the model.

    Raises:
        OrreryError: keys are missing, of the wrong type, or ask for what we do not have.
    """
    contents = contents_of(file) if isinstance(file, GgufFile) else file
    try:
        hf = settings_of(contents)
        return BY_TYPE[hf["model_type"]], BY_TYPE[hf["model_type"]].read(hf)
    except KeyError as error:
        raise OrreryError(f"'{contents.where}' lacks the setting {error}; get the file again") from None
    except OrreryError as error:
        where = "" if contents.where in str(error) else f"'{contents.where}': "
        raise OrreryError(f"{where}{error}") from None
    except (TypeError, AttributeError, ValueError, ZeroDivisionError, OverflowError) as error:
        raise OrreryError(
            f"'{contents.where}' has a setting that makes no sense ({error}); get it again"
        ) from None


def settings_of(contents: Contents) -> Hf:
    """What config.json would say."""
    architecture = architecture_of(contents)
    prefix = f"{architecture.name}."
    said = {
        key.removeprefix(prefix): plain(value)
        for key, value in contents.metadata.items()
        if key.startswith(prefix)
    }
    keys = checked(said, architecture.settings.keys(), contents.where)
    missing = [key for key in ("block_count", "embedding_length", "attention.head_count") if key not in keys]
    if missing or "token_embd.weight" not in contents.shapes:
        raise OrreryError(
            f"'{contents.where}' lacks {', '.join(prefix + key for key in missing) or 'the tensor token_embd.weight'}; "
            "it holds no whole model"
        )
    check_layers(keys["block_count"], contents.shapes.keys(), contents.where)
    hf: Hf = {
        "model_type": architecture.families[0],
        "vocab_size": contents.shapes["token_embd.weight"][0],
        "tie_word_embeddings": "output.weight" not in contents.shapes,
        **architecture.fixed,
        **{theirs: keys[ours] for ours, theirs in architecture.settings.items() if ours in keys},
    }
    if architecture.whole_heads:
        check_head_size(hf, keys, contents.where)
    return hf | architecture.read(hf, keys, contents)


def model_of(file: GgufFile, *, quantised: bool = True, strict: bool = False) -> nn.Module:
    """The model, with the weights of the file.

    Args:
        strict: refuse weights that hold NaN or an infinity; else the model's `not_finite` names them.

    Raises:
        OrreryError: tensors are missing, unexpected, of the wrong shape or of a type we cannot read.
    """
    architecture = architecture_of(contents_of(file))
    family, cfg = config_of(file)
    model = shell(lambda: build(cfg))
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    table = sources(shapes, architecture.older(architecture.names(cfg), file.tensors.keys()))
    _check(file, architecture, table, shapes)
    state: dict[str, Tensor] = {}
    blocks = [source for source in table if quantised and _stays(model, file, source)]
    for source in table:
        if source not in blocks:
            wanted = source.shapes(shapes)
            state |= source.join({name: numbers_of(file, name).view(wanted[name]) for name in wanted}, shapes)
            _forget(file, source)
    for source in blocks:  # after the others: a layer is made with its bias
        for name, raw in _blocks(file, source, shapes).items():
            kind = file.tensors[source.theirs[0]].type
            place(model, name, raw, kind, state.pop(f"{name.removesuffix('weight')}bias", None))
        _forget(file, source)
    model.load_state_dict(state, strict=True, assign=True)
    bad = (*not_finite(state), *not_finite_blocks(model))
    if strict and bad:
        some = ", ".join(bad[:5]) + (f" and {len(bad) - 5} more" if len(bad) > 5 else "")
        raise OrreryError(
            f"the weights in '{file.paths[0]}' are not finite: {some} hold NaN or an infinity; get them again"
        )
    model.not_finite = bad  # type: ignore[bad-argument-type]
    if blocks:
        set_activation_bits(model, 16)
        use_native_kernels(model)
    model.family = family.model_type  # type: ignore[bad-argument-type]
    return model


def _stays(model: nn.Module, file: GgufFile, source: Source) -> bool:
    """Whether the file has blocks of one format, in an order in which the layers can work on them."""
    kinds = {file.tensors[name].type for name in source.theirs}
    ordered = source.layout.rows or source.layout in (EXPERTS_IN, EXPERTS_OUT)
    blocks = len(kinds) == 1 and not kinds & set(FLOATS)
    return blocks and ordered and all(takes_blocks(model, name) for name in source.ours)


def _blocks(file: GgufFile, source: Source, shapes: Mapping[str, torch.Size]) -> dict[str, Any]:
    """Ours as rows of blocks."""
    first = file.tensors[source.theirs[0]]
    if source.layout is SAME and len(first.shape) == 2 and first.type in KINDS:
        return {source.ours[0]: MappedRows(file, source.theirs[0])}
    raw = {name: raw_tensor(file, name) for name in source.theirs}
    if source.layout.rows:
        return source.join(raw, shapes)
    return {source.ours[0]: torch.cat(list(raw.values()), 1)}  # experts: rows are what they are in the file


def _forget(file: GgufFile, source: Source) -> None:
    """The mapped pages of tensors that have been copied would count as memory until the file is closed."""
    for name in source.theirs:
        file.forget(name)


def _check(
    file: GgufFile, architecture: Architecture, table: list[Source], ours: Mapping[str, torch.Size]
) -> None:
    """Exactly the tensors that are wanted, in exactly their shapes."""
    shapes = {name: shape for source in table for name, shape in source.shapes(ours).items()}
    missing = sorted(shapes.keys() - file.tensors.keys())
    unexpected = sorted(file.tensors.keys() - shapes.keys() - set(architecture.optional))
    if missing or unexpected:
        parts = [
            f"{what}: {', '.join(names[:5])}" + (f" and {len(names) - 5} more" if len(names) > 5 else "")
            for what, names in (("missing", missing), ("unexpected", unexpected))
            if names
        ]
        raise OrreryError(
            f"the tensors of '{file.paths[0]}' are not those of its {architecture.name} settings; {'; '.join(parts)}"
        )
    for name, shape in shapes.items():
        if file.tensors[name].type not in READABLE:
            raise OrreryError(
                f"'{file.paths[0]}': tensor '{name}' is of type {file.tensors[name].type}, which is not read here; "
                f"get the model in one of {', '.join(READABLE)}"
            )
        found = tuple(file.tensors[name].shape)
        if _without_ones(found) != _without_ones(shape):
            raise OrreryError(
                f"'{file.paths[0]}': tensor '{name}' has shape {list(found)}, but the settings ask for {list(shape)}"
            )


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without the axes of length 1 in front: the format does not tell (1, n) from (n,)."""
    while shape[:1] == (1,):
        shape = shape[1:]
    return shape
