"""Every way in which a GGUF file has been used, or could be, to break a reader: one sentence for each, at once."""

from __future__ import annotations

import json
import os
import random
import re
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from orrery.kit.errors import OrreryError
from orrery.kit.gguf import GgufFile
from tests.kit.fuzz_gguf import (
    ARRAY,
    BOOL,
    F32,
    I32,
    STRING,
    U8,
    U32,
    U64,
    array,
    every_type,
    gguf,
    info,
    kv,
    model,
    open_it,
    seeds,
    text,
    u32,
)
from tests.kit.test_gguf import assert_like_the_reference

MAX = 2**64 - 1
ARCH = kv("general.architecture", STRING, text("llama"))
X = info("x", [8])
DATA = bytes(32)


def alignment(payload: bytes, type_id: int = U32) -> bytes:
    return gguf([ARCH, kv("general.alignment", type_id, payload)], [X], DATA)


def tensors(*infos: bytes, data: bytes = bytes(4096)) -> bytes:
    return gguf([ARCH], list(infos), data)


# id -> (bytes of the file, what the message has to say)
REJECT: dict[str, tuple[bytes, str]] = {
    "GG-01": (gguf([ARCH], magic=b"FUGG"), r"byte 0.*magic is b'FUGG'"),
    "GG-02": (gguf([ARCH], version=0), r"byte 4.*version 0"),
    "GG-03": (gguf([ARCH], version=1), r"byte 4.*version 1"),
    "GG-04": (gguf([ARCH], version=99), r"byte 4.*version 99"),
    "GG-05": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), r"byte 4.*big-endian"),
    "GG-06": (gguf([ARCH], n_tensors=MAX), r"byte 8.*18446744073709551615 tensors cannot fit"),
    "GG-07": (gguf([ARCH], n_kv=MAX), r"byte 16.*18446744073709551615 keys cannot fit"),
    "GG-08": (gguf([ARCH])[:20], r"byte 20.*truncated"),
    "GG-09": (gguf([text(b"key", MAX) + u32(U32) + u32(1)]), r"byte 32.*file ends inside a key"),
    "GG-10": (gguf([kv("", U32, u32(1))]), r"byte 24.*a key is empty"),
    "GG-11": (gguf([ARCH, ARCH]), r"byte 69, key 'general.architecture'.*twice"),
    "GG-12": (gguf([kv("k", 77, u32(0))]), r"byte 33, key 'k'.*type 77"),
    "GG-13": (gguf([kv("k", STRING, struct.pack("<Q", 2**63))]), r"byte 45.*ends inside the value of key 'k'"),
    "GG-13b": (gguf([kv("k", STRING, text(b"", MAX))]), r"byte 45.*ends inside the value of key 'k'"),
    "GG-14": (gguf([kv("k", ARRAY, array(U64, 2**61))]), r"key 'k'.*2305843009213693952 elements"),
    "GG-14b": (gguf([kv("k", ARRAY, array(U8, 4_000_000_000, bytes(50)))]), r"key 'k'.*4000000000 elements"),
    "GG-15": (gguf([kv("k", ARRAY, array(ARRAY, 1) * 20_000 + array(U8, 0))]), r"key 'k'.*nested deeper .* 1"),
    "GG-16": (alignment(u32(0)), r"byte 69, key 'general.alignment'.*alignment is 0"),
    "GG-17": (alignment(u32(13)), r"key 'general.alignment'.*alignment is 13"),
    "GG-17b": (alignment(u32(2**31)), r"key 'general.alignment'.*alignment is 2147483648"),
    "GG-18": (alignment(text("32"), STRING), r"key 'general.alignment'.*string, not a uint32"),
    "GG-19": (tensors(info("x", [8], rank=2**31)), r"tensor 'x'.*rank 2147483648 is over 4"),
    "GG-19b": (tensors(info("x", [1] * 9)), r"tensor 'x'.*rank 9 is over 4"),
    "GG-20": (tensors(info("x", [8, 0])), r"tensor 'x'.*zero"),
    "GG-21": (tensors(info("x", [2**64 - 8])), r"tensor 'x'.*zero or over 2\^63"),
    "GG-22": (tensors(info("x", [2**32, 2**32])), r"tensor 'x'.*overflow"),
    "GG-23": (tensors(info("x", [8], 255)), r"tensor 'x'.*type 255 is unknown"),
    "GG-23b": (tensors(info("x", [8], -1)), r"tensor 'x'.*type 4294967295 is unknown"),
    "GG-23c": (tensors(info("x", [32], 4), info("y", [32], 5, 32)), r"tensor 'x'.*type 4 \(Q4_2\) is no longer"),
    "GG-24": (tensors(info("x" * 5000, [8])), r"byte 69.*name of a tensor has 5000 bytes, more than 64"),
    "GG-25": (tensors(info("x", [8]), info("x", [8], 0, 32)), r"tensor 'x'.*two tensors have this name"),
    "GG-26": (tensors(info("x", [8], 0, 3)), r"tensor 'x'.*offset 3 is not a multiple"),
    "GG-27": (tensors(info("x", [8], 0, 2**40)), r"tensor 'x'.*past the end of the file"),
    "GG-28": (tensors(info("x", [16]), info("y", [16], 0, 32)), r"tensor 'y'.*overlap those of tensor 'x'"),
    "GG-29": (
        tensors(info("x", [0x7FFFFFFFFFFFFFC0], 24), info("y", [0x7FFFFFFFFFFFFFC0], 24, 0x7FFFFFFFFFFFFFC0)),
        r"tensor 'x'.*9223372036854775744 bytes.*past the end",
    ),
    "GG-30": (tensors(info("x", [100, 4], 12)), r"tensor 'x'.*row of 100 is not a whole number of Q4_K blocks of 256"),
    "GG-31": (tensors(info("x", [64]), data=bytes(100)), r"tensor 'x'.*256 bytes.*past the end of the file"),
    "GG-32": (gguf([kv("k", BOOL, b"\5")]), r"byte 37, key 'k'.*bool is neither 0 nor 1"),
    "GG-33": (gguf([kv(b"k\xff\xfe", U32, u32(1))]), r"byte 33.*a key is not UTF-8"),
    "GG-40": (tensors(info("x", [2**32 + 16])), r"tensor 'x'.*17179869248 bytes.*past the end"),
}  # fmt: skip

