"""AR: indexes of shards, adapters, archives, checkpoints."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.hostile.case import Case, Opens
from tests.hostile.seeds import model_folder, safetensors_bytes, sharded_folder, weights

Build = Callable[[Path], Iterator[Opens]]
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
INDEX = "model.safetensors.index.json"


def index(change: Callable[[dict[str, Any]], Any]) -> Build:
    """A sharded model whose index is changed."""

    def build(folder: Path) -> Iterator[Opens]:
        sharded_folder(folder / "model")
        path = folder / "model" / INDEX
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))
        yield "model", folder / "model"

    return build


def names(*shards: str) -> Build:
    """A sharded model whose index names these in the place of its first shard, one each; all exist where they point."""

    def build(folder: Path) -> Iterator[Opens]:
        for i, shard in enumerate(shards):
            there = sharded_folder(folder / "deep" / str(i))
            (folder / "x.safetensors").write_bytes((there / FIRST).read_bytes())
            path = there / INDEX
            path.write_text(path.read_text().replace(FIRST, json.dumps(shard)[1:-1]))
            yield "model", there

    return build


def linked_out(folder: Path) -> Iterator[Opens]:
    there = sharded_folder(folder / "sharded")
    (there / FIRST).rename(folder / "elsewhere.safetensors")
    (there / FIRST).symlink_to("../elsewhere.safetensors")
    yield "model", there
    there = model_folder(folder / "single")
    (there / "model.safetensors").rename(folder / "single.safetensors")
    (there / "model.safetensors").symlink_to(folder / "single.safetensors")
    yield "model", there
    for name in ("config.json", "tokenizer.json"):
        there = model_folder(folder / f"linked {name[:6]}")
        (there / name).rename(folder / name)
        (there / name).symlink_to(folder / name)
        yield "model", there


def hub_cache(folder: Path) -> Iterator[Opens]:
    """What a download leaves: links into the blobs of the same repository."""
    snapshot, blobs = folder / "models--a--b" / "snapshots" / "0123abcd", folder / "models--a--b" / "blobs"
    model_folder(snapshot)
    blobs.mkdir()
    for item in list(snapshot.iterdir()):
        item.rename(blobs / item.name)
        item.symlink_to(f"../../blobs/{item.name}")
    yield "model", snapshot


def without_shard(folder: Path) -> Iterator[Opens]:
    sharded_folder(folder)
    (folder / SECOND).unlink()
    yield "model", folder


def disagreeing(folder: Path) -> Iterator[Opens]:
    arrays = weights()
    first = list(arrays)[:10]
    there = sharded_folder(folder / "absent")
    (there / FIRST).write_bytes(safetensors_bytes({name: arrays[name] for name in first[1:]}))
    yield "model", there
    there = sharded_folder(folder / "twice")
    (there / SECOND).write_bytes(safetensors_bytes({n: arrays[n] for n in [first[0], *list(arrays)[10:]]}))
    yield "model", there
    there = sharded_folder(folder / "unnamed")
    content = json.loads((there / INDEX).read_text())
    del content["weight_map"][first[0]]
    (there / INDEX).write_text(json.dumps(content))
    yield "model", there


def hundred_thousand(content: dict[str, Any]) -> None:
    content["weight_map"] = {f"t{i}": f"model-{i:06d}.safetensors" for i in range(100_000)}


def adapter(config: dict[str, Any]) -> Build:
    def build(folder: Path) -> Iterator[Opens]:
        (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"} | config))
        (folder / "adapter_model.safetensors").write_bytes(safetensors_bytes(weights()))
        yield "model", folder

    return build


def tar(*members: tuple[str, bytes, str]) -> Build:
    """A tar of (name, type, link target), given as a model, as a tokenizer and as text."""

    def build(folder: Path) -> Iterator[Opens]:
        for i, (name, kind, target) in enumerate(members):
            path = folder / f"m{i}.tar"
            with tarfile.open(path, "w") as archive:
                member = tarfile.TarInfo(name.replace("\0", "_"))
                member.type, member.linkname, member.mode = kind, target, 0o4755
                if kind == tarfile.REGTYPE:
                    member.size = 3
                archive.addfile(member, io.BytesIO(b"abc") if kind == tarfile.REGTYPE else None)
                if kind == tarfile.SYMTYPE:
                    through = tarfile.TarInfo(f"{name}/written")
                    through.size = 3
                    archive.addfile(through, io.BytesIO(b"abc"))
            path.write_bytes(path.read_bytes().replace(b"_nul", b"\0nul"))
            yield from as_anything(path)

    return build


def as_anything(path: Path) -> Iterator[Opens]:
    """Given as a model, a tokenizer, text, and under the name of weights."""
    yield "model", path
    yield "tokenizer", path
    yield "source", path
    there = model_folder(path.parent / f"in {path.name}")
    shutil.copy(path, there / "model.safetensors")
    yield "model", there


def zipped(levels: int, size: int) -> bytes:
    data = bytes(size)
    for level in range(levels):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for i in range(1 if level == 0 else 10):
                archive.writestr(f"{level}-{i}", data)
        data = out.getvalue()
    return data


def overlapping() -> bytes:
    """Two entries of the directory that name the same bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(1 << 20))
        second = zipfile.ZipInfo("b")
        second.header_offset = archive.filelist[0].header_offset
        second.CRC, second.file_size = archive.filelist[0].CRC, 1 << 20
        second.compress_size, second.compress_type = archive.filelist[0].compress_size, zipfile.ZIP_DEFLATED
        archive.filelist.append(second)
    return out.getvalue()


