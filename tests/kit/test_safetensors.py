"""The header checker and the reader: what is accepted, the library reads to equal bytes; what it should refuse, it names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from orrery.kit.errors import OrreryError
from orrery.kit.safetensors import TensorEntry, check_safetensors, check_safetensors_bytes, open_safetensors

DTYPES = [
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64,
    torch.bool, torch.float8_e4m3fn, torch.float8_e5m2, torch.uint16, torch.uint32, torch.uint64, torch.complex64, torch.float8_e8m0fnu,
]  # fmt: skip
NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=20).filter(
    str.isprintable
)


@st.composite
def tensors(draw: st.DrawFn) -> dict[str, torch.Tensor]:
    made = {}
    for name in draw(st.lists(NAMES, max_size=6, unique=True)):
        shape = draw(st.lists(st.integers(0, 4), max_size=4))
        dtype = draw(st.sampled_from(DTYPES))
        count = int(np.prod(shape)) * torch.empty(0, dtype=dtype).element_size()
        data = draw(st.binary(min_size=count, max_size=count))
        flat = (
            torch.frombuffer(bytearray(data), dtype=torch.uint8)
            if count
            else torch.empty(0, dtype=torch.uint8)
        )
        flat = (flat & 1) if dtype == torch.bool else flat
        made[name] = flat.view(dtype).reshape(shape)
    return made


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(tensors(), st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3))
def test_what_the_library_writes_is_read_to_equal_bytes(
    tmp_path: Path, made: dict[str, torch.Tensor], notes: dict[str, str]
) -> None:
    path = tmp_path / "x.safetensors"
    notes = {k: v for k, v in notes.items() if not any("\ud800" <= c <= "\udfff" for c in k + v)}
    save_file(made, path, metadata=notes or None)
    with open_safetensors(path) as file:
        assert file.tensors.keys() == made.keys() and file.metadata == notes
        for name, tensor in made.items():
            entry = file.tensors[name]
            assert entry.shape == tuple(tensor.shape) and entry.nbytes == tensor.nbytes
            flat = tensor.contiguous().flatten()
            assert file.raw(name).tobytes() == (
                flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""
            )


def write(path: Path, header: Any, data: bytes) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def test_entries_by_hand(tmp_path: Path) -> None:
    header = {
        "b": {"dtype": "U8", "shape": [3], "data_offsets": [8, 11]},
        "a": ENTRY,
        "none": {"dtype": "F64", "shape": [0, 7], "data_offsets": [8, 8]},
    }
    path = write(tmp_path / "x", header, bytes(range(11)))
    base = 8 + len(json.dumps(header))
    found = check_safetensors(path)
    assert list(found) == ["a", "none", "b"]
    assert found["a"] == TensorEntry("F32", (2,), base, base + 8) and found["b"] == TensorEntry(
        "U8", (3,), base + 8, base + 11
    )
    assert check_safetensors_bytes(path.read_bytes(), "x") == found
    with open_safetensors(path) as file:
        assert file.raw("b").tolist() == [8, 9, 10] and file.raw("none").size == 0


def test_sub_byte_numbers_fill_whole_bytes(tmp_path: Path) -> None:
    assert check_safetensors(
        write(tmp_path / "x", {"a": {"dtype": "F4", "shape": [4], "data_offsets": [0, 2]}}, bytes(2))
    )
    six = {"dtype": "F6_E2M3", "shape": [4], "data_offsets": [0, 3]}
    assert check_safetensors(write(tmp_path / "x", {"a": six}, bytes(3)))
    with pytest.raises(OrreryError, match="3 elements of F6_E2M3 are no whole number of bytes"):
        check_safetensors(write(tmp_path / "x", {"a": six | {"shape": [3]}}, bytes(3)))


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ({"dtype": ["F32"]}, "unknown dtype"),
        ({"dtype": None}, "unknown dtype"),
        ({"shape": 2}, "must be a list"),
        ({"shape": [[2]]}, "is not a whole number"),
        ({"shape": [2**49]}, "0 to 2\\^48"),
        ({"shape": ["2"]}, "is not a whole number"),
        ({"data_offsets": [0]}, "two whole numbers"),
        ({"data_offsets": [0, 8.0]}, "two whole numbers"),
        ({"data_offsets": [False, 8]}, "two whole numbers"),
        ({"data_offsets": {"a": 1}}, "two whole numbers"),
        ({"data_offsets": [-1, 7]}, "do not lie in"),
        ({"data_offsets": [1, 9]}, "do not lie in"),
        ({"extra": 1}, "'extra' missing or unknown"),
    ],
)
def test_entries_that_are_none(tmp_path: Path, entry: dict[str, Any], why: str) -> None:
    path = write(tmp_path / "x", {"a": ENTRY | entry}, bytes(8))
    with pytest.raises(OrreryError, match=why) as caught:
        check_safetensors(path)
    assert str(path) in str(caught.value) and "'a'" in str(caught.value)


@pytest.mark.parametrize("entry", [None, 1, [], "x", [1, 2, 3]])
def test_an_entry_must_be_an_object(tmp_path: Path, entry: Any) -> None:
    with pytest.raises(OrreryError, match="must be an object"):
        check_safetensors(write(tmp_path / "x", {"a": entry}, b""))


def test_a_file_under_a_borrowed_name_is_called_what_it_is(tmp_path: Path) -> None:
    for data, what in (
        (b"PK\x03\x04", "zip archive"),
        (b"\x80\x02c", "pickle"),
        (b"GGUF\x03\0\0\0", "GGUF"),
        (b"<!DOCTYPE html>", "web page"),
    ):
        (tmp_path / "x").write_bytes(data + bytes(600))
        with pytest.raises(OrreryError, match=what):
            check_safetensors(tmp_path / "x")


def test_a_file_that_shrinks_while_it_is_open_is_an_error(tmp_path: Path) -> None:
    save_file({"a": torch.arange(100_000.0), "b": torch.ones(10)}, tmp_path / "x")
    with open_safetensors(tmp_path / "x") as file:
        assert np.array_equal(file.raw("a").view(np.float32), np.arange(100_000, dtype=np.float32))
        with open(tmp_path / "x", "r+b") as handle:
            handle.truncate(5000)
        with pytest.raises(OrreryError, match="cut short while it was read: tensor 'a'"):
            file.raw("a")


def test_the_library_agrees_on_order_and_place(tmp_path: Path) -> None:
    save_file({f"t{i}": torch.full((i,), float(i)) for i in range(20)}, tmp_path / "x")
    with open_safetensors(tmp_path / "x") as ours, safe_open(tmp_path / "x", framework="pt") as theirs:
        for name in theirs.keys():  # noqa: SIM118 (not a dict)
            assert ours.raw(name).tobytes() == theirs.get_tensor(name).numpy().tobytes()
