"""The block formats of GGUF, read and written: floats, 4 to 8 bits with one scale, K formats, code books, ternary.

    raw = quantize(weight, "Q4_K")
    weight = dequantize(raw, "Q4_K")
    kind = mixture("q4_k_m")("blk.0.attn_v.weight", (256, 1024), layer=0, n_layers=18)     # "Q6_K"

Each file describes the bytes of its formats; `search` is how scales are found.
"""

from __future__ import annotations

from orrery.model.quant.codec import FORMATS, READABLE, WRITABLE, Format, block_format, dequantize, quantize
from orrery.model.quant.mixtures import MIXTURES, Mixture, fallback, mixture

__all__ = [
    "FORMATS",
    "MIXTURES",
    "READABLE",
    "WRITABLE",
    "Format",
    "Mixture",
    "block_format",
    "dequantize",
    "fallback",
    "mixture",
    "quantize",
]
