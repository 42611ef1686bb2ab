from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.data.shard import Shards, heldout_documents
from orrery.kit.errors import OrreryError

from .conftest import ByteTokenizer, write_shards

Make = Callable[..., Shards]
DOCUMENTS = [[256, 1, 2, 257], [256, 257], [256, 3, 4, 5, 6, 257]]


@settings(max_examples=40)
@given(
    st.lists(st.lists(st.integers(0, 69_999), min_size=1, max_size=12), min_size=1, max_size=12),
    st.sampled_from([1000, 65_536, 65_537, 70_000]),
    st.integers(1, 30),
)
def test_documents_come_back(documents: list[list[int]], vocab_size: int, shard_tokens: int) -> None:
    import tempfile

    documents = [[token % vocab_size for token in ids] for ids in documents]
    with tempfile.TemporaryDirectory() as folder:
        shards = Shards(
            write_shards(Path(folder), documents, vocab_size=vocab_size, shard_tokens=shard_tokens)
        )
        assert [ids.tolist() for ids in shards] == documents
        assert shards.lengths().tolist() == [len(ids) for ids in documents]
        assert shards[0].dtype == (np.uint16 if vocab_size <= 65_536 else np.uint32)
        sizes = [path.stat().st_size // shards[0].itemsize for path in sorted(Path(folder).glob("*.bin"))]
        assert all(size <= max(shard_tokens, *map(len, documents)) for size in sizes)
        assert sum(sizes) == shards.n_tokens == sum(map(len, documents))


def test_what_a_document_is_known_by(make_shards: Make) -> None:
    shards = make_shards(DOCUMENTS, split="heldout")
    info = shards.info(2)
    assert (info.id, info.path, info.bytes, info.tokens) == ("doc-2", "a.txt", 60, 6)
    assert shards.text(1) == "text 1"
    assert (shards.n_documents, shards.n_tokens, shards.n_bytes, len(shards)) == (3, 12, 120, 3)
    assert [
        (held.id, held.ids.tolist(), held.n_bytes, held.text) for held in heldout_documents(shards.folder)
    ] == [(f"doc-{i}", ids, 10 * len(ids), f"text {i}") for i, ids in enumerate(DOCUMENTS)]
    with pytest.raises(IndexError):
        shards[3]


def test_shards_cannot_be_written_through(make_shards: Make) -> None:
    with pytest.raises(ValueError, match="read-only"):
        make_shards(DOCUMENTS)[0][0] = 9


@pytest.mark.parametrize("name", ["train-00000.bin", "train.index", "train.jsonl"])
def test_a_file_cut_short_changed_or_lost_is_named(make_shards: Make, name: str) -> None:
    folder = make_shards(DOCUMENTS).folder
    path = folder / name
    good = path.read_bytes()
    path.write_bytes(good[:-1])
    with pytest.raises(
        OrreryError, match=rf"{name}' has {len(good) - 1} bytes where {len(good)} were written"
    ):
        Shards(folder, verify=False)
    for bit in range(0, 8 * len(good), 37):
        flipped = bytearray(good)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        with pytest.raises(OrreryError, match=rf"{name}' has changed"):
            Shards(folder)
    path.unlink()
    with pytest.raises(OrreryError, match=f"lost '.*{name}'"):
        Shards(folder)


def test_a_damaged_head_is_refused(make_shards: Make) -> None:
    folder = make_shards(DOCUMENTS).folder
    head = folder / "data.json"
    good = json.loads(head.read_text())
    for bad in (
        "",
        "[]",
        "{}",
        "null",
        json.dumps(good)[:-5],
        json.dumps(good | {"dtype": None}),
        json.dumps(good | {"splits": {}}),
    ):
        head.write_text(bad)
        with pytest.raises(
            OrreryError, match=r"data\.json' (is damaged|is not JSON|must hold)|another version"
        ):
            Shards(folder)
    short = json.loads(json.dumps(good))
    short["splits"]["train"]["documents"] = 2
    head.write_text(json.dumps(short))
    with pytest.raises(OrreryError, match="is damaged"):
        Shards(folder)
    head.write_text(json.dumps(good | {"format": 99}))
    with pytest.raises(OrreryError, match="another version"):
        Shards(folder)


def test_a_wrong_folder_names_the_near_one(make_shards: Make) -> None:
    folder = make_shards(DOCUMENTS, name="prepared").folder
    with pytest.raises(OrreryError, match="Did you mean 'prepared'"):
        Shards(folder.parent / "prepard")


def test_another_tokenizer_is_refused(make_shards: Make) -> None:
    shards = make_shards(DOCUMENTS)
    shards.require(ByteTokenizer(vocab_size=1000))
    with pytest.raises(OrreryError, match="prepared with another tokenizer"):
        shards.require(ByteTokenizer(vocab_size=999))


def test_ids_beyond_the_vocabulary_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(OrreryError, match="'doc-0' has an id beyond"):
        write_shards(tmp_path / "a", [[258]], vocab_size=258)


def test_fingerprints_name_the_tokens(make_shards: Make) -> None:
    first, same, other = (
        make_shards(DOCUMENTS, "a"),
        make_shards(DOCUMENTS, "b"),
        make_shards(DOCUMENTS[:2], "c"),
    )
    assert first.fingerprint != other.fingerprint
    assert first.fingerprint == Shards(first.folder, verify=False).fingerprint
    assert same.fingerprint != first.fingerprint  # the lineage differs: other paths
