"""PQ, JL, TS: parquet, JSON lines, and prepared token shards."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.hostile.case import Case, Opens
from tests.hostile.seeds import shard_folder

Build = Callable[[Path], Iterator[Opens]]
MIB = 1 << 20


# --- parquet


def table(*changes: Callable[[bytes], bytes], **columns: Any) -> Build:
    """A parquet file of these columns, its bytes changed in each of these ways."""

    def build(folder: Path) -> Iterator[Opens]:
        whole = folder / "whole.parquet"
        pq.write_table(
            pa.table(columns or {"text": ["one", "two", "three"]}), whole, write_page_checksum=True
        )
        data = whole.read_bytes()
        for i, change in enumerate(changes or [lambda data: data]):
            (folder / f"{i}.parquet").write_bytes(change(data))
            yield "source", folder / f"{i}.parquet"

    return build


def equal_rows(folder: Path) -> Iterator[Opens]:
    """200 million equal rows in one row group of less than a megabyte, of numbers and of strings."""
    for name, column in (("numbers", pa.array(np.zeros(MIB, np.int64))), ("strings", pa.array(["x"] * MIB))):
        batch = pa.record_batch([column], names=["text"])
        path = folder / f"{name}.parquet"
        with pq.ParquetWriter(path, batch.schema, data_page_size=8 * MIB) as writer:
            for _ in range(191 if name == "numbers" else 32):
                writer.write_batch(batch, row_group_size=1 << 30)
        yield "source", path


def footer(data: bytes, length: int) -> bytes:
    return data[:-8] + length.to_bytes(4, "little") + data[-4:]


def rows(data: bytes, count: int) -> bytes:
    """The number of rows in the footer (field 3 of FileMetaData: zigzag, here one byte) made another."""
    size = int.from_bytes(data[-8:-4], "little")
    start = len(data) - 8 - size
    meta = bytearray(data[start:-8])
    at = meta.index(b"\x16\x06\x19")  # field 3, i64, 3 rows; then field 4, the list of row groups
    meta[at + 1 : at + 2] = varint(count << 1 if count >= 0 else (-count << 1) - 1)
    return data[:start] + bytes(meta) + len(meta).to_bytes(4, "little") + b"PAR1"


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def far_chunk(data: bytes) -> bytes:
    """The offset of the column's data page moved past the end."""
    size = int.from_bytes(data[-8:-4], "little")
    start = len(data) - 8 - size
    chunk = pq.ParquetFile(pa.BufferReader(data)).metadata.row_group(0).column(0)
    old = b"\x26" + varint(chunk.data_page_offset << 1)  # field 9 after field 7, i64
    meta = data[start:-8]
    assert meta.count(old) == 1
    meta = meta.replace(old, b"\x26" + varint((1 << 40) << 1))
    return data[:start] + meta + len(meta).to_bytes(4, "little") + b"PAR1"


def made_up(meta: bytes) -> bytes:
    return b"PAR1" + meta + len(meta).to_bytes(4, "little") + b"PAR1"


def deep_schema(depth: int) -> bytes:
    """FileMetaData with a schema of one chain of groups."""
    element = b"\x35\x02\x18\x01g\x15\x02\x00"  # repetition, name, one child
    leaf = b"\x15\x0c\x25\x02\x18\x01g\x00"
    schema = b"\x19\xfc" + varint(depth + 2) + b"\x48\x01s\x15\x02\x00" + element * depth + leaf
    return b"\x15\x04" + schema + b"\x16\x00\x19\x0c\x00"


def empty_groups(count: int) -> bytes:
    schema = b"\x19\x2c\x48\x01s\x15\x02\x00\x15\x0c\x25\x02\x18\x04text\x00"
    group = b"\x19\x0c\x16\x00\x16\x00\x00"
    return b"\x15\x04" + schema + b"\x16\x00\x19\xfc" + varint(count) + group * count + b"\x00"


