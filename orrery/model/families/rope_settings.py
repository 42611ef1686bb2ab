"""Rotary positions in a config.json: `rope_parameters` (transformers 5), or `rope_theta` with `rope_scaling` (before).

Scaling was first spelt {"type": "linear", ...}, then {"rope_type": "linear", ...}; both are in published files, and so are
files with all of these at once. We write all of them.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from orrery.kit.errors import OrreryError
from orrery.model.families.family import Hf
from orrery.model.positions import Dynamic, Linear, Llama3, LongRope, Position, Rope, Yarn

SCALINGS: dict[str, Any] = {
    "linear": Linear, "dynamic": Dynamic, "yarn": Yarn, "llama3": Llama3, "longrope": LongRope,
}  # fmt: skip

# Our field names in a scaling -> theirs.
SCALING_FIELDS = {
    "factor": "factor",
    "original_max_positions": "original_max_position_embeddings",
    "beta_fast": "beta_fast",
    "beta_slow": "beta_slow",
    "mscale": "mscale",
    "mscale_all_dim": "mscale_all_dim",
    "attention_factor": "attention_factor",
    "truncate": "truncate",
    "low_freq_factor": "low_freq_factor",
    "high_freq_factor": "high_freq_factor",
    "short_factor": "short_factor",
    "long_factor": "long_factor",
}

FULL, SLIDING = "full_attention", "sliding_attention"


def read_rope(
    hf: Hf,
    *,
    theta: float = 10_000.0,
    max_positions: int = 2048,
    fraction: float | None = None,
    interleaved: bool = False,
) -> Rope:
    """The one rope of a model; the arguments are the family's defaults. `fraction` None: the family turns whole heads.

    Raises:
        OrreryError: a kind of scaling we do not have, or a part of a head where the family turns whole ones.
    """
    given = dict(hf.get("rope_scaling") or hf.get("rope_parameters") or {})
    if any(isinstance(value, dict) for value in given.values()):
        raise OrreryError("rope_parameters differ by kind of layer, which this family does not know")
    part = _first(given.get("partial_rotary_factor"), hf.get("partial_rotary_factor"), fraction)
    if fraction is None and part not in (None, 1):
        raise OrreryError(
            f"partial_rotary_factor={part} is not known for this family, which turns whole heads"
        )
    return Rope(
        theta=_first(given.get("rope_theta"), hf.get("rope_theta"), theta),
        fraction=1.0 if part is None else part,
        interleaved=interleaved,
        scaling=_read_scaling(given, hf, hf.get("max_position_embeddings") or max_positions),
    )


def read_rope_by_kind(hf: Hf, *, theta: float, local_theta: float, max_positions: int) -> dict[str, Any]:
    """`position` and `local_position` where full and sliding layers have a rope each (scaling is of full layers)."""
    kinds = hf.get("rope_parameters") or hf.get("rope_scaling") or {}
    if FULL in kinds or SLIDING in kinds:
        old = {**hf, "rope_scaling": None, "rope_theta": None}
        full = read_rope(old | {"rope_parameters": kinds.get(FULL)}, theta=theta, max_positions=max_positions)
        local = read_rope(
            old | {"rope_parameters": kinds.get(SLIDING)}, theta=local_theta, max_positions=max_positions
        )
    else:
        full, local = read_rope(hf, theta=theta, max_positions=max_positions), Rope(theta=local_theta)
    return {"position": full, "local_position": local}


def write_rope(rope: Position) -> Hf:
    """All spellings, since readers of each are in use."""
    theta: Hf = {"rope_theta": _plain(rope).theta}
    part = {"partial_rotary_factor": _plain(rope).fraction} if _plain(rope).fraction != 1 else {}
    scaling = _write_scaling(_plain(rope))
    new = {**({"rope_type": "default"} | scaling), **theta, **part}
    return {**theta, **part, **({"rope_scaling": scaling} if scaling else {}), "rope_parameters": new}


def write_rope_by_kind(rope: Position, local: Rope | None) -> Hf:
    """The same where sliding layers have a rope of their own."""
    full = write_rope(rope)
    sliding = write_rope(local or rope)["rope_parameters"]
    return {**full, "rope_parameters": {FULL: full["rope_parameters"], SLIDING: sliding}}


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _plain(rope: Position) -> Rope:
    if not isinstance(rope, Rope):
        raise OrreryError(f"position '{rope.kind}' is not rotary")
    return rope


def _read_scaling(given: Hf, hf: Hf, longest: int) -> Any:
    kind = given.get("rope_type") or given.get("type") or "default"
    if kind == "default":
        return None
    if kind not in SCALINGS:
        raise OrreryError(
            f"config.json asks for rope scaling '{kind}'; known are default, {', '.join(SCALINGS)}"
        )
    # What stands beside the scaling counts more than what stands in it (Phi-3).
    trained = hf.get("original_max_position_embeddings") or given.get("original_max_position_embeddings")
    given["original_max_position_embeddings"] = trained = longest if kind == "dynamic" else trained or longest
    if kind in ("yarn", "longrope") and given.get("factor") is None:
        given["factor"] = longest / trained
    for name in ("short_factor", "long_factor"):
        if isinstance(given.get(name), list):
            given[name] = tuple(given[name])
    known = SCALINGS[kind].__dataclass_fields__
    fields = {
        ours: given[name]
        for ours, name in SCALING_FIELDS.items()
        if ours in known and given.get(name) is not None
    }
    needed = [
        SCALING_FIELDS[name]
        for name in ("factor", "short_factor", "long_factor")
        if name in known and name not in fields
    ]
    if needed and kind != "llama3":
        raise OrreryError(f"the rope scaling '{kind}' in config.json lacks {', '.join(needed)}")
    return SCALINGS[kind](**fields)


def _write_scaling(rope: Rope) -> Hf:
    if rope.scaling is None:
        return {}
    scaling: Hf = {"rope_type": rope.scaling.kind, "type": rope.scaling.kind}
    for ours, value in asdict(rope.scaling).items():
        if ours != "kind" and value is not None:
            if ours not in SCALING_FIELDS:
                raise OrreryError(f"the rope scaling '{rope.scaling.kind}' has no spelling in a config.json")
            scaling[SCALING_FIELDS[ours]] = list(value) if isinstance(value, tuple) else value
    if rope.scaling.kind not in SCALINGS:
        raise OrreryError(f"the rope scaling '{rope.scaling.kind}' has no spelling in a config.json")
    if rope.scaling.kind == "dynamic":
        del scaling["original_max_position_embeddings"]  # theirs is max_position_embeddings
    return scaling
