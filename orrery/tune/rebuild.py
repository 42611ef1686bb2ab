"""A model with another config and the same weights, as an edit of its shape needs it."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from orrery.model.config import DecoderConfig
from orrery.model.decoder import Decoder
from orrery.model.shell import shell


def rebuilt(model: Decoder, cfg: DecoderConfig, weights: Mapping[str, Tensor] | None = None) -> Decoder:
    """The decoder of `cfg` with the weights of `model` (its tensors, not copies), but for those given by name."""
    new = shell(lambda: Decoder(cfg))
    new.load_state_dict({**model.state_dict(), **(weights or {})}, strict=True, assign=True)
    for parameter in new.parameters():
        parameter.requires_grad_(True)
    new.surgery = list(model.surgery)
    for name in ("family", "not_finite"):
        if name in vars(model):
            setattr(new, name, vars(model)[name])
    return new.train(model.training)
