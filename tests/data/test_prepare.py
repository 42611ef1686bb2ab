from __future__ import annotations

import errno
import gzip
import json
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orrery.data import prepare as module
from orrery.data.accounting import PrepareAccount
from orrery.data.clean import CleanConfig
from orrery.data.loader import Loader, LoaderConfig
from orrery.data.prepare import PrepareConfig, Prepared, kept_documents, prepare
from orrery.data.shard import Shards, heldout_documents
from orrery.data.source import FilesSource, Meter, read_documents
from orrery.kit import files
from orrery.kit.artifact import read_receipt, verify
from orrery.kit.config import resolve
from orrery.kit.errors import OrreryError
from orrery.text.config import TokenizerConfig
from orrery.text.train import train_tokenizer

from .conftest import ByteTokenizer

Run = Callable[..., Prepared]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Fifty documents, one twice, one empty, one repetitive, one with Windows newlines and a control character."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    for i in range(50):
        (folder / f"{i:02d}.txt").write_text(f"Document {i}.\n\nIt says é and 漢字, {i * i} times.\n")
    (folder / "copy.md").write_bytes((folder / "07.txt").read_bytes())
    (folder / "empty.txt").write_bytes(b"")
    (folder / "noise.txt").write_bytes(b"ab" * 4000)
    (folder / "windows.txt").write_bytes(b"one\r\ntwo\x07\r\n")
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def prepare_it(path: Path, out: str = "out", tokenizer: Any = None, **options: Any) -> Prepared:
        source = FilesSource(paths=(str(path),), **options.pop("source", {}))
        return prepare(PrepareConfig(source=source, **options), tokenizer or ByteTokenizer(), tmp_path / out)

    return prepare_it


def texts(folder: Path) -> dict[str, str]:
    """The text of every document of both splits, from the ids alone."""
    found = {}
    for split in ("train", "heldout"):
        shards = Shards(folder, split)  # type: ignore[arg-type]
        for i in range(len(shards)):
            ids = shards[i]
            assert ids[0] == shards.start_id and ids[-1] == shards.eos_id
            found[Path(shards.info(i).id).name] = bytes(ids[1:-1].astype(np.uint8)).decode()
            assert shards.info(i).bytes == len(ids) - 2
    return found


def test_every_kept_document_comes_back_and_every_other_is_counted(corpus: Path, run: Run) -> None:
    made = run(corpus)
    found = texts(made.folder)
    expected = {path.name: path.read_text() for path in corpus.glob("??.txt")} | {"windows.txt": "one\ntwo\n"}
    assert found == expected
    stats = json.loads((made.folder / "stats.json").read_text())
    assert stats["documents"] == {
        "read": 54,
        "kept": 51,
        "dropped": {"duplicate": 1, "empty": 1, "repetitive": 1},
    }
    assert stats["bytes"]["cleaned_away"] == 3
    assert stats["bytes"]["dropped"]["repetitive"] == 8000
    assert stats["tokens"] == {"text": stats["bytes"]["kept"], "separators": 102}
    assert sum(stats["splits"]["train"].values()) + sum(stats["splits"]["heldout"].values()) == (
        51 + 2 * stats["bytes"]["kept"] + 102
    )


def test_held_out_documents_keep_their_text_and_are_not_trained_on(corpus: Path, run: Run) -> None:
    made = run(corpus, heldout=0.2)
    held = list(heldout_documents(made.folder))
    assert 3 <= len(held) <= 20
    for document in held:
        assert document.text == bytes(document.ids[1:-1].astype(np.uint8)).decode()
        assert document.n_bytes == len(document.text.encode())
    train = Shards(made.folder)
    assert not {document.id for document in held} & {train.info(i).id for i in range(len(train))}
    with pytest.raises(OrreryError, match="keeps ids only"):
        train.text(0)


def test_a_tokenizer_can_be_trained_on_the_training_side_alone(corpus: Path, run: Run) -> None:
    config = PrepareConfig(source=FilesSource(paths=(str(corpus),)), heldout=0.2)
    train = Shards(run(corpus, heldout=0.2).folder)
    expected = [bytes(ids[1:-1].astype(np.uint8)).decode() for ids in train]
    kept = kept_documents(config, Meter(), PrepareAccount())
    assert [item.text for side, item in kept if side == "train"] == expected


def test_the_same_settings_give_the_same_files(corpus: Path, run: Run) -> None:
    one, two = run(corpus, "one"), run(corpus, "two")
    names = sorted(path.name for path in one.folder.iterdir())
    assert names == sorted(path.name for path in two.folder.iterdir())
    assert all(
        (one.folder / name).read_bytes() == (two.folder / name).read_bytes()
        for name in names
        if name != "orrery.json"
    )
    assert read_receipt(one.folder).id == read_receipt(two.folder).id
    other = run(corpus, "three", seed=1)
    assert Shards(other.folder).fingerprint != Shards(one.folder).fingerprint


