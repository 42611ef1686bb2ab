"""Models split over several GGUF files: one model from any part, and no set that is incomplete or leads elsewhere."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from orrery.kit.errors import OrreryError
from orrery.kit.gguf import GgufFile, Typed, write_gguf
from tests.kit.fuzz_gguf import I32, STRING, U16, gguf, info, kv, text

ARCH = kv("general.architecture", STRING, text("llama"))


def test_a_split_model_is_one_model_from_any_part(tmp_path: Path) -> None:
    names = [tmp_path / f"m-{i + 1:05d}-of-00003.gguf" for i in range(3)]
    for i, path in enumerate(names):
        keys = {
            "split.no": Typed("uint16", i),
            "split.count": Typed("uint16", 3),
            "split.tensors.count": Typed("int32", 3),
        }
        made = np.full(4, i, np.uint8)
        write_gguf(
            path,
            {**keys, **({"a.b": "first"} if i == 0 else {})},
            [(f"t{i}", "I8", (4,), lambda made=made: made)],
        )
    for path in names:
        found = GgufFile.open(path)
        assert found.metadata["a.b"] == "first" and found.paths == tuple(names)
        assert [(t.name, t.file) for t in found.tensors.values()] == [("t0", 0), ("t1", 1), ("t2", 2)]
        assert [found.raw(f"t{i}").tolist() for i in range(3)] == [[i] * 4 for i in range(3)]


def part(number: int, count: int, *names: str, n_tensors: int | None = None) -> bytes:
    kvs = [
        kv("split.no", U16, struct.pack("<H", number)),
        kv("split.count", U16, struct.pack("<H", count)),
        kv("split.tensors.count", I32, struct.pack("<i", n_tensors if n_tensors is not None else count)),
    ]
    infos = [info(name, [8], 0, 32 * i) for i, name in enumerate(names)]
    return gguf(kvs, infos, bytes(32 * len(names)))


def put(folder: Path, *parts: bytes, count: int | None = None) -> Path:
    for i, content in enumerate(parts):
        (folder / f"m-{i + 1:05d}-of-{count or len(parts):05d}.gguf").write_bytes(content)
    return folder / f"m-00001-of-{count or len(parts):05d}.gguf"


SPLIT: dict[str, tuple[Callable[[Path], Path], str]] = {
    "GG-38 one of 65535": (lambda f: put(f, part(0, 65535, "a"), count=65535), r"m-00002-of-65535.gguf' is missing"),
    "GG-38 repeated": (lambda f: put(f, part(0, 2, "a"), part(0, 2, "b")), r"00002.*part 0 of 2"),
    "counts disagree": (lambda f: put(f, part(0, 2, "a"), part(1, 3, "b")), r"00002.*part 1 of 3"),
    "a stranger": (lambda f: put(f, part(0, 2, "a"), gguf([ARCH])), r"00002.*part 65535 of 0"),
    "same tensor": (lambda f: put(f, part(0, 2, "a"), part(1, 2, "a")), r"00002.*tensor 'a' is also in"),
    "too few tensors": (lambda f: put(f, part(0, 2, "a", n_tensors=9), part(1, 2, "b")), r"announces 9 .* hold 2"),
    "damaged part": (lambda f: put(f, part(0, 2, "a"), part(1, 2, "b")[:-1]), r"00002.*past the end"),
    "name says otherwise": (lambda f: put(f, part(0, 3, "a"), part(1, 3, "b")), r"part of 3 .* not named like one"),
}  # fmt: skip


@pytest.mark.parametrize("case", SPLIT)
def test_split_sets(tmp_path: Path, case: str) -> None:
    build, message = SPLIT[case]
    with pytest.raises(OrreryError, match=message):
        GgufFile.open(build(tmp_path))


def test_a_part_never_leads_out_of_the_folder(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    first = put(inside, part(0, 2, "a"), part(1, 2, "b"))
    second = inside / "m-00002-of-00002.gguf"
    second.rename(outside / "secret")
    second.symlink_to(outside / "secret")
    with pytest.raises(OrreryError, match="link to outside"):
        GgufFile.open(first)
    second.unlink()
    second.symlink_to(second)
    with pytest.raises(OrreryError, match="missing"):
        GgufFile.open(first)
    os.rename(outside / "secret", inside / "other")
    second.unlink()
    second.symlink_to(inside / "other")
    assert list(GgufFile.open(first).tensors) == ["a", "b"]


def test_the_cache_of_the_hub_opens(tmp_path: Path) -> None:
    """Snapshots there are links into one folder of blobs."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "1"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    first = put(snapshot, part(0, 2, "a"), part(1, 2, "b"))
    for i, file in enumerate(sorted(snapshot.iterdir())):
        file.rename(blobs / str(i))
        file.symlink_to(Path("../../blobs") / str(i))
    assert list(GgufFile.open(first).tensors) == ["a", "b"]
