"""Folders without a tokenizer.json open as well: each older form of vocabulary, with what its settings add."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from orrery.kit.errors import OrreryError
from orrery.kit.gguf import write_gguf
from orrery.text import Tokenizer
from orrery.text.gguf_vocab_write import metadata_of_tokenizer

from .conftest import SAMPLES
from .test_sentencepiece import BPE, model


def config(folder: Path, **settings: Any) -> None:
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def test_gpt2_in_both_names(gpt2_folder: Path, tmp_path: Path) -> None:
    bare = Tokenizer.load(gpt2_folder)
    assert bare.encode("Hello world") == [15496, 995] and bare.eos_id == 50256
    shutil.copy(gpt2_folder / "encoder.json", tmp_path / "vocab.json")
    shutil.copy(gpt2_folder / "vocab.bpe", tmp_path / "merges.txt")
    entry = {"content": "<|im_end|>", "special": True, "lstrip": False, "rstrip": True}
    config(
        tmp_path,
        tokenizer_class="Qwen2Tokenizer",
        eos_token="<|im_end|>",
        added_tokens_decoder={"50257": entry},
    )
    qwen = Tokenizer.load(tmp_path)  # numbers digit by digit, composed text
    assert qwen.eos_id == 50257 and qwen.encode("a<|im_end|>  b", special="allow") == [64, 50257, 65]
    assert qwen.encode("12") == [16, 17] and bare.encode("12") == [1065]
    assert qwen.encode("e\u0301") == qwen.encode("\u00e9")
    qwen.save(tmp_path / "saved")
    assert Tokenizer.load(tmp_path / "saved").fingerprint == qwen.fingerprint


def test_bert(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\nPlay\nplay\n##ing\n", encoding="utf-8")
    assert Tokenizer.load(tmp_path).encode("Playing") == [5, 6]
    assert Tokenizer.load(tmp_path / "vocab.txt").encode("Playing") == [5, 6]
    config(tmp_path, tokenizer_class="BertTokenizer", do_lower_case=False)
    cased = Tokenizer.load(tmp_path)
    assert cased.encode("Playing") == [4, 6] and cased._parsing.encode("Play").ids == [2, 4, 3]


def test_tiktoken(bpe: Tokenizer, tmp_path: Path) -> None:
    first = len(bpe.special)
    ranks = [
        f"{base64.b64encode(bpe.token_bytes(i)).decode()} {i - first}\n" for i in range(first, bpe.vocab_size)
    ]
    (tmp_path / "cl100k_base.tiktoken").write_text("".join(ranks))
    end = bpe.vocab_size - first
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<|endoftext|>": end}))
    config(tmp_path, eos_token="<|endoftext|>")
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.eos_id == end
    assert all(tokenizer.encode(text) == [i - first for i in bpe.encode(text)] for text in SAMPLES)
    llama = tmp_path / "llama3"
    llama.mkdir()
    (llama / "tokenizer.model").write_text("".join(ranks))  # the name says SentencePiece, the bytes do not
    config(llama, tokenizer_class="LlamaTokenizer")
    assert all(Tokenizer.load(llama).encode(text) == tokenizer.encode(text) for text in SAMPLES)


def test_sentencepiece(tmp_path: Path) -> None:
    pieces = [
        ("<unk>", 0.0, 2),
        ("<s>", 0.0, 3),
        ("</s>", 0.0, 3),
        ("▁a", -1.0, 1),
        ("▁", -2.0, 1),
        ("a", -3.0, 1),
    ]
    (tmp_path / "tokenizer.model").write_bytes(model(pieces, BPE))
    config(tmp_path, tokenizer_class="LlamaTokenizer", bos_token={"content": "<s>"}, eos_token="</s>")
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.encode("a a") == [3, 3] and tokenizer.adds == (True, False)
    config(tmp_path, tokenizer_class="LlamaTokenizer", add_bos_token=False, add_eos_token=True)
    assert Tokenizer.load(tmp_path).adds == (False, True)
    (tmp_path / "tokenizer.model").rename(tmp_path / "spiece.model")
    config(tmp_path, tokenizer_class="T5Tokenizer")
    assert Tokenizer.load(tmp_path).adds == (False, True)
    (tmp_path / "spiece.model").rename(tmp_path / "sentencepiece.bpe.model")
    with pytest.raises(OrreryError, match="numbers its pieces otherwise"):
        Tokenizer.load(tmp_path)


def test_gguf(bpe: Tokenizer, tmp_path: Path) -> None:
    write_gguf(tmp_path / "x.gguf", {"general.architecture": "llama"} | metadata_of_tokenizer(bpe), [])
    for path in (tmp_path / "x.gguf", tmp_path):
        assert all(Tokenizer.load(path).encode(text) == bpe.encode(text) for text in SAMPLES)


def test_what_is_no_vocabulary(tmp_path: Path, gpt2_folder: Path) -> None:
    with pytest.raises(OrreryError, match=r"has no tokenizer\.json nor another vocabulary"):
        Tokenizer.load(tmp_path)
    with pytest.raises(OrreryError, match="no file at"):
        Tokenizer.load(tmp_path / "x.model")
    (tmp_path / "x.bin").write_bytes(b"x")
    with pytest.raises(OrreryError, match="is no vocabulary that is read"):
        Tokenizer.load(tmp_path / "x.bin")
    for bad in ([], {"x": {"content": "a"}}, {"1": "a"}, {"1": {"content": 3}}):
        shutil.copy(gpt2_folder / "encoder.json", tmp_path)
        shutil.copy(gpt2_folder / "vocab.bpe", tmp_path)
        config(tmp_path, added_tokens_decoder=bad)
        with pytest.raises(OrreryError, match="the added tokens"):
            Tokenizer.load(tmp_path)
    config(tmp_path, auto_map={"AutoTokenizer": ["x.Y", None]})
    with pytest.raises(OrreryError, match="never done"):
        Tokenizer.load(tmp_path)
