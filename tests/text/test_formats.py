"""Published vocabularies give the ids their own projects give."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orrery.kit.errors import OrreryError
from orrery.text import Tokenizer
from orrery.text.formats import bert_vocab, byte_level_spec, gpt2_files, tiktoken_file, wordpiece_spec
from orrery.text.sentencepiece import ScoredPiece, sentencepiece_spec

from .conftest import gguf_metadata


def cases(shared_data: Path, name: str) -> list[dict[str, Any]]:
    rows = map(
        json.loads, (shared_data / "tokenizers" / "cases.jsonl").read_text(encoding="utf-8").splitlines()
    )
    return [row for row in rows if row["tokenizer"] == name]


def agrees(tokenizer: Tokenizer, rows: list[dict[str, Any]], *, lossless: bool = True) -> None:
    assert len(rows) == 27
    for row in rows:
        assert tokenizer.encode(row["text"]) == row["ids"], row["text"]
        assert tokenizer.encode_batch([row["text"]])[0].tolist() == row["ids"]
        assert not lossless or tokenizer.decode(row["ids"]) == row["text"]


def vocabulary(shared_data: Path, name: str) -> dict[str, Any]:
    meta = gguf_metadata(shared_data / "tokenizers" / f"{name}.vocab.gguf.gz")
    return {key.removeprefix("tokenizer.ggml."): value for key, value in meta.items()}


def byte_level(meta: dict[str, Any], pattern: str) -> Tokenizer:
    special = [token for token, kind in zip(meta["tokens"], meta["token_type"], strict=True) if kind == 3]
    merges = [(a, b) for a, _, b in (merge.partition(" ") for merge in meta["merges"])]
    vocab = {token: i for i, token in enumerate(meta["tokens"])}
    return Tokenizer(byte_level_spec(vocab, merges, pattern=pattern, special=special))


def sentencepiece(meta: dict[str, Any]) -> Tokenizer:
    pieces = [
        ScoredPiece(*row) for row in zip(meta["tokens"], meta["scores"], meta["token_type"], strict=True)
    ]
    return Tokenizer(sentencepiece_spec(pieces, bpe=True))


def wordpiece(meta: dict[str, Any]) -> Tokenizer:
    def name(token: str) -> str:  # that container marks word starts (▁), BERT's own marks insides (##)
        special = token.startswith("[") and token.endswith("]")
        return token.removeprefix("▁") if token.startswith("▁") or special else "##" + token

    vocab = {name(token): i for i, token in enumerate(meta["tokens"])}
    return Tokenizer(
        wordpiece_spec(vocab, lowercase=True, special=["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"])
    )


def test_gpt2(gpt2_folder: Path, shared_data: Path) -> None:
    tokenizer = gpt2_files(gpt2_folder / "encoder.json", gpt2_folder / "vocab.bpe")
    assert tokenizer.vocab_size == 50257 and tokenizer.bos_id == tokenizer.eos_id == 50256
    assert tokenizer.encode("Hello world") == [15496, 995]
    assert tokenizer.encode("<|endoftext|>", special="allow") == [50256]
    agrees(tokenizer, cases(shared_data, "gpt-2"))


@pytest.mark.parametrize(
    ("name", "make", "lossless"),
    [
        ("qwen2", lambda meta: byte_level(meta, "digits"), True),
        ("phi-3", sentencepiece, True),
        ("bert-bge", wordpiece, False),
    ],
)
def test_other_published_vocabularies(
    name: str, make: Callable[[dict[str, Any]], Tokenizer], lossless: bool, shared_data: Path
) -> None:
    agrees(make(vocabulary(shared_data, name)), cases(shared_data, name), lossless=lossless)


def test_a_tiktoken_file_gives_its_merges_back(bpe: Tokenizer, corpus: list[str], tmp_path: Path) -> None:
    """Our own vocabulary written as ranks and read again: the merges come out of the tokens alone."""
    path = tmp_path / "ranks.tiktoken"
    first = len(bpe.special)
    lines = [
        f"{base64.b64encode(bpe.token_bytes(i)).decode()} {i - first}\n" for i in range(first, bpe.vocab_size)
    ]
    path.write_text("".join(lines))
    end = bpe.vocab_size - first
    tokenizer = tiktoken_file(path, special={"<|endoftext|>": end}, eos="<|endoftext|>")
    assert tokenizer.spec["model"]["merges"] == bpe.spec["model"]["merges"] and tokenizer.eos_id == end
    assert all(tokenizer.encode(part) == [i - first for i in bpe.encode(part)] for part in corpus)
    for damage, message in (
        ("!!! 3\n", "line 1 is not a base64 token"),
        ("YQ==\n", "line 1 is not"),
        ("YQ== 0\nYQ== 1\n", "given twice"),
        ("YQ== 0\nYg== 0\n", "same rank"),
        ("YQ== 0\nYg== 1\nYWJj 2\n", "no two tokens make the token b'abc'"),
        ("\xff", "is not UTF-8|not a base64"),
    ):
        path.write_text(damage, encoding="latin-1")
        with pytest.raises(OrreryError, match=message):
            tiktoken_file(path)


def test_damaged_gpt2_files(tmp_path: Path) -> None:
    vocab, merges = tmp_path / "encoder.json", tmp_path / "vocab.bpe"
    with pytest.raises(OrreryError, match="no file at"):
        gpt2_files(vocab, merges)
    vocab.write_text('{"a": 0, "b": 1, "ab": 2}')
    with pytest.raises(OrreryError, match="cannot read"):
        gpt2_files(vocab, merges)
    merges.write_text("#version: 0.2\na b\n")
    assert gpt2_files(vocab, merges).encode("ab") == [2]
    merges.write_text("#version: 0.2\na b c\n")
    with pytest.raises(OrreryError, match="line 2 is not a pair"):
        gpt2_files(vocab, merges)
    vocab.write_text("[1, 2]")
    merges.write_text("a b\n")
    with pytest.raises(OrreryError, match="must map tokens to ids"):
        gpt2_files(vocab, merges)


def test_a_bert_vocabulary(tmp_path: Path) -> None:
    path = tmp_path / "vocab.txt"
    path.write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nhello\nwor\n##ld\n")
    tokenizer = bert_vocab(path)
    assert [p.name for p in tokenizer.pieces("Hello WORLD x")] == ["hello", "wor", "##ld", "[UNK]"]
    assert tokenizer.decode(tokenizer.encode("hello world")) == "hello world" and tokenizer.unknown_id == 1
    assert bert_vocab(path, lowercase=False).encode("Hello") == [1]
    path.write_text("a\na\n")
    with pytest.raises(OrreryError, match="given twice"):
        bert_vocab(path)
