"""What a network is: layers, architectures, file formats, surgery.

A model says what is computed; a context, where each token sits and what it may see:

    model = Decoder(DecoderConfig(vocab_size=4096, d_model=256, n_layers=4))
    hidden = model(tokens, Packed([len(tokens)]))       # (T, d)
    logits = model.head(hidden)                         # (T, V)
"""

from __future__ import annotations

from orrery.model.cache import Cached, CacheSpec, KVCache
from orrery.model.config import DecoderConfig, Gqa, Init
from orrery.model.context import Context
from orrery.model.decoder import Decoder
from orrery.model.encoder import Encoder, EncoderConfig
from orrery.model.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from orrery.model.explicit import Explicit
from orrery.model.folder import load_config, load_model, open_model, save_model
from orrery.model.memory import Memory
from orrery.model.packed import Packed
from orrery.model.probe import Probe, record
from orrery.model.surgery import replace

__all__ = [
    "CacheSpec",
    "Cached",
    "Context",
    "Decoder",
    "DecoderConfig",
    "Encoder",
    "EncoderConfig",
    "EncoderDecoder",
    "EncoderDecoderConfig",
    "Explicit",
    "Gqa",
    "Init",
    "KVCache",
    "Memory",
    "Packed",
    "Probe",
    "load_config",
    "load_model",
    "open_model",
    "record",
    "replace",
    "save_model",
]
