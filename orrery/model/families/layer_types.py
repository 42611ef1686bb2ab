"""Which layers see a window only, in a config.json: `layer_types` with `sliding_window`, or a family's own rule for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orrery.kit.errors import OrreryError
from orrery.model.config import DecoderConfig, LayerKind
from orrery.model.families.family import Hf
from orrery.model.families.rope_settings import FULL, SLIDING
from orrery.model.limits import RANGES

MOST = int(RANGES["n_layers"][1])
"""Layers a model can have."""


def read_layer_types(
    hf: Hf, window: int | None, default: Sequence[str], *, full: LayerKind = "global"
) -> dict[str, Any]:
    """`window` and `layer_pattern` from `layer_types`, or from the family's `default`; without a window all are `full`.

    Raises:
        OrreryError: a kind of layer we do not have here, or not as many as layers.
    """
    types, layers = hf.get("layer_types") or default, len(numbered(hf))
    strange = [kind for kind in types if kind not in (FULL, SLIDING)]
    if strange:
        raise OrreryError(
            f"layer_types holds '{strange[0]}'; known for this family are '{FULL}' and '{SLIDING}'"
        )
    if len(types) != layers:
        raise OrreryError(f"layer_types lists {len(types)} layers, but num_hidden_layers is {layers}")
    kinds: list[LayerKind] = ["local" if window and kind == SLIDING else full for kind in types]
    return {"window": window or None, "layer_pattern": shortest(kinds)}


def write_layer_types(cfg: DecoderConfig) -> Hf:
    """`sliding_window` and `layer_types`. transformers wants a window even where no layer slides."""
    types = [SLIDING if cfg.is_local(i) else FULL for i in range(cfg.n_layers)]
    return {"sliding_window": cfg.window or cfg.max_positions, "layer_types": types}


def full_every(hf: Hf, period: int) -> list[str]:
    """Sliding layers, with each `period`-th one full."""
    return [SLIDING if (i + 1) % period else FULL for i in numbered(hf)]


def numbered(hf: Hf) -> range:
    """The numbers of the layers, from 0.

    Raises:
        OrreryError: more than `MOST` layers, before a list of that length is made.
    """
    layers = hf["num_hidden_layers"]
    if type(layers) is not int or not 1 <= layers <= MOST:
        raise OrreryError(f"num_hidden_layers must be a whole number from 1 to {MOST}")
    return range(layers)


def full_period(cfg: DecoderConfig) -> int | None:
    """The `period` of which `full_every` gives the layers of `cfg`, or None."""
    local = [cfg.is_local(i) for i in range(cfg.n_layers)]
    period = local.index(False) + 1 if False in local else cfg.n_layers + 1
    return period if all(local[i] == bool((i + 1) % period) for i in range(cfg.n_layers)) else None


def read_one_kind(hf: Hf, window: int | None) -> dict[str, Any]:
    """`window` and `layer_pattern` of a family whose layers are all alike: all slide where there is a window.

    Raises:
        OrreryError: `layer_types` says otherwise.
    """
    kind = SLIDING if window else FULL
    if any(given != kind for given in hf.get("layer_types") or ()):
        raise OrreryError(
            f"layer_types asks for other layers than '{kind}', but those of a model_type '{hf.get('model_type')}' are all "
            "alike; a family that mixes them is 'ministral'"
        )
    return {"window": window or None, "layer_pattern": ("local",) if window else ("global",)}


def write_one_kind(cfg: DecoderConfig) -> Hf:
    """`sliding_window` of layers that are all alike (reading it back shows if they were not)."""
    return {"sliding_window": cfg.layer_window(0)}


def shortest(kinds: Sequence[LayerKind]) -> tuple[LayerKind, ...]:
    """The pattern that gives `kinds` when it is cycled."""
    n = len(kinds)
    period = next((p for p in range(1, n) if all(kinds[i] == kinds[i % p] for i in range(n))), n)
    return tuple(kinds[:period])