# further ways, not in the shared table
MORE: dict[str, tuple[bytes, str]] = {
    "empty file": (b"", r"byte 0.*truncated"),
    "magic only": (b"GGUF", r"byte 4.*truncated"),
    "type id 5": (tensors(info("x", [32], 5)), r"type 5 \(Q4_3\) is no longer"),
    "git lfs pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", r"git lfs pull"),
    "alignment of NaN": (alignment(struct.pack("<f", float("nan")), F32), r"float32, not a uint32"),
    "alignment as int32": (alignment(u32(32), I32), r"int32, not a uint32"),
    "alignment as an array": (alignment(array(STRING, 9, text("a" * 900) * 9), ARRAY), r"array\[string\], not"),
    "array of type 13": (gguf([kv("k", ARRAY, array(13, 0))]), r"byte 37, key 'k'.*element type 13"),
    "bool in array": (gguf([kv("k", ARRAY, array(BOOL, 3, b"\0\1\2"))]), r"byte 51, key 'k'.*bool"),
    "string in array past the end": (gguf([kv("k", ARRAY, array(STRING, 2, text("a") + text("b", 9)))]), r"byte 58, key 'k'.*string 1"),
    "string in array, length 2^64-1": (gguf([kv("k", ARRAY, array(STRING, 1, text("", MAX)))]), r"string 0"),
    "string in array not UTF-8": (gguf([kv("k", ARRAY, array(STRING, 1, text(b"a\xff")))]), r"byte 58, key 'k'.*UTF-8"),
    "surrogate": (gguf([kv("k", STRING, text(b"\xed\xa0\x80"))]), r"value of key 'k' is not UTF-8"),
    "array of arrays": (gguf([kv("k", ARRAY, array(ARRAY, 1, array(U8, 0)))]), r"nested deeper"),
    "array of 2^60 arrays": (gguf([kv("k", ARRAY, array(ARRAY, 2**60))]), r"nested deeper"),
    "key too long": (gguf([kv("k" * 65536, U32, u32(1))]), r"65536 bytes, more than 65535"),
    "key with NUL": (gguf([kv("a\0b", U32, u32(1))]), r"NUL"),
    "tensor name with NUL": (tensors(info("a\0b", [8])), r"NUL"),
    "tensor name empty": (tensors(info("", [8])), r"name of a tensor is empty"),
    "name not UTF-8": (tensors(info(b"\xff", [8])), r"UTF-8"),
    "same bytes": (tensors(info("x", [8]), info("y", [8])), r"overlap"),
    "offset over 2^64 with the data": (tensors(info("x", [8], 0, 2**64 - 32)), r"past the end"),
    "dims that wrap to 8": (tensors(info("x", [2**33, 2**31 + 1])), r"overflow"),
    "one block of a scalar": (tensors(info("x", [], 12)), r"row of 1 is not a whole number"),
    "fewer keys than said": (gguf([ARCH], n_kv=2) , r"cannot fit|ends inside"),
    "fewer tensors than said": (gguf([ARCH], [X], DATA, n_tensors=2), r"byte"),
    "one tensor, no directory": (gguf([ARCH], n_tensors=1), r"ends inside|cannot fit"),
    "split.count is text": (gguf([kv("split.count", STRING, text("2"))]), r"split.count"),
    "split.count is NaN": (gguf([kv("split.count", F32, struct.pack("<f", float("nan")))]), r"split.count"),
}  # fmt: skip