def test_batches_of_any_size_give_the_same_files(
    corpus: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(corpus, "whole")
    monkeypatch.setattr(module, "BATCH_CHARS", 100)
    small = run(corpus, "small", shard_tokens=500)
    assert len(list(small.folder.glob("train-*.bin"))) > 3
    assert [ids.tolist() for ids in Shards(whole.folder)] == [ids.tolist() for ids in Shards(small.folder)]


def test_the_receipt_covers_the_files(corpus: Path, run: Run) -> None:
    made = run(corpus)
    receipt = read_receipt(made.folder)
    assert (receipt.kind, receipt.operation) == ("data", "prepare")
    assert receipt.effects["documents"]["kept"] == 51
    assert verify(made.folder) == []


def test_one_book_is_split_too(tmp_path: Path, run: Run, shared_data: Path) -> None:
    book = shared_data / "pretrain" / "tinyshakespeare.txt.gz"
    made = run(book)
    splits = made.account.splits
    assert splits["train"]["bytes"] + splits["heldout"]["bytes"] == len(gzip.decompress(book.read_bytes()))
    assert 40 <= made.account.kept_documents <= 60
    assert 0.02 < splits["heldout"]["bytes"] / made.account.kept_bytes < 0.12
    for document in heldout_documents(made.folder):
        assert document.text.endswith("\n\n")  # parts end where a speech ends
        assert document.id.startswith(f"{book}#")


def test_parts_of_a_book_join_to_the_book(tmp_path: Path, run: Run) -> None:
    book = "".join(f"Paragraph {i} of the book.\n\n" for i in range(9000))
    (tmp_path / "book.txt").write_text(book)
    parts = texts(run(tmp_path / "book.txt").folder)
    in_order = sorted(parts, key=lambda name: int(name.split("#")[1]))
    assert "".join(parts[name] for name in in_order) == book


def test_tokenizers_without_bos_or_eos(corpus: Path, run: Run) -> None:
    assert Shards(run(corpus, "a", ByteTokenizer(bos=False)).folder).start_id == 257
    none = Shards(run(corpus, "b", start="none").folder)
    assert none.start_id is None and none[0][0] < 256
    with pytest.raises(OrreryError, match="no BOS token"):
        run(corpus, "c", ByteTokenizer(bos=False), start="bos")
    with pytest.raises(OrreryError, match="no end-of-text token"):
        run(corpus, "d", ByteTokenizer(eos=False))


def test_large_vocabularies_take_four_bytes_a_token(corpus: Path, run: Run) -> None:
    assert Shards(run(corpus, tokenizer=ByteTokenizer(vocab_size=70_000)).folder)[0].dtype == np.uint32


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no text is left to learn from: 1 documents read, 0 kept \\(1 empty\\)"),
        (b"too short", "too little to hold any of it out"),
        (b"\x7fELF\x00", "binary file"),
    ],
)
def test_nothing_is_left_behind_when_there_is_nothing_to_learn(
    tmp_path: Path, run: Run, content: bytes, words: str
) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(OrreryError, match=words):
        run(tmp_path / "a.txt")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt"]


def test_a_short_text_can_be_prepared_without_holding_any_out(tmp_path: Path, run: Run) -> None:
    (tmp_path / "a.txt").write_text("too short")
    made = run(tmp_path / "a.txt", heldout=0)
    assert len(Shards(made.folder)) == 1 and len(Shards(made.folder, "heldout")) == 0
    assert list(heldout_documents(made.folder)) == []
    with pytest.raises(OrreryError, match="nothing to learn from"):
        Loader(Shards(made.folder, "heldout"), LoaderConfig())


