"""Regular files only, inside their folder only, for what they are."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

from orrery.kit.errors import OrreryError
from orrery.kit.untrusted import (
    describe,
    inside,
    open_regular,
    plain_name,
    read_regular,
    refuse_foreign,
    stat_regular,
)


def test_a_regular_file_is_opened_and_others_are_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    with open_regular(tmp_path / "file") as handle:
        assert handle.read() == b"abc"
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nowhere")
    for name, why in (
        ("fifo", "is a pipe"), ("zero", "is a pipe, socket or device"), (".", "is a folder"), ("loop", "cannot read"), ("dangling", "a link to a file"),
        ("fil", "Did you mean 'file'"), ("file/x", "no file at|cannot read"), ("a\0b", "cannot read"),
    ):  # fmt: skip
        with pytest.raises(OrreryError, match=why), open_regular(tmp_path / name):
            pass
        with pytest.raises(OrreryError, match=why):
            stat_regular(tmp_path / name)


def test_reading_stops_at_the_limit(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abcd")
    assert read_regular(tmp_path / "file", max_bytes=4) == b"abcd"
    with pytest.raises(OrreryError, match="has 4 bytes, over the limit of 3"):
        read_regular(tmp_path / "file", max_bytes=3)
    with pytest.raises(OrreryError, match="grows while it is read"):
        read_regular("/proc/self/status", max_bytes=10)  # says it has 0 bytes


@pytest.mark.parametrize("name", ["model.safetensors", "model-00001-of-00002.safetensors", "a b", "ä"])
def test_plain_names(name: str) -> None:
    assert plain_name(name, "x") == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "a/b",
        "/x",
        "\\x",
        "..\\x",
        "C:x",
        ".hidden",
        "a\0",
        "a\n",
        "x" * 256,
        "a*",
        "\u202egpj.x",
        7,
        None,
        ["x"],
    ],
)
def test_names_that_are_not_plain(name: object) -> None:
    with pytest.raises(OrreryError, match=r"index: .* is not the plain name"):
        plain_name(name, "index")


def test_links_may_not_lead_out(tmp_path: Path) -> None:
    folder, other = tmp_path / "model", tmp_path / "model-other"
    folder.mkdir()
    other.mkdir()
    (other / "file").write_text("x")
    (folder / "own").write_text("x")
    (folder / "to own").symlink_to("own")
    (folder / "out").symlink_to("../model-other/file")
    (folder / "round").symlink_to("../model/own")
    (folder / "twice").symlink_to("out")
    (folder / "loop").symlink_to("loop")
    for name in ("own", "to own", "round", "absent"):
        assert inside(folder, name) == folder / name
    for name, why in (
        ("out", "out of the folder"),
        ("twice", "out of the folder"),
        ("loop", "loop|symbolic links"),
    ):
        with pytest.raises(OrreryError, match=why):
            inside(folder, name)
    (tmp_path / "linked").symlink_to(folder)  # a folder may be reached by a link
    assert inside(tmp_path / "linked", "to own") == tmp_path / "linked" / "to own"


def test_a_snapshot_of_the_hub_may_link_to_its_blobs_and_no_further(tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "models--a" / "snapshots" / "0f", tmp_path / "models--a" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    (blobs / "1").write_text("x")
    (tmp_path / "secret").write_text("x")
    (blobs / "2").symlink_to(tmp_path / "secret")
    for name in ("1", "2"):
        (snapshot / name).symlink_to(f"../../blobs/{name}")
    assert inside(snapshot, "1").read_text() == "x"
    with pytest.raises(OrreryError, match="out of the folder"):
        inside(snapshot, "2")


def test_what_a_file_is(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(__file__)
    assert describe((tmp_path / "a.tar").read_bytes()[:512]) == "a tar archive"
    assert describe(b"\x80\x04\x95") == "a pickle, which can run code"
    assert (
        describe(b'{"a": 1}') is None and describe(b"") is None and describe(b"\x80\x00\0\0\0\0\0\0{") is None
    )


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("a.pt", b"PK\x03\x04", r"holds a zip archive .*\): pickled weights can run code"),
        ("a.bin", b"\0" * 600, "pickled weights can run code"),
        ("a.npz", b"PK\x03\x04", "numpy files are not a format"),
        ("a.tar.gz", b"\x1f\x8b", "archives are not opened"),
        ("a.safetensors", b"\x80\x02c", "holds a pickle"),
        ("a.json", b"PAR1", "holds a parquet file"),
        ("a.dat", b"GGUF", "give it the suffix .gguf"),
        ("a.gguf", b"PK\x03\x04", "holds a zip archive"),
    ],
)
def test_foreign_files_are_refused(tmp_path: Path, name: str, data: bytes, why: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(OrreryError, match=why):
        refuse_foreign(tmp_path / name)


def test_our_own_are_not(tmp_path: Path) -> None:
    refuse_foreign(tmp_path)
    for name, data in (
        ("a.gguf", b"GGUF\x03"),
        ("a.safetensors", b"\x02\0\0\0\0\0\0\0{}"),
        ("config.json", b"{}"),
    ):
        (tmp_path / name).write_bytes(data)
        refuse_foreign(tmp_path / name)
