"""From a config to the model it describes."""

from __future__ import annotations

from orrery.model.config import DecoderConfig
from orrery.model.decoder import Decoder

Config = DecoderConfig
Model = Decoder


def build(cfg: Config) -> Model:
    """The model that `cfg` describes, with weights drawn from seed 0."""
    match cfg:
        case DecoderConfig():
            return Decoder(cfg)
