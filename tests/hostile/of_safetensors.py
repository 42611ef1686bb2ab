"""ST: safetensors files, each as the weights of a model folder that is otherwise whole."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from tests.hostile.case import Case, Opens
from tests.hostile.seeds import model_folder, safetensors_bytes, weights, with_header

FILE = "model.safetensors"
ONE = '"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'


def weights_are(data: Callable[[], bytes] | bytes) -> Callable[[Path], Iterator[Opens]]:
    def build(folder: Path) -> Iterator[Opens]:
        model_folder(folder)
        (folder / FILE).write_bytes(data if isinstance(data, bytes) else data())
        yield "model", folder

    return build


def header(text: str | bytes, data: bytes = bytes(4)) -> Callable[[Path], Iterator[Opens]]:
    return weights_are(with_header(text, data))


def entry(
    dtype: str = '"F32"', shape: str = "[1]", offsets: str = "[0,4]", data: bytes = bytes(4)
) -> Callable[[Path], Iterator[Opens]]:
    return header(f'{{"a":{{"dtype":{dtype},"shape":{shape},"data_offsets":{offsets}}}}}', data)


def two(first: str, second: str, size: int) -> Callable[[Path], Iterator[Opens]]:
    a, b = (f'"dtype":"F32","shape":[1],"data_offsets":{offsets}' for offsets in (first, second))
    return header(f'{{"a":{{{a}}},"b":{{{b}}}}}', bytes(size))


def sparse(folder: Path) -> Iterator[Opens]:
    model_folder(folder)
    size = 100_000_001
    with open(folder / FILE, "wb") as handle:
        handle.write(size.to_bytes(8, "little"))
        handle.truncate(size + 8)
    yield "model", folder


def many() -> bytes:
    return with_header(
        "{"
        + ",".join(f'"t{i}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}' for i in range(300_000))
        + "}"
    )


def end_of_zip() -> bytes:
    return safetensors_bytes(weights()) + b"PK\x05\x06" + bytes(18)


def not_files(folder: Path) -> Iterator[Opens]:
    for name, make in {
        "fifo": lambda path: os.mkfifo(path),
        "zero": lambda path: path.symlink_to("/dev/zero"),
        "folder": lambda path: path.mkdir(),
        "dangling": lambda path: path.symlink_to(path.parent / "nowhere"),
        "loop": lambda path: path.symlink_to(path.name),
    }.items():
        there = model_folder(folder / name)
        (there / FILE).unlink()
        make(there / FILE)
        yield "model", there


def changed(**arrays: np.ndarray | None) -> Callable[[Path], Iterator[Opens]]:
    """The whole model with some tensors other, added, or (None) left out."""

    def build(folder: Path) -> Iterator[Opens]:
        model_folder(folder)
        merged = weights() | {name.replace("__", "."): array for name, array in arrays.items()}
        (folder / FILE).write_bytes(safetensors_bytes({k: v for k, v in merged.items() if v is not None}))
        yield "model", folder

    return build


def larger_vocabulary(folder: Path) -> Iterator[Opens]:
    yield "model", model_folder(folder, vocab_size=160)


def tied_twice(folder: Path) -> Iterator[Opens]:
    yield "model", model_folder(folder, tie_word_embeddings=True)


def truncated_while_open(folder: Path) -> Iterator[Opens]:
    yield "weights_cut_short", model_folder(folder)


def not_finite(folder: Path) -> Iterator[Opens]:
    model_folder(folder)
    arrays = weights()
    arrays["model.norm.weight"][1:3] = np.nan, np.inf
    (folder / FILE).write_bytes(safetensors_bytes(arrays))
    yield "weights_not_finite", folder


BOOL = '{"a":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]}}'


def bools(folder: Path) -> Iterator[Opens]:
    model_folder(folder)
    (folder / FILE).write_bytes(with_header(BOOL, b"\x07\xff"))
    yield "all_weights", folder


CASES = [
    Case(id="ST-01", build=weights_are(b""), refused="0 bytes"),
    Case(id="ST-02", build=weights_are(bytes(7)), refused="7 bytes"),
    Case(id="ST-03", build=weights_are(b"\xff" * 8 + b"{}"), refused="over the limit"),
    Case(id="ST-04", build=sparse, refused="header takes 100,000,001 bytes, over the limit"),
    Case(id="ST-05", build=weights_are((5000).to_bytes(8, "little") + b"{}"), refused="past the end of the file"),
    Case(id="ST-06", build=weights_are(bytes(8)), refused="header is empty"),
    Case(id="ST-07", build=header(b'{"\xff":1}'), refused="not UTF-8"),
    Case(id="ST-08", build=header(b"hello, plain text"), refused="must begin with"),
    Case(id="ST-09", build=header(b"[1,2,3]"), refused="must begin with"),
    Case(id="ST-10", build=header(b"   {" + ONE.encode() + b"}"), refused="must begin with"),
    Case(id="ST-11", build=header('{"__metadata__":' + "[" * 200_000 + "]" * 200_000 + "}"), refused="nested more than"),
    Case(id="ST-12", build=header("{" + ONE + "," + ONE + "}"), refused="'a' is given twice"),
    Case(id="ST-12b", build=header("{" + ONE + "," + ONE.replace("F32", "U8").replace("[0,4]", "[4,5]") + "}", bytes(5)), refused="'a' is given twice"),
    Case(id="ST-13", build=header('{"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}'), refused="'dtype' is given twice"),
    Case(id="ST-14", build=entry(dtype='"F128"'), refused="unknown dtype 'F128'"),
    Case(id="ST-15", build=entry(shape="[-1]"), refused="dimension -1"),
    Case(id="ST-16", build=entry(shape="[1.0]"), refused="dimension 1.0 is not a whole number"),
    Case(id="ST-16b", build=entry(shape="[true]"), refused="dimension True is not a whole number"),
    Case(id="ST-17", build=entry(shape="[8589934592,8589934592]"), refused="takes .* bytes, but data_offsets"),
    Case(id="ST-18", build=entry(shape="[2]"), refused="takes 8 bytes, but data_offsets give it 4"),
    Case(id="ST-19", build=entry(offsets="[4,0]"), refused="its bytes 4 to 0"),
    Case(id="ST-20", build=entry(shape="[100]", offsets="[0,400]"), refused="its bytes 0 to 400 do not lie in"),
    Case(id="ST-21", build=two("[0,4]", "[0,4]", 4), refused="overlap"),
    Case(id="ST-22", build=two("[0,4]", "[8,12]", 12), refused="hole of 4 bytes"),
    Case(id="ST-23", build=entry(data=bytes(64)), refused="60 bytes after the last tensor"),
    Case(id="ST-23b", build=weights_are(end_of_zip), refused="22 bytes after the last tensor"),
    Case(id="ST-24", build=weights_are(many), refused="more than 100,000 tensors"),
    Case(id="ST-25", build=header('{"__metadata__":{"n":1}}', b""), refused="strings to strings"),
    Case(id="ST-26", build=weights_are(lambda: with_header('{"__metadata__":{"n":"' + "x" * 50_000_000 + '"}}')), refused="over the limit"),
    Case(id="ST-27", build=header('{"../../etc/x\\u0000\\n":' + ONE[4:] + "}"), refused="control characters"),
    Case(id="ST-28", build=header('{"' + "n" * 1_000_000 + '":' + ONE[4:] + "}"), refused="1,000,000 characters, over the limit"),
    Case(id="ST-29", build=entry(data=bytes(3)), refused="do not lie in the 3 bytes"),
    Case(id="ST-30", build=entry(shape="[0,4611686018427387904]", offsets="[0,0]", data=b""), refused="dimension 4611686018427387904"),
    Case(id="ST-31", build=entry(dtype='"F4"', shape="[3]", offsets="[0,2]", data=bytes(2)), refused="no whole number of bytes"),
    Case(id="ST-32", build=truncated_while_open, refused="cut short while it was read"),
    Case(id="ST-33", build=not_finite, accepted=r"reported norm\.weight; strict: .*not finite"),
    Case(id="ST-34", build=bools, refused="BOOL but holds 7"),
    Case(id="ST-35", build=not_files, refused="regular file|out of the folder|not there|loop of links|symbolic links"),
    Case(id="ST-36", build=header('{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"stride":[1]}}'), refused="'stride' missing or unknown"),
    Case(id="ST-37", build=entry(shape="[" + ",".join("1" * 5000) + "]"), refused="rank 5,000"),
    Case(id="ST-38", build=larger_vocabulary, refused=r"embed_tokens.weight' has shape \[16, 8\], but the config asks for \[160, 8\]"),
    Case(id="ST-39", build=changed(strange=np.zeros(2, np.float32), model__norm__weight=None), refused=r"missing: model.norm.weight; unexpected: strange"),
    Case(id="ST-40", build=tied_twice, refused="lm_head.weight.*(tied|differ)"),
]  # fmt: skip