# what only the meaning of the metadata can judge, and who does
NOT_CONTAINER = {
    "GG-34": "lengths of the vocabulary arrays: the tokenizer made from the metadata",
    "GG-35": "a chat template: the sandbox that renders it",
    "GG-36": "token ids against the vocabulary: the tokenizer made from the metadata",
    "GG-37": "ranges of hyper-parameters: the config made from the metadata",
    "GG-39": "values of weights: the report on finite weights of the loader",
    "GG-41": "shapes against the config: the loader of the model, before any kernel",
}
ELSEWHERE = {"GG-38": "test_gguf_split.py", "GG-42": "test_bit_flips"}


@pytest.mark.parametrize("case", [*REJECT, *MORE])
def test_rejected_in_one_sentence(tmp_path: Path, case: str) -> None:
    content, message = {**REJECT, **MORE}[case]
    path = tmp_path / "bad.gguf"
    path.write_bytes(content)
    start = time.perf_counter()
    with pytest.raises(OrreryError) as caught:
        open_it(path)
    assert time.perf_counter() - start < 1
    said = str(caught.value)
    assert re.search(message, said), said
    assert "bad.gguf" in said and ";" in said and "\n" not in said and len(said) < 600


def test_the_table_is_whole(shared_data: Path) -> None:
    cases = json.loads((shared_data.parent / "bad_inputs.json").read_text())["cases"]
    asked = {case["id"] for case in cases if case.get("format") == "gguf"}
    assert asked <= {*REJECT, *NOT_CONTAINER, *ELSEWHERE}


def test_the_container_opens_what_only_its_meaning_condemns(tmp_path: Path) -> None:
    """Nothing of a value is interpreted here: such files open, and give back exactly what they say."""
    path = tmp_path / "odd.gguf"
    template = "{{ ''.__class__.__mro__[1].__subclasses__() }}"
    kvs = [
        kv("tokenizer.ggml.tokens", ARRAY, array(STRING, 1, text("a"))),
        kv("tokenizer.ggml.scores", ARRAY, array(F32, 3, bytes(12))),
        kv("tokenizer.chat_template", STRING, text(template)),
        kv("tokenizer.ggml.bos_token_id", U32, u32(2**32 - 1)),
        kv("llama.rope.freq_base", F32, struct.pack("<f", float("nan"))),
        kv("llama.context_length", U64, struct.pack("<Q", 2**62)),
    ]
    path.write_bytes(gguf(kvs, [info("x", [32], 8)], b"\xff\xff" + bytes(32)))
    with GgufFile.open(path) as found:
        assert found.metadata["tokenizer.ggml.tokens"] == ["a"]
        assert len(found.metadata["tokenizer.ggml.scores"]) == 3
        assert found.metadata["tokenizer.chat_template"] == template
        assert found.metadata["tokenizer.ggml.bos_token_id"] == 2**32 - 1
        assert np.isnan(found.metadata["llama.rope.freq_base"])
        assert found.metadata["llama.context_length"] == 2**62
        assert found.raw("x").tolist() == [255, 255] + [0] * 32


@pytest.mark.parametrize("what", ["fifo", "folder", "missing", "dangling", "/dev/zero"])
def test_only_regular_files(tmp_path: Path, what: str) -> None:
    path = tmp_path / "x.gguf"
    if what == "fifo":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    elif what == "dangling":
        path.symlink_to(tmp_path / "nowhere")
    elif what == "/dev/zero":
        path = Path(what)
    start = time.perf_counter()
    with pytest.raises(OrreryError, match=f"'{path}' (is|does)"):
        GgufFile.open(path)
    assert time.perf_counter() - start < 0.1


# ------------------------------------------------------------------------------------------- limits, in a child process

# Opens each file in a process of its own and prints what it cost above the process it came from.
CHILD = """
import json, os, resource, sys, time
import numpy
from orrery.kit.errors import OrreryError
from tests.kit.fuzz_gguf import open_it
for path in sys.argv[1:]:
    r, w = os.pipe()
    if os.fork() == 0:
        resource.setrlimit(resource.RLIMIT_CPU, (5, 5))
        before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
        try:
            open_it(path); said = "accepted"
        except OrreryError as error:
            said = str(error)
        except BaseException as error:
            said = "untyped " + repr(error)
        cost = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        os.write(w, json.dumps([path, said, time.perf_counter() - start, cost / 1024]).encode())
        os._exit(0)
    os.close(w)
    print(os.read(r, 65536).decode() or json.dumps([path, "untyped: died", 0, 0]))
    os.close(r)
    os.wait()
"""
GIB = 1 << 30


