"""PT and NP: pickles, torch archives and numpy files. None is a format orrery reads, so each is refused at the door.

Every payload is tried in each place where a person could put it: given as the model, as the weights of a folder, under the
name of safetensors, beside a checkpoint. A payload that ran would leave a file named canary, or be seen by the audit hook.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from tests.hostile.case import Case, Opens
from tests.hostile.jail import ROOT
from tests.hostile.of_archives import overlapping
from tests.hostile.seeds import checkpoint_folder, model_folder, safetensors_bytes, weights

RUN = "touch canary"
REFUSED = (
    "pickled weights|holds a (pickle|zip|tar|7z)|archive|not safetensors|must begin with|past the end|should hold|numpy|over the "
    "limit|length of the header|not a format orrery reads"
)


def call(module: str, name: str, *arguments: str) -> bytes:
    """A pickle that calls module.name(*arguments), by GLOBAL and REDUCE."""
    put = b"".join(b"X" + struct.pack("<I", len(a.encode())) + a.encode() for a in arguments)
    return b"\x80\x02c" + module.encode() + b"\n" + name.encode() + b"\n(" + put + b"tR."


def stack_global() -> bytes:
    parts = b"".join(b"\x8c" + bytes([len(s)]) + s.encode() + b"\x94" for s in ("os", "system"))
    return b"\x80\x04" + parts + b"h\x00h\x01\x93" + b"\x8c" + bytes([len(RUN)]) + RUN.encode() + b"\x85R."


def torch_zip(data: bytes, **more: bytes) -> bytes:
    """A torch archive around a pickle."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/version", b"3\n")
        for name, content in more.items():
            archive.writestr(f"archive/{name.replace('__', '/')}", content)
    return out.getvalue()


def rebuilt(sizes: str) -> bytes:
    """A tensor over a storage of four numbers with these (offset, size, stride)."""
    return (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00"
        b"\x00\x00cpuK\x04tQ" + sizes.encode("latin1") + b"\x89NtR."
    )


def misused(opcodes: bytes) -> bytes:
    return b"\x80\x02" + opcodes + b"."


def tar_file() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            member = tarfile.TarInfo(name)
            member.size = 3
            archive.addfile(member, io.BytesIO(b"abc"))
    return out.getvalue()


def broken_zip() -> list[bytes]:
    whole = torch_zip(call("os", "system", RUN))
    flagged = whole.replace(b"PK\x01\x02\x14\x03\x14\x00\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01\x00")
    wrong = bytearray(whole)
    wrong[14] ^= 0xFF
    renamed = whole.replace(b"archive/version", b"archive/versioN", 1)
    return [flagged, bytes(wrong), renamed]


def everywhere(
    *payloads: bytes | Callable[[], bytes], suffix: str = ".pt"
) -> Callable[[Path], Iterator[Opens]]:
    """Each payload as a model file, as the only weights of a folder, and under the name of safetensors."""

    def build(folder: Path) -> Iterator[Opens]:
        for i, payload in enumerate(payloads):
            data = payload if isinstance(payload, bytes) else payload()
            (folder / f"m{i}{suffix}").write_bytes(data)
            yield "model", folder / f"m{i}{suffix}"
            only = model_folder(folder / f"only{i}")
            (only / "model.safetensors").unlink()
            (only / "pytorch_model.bin").write_bytes(data)
            yield "model", only
            named = model_folder(folder / f"named{i}")
            (named / "model.safetensors").write_bytes(data)
            yield "model", named

    return build


def in_resume_folder(folder: Path) -> Iterator[Opens]:
    for name in ("rng_state.pth", "optimizer.pt", "scheduler.pt", "training_args.bin"):
        run = checkpoint_folder(folder / name.replace(".", "_"))
        (run / "step-00000003" / name).write_bytes(call("os", "system", RUN))
        yield "one_checkpoint", run / "step-00000003"


def exchanged(folder: Path) -> Iterator[Opens]:
    there = model_folder(folder / "pickle")
    (there / "model.safetensors").write_bytes(call("os", "system", RUN))
    yield "model", there
    there = model_folder(folder / "safetensors")
    (there / "model.safetensors").rename(there / "model.bin")
    yield "model", there
    (folder / "model.bin").write_bytes(safetensors_bytes(weights()))
    yield "model", folder / "model.bin"


