from __future__ import annotations

import lzma
import random

import pytest

from orrery.evaluate.compression import compressed_bits_per_byte, compressed_size
from orrery.kit.errors import OrreryError

TEXT = "".join(random.Random(0).choices(["def ", "return ", "self.", "x", "(", ")", "\n"], k=4000)).encode()


def test_xz_is_the_tools_highest_preset() -> None:
    """A dictionary as large as the input finds what one of 64 MiB finds; the header differs by nothing in size."""
    assert compressed_size(TEXT) == len(lzma.compress(TEXT, preset=9 | lzma.PRESET_EXTREME))


@pytest.mark.parametrize("compressor", ["xz", "gzip", "bz2"])
def test_bits_per_byte_of_text_and_noise(compressor) -> None:
    noise = random.Random(1).randbytes(20_000)
    assert compressed_bits_per_byte(TEXT, compressor=compressor) == 8 * compressed_size(
        TEXT, compressor
    ) / len(TEXT)
    assert compressed_bits_per_byte(TEXT, compressor=compressor) < 4
    assert 8 <= compressed_bits_per_byte(noise, compressor=compressor) < 8.3


def test_text_seen_before_costs_almost_nothing() -> None:
    noise = random.Random(2).randbytes(5000)
    assert compressed_bits_per_byte(noise, given=noise) < 0.2
    assert compressed_bits_per_byte(noise, given=TEXT) > 7.9


def test_nothing_held_out_is_an_error() -> None:
    with pytest.raises(OrreryError, match="no held-out text"):
        compressed_bits_per_byte(b"")
