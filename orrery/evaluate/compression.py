"""General-purpose compressors as language models: bits they need for each byte of held-out text.

A compressor predicts without knowing what text is, so a model that does not beat it has learned nothing worth having.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
from typing import Literal

from orrery.kit.errors import OrreryError

Compressor = Literal["xz", "gzip", "bz2"]

XZ_WINDOW = 64 << 20
"""How far back xz can look at its highest preset, in bytes."""


def compressed_size(data: bytes, compressor: Compressor = "xz") -> int:
    """Bytes that `data` takes at the compressor's highest setting (`xz -9e`, `gzip -9`, `bzip2 -9`)."""
    match compressor:
        case "xz":
            # Preset 9 asks for 64 MiB of dictionary (and eleven times that while compressing) whatever the input;
            # a dictionary as large as the input finds the same matches.
            window = max(4096, min(len(data), XZ_WINDOW))  # 4096: the smallest the format allows
            chain = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": window}]
            return len(lzma.compress(data, format=lzma.FORMAT_XZ, filters=chain))
        case "gzip":
            return len(gzip.compress(data, 9, mtime=0))
        case "bz2":
            return len(bz2.compress(data, 9))


def compressed_bits_per_byte(held_out: bytes, *, given: bytes = b"", compressor: Compressor = "xz") -> float:
    """Bits per byte of `held_out`, alone or after the compressor has seen `given` (the training text).

    With `given`: 8 * (size(given + held_out) - size(given)) / len(held_out), for xz over the last 64 MiB it can see.

    Raises:
        OrreryError: nothing to compress.
    """
    if not held_out:
        raise OrreryError(
            "there is no held-out text to compress; hold out at least one document that is not empty"
        )
    if not given:
        return 8 * compressed_size(held_out, compressor) / len(held_out)
    if compressor == "xz":
        given = given[max(len(given) + len(held_out) - XZ_WINDOW, 0) :]
    both = compressed_size(given + held_out, compressor)
    return 8 * (both - compressed_size(given, compressor)) / len(held_out)
