"""From a config to the model it describes."""

from __future__ import annotations

from orrery.model.config import DecoderConfig
from orrery.model.decoder import Decoder
from orrery.model.encoder import Encoder, EncoderConfig
from orrery.model.encoder_decoder import EncoderDecoder, EncoderDecoderConfig

Config = DecoderConfig | EncoderConfig | EncoderDecoderConfig
Model = Decoder | Encoder | EncoderDecoder

KINDS: dict[str, type[Config]] = {
    "decoder": DecoderConfig, "encoder": EncoderConfig, "encoder_decoder": EncoderDecoderConfig,
}  # fmt: skip
"""What each kind of config is called in a file of our own."""


def build(cfg: Config) -> Model:
    """The model that `cfg` describes, with weights drawn from seed 0."""
    match cfg:
        case DecoderConfig():
            return Decoder(cfg)
        case EncoderConfig():
            return Encoder(cfg)
        case EncoderDecoderConfig():
            return EncoderDecoder(cfg)


def kind_of(cfg: Config) -> str:
    """The key in `KINDS`."""
    return next(name for name, kind in KINDS.items() if isinstance(cfg, kind))
