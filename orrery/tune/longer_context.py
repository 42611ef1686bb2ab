"""Long-context extension: scale the rotary positions of a trained model, then train on long texts.

    linear (PI)   every position divided by the factor       Chen et al. 2023, arXiv:2306.15595
    ntk           a larger base: fast dimensions stay        bloc97 2023
    yarn          a ramp between both, sharper attention     Peng et al. 2023, arXiv:2309.00071

The edit is one of the config: no weight changes, and the receipt's surgery list tells of it. Hundreds of steps on texts of the new
length then repair what the scaling broke.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from pydantic import Field

from orrery.kit.config import config
from orrery.kit.errors import OrreryError
from orrery.model.config import DecoderConfig
from orrery.model.decoder import Decoder
from orrery.model.positions import Position, Rope
from orrery.model.rope_scaling import Linear, Yarn, ntk_theta
from orrery.tune.rebuild import rebuilt


@config
class LongerContext:
    """To how many positions, and by which scaling."""

    max_positions: Annotated[int, Field(ge=2)]
    scaling: Literal["linear", "ntk", "yarn"] = "yarn"


def lengthen(model: Decoder, cfg: LongerContext) -> Decoder:
    """The model with room for `cfg.max_positions`; its weights are the same tensors.

    Layers that see a window are left alone: no distance they meet is new to them.

    Raises:
        OrreryError: the model's positions are not rotary or scaled already, or it has as much room.
    """
    new_cfg, factor = lengthened(model.cfg, cfg)
    new = rebuilt(model, new_cfg)
    arguments = {
        "scaling": cfg.scaling,
        "factor": factor,
        "from": model.cfg.max_positions,
        "to": cfg.max_positions,
    }
    new.surgery.append({"operation": "longer context", "modules": [], "arguments": arguments})
    return new


def lengthened(old: DecoderConfig, cfg: LongerContext) -> tuple[DecoderConfig, float]:
    """The config with scaled positions, and the factor."""
    factor = cfg.max_positions / old.max_positions
    if factor <= 1:
        raise OrreryError(
            f"the model looks at {old.max_positions:,} tokens already; longer_context.max_positions={cfg.max_positions:,} is no more"
        )
    local = old.local_position
    if old.window and local is None and isinstance(old.position, Rope):
        local = old.position
    position = _scaled(old.position, cfg.scaling, factor, old)
    new = dataclasses.replace(old, position=position, local_position=local, max_positions=cfg.max_positions)
    return new, factor


def _scaled(position: Position, kind: str, factor: float, cfg: DecoderConfig) -> Rope:
    if not isinstance(position, Rope):
        raise OrreryError(
            f"the model's positions are of the kind '{position.kind}'; only rotary ones can be scaled"
        )
    if position.scaling is not None:
        raise OrreryError(
            f"the model's positions are scaled already ({position.scaling.kind}); scale the model as it was before that"
        )
    match kind:
        case "linear":
            return dataclasses.replace(position, scaling=Linear(factor=factor))
        case "yarn":
            return dataclasses.replace(
                position, scaling=Yarn(factor=factor, original_max_positions=cfg.max_positions)
            )
        case _:  # a larger base says the same as the scaling, and every format has a word for it
            theta = ntk_theta(position.theta, position.rotary_dim(cfg.head_size), factor)
            return dataclasses.replace(position, theta=theta)