def test_files_left_out_are_named_in_the_account(corpus: Path, run: Run) -> None:
    (corpus / "bad.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(OrreryError, match=r"bad\.txt"):
        run(corpus)
    made = run(corpus, source={"unreadable": "skip"})
    assert list(made.account.skipped_files) == [str(corpus / "bad.txt")]
    assert made.account.kept_documents == 51


def test_a_failing_tokenizer_leaves_nothing(corpus: Path, run: Run, tmp_path: Path) -> None:
    class Broken(ByteTokenizer):
        def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(corpus, tokenizer=Broken())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus"]


def test_an_account_that_does_not_add_up_stops_the_run(
    corpus: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = module._separated
    monkeypatch.setattr(module, "_separated", lambda ids, *rest: np.append(real(ids, *rest), 257))
    monkeypatch.setattr(module.PrepareAccount, "tokenised", lambda self, text, separators: None)
    with pytest.raises(AssertionError, match="account of tokens written does not add up"):
        run(corpus)


def test_progress_is_told_in_bytes(corpus: Path, tmp_path: Path) -> None:
    told: list[tuple[float, float | None, dict[str, Any]]] = []

    class Listener:
        def update(self, done: float, total: float | None, **fields: Any) -> None:
            told.append((done, total, fields))

    source = FilesSource(paths=(str(corpus),))
    prepare(PrepareConfig(source=source), ByteTokenizer(), tmp_path / "out", progress=Listener())
    size = sum(path.stat().st_size for path in corpus.iterdir())
    assert told[-1] == (size, size, {"documents": 51, "unit": "bytes"})


def test_settings_in_recipes() -> None:
    recipe = {"source": {"kind": "files", "paths": ["a"]}, "clean": {"min_chars": 9}, "heldout": 0.1}
    assert resolve(PrepareConfig, recipe) == PrepareConfig(
        source=FilesSource(paths=("a",)), clean=CleanConfig(min_chars=9), heldout=0.1
    )
    with pytest.raises(OrreryError, match="Did you mean 'heldout'"):
        resolve(PrepareConfig, {"held_out": 0.1})


def test_memory_does_not_grow_with_the_input(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH_CHARS", 1 << 17)
    peaks = []
    for megabytes in (2, 8):
        book, line = tmp_path / f"{megabytes}.txt.gz", "Line {} of a book that does not end soon.\n"
        with gzip.open(book, "wt", compresslevel=1) as handle:
            handle.writelines(line.format(i) for i in range(megabytes * 25_000))
        tracemalloc.start()
        made = run(book, out=f"out-{megabytes}")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert made.account.read_bytes > megabytes * 1_000_000
    assert peaks[1] < 1.2 * peaks[0] < 6_000_000


def test_a_real_tokenizer_end_to_end(tmp_path: Path, shared_data: Path, run: Run) -> None:
    """Held-out ids decode to the held-out text, ids are those of `encode`, and another tokenizer is refused."""
    books = [
        str(shared_data / "pretrain" / name) for name in ("tech_rust_book.jsonl.gz", "fr_entre_nous.txt.gz")
    ]
    source = FilesSource(paths=tuple(books))
    tokenizers = [
        train_tokenizer((d.text for d in read_documents(source)), TokenizerConfig(vocab_size=size))
        for size in (600, 700)
    ]
    made = prepare(PrepareConfig(source=source), tokenizers[0], tmp_path / "out")
    train = Shards(made.folder)
    train.require(tokenizers[0])
    with pytest.raises(OrreryError, match="another tokenizer"):
        train.require(tokenizers[1])
    assert train.start_id == tokenizers[0].bos_id and train.eos_id == tokenizers[0].eos_id
    held = list(heldout_documents(made.folder))
    for document in held:
        assert tokenizers[0].decode(document.ids[1:-1].tolist()) == document.text
        assert tokenizers[0].encode(document.text, bos=True, eos=True) == document.ids.tolist()
    assert made.account.read_documents == 78 and held
    batch = Loader(train, LoaderConfig(context=64, rows=4)).batch(0)
    batch.check_vocabulary(tokenizers[0].vocab_size)


def test_a_crash_at_any_write_leaves_a_whole_folder_or_none(
    corpus: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stops(files.FileOps):
        """Dies at the k-th durable step, as a killed process would."""

        def __init__(self, k: int) -> None:
            self.left = k

        def fsync(self, path: Path) -> None:
            self._step()
            super().fsync(path)

        def rename(self, source: Path, target: Path) -> None:
            self._step()
            super().rename(source, target)

        def remove(self, path: Path) -> None:
            return None  # the dead clean nothing up

        def _step(self) -> None:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt

    states = []
    for k in range(40):
        monkeypatch.setattr(files, "ops", Stops(k))
        out = f"out-{k}"
        try:
            run(corpus, out)
        except KeyboardInterrupt:
            states.append((corpus.parent / out).exists())
        if (corpus.parent / out).exists():
            assert verify(corpus.parent / out) == [] and len(Shards(corpus.parent / out)) > 40
    assert states.count(False) >= 8  # it did die before the folder was in place, many times over


def test_a_full_disk_is_said_in_one_sentence(corpus: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.ShardWriter, "add", full)
    with pytest.raises(OrreryError, match=r"cannot write .*No space left on device"):
        run(corpus)
    assert [path.name for path in corpus.parent.iterdir()] == ["corpus"]
