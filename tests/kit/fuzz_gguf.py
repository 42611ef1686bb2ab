"""GGUF files made byte by byte, right and wrong, without the writer under test; seeds for mutation."""

from __future__ import annotations

import random
import struct
from pathlib import Path

from orrery.kit.gguf import BLOCK_TYPES, GgufFile

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)


def text(data: bytes | str, length: int | None = None) -> bytes:
    """A length and bytes; `length` may lie."""
    data = data.encode() if isinstance(data, str) else data
    return struct.pack("<Q", len(data) if length is None else length) + data


def kv(key: bytes | str, type_id: int, payload: bytes) -> bytes:
    return text(key) + struct.pack("<I", type_id) + payload


def array(type_id: int, count: int, payload: bytes = b"") -> bytes:
    return struct.pack("<IQ", type_id, count) + payload


def u32(value: int) -> bytes:
    return struct.pack("<I", value)


def info(
    name: bytes | str, dims: list[int], type_id: int = 0, offset: int = 0, rank: int | None = None
) -> bytes:
    return (
        text(name)
        + struct.pack(f"<I{len(dims)}Q", len(dims) if rank is None else rank, *dims)
        + struct.pack("<IQ", type_id & 0xFFFFFFFF, offset)
    )


def gguf(
    kvs: list[bytes] = (),
    infos: list[bytes] = (),
    data: bytes = b"",
    *,
    magic: bytes = b"GGUF",
    version: int = 3,
    n_tensors: int | None = None,
    n_kv: int | None = None,
    alignment: int = 32,
) -> bytes:
    """A whole file; any count may lie."""
    head = magic + struct.pack(
        "<IQQ",
        version,
        len(infos) if n_tensors is None else n_tensors,
        len(kvs) if n_kv is None else n_kv,
    )
    head += b"".join(kvs) + b"".join(infos)
    return head + (b"\0" * (-len(head) % alignment) + data if infos else b"")


def every_type() -> list[bytes]:
    """One key of every type of value."""
    return [
        kv("general.architecture", STRING, text("llama")),
        kv("a.u8", U8, b"\xff"),
        kv("a.i8", I8, b"\xff"),
        kv("a.u16", U16, struct.pack("<H", 65535)),
        kv("a.i16", I16, struct.pack("<h", -2)),
        kv("a.u32", U32, u32(7)),
        kv("a.i32", I32, struct.pack("<i", -7)),
        kv("a.f32", F32, struct.pack("<f", 1e-6)),
        kv("a.bool", BOOL, b"\1"),
        kv("a.u64", U64, struct.pack("<Q", 2**63 + 1)),
        kv("a.i64", I64, struct.pack("<q", -(2**40))),
        kv("a.f64", F64, struct.pack("<d", 0.1)),
        kv("a.text", STRING, text("näïve 漢字 🪐")),
        kv("b.f32", ARRAY, array(F32, 3, struct.pack("<3f", 1, -2, 0.5))),
        kv("b.i32", ARRAY, array(I32, 2, struct.pack("<2i", -1, 2))),
        kv("b.bool", ARRAY, array(BOOL, 3, b"\0\1\1")),
        kv("b.empty", ARRAY, array(U64, 0)),
        kv("b.text", ARRAY, array(STRING, 3, text("a") + text("") + text("▁漢"))),
    ]


def model(n_vocab: int = 64, *, width: int = 256, seed: int = 0) -> bytes:
    """A file like a model's: vocabulary, scores, and one tensor of each of many types."""
    rng = random.Random(seed)
    words = [text("".join(rng.choices("abcdefghij▁é漢", k=rng.randint(1, 9)))) for _ in range(n_vocab)]
    kvs = [
        *every_type(),
        kv("tokenizer.ggml.tokens", ARRAY, array(STRING, n_vocab, b"".join(words))),
        kv("tokenizer.ggml.scores", ARRAY, array(F32, n_vocab, rng.randbytes(4 * n_vocab))),
        kv("tokenizer.ggml.token_type", ARRAY, array(I32, n_vocab, u32(1) * n_vocab)),
    ]
    infos, data = [], b""
    for kind in ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q5_1", "Q4_K", "Q6_K", "IQ4_XS", "MXFP4", "I32"):
        block = BLOCK_TYPES[kind]
        infos.append(info(f"blk.0.{kind.lower()}.weight", [width, 2], block.id, len(data)))
        raw = rng.randbytes(2 * width // block.block * block.bytes)
        data += raw + b"\0" * (-len(raw) % 32)
    return gguf(kvs, infos, data)


def seeds() -> list[bytes]:
    """Small valid files to mutate: every type of value, a model, alignment 64, version 2, no tensors, ranks 0 to 4."""
    ranks = [info(f"r{n}", [2] * n, 0, 64 * n) for n in range(5)]
    return [
        gguf(every_type()),
        model(),
        gguf([kv("general.alignment", U32, u32(64))], ranks, bytes(320), alignment=64),
        gguf(every_type()[:3], [info("x", [8, 2], 0, 0), info("y", [32], 8, 64)], bytes(98), version=2),
        gguf(),
    ]


def open_it(path: Path | str) -> int:
    """Open a file and touch all that it holds. Returns the number of bytes seen; raises OrreryError or nothing."""
    with GgufFile.open(path) as found:
        seen = sum(len(value) if hasattr(value, "__len__") else 1 for value in found.metadata.values())
        for name in found.tensors:
            raw = found.raw(name)
            seen += raw.nbytes + int(raw.max()) * 0
    return seen