def archives(**made: Callable[[], bytes]) -> Build:
    def build(folder: Path) -> Iterator[Opens]:
        for name, data in made.items():
            path = folder / f"{name}.zip"
            path.write_bytes(data())
            yield from as_anything(path)

    return build


def million_members() -> bytes:
    """A directory of a million empty members without the members: nobody looks further than the first bytes."""
    local = b"PK\x03\x04" + bytes(26)
    entry = b"PK\x01\x02" + bytes(42)
    return (
        local
        + entry * 1_000_000
        + b"PK\x05\x06"
        + bytes(4)
        + b"\xff" * 4
        + (46_000_000).to_bytes(4, "little")
        + bytes(6)
    )


def colliding() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in ("Config.json", "config.json", "CONFIG.JSON"):
            archive.writestr(name, b"{}")
    return out.getvalue()


def looping(folder: Path) -> Iterator[Opens]:
    (folder / "loop").symlink_to("loop")
    for opener in ("model", "config", "tokenizer", "source", "shards", "one_checkpoint"):
        yield opener, folder / "loop"
    there = model_folder(folder / "model")
    (there / "config.json").unlink()
    (there / "config.json").symlink_to("config.json")
    yield "model", there


CASES = [
    Case(id="AR-01", build=names("../../x.safetensors", "..\\..\\x.safetensors", "sub/x.safetensors", "..", "", ".x.safetensors"), refused="plain name"),
    Case(id="AR-02", build=names("/etc/passwd", "C:\\x.safetensors"), refused="plain name"),
    Case(id="AR-03", build=linked_out, refused="link out of the folder"),
    Case(id="AR-03 hub cache", build=hub_cache, accepted="parameters"),
    Case(id="AR-04", build=without_shard, refused=f"lacks {SECOND}"),
    Case(id="AR-05", build=disagreeing, refused="no shard has it|is in both|does not name"),
    Case(id="AR-06", build=index(hundred_thousand), refused="more than 10,000 files"),
    Case(id="AR-07", build=names("x.bin", "x.pt", "x"), refused="pickled weights|only safetensors"),
    Case(id="AR-08", build=index(lambda content: content["metadata"].update(total_size=10 * content["metadata"]["total_size"])), refused="total size of"),
    Case(id="AR-09", build=adapter({"base_model_name_or_path": "../../"}), refused="holds an adapter"),
    Case(id="AR-10", build=adapter({"r": 10**9, "target_modules": "(a+)+$"}), refused="holds an adapter"),
    Case(id="AR-11", build=tar(("../x", tarfile.REGTYPE, ""), ("/abs/x", tarfile.REGTYPE, ""), ("C:\\x", tarfile.REGTYPE, ""), ("a_nul", tarfile.REGTYPE, "")), refused="archive|unpack|not JSON|cannot read|no vocabulary"),
    Case(id="AR-12", build=tar(("out", tarfile.SYMTYPE, "/tmp"), ("hard", tarfile.LNKTYPE, "/etc/passwd")), refused="archive|unpack|not JSON|cannot read|no vocabulary"),
    Case(id="AR-13", build=tar(("node", tarfile.CHRTYPE, ""), ("pipe", tarfile.FIFOTYPE, ""), ("setuid", tarfile.REGTYPE, "")), refused="archive|unpack|not JSON|cannot read|no vocabulary"),
    Case(id="AR-14", build=archives(nested=lambda: zipped(5, 1 << 20), overlapping=overlapping), refused="archive|unpack|not JSON|no vocabulary"),
    Case(id="AR-15", build=archives(members=million_members, colliding=colliding), refused="archive|unpack|not JSON|over the limit|no vocabulary"),
    Case(id="AR-21", build=looping, refused="no model|no recipe|no file|loop|symbolic links|not there|no prepared data|cannot|not a folder"),
]  # fmt: skip