def no_way_back(folder: Path) -> Iterator[Opens]:
    """The package holds no reader of pickles at all, and no way to run what a file says."""
    found = []
    pattern = r"weights_only\s*=\s*False|(?<!safetensors\.)torch\.load\(|\bimport (pickle|dill|joblib|shelve|marshal)\b|pickle\.loads?\(|allow_pickle\s*=\s*True|trust_remote_code\s*="
    for path in sorted((ROOT / "orrery").rglob("*.py")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if re.search(pattern, line.split("#")[0]):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    assert not found, found
    yield from everywhere(call("unknown.module", "thing", "x"))(folder)


GLOBALS = [
    ("functools", "partial"), ("operator", "methodcaller"), ("pkgutil", "resolve_name"), ("pydoc", "locate"),
    ("logging", "FileHandler"), ("imaplib", "IMAP4_stream"), ("uuid", "_get_command_stdout"), ("timeit", "timeit"),
    ("torch.utils.collect_env", "run"), ("idlelib.pyshell", "ModifiedInterpreter.runcommand"), ("idlelib.run", "Executive.runcode"),
]  # fmt: skip


def npy(
    descr: str = "'<f4'",
    shape: str = "(4,)",
    data: bytes = bytes(16),
    length: int | None = None,
    version: int = 1,
) -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    size = len(header) if length is None else length
    return (
        b"\x93NUMPY" + bytes([version, 0]) + size.to_bytes(2 if version == 1 else 4, "little") + header + data
    )


def large_npz() -> bytes:
    """A gigabyte of zeros, packed."""
    out = io.BytesIO()
    with (
        zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a.npy", "w", force_zip64=True) as member,
    ):
        member.write(npy(shape=f"({1 << 28},)", data=b""))
        for _ in range(64):
            member.write(bytes(16 << 20))
    return out.getvalue()


def objects() -> bytes:
    out = io.BytesIO()
    np.save(out, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return out.getvalue()


def arrays(*data: bytes | Callable[[], bytes], suffix: str = ".npy") -> Callable[[Path], Iterator[Opens]]:
    def build(folder: Path) -> Iterator[Opens]:
        yield from everywhere(*data, suffix=suffix)(folder)
        for i in range(len(data)):
            yield "source", folder / f"m{i}{suffix}"

    return build


def duplicates() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in ("a.npy", "../../x.npy"):
            archive.writestr(name, npy())
        archive.filelist.append(archive.filelist[0])
    return out.getvalue()


def deep_tuples() -> bytes:
    return b"\x80\x02" + b")" + b"\x85" * 100_000 + b"."


def check(data: bytes) -> bytes:
    """The payloads are pickles: their opcodes can be listed."""
    list(pickletools.genops(data))
    return data


OBJECT = npy(descr="[('a', '<f4'), ('b', '|O')]", data=pickle.dumps([1]))
CASES = [
    Case(id="PT-01", build=everywhere(check(call("os", "system", RUN)), torch_zip(call("os", "system", RUN))), refused=REFUSED),
    Case(id="PT-02", build=everywhere(*(check(call("builtins", name, "open('canary','w')")) for name in ("eval", "exec", "getattr", "__import__"))), refused=REFUSED),
    Case(id="PT-03", build=everywhere(check(stack_global())), refused=REFUSED),
    Case(id="PT-04", build=everywhere(check(b"cos\nsystem\n(S'touch canary'\ntR.")), refused=REFUSED),
    Case(id="PT-05", build=everywhere(tar_file, b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03."), refused=REFUSED),
    Case(id="PT-06", build=everywhere(torch_zip(b"\x80\x02N.", code__m=b"def f(): pass", constants_pkl=b"\x80\x02).")), refused=REFUSED),
    Case(id="PT-07", build=no_way_back, refused=REFUSED),
    Case(id="PT-08", build=everywhere(*broken_zip()), refused=REFUSED),
    Case(id="PT-09", build=everywhere(torch_zip(rebuilt("K\x00K\x64\x85K\x01\x85")), torch_zip(rebuilt("K\x63K\x04\x85K\x01\x85"))), refused=REFUSED),
    Case(id="PT-10", build=everywhere(misused(b"K\x01K\x02K\x03s"), misused(b"](K\x02K\x03u")), refused=REFUSED),
    Case(id="PT-11", build=everywhere(torch_zip(call("torch", "sparse_coo_tensor", "10", "3"))), refused=REFUSED),
    Case(id="PT-12", build=everywhere(b"\x80\x02\x8b\xff\xff\xff\x7f.", b"\x80\x04\x8d" + struct.pack("<Q", 1 << 31) + b"."), refused=REFUSED),
    Case(id="PT-13", build=everywhere(deep_tuples), refused=REFUSED),
    Case(id="PT-14", build=exchanged, refused=REFUSED),
    Case(id="PT-15", build=in_resume_folder, refused="should hold .* but holds"),
    Case(id="PT-16", build=everywhere(check(call("numpy.core.multiarray", "_reconstruct", "x"))), refused=REFUSED),
    Case(id="PT-17", build=everywhere(misused(b"ccollections\nOrderedDict\n)R}X\x09\x00\x00\x00__class__cos\nsystem\nsb")), refused=REFUSED),
    Case(id="PT-18", build=everywhere(*(check(call(module, name, RUN)) for module, name in GLOBALS)), refused=REFUSED),
    Case(id="PT-19", build=everywhere(call("os", "system", RUN)[:-1] + b"\x8b"), refused=REFUSED),
    Case(id="PT-20", build=everywhere(torch_zip(b"7z\xbc\xaf\x27\x1c" + bytes(40)), torch_zip(torch_zip(call("os", "system", RUN))), broken_zip()[0]), refused=REFUSED),
    Case(id="NP-01", build=arrays(objects), refused=REFUSED),
    Case(id="NP-02", build=arrays(large_npz, suffix=".npz"), refused=REFUSED, slow=True),
    Case(id="NP-03", build=arrays(npy(shape="(__import__('os').system('touch canary'),)")), refused=REFUSED),
    Case(id="NP-04", build=arrays(npy(length=2**32 - 1, version=2)), refused=REFUSED),
    Case(id="NP-05", build=arrays(npy(shape=f"({2**62},)")), refused=REFUSED),
    Case(id="NP-06", build=arrays(npy(shape="(-4,)")), refused=REFUSED),
    Case(id="NP-08", build=arrays(duplicates, suffix=".npz"), refused=REFUSED),
    Case(id="NP-10", build=arrays(npy(shape="(400,)")), refused=REFUSED),
    Case(id="NP-11", build=arrays(overlapping, suffix=".npz"), refused=REFUSED),
    Case(id="NP-12", build=arrays(npy(shape=f"({1 << 31},)")), refused=REFUSED),
    Case(id="NP-13", build=arrays(OBJECT), refused=REFUSED),
]  # fmt: skip
