"""Tensor types of GGUF: how many numbers a block holds and how many bytes it takes. Facts of the format (ggml.h)."""

from __future__ import annotations

from typing import NamedTuple

from orrery.kit.errors import OrreryError


class BlockType(NamedTuple):
    """One tensor type: `block` numbers along a row are stored together in `bytes` bytes."""

    name: str
    id: int
    block: int
    bytes: int


_TABLE = [
    # plain numbers
    BlockType("F32", 0, 1, 4),
    BlockType("F16", 1, 1, 2),
    BlockType("BF16", 30, 1, 2),
    BlockType("F64", 28, 1, 8),
    BlockType("I8", 24, 1, 1),
    BlockType("I16", 25, 1, 2),
    BlockType("I32", 26, 1, 4),
    BlockType("I64", 27, 1, 8),
    # 32 numbers, one scale (and one minimum)
    BlockType("Q4_0", 2, 32, 18),
    BlockType("Q4_1", 3, 32, 20),
    BlockType("Q5_0", 6, 32, 22),
    BlockType("Q5_1", 7, 32, 24),
    BlockType("Q8_0", 8, 32, 34),
    # 256 numbers, scales that are quantised themselves
    BlockType("Q2_K", 10, 256, 84),
    BlockType("Q3_K", 11, 256, 110),
    BlockType("Q4_K", 12, 256, 144),
    BlockType("Q5_K", 13, 256, 176),
    BlockType("Q6_K", 14, 256, 210),
    BlockType("Q8_K", 15, 256, 292),
    # codebooks
    BlockType("IQ1_S", 19, 256, 50),
    BlockType("IQ1_M", 29, 256, 56),
    BlockType("IQ2_XXS", 16, 256, 66),
    BlockType("IQ2_XS", 17, 256, 74),
    BlockType("IQ2_S", 22, 256, 82),
    BlockType("IQ3_XXS", 18, 256, 98),
    BlockType("IQ3_S", 21, 256, 110),
    BlockType("IQ4_NL", 20, 32, 18),
    BlockType("IQ4_XS", 23, 256, 136),
    # ternary and binary
    BlockType("TQ1_0", 34, 256, 54),
    BlockType("TQ2_0", 35, 256, 66),
    BlockType("Q1_0", 41, 128, 18),
    # four-bit floats
    BlockType("MXFP4", 39, 32, 17),
    BlockType("NVFP4", 40, 64, 36),
]

BLOCK_TYPES: dict[str, BlockType] = {kind.name: kind for kind in _TABLE}
BY_ID: dict[int, BlockType] = {kind.id: kind for kind in _TABLE}

# ids that had a meaning once, or have one only inside a running program
RETIRED: dict[int, str] = {
    4: "Q4_2",
    5: "Q4_3",
    9: "Q8_1",
    31: "Q4_0_4_4",
    32: "Q4_0_4_8",
    33: "Q4_0_8_8",
    36: "IQ4_NL_4_4",
    37: "IQ4_NL_4_8",
    38: "IQ4_NL_8_8",
}


def row_bytes(kind: str, n: int) -> int:
    """Bytes of a row of `n` numbers of type `kind`.

    Raises:
        OrreryError: no such type, or `n` is not a whole number of blocks.
    """
    if kind not in BLOCK_TYPES:
        raise OrreryError(f"no GGUF tensor type is called '{kind}'; choose one of {', '.join(BLOCK_TYPES)}")
    block = BLOCK_TYPES[kind]
    if n % block.block:
        raise OrreryError(
            f"a row of {n} numbers is not a whole number of {kind} blocks of {block.block}; "
            f"use a type with smaller blocks, such as Q8_0 or F16"
        )
    return n // block.block * block.bytes