def claims(folder: Path) -> Iterator[Opens]:
    for name, meta in (
        ("deep", deep_schema(10_000)),
        ("deep2", deep_schema(200)),
        ("groups", empty_groups(1_000_000)),
    ):
        (folder / f"{name}.parquet").write_bytes(made_up(meta))
        yield "source", folder / f"{name}.parquet"


class Pickled(pa.ExtensionType):
    """An extension type whose metadata is a pickle."""

    def __init__(self) -> None:
        super().__init__(pa.string(), "arrow.py_extension_type")

    def __arrow_ext_serialize__(self) -> bytes:
        return b"cos\nsystem\n(S'touch canary'\ntR."

    @classmethod
    def __arrow_ext_deserialize__(cls, storage: Any, data: bytes) -> Pickled:
        return cls()


def extension(folder: Path) -> Iterator[Opens]:
    column = pa.ExtensionArray.from_storage(Pickled(), pa.array(["a", "b"]))
    pq.write_table(pa.table({"text": column}), folder / "x.parquet")
    yield "source", folder / "x.parquet"


def not_utf8(folder: Path) -> Iterator[Opens]:
    offsets, data = pa.py_buffer(np.array([0, 3, 5, 8], np.int32)), pa.py_buffer(b"one\xff\xfeuno")
    column = pa.Array.from_buffers(pa.string(), 3, [None, offsets, data])
    pq.write_table(pa.table({"text": column}), folder / "x.parquet")
    yield "lenient_source", folder / "x.parquet"


def nulls(folder: Path) -> Iterator[Opens]:
    pq.write_table(pa.table({"text": pa.array([None, None], pa.string())}), folder / "null.parquet")
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), folder / "empty.parquet")
    yield "source", folder / "null.parquet"
    yield "source", folder / "empty.parquet"


def large_cell(folder: Path) -> Iterator[Opens]:
    """One cell of close to 2 GB, in a page that packs it into little: the header of the page is made, not the cell."""
    pq.write_table(
        pa.table({"text": ["a" * 1000]}),
        folder / "x.parquet",
        use_dictionary=False,
        compression="NONE",
        write_statistics=False,
    )
    data = (folder / "x.parquet").read_bytes()
    chunk = pq.ParquetFile(folder / "x.parquet").metadata.row_group(0).column(0)
    at = chunk.data_page_offset
    head = b"\x15" + varint(0) + b"\x15"
    assert data[at : at + 3] == head
    old = varint(pq_size(data, at + 3) << 1)
    new = varint(2_000_000_000 << 1)
    moved = data[: at + 3] + new + data[at + 3 + len(old) :]
    (folder / "x.parquet").write_bytes(moved)
    yield "source", folder / "x.parquet"


def pq_size(data: bytes, at: int) -> int:
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        if data[at] < 0x80:
            return value >> 1
        at, shift = at + 1, shift + 7


def columns(folder: Path) -> Iterator[Opens]:
    made = {
        "missing": {"txt": ["a"]},
        "int": {"text": [1]},
        "list": {"text": [["a"], ["b"]]},
        "bytes": {"text": [b"a"]},
    }
    for name, content in made.items():
        pq.write_table(pa.table(content), folder / f"{name}.parquet")
        yield "source", folder / f"{name}.parquet"


def flipped_page(data: bytes) -> bytes:
    changed = bytearray(data)
    at = data.index(b"three")
    changed[at] ^= 1
    return bytes(changed)


# --- JSON lines


def lines(*contents: bytes, opener: str = "lenient_source", name: str = "x.jsonl") -> Build:
    def build(folder: Path) -> Iterator[Opens]:
        for i, content in enumerate(contents):
            path = folder / f"{i}{name}"
            path.write_bytes(content)
            yield opener, path

    return build


def endless_line(folder: Path) -> Iterator[Opens]:
    for name, start in (("text", b'{"text": "'), ("nothing", b"")):
        with open(folder / f"{name}.jsonl", "wb") as handle:
            handle.write(start)
            handle.truncate(2 << 30)
        yield "source", folder / f"{name}.jsonl"