def sparse(path: Path, head: bytes, size: int = 8 * GIB) -> Path:
    with open(path, "wb") as handle:
        handle.write(head)
        handle.truncate(size)
    return path


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="measures memory as Linux counts it")
def test_no_file_costs_a_second_or_64_mib(tmp_path: Path) -> None:
    paths = []
    for i, (content, _) in enumerate([*REJECT.values(), *MORE.values()]):
        paths.append(tmp_path / f"{i}.gguf")
        paths[-1].write_bytes(content)
    n = len(paths)
    # counts that do fit into the file, since its end is far away and costs nothing
    lies = [
        gguf([kv("k", ARRAY, array(U8, 4 * GIB))]),
        gguf([kv("k", ARRAY, array(U64, 1 << 29))]),
        gguf([kv("k", ARRAY, array(BOOL, 16 << 20))], n_kv=2),
        gguf([kv("k", ARRAY, array(STRING, 1 << 29))]),
        gguf([kv("k", ARRAY, array(STRING, 4_000_000))]),
        gguf([kv("k", STRING, text(b"", 4 * GIB))]),
        gguf([kv("k", STRING, text(b"", 9 << 20))]),
        gguf([b"".join(kv(f"k{i}", STRING, text(bytes(7 << 20))) for i in range(3))], n_kv=4),
        gguf([], n_kv=1 << 28),
        gguf([], n_kv=1 << 16),
        gguf([], n_tensors=1 << 28),
        gguf([], n_tensors=1 << 16),
        gguf([text(b"", 4 * GIB)]),
    ]
    paths += [sparse(tmp_path / f"sparse{i}.gguf", head) for i, head in enumerate(lies)]
    # the most that passes: every limit used up
    keys = [kv(f"k{i}", ARRAY, array(U8, 4 << 20, bytes(4 << 20))) for i in range(3)]
    (tmp_path / "full.gguf").write_bytes(
        gguf([*keys, kv("s", ARRAY, array(STRING, 1 << 20, bytes(8 << 20)))])
    )
    many = [info(f"tensor.{i}", [8], 0, 32 * i) for i in range(1 << 14)]
    (tmp_path / "many.gguf").write_bytes(gguf([ARCH], many, bytes(32 << 14)))
    paths += [tmp_path / "full.gguf", tmp_path / "many.gguf"]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *map(str, paths)],
        capture_output=True, text=True, timeout=120, check=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == len(paths)
    assert [row for row in rows if row[1].startswith("untyped")] == []
    assert [row for row in rows if row[2] > 1 or row[3] > 64] == []
    assert [row[1] == "accepted" for row in rows] == [False] * (n + len(lies)) + [True, True]


# ------------------------------------------------------------------------------------------------------------- mutation


def test_seeds_are_valid(tmp_path: Path) -> None:
    for i, seed in enumerate(seeds()):
        (tmp_path / f"{i}.gguf").write_bytes(seed)
        open_it(tmp_path / f"{i}.gguf")


def test_every_cut_is_noticed(tmp_path: Path) -> None:
    """No prefix of a file is a file, but for the padding at its end."""
    whole = gguf(every_type(), [info("x", [8]), info("y", [3], 0, 32)], bytes(44))
    path = tmp_path / "cut.gguf"
    path.write_bytes(whole)
    open_it(path)
    for length in range(len(whole) - 1, -1, -1):
        os.truncate(path, length)
        with pytest.raises(OrreryError):
            open_it(path)


def test_bit_flips(tmp_path: Path) -> None:
    """10,000 flips in a file of 64 KB: each loads, or is refused in one sentence; what loads is what gguf reads."""
    whole = model(200, width=1024, seed=1)
    whole += bytes((64 << 10) - len(whole))
    header = whole.index(b"blk.0.i32") + 64
    path = tmp_path / "flipped.gguf"
    path.write_bytes(whole)
    rng, counts = random.Random(7), {"loads": 0, "refused": 0}
    with open(path, "r+b", buffering=0) as handle:
        for i in range(10_000):
            at = rng.randrange(len(whole) if i % 4 == 0 else header)
            os.pwrite(handle.fileno(), bytes([whole[at] ^ 1 << rng.randrange(8)]), at)
            start = time.perf_counter()
            try:
                open_it(path)
                counts["loads"] += 1
            except OrreryError:
                counts["refused"] += 1
            else:
                if counts["loads"] % 30 == 0:
                    assert_like_the_reference(path)
            assert time.perf_counter() - start < 1
            os.pwrite(handle.fileno(), whole[at : at + 1], at)
    assert counts["loads"] > 1000 and counts["refused"] > 1000, counts