def inflating(folder: Path) -> Iterator[Opens]:
    """10 GB in 10 MB: zeros, spaces without an end of line, empty lines; zstd is refused by its name."""
    for name, char in (
        ("zeros.jsonl", b"\0"),
        ("zeros.txt", b"\0"),
        ("spaces.txt", b" "),
        ("a.txt", b"a"),
        ("lines.jsonl", b"\n"),
    ):
        member = gzip.compress(char * (64 * MIB), mtime=0)
        with open(folder / f"{name}.gz", "wb") as handle:
            for _ in range(160):
                handle.write(member)
        yield "source", folder / f"{name}.gz"
    (folder / "x.jsonl.zst").write_bytes(b"\x28\xb5\x2f\xfd\x00\xff" + bytes(100))
    yield "source", folder / "x.jsonl.zst"


GOOD = b'{"text": "good"}\n'
SURROGATE = [b'{"text": "\\ud800"}\n', b'{"text": "a\\udc00b"}\n', b'{"te\\ud800xt": 1, "text": "x"}\n']
ODD = b'\xef\xbb\xbf{"text": "nul \\u0000"}\r\n{"text": "line\\u2028sep"}\r\n{"text": "\\ud83e\\ude90"}\n'


# --- shards


def shards(*changes: Callable[[Path, dict[str, Any]], Any], opener: str = "shards") -> Build:
    """A prepared data set, changed; its head is written again with the hashes of the files as they then are."""

    def build(folder: Path) -> Iterator[Opens]:
        from orrery.kit.files import sha256_file

        for i, change in enumerate(changes):
            there = shard_folder(folder / str(i))
            head = json.loads((there / "data.json").read_text())
            if change(there, head) is not False:
                for body in head["splits"].values():
                    for name, record in body["files"].items():
                        if (there / name).is_file() and isinstance(record, dict):
                            record |= {
                                "bytes": (there / name).stat().st_size,
                                "sha256": sha256_file(there / name),
                            }
            (there / "data.json").write_text(json.dumps(head))
            yield opener, there

    return build


def index(change: Callable[[np.ndarray], Any]) -> Callable[[Path, dict[str, Any]], None]:
    def altered(folder: Path, head: dict[str, Any]) -> None:
        path = folder / "train.index"
        table = np.fromfile(path, np.dtype([("token", "<u8"), ("byte", "<u8"), ("line", "<u8")]))
        change(table)
        table.tofile(path)

    return altered


def append(folder: Path, data: bytes) -> None:
    with open(folder / "train-00000.bin", "ab") as handle:
        handle.write(data)


def train(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path, dict[str, Any]], None]:
    return lambda folder, head: change(head["splits"]["train"])


def set_at(row: int, column: str, value: int) -> Callable[[np.ndarray], None]:
    def change(table: np.ndarray) -> None:
        table[column][row] = value

    return change


def replaced(folder: Path, head: dict[str, Any]) -> bool:
    path = folder / "train-00000.bin"
    path.write_bytes(path.read_bytes()[::-1])
    return False


def outside(folder: Path, head: dict[str, Any]) -> None:
    body = head["splits"]["train"]
    (folder.parent / "x.bin").write_bytes((folder / "train-00000.bin").read_bytes())
    body["shards"][0] = "../x.bin"
    body["files"]["../x.bin"] = body["files"].pop("train-00000.bin")


CASES = [
    Case(id="PQ-01", build=equal_rows, refused="is not text but int64|claims .* rows in", slow=True),
    Case(id="PQ-02", build=table(lambda data: footer(data, 2**31), lambda data: footer(data, 2**32 - 1), lambda data: footer(data, 0)), refused="footer"),
    Case(id="PQ-03", build=table(lambda data: data[:-4] + b"PAR2", lambda data: b"NOPE" + data[4:]), refused="begin and end with PAR1"),
    Case(id="PQ-04", build=table(lambda data: rows(data, -1), lambda data: rows(data, 4), lambda data: rows(data, 2), lambda data: rows(data, 1 << 40)), refused="rows|row "),
    Case(id="PQ-05", build=table(far_chunk), refused="lie at bytes|damaged"),
    Case(id="PQ-06", build=extension, refused="extension type"),
    Case(id="PQ-07", build=claims, refused="nested more than|over the limit"),
    Case(id="PQ-08", build=not_utf8, accepted=r'\[\["one", "", "uno"\], \[".*:1: .*not UTF-8'),
    Case(id="PQ-09", build=columns, refused="no field 'text'|is not text but"),
    Case(id="PQ-10", build=nulls, accepted="^0$"),
    Case(id="PQ-10 2 GB", build=large_cell, refused="unfolds from|does not fit|over the limit"),
    Case(id="PQ-11", build=table(flipped_page), refused="damaged.*(crc|CRC|checksum)"),
    Case(id="JL-01", build=endless_line, refused="longer than 32 MiB"),
    Case(id="JL-02", build=lines(GOOD + b"[" * 100_000 + b"]" * 100_000 + b"\n" + GOOD), accepted=r'\[\["good", "good"\], \[".*:2: .*nested more than'),
    Case(id="JL-03", build=lines(*(GOOD + b'{"text": "x", "n": ' + word + b"}\n" + GOOD for word in (b"NaN", b"Infinity", b"-Infinity"))), accepted=r'\[\["good", "good"\], \[".*:2: .*no JSON number'),
    Case(id="JL-04", build=lines(*(GOOD + line for line in SURROGATE)), accepted=r'\[\["good"\], \[".*:2: .*half a character'),
    Case(id="JL-04 odd", build=lines(ODD), accepted=r'^\[\["nul \\u0000", "line\\u2028sep", "\\ud83e\\ude90"\], \[\]\]$'),
    Case(id="JL-05", build=inflating, refused="unfolds to more than|binary file|longer than|empty lines|compress it with gzip", slow=True),
    Case(id="JL-06", build=lines(GOOD + b'{"text": "a", "text": "b"}\n' + GOOD), accepted=r'\[\["good", "good"\], \[".*:2: .*given twice'),
    Case(id="JL-07", build=lines(GOOD + b'{"text": "a", "n": ' + b"9" * 1_000_000 + b"}\n" + GOOD), accepted=r'\[\["good", "good"\], \[".*:2: .*1,000,000 digits'),
    Case(id="JL-08", build=lines(GOOD + b'{"text": "cut of'), accepted=r'\[\["good"\], \[".*:2: .*no end of line'),
    Case(id="JL-08 strict", build=lines(GOOD + b'{"text": "cut of', opener="source"), refused="line 2.*no end of line"),
    Case(id="TS-01", build=shards(lambda folder, head: append(folder, b"\1")), refused="do not take the"),
    Case(id="TS-01 quick", build=shards(lambda folder, head: append(folder, b"\1") or False, opener="quick_shards"), refused="bytes where"),
    Case(id="TS-02", build=shards(lambda folder, head: (folder / "train-00000.bin").write_bytes(np.array([1, 2, 99, 0], "<u2").tobytes())), refused="holds the id 99"),
    Case(id="TS-02 quick", build=shards(lambda folder, head: (folder / "train-00000.bin").write_bytes(np.array([1, 2, 99, 0], "<u2").tobytes()), opener="quick_shards"), refused="holds the id 99"),
    Case(id="TS-03", build=shards(*(index(set_at(*at)) for at in ((2, "token", 999), (1, "token", 999), (1, "byte", 2**63), (0, "token", 1), (1, "line", 2**64 - 1), (1, "token", 3)))), refused="does not rise|in two shards"),
    Case(id="TS-04", build=shards(lambda folder, head: head.update(dtype="<u4"), lambda folder, head: head.update(dtype="object"), lambda folder, head: head.update(vocab_size=70_000, dtype="<u4")), refused="dtype|do not take"),
    Case(id="TS-05", build=shards(replaced), refused="has changed since it was written"),
    Case(id="TS-06", build=shards(outside, train(lambda body: body["shards"].append(body["shards"][0])), train(lambda body: body["files"].update({"/etc/passwd": {"bytes": 1, "sha256": ""}})), train(lambda body: body["files"].pop("train.index"))), refused="plain name|listed twice|are not its shards"),
]  # fmt: skip
