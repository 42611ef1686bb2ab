"""What is written to a GGUF file and read again gives equal ids; what cannot be written exactly is refused."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orrery.kit.errors import OrreryError
from orrery.kit.gguf import GgufFile, write_gguf
from orrery.text import Tokenizer, TokenizerConfig, train_tokenizer
from orrery.text.formats import gpt2_files
from orrery.text.gguf_vocab import gguf_vocab, tokenizer_from_gguf
from orrery.text.gguf_vocab_write import metadata_of_tokenizer
from orrery.text.sentencepiece import BYTE, CONTROL, NORMAL, UNKNOWN, USER, ScoredPiece, sentencepiece_spec

from .conftest import SAMPLES, gguf_metadata

PREFIX = "tokenizer.ggml."
TEXTS = st.text(
    st.one_of(st.characters(exclude_categories=("Cs",)), st.sampled_from("  \n\taeé'sS12<>▁|")), max_size=30
)


def same(a: Tokenizer, b: Tokenizer, texts: list[str]) -> None:
    for text in texts:
        assert a.encode(text) == b.encode(text), text
        assert a.encode(text, special="allow") == b.encode(text, special="allow"), text
    assert (a.bos_id, a.eos_id, a.unknown_id, a.adds) == (b.bos_id, b.eos_id, b.unknown_id, b.adds)
    assert a.vocabulary == b.vocabulary and a.special == b.special


@pytest.mark.parametrize(
    ("pattern", "pre"),
    [
        (None, "dbrx"),
        ("gpt2", "gpt-2"),
        ("gpt4", "dbrx"),
        ("llama3", "dbrx"),
        ("gpt4o", "gpt-4o"),
        ("digits", "stablelm2"),
    ],
)
def test_our_own_byte_level_tokenizers(
    pattern: str | None, pre: str, corpus: list[str], tmp_path: Path
) -> None:
    """The default kind, with each pattern; llama.cpp gives equal ids for all of these (but for case beyond ASCII)."""
    tokenizer = train_tokenizer(
        corpus, TokenizerConfig(vocab_size=700, pattern=pattern, add_bos=pattern == "gpt4")
    )
    metadata = metadata_of_tokenizer(tokenizer, rows=710, chat_template="{{ messages }}")
    assert metadata[PREFIX + "pre"] == pre and len(metadata[PREFIX + "tokens"]) == 710
    write_gguf(tmp_path / "x.gguf", {"general.architecture": "llama"} | metadata, [])
    with GgufFile.open(tmp_path / "x.gguf") as file:
        vocab = gguf_vocab(file.metadata)
    assert vocab.tokenizer.name(705) == "[PAD705]" and vocab.chat_template == "{{ messages }}"
    assert all(tokenizer.encode(text) == vocab.tokenizer.encode(text) for text in [*SAMPLES, "[PAD705]"])
    assert vocab.tokenizer.special == tokenizer.special and vocab.tokenizer.adds == tokenizer.adds
    ends = {"<|end_of_text|>", "<|end|>"}
    assert {tokenizer.name(i) for i in vocab.stop_ids} == ends


@pytest.mark.parametrize("name", ["gpt-2", "phi-3", "bert-bge", "qwen2"])
def test_published_vocabularies(name: str, shared_data: Path, corpus: list[str]) -> None:
    read = gguf_metadata(shared_data / "tokenizers" / f"{name}.vocab.gguf.gz")
    tokenizer = tokenizer_from_gguf(read)
    written = metadata_of_tokenizer(tokenizer)
    again = tokenizer_from_gguf(written | {"general.architecture": read["general.architecture"]})
    same(tokenizer, again, [*SAMPLES, *corpus[:40]])
    for key in ("model", "tokens", "merges"):
        assert name == "phi-3" or written.get(PREFIX + key) == read.get(PREFIX + key)


@pytest.fixture(scope="module")
def gpt2(gpt2_folder: Path) -> tuple[Tokenizer, Tokenizer]:
    tokenizer = gpt2_files(gpt2_folder / "encoder.json", gpt2_folder / "vocab.bpe")
    return tokenizer, tokenizer_from_gguf(metadata_of_tokenizer(tokenizer))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=TEXTS)
def test_any_text(text: str, gpt2: tuple[Tokenizer, Tokenizer]) -> None:
    assert gpt2[0].encode(text) == gpt2[1].encode(text)


def test_bert(corpus: list[str]) -> None:
    tokenizer = train_tokenizer(
        corpus, TokenizerConfig(kind="wordpiece", vocab_size=600, normalizer=("bert",))
    )
    metadata = metadata_of_tokenizer(tokenizer)
    assert metadata[PREFIX + "model"] == "bert" and metadata[PREFIX + "normalizer.lowercase"] is True
    same(tokenizer, tokenizer_from_gguf(metadata), [*SAMPLES, *corpus])


def test_characters_with_fallback(corpus: list[str]) -> None:
    """Without tokens for runs of spaces, cutting into words first changes nothing, and scores say the same."""
    clean = [" ".join(text.split()) for text in corpus]
    tokenizer = train_tokenizer(clean, TokenizerConfig(kind="bpe-fallback", vocab_size=800))
    metadata = metadata_of_tokenizer(tokenizer)
    assert metadata[PREFIX + "model"] == "llama" and metadata[PREFIX + "add_space_prefix"] is True
    same(tokenizer, tokenizer_from_gguf(metadata), [*SAMPLES, *corpus])


PIECES = [ScoredPiece("<unk>", 0, UNKNOWN), ScoredPiece("<s>", 0, CONTROL), ScoredPiece("  ", 0, USER)]


def test_sentencepiece() -> None:
    """Scores in the order of ids come back; so do those that are not, as long as they lead to the same merges."""
    raw = [ScoredPiece(f"<0x{i:02X}>", 0, BYTE) for i in range(256)]
    words = [
        ("▁a", -1.5),
        ("bc", -1.0),
        ("▁abc", -7.0),
        ("▁", -8.0),
        ("a", -9.0),
        ("b", -9.5),
        ("c", -9.7),
        ("zz", -9.8),
    ]
    for scored in (words, sorted(words, key=lambda word: -word[1])):
        pieces = [*PIECES, *raw, *(ScoredPiece(text, score, NORMAL) for text, score in scored)]
        for prefix in (True, False):
            tokenizer = Tokenizer(sentencepiece_spec(pieces, bpe=True, prefix=prefix), {"bos_token": "<s>"})
            again = tokenizer_from_gguf(metadata_of_tokenizer(tokenizer) | {PREFIX + "add_bos_token": False})
            same(tokenizer, again, [*SAMPLES, "abc", "abcbc abc   bca", "zz"])
            assert [again.name(i) for i in again.encode(" abc")][-1] == "▁abc"


def test_unigram_as_t5_has_it() -> None:
    charsmap = struct.pack("<II", 4, 0) + b"\0"
    pieces = [*PIECES, *(ScoredPiece(text, -len(text), NORMAL) for text in ("▁", "▁a", "b", "▁ab"))]
    plain = sentencepiece_spec(pieces, bpe=False, squeeze=True)
    same(
        Tokenizer(plain),
        tokenizer_from_gguf(metadata_of_tokenizer(Tokenizer(plain))),
        [*SAMPLES, " ab  a b "],
    )
    mapped = metadata_of_tokenizer(
        Tokenizer(sentencepiece_spec(pieces[:2] + pieces[3:], bpe=False, squeeze=True))
    )
    assert PREFIX + "precompiled_charsmap" not in mapped
    spec = sentencepiece_spec(pieces, bpe=False, squeeze=True)
    spec["normalizer"]["normalizers"].insert(
        0, {"type": "Precompiled", "precompiled_charsmap": "BAAAAAAAAAAA"}
    )
    written = metadata_of_tokenizer(_Held(spec))  # type: ignore[arg-type]
    assert written[PREFIX + "precompiled_charsmap"].tobytes() == charsmap
    split = {
        "type": "Sequence",
        "pretokenizers": [{"type": "WhitespaceSplit"}, {"type": "Metaspace", "replacement": "▁"}],
    }
    published = plain | {"normalizer": None, "pre_tokenizer": split}
    published["pre_tokenizer"]["pretokenizers"][1] |= {"prepend_scheme": "always", "split": True}
    tokenizer = Tokenizer(published)
    again = tokenizer_from_gguf(metadata_of_tokenizer(tokenizer))
    assert all(tokenizer.encode(t) == again.encode(t) for t in ("ab  a b", " ab ", "xab"))


class _Held:
    """A description that stands for a tokenizer, where the library would refuse an empty table."""

    def __init__(self, spec: dict[str, Any]) -> None:
        whole = Tokenizer(spec | {"normalizer": {"type": "Sequence", "normalizers": []}})
        self.spec, self.settings, self.adds = spec, {}, (False, False)
        self.vocabulary, self.vocab_size, self.unknown_id = (
            whole.vocabulary,
            whole.vocab_size,
            whole.unknown_id,
        )


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"kind": "bpe", "pattern": r"\w+|\W+"}, r"no named pre-tokenizer of GGUF cuts text as \['\\\\w\+"),
        ({"kind": "bpe", "normalizer": ("lowercase",)}, r"cannot hold the normaliser \['Lowercase'\]"),
        ({"kind": "wordpiece"}, r"train with normalizer=\['bert'\]"),
        ({"kind": "bpe-fallback"}, "cuts text into words first.*train the kind 'bpe'"),
        ({"kind": "unigram"}, "cuts text into words first.*train the kind 'bpe'"),
    ],
)
def test_what_cannot_be_said_is_refused(config: dict[str, Any], message: str, corpus: list[str]) -> None:
    tokenizer = train_tokenizer(corpus, TokenizerConfig(vocab_size=700, **config))
    with pytest.raises(OrreryError, match=message):
        metadata_of_tokenizer(tokenizer)


def test_other_refusals(bpe: Tokenizer) -> None:
    with pytest.raises(OrreryError, match="has 10 rows for a tokenizer of 700 ids"):
        metadata_of_tokenizer(bpe, rows=10)
    nfc = Tokenizer(bpe.spec | {"normalizer": {"type": "NFC"}}, bpe.settings)
    with pytest.raises(OrreryError, match="after NFC does"):
        metadata_of_tokenizer(nfc)
    prefixed = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    with pytest.raises(OrreryError, match="no name for the pre-tokenizer"):
        metadata_of_tokenizer(Tokenizer(bpe.spec | {"pre_tokenizer": prefixed}, bpe.settings))


def test_words_taken_whole(bpe: Tokenizer) -> None:
    """`ignore_merges` goes with some names only; where it changes nothing, another name will do."""
    whole = Tokenizer(bpe.spec | {"model": bpe.spec["model"] | {"ignore_merges": True}}, bpe.settings)
    assert metadata_of_tokenizer(whole)[PREFIX + "pre"] == "glm4"
    digits = train_tokenizer(SAMPLES, TokenizerConfig(vocab_size=400, pattern="digits"))
    model = digits.spec["model"] | {"ignore_merges": True}
    assert metadata_of_tokenizer(Tokenizer(digits.spec | {"model": model}))[PREFIX + "pre"] == "stablelm2"
    lost = model | {"merges": model["merges"][:-5]}  # the last tokens are taken whole, and never merged
    with pytest.raises(OrreryError, match="'stablelm2' does not take words whole"):
        metadata_of_tokenizer(Tokenizer(digits.spec | {"model": lost}))


def test_the_forms_of_published_files(bpe: Tokenizer) -> None:
    """Pre-tokenizers as the tokenizer.json of real models have them, and the names they go by."""
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    digits = {"type": "Digits", "individual_digits": True}

    def cut(regex: str, behavior: str = "Isolated", invert: bool = False) -> dict[str, Any]:
        return {"type": "Split", "pattern": {"Regex": regex}, "behavior": behavior, "invert": invert}

    cl100k = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
    falcon = [{"type": "Punctuation", "behavior": "Contiguous"}, level | {"use_regex": True}]
    falcon += [{"type": "Digits", "individual_digits": False}, cut("[0-9][0-9][0-9]")]
    for stages, normalizer, name in (
        ([level | {"use_regex": True}], None, "gpt-2"),
        ([level | {"use_regex": True}], "NFC", "olmo"),
        ([digits, level | {"use_regex": True}], None, "starcoder"),
        ([digits, level | {"use_regex": True}], "NFC", "command-r"),
        ([cut(cl100k, "Removed", True), level], None, "dbrx"),
        (falcon, None, "falcon"),
        ([cut(" ?[^(\\s|[.,!?…。，、।۔،])]+"), level], None, "bloom"),
    ):
        changes: dict[str, Any] = {"pre_tokenizer": {"type": "Sequence", "pretokenizers": stages}}
        changes["normalizer"] = normalizer and {"type": normalizer}
        tokenizer = Tokenizer(bpe.spec | changes, bpe.settings)
        metadata = metadata_of_tokenizer(tokenizer)
        assert metadata[PREFIX + "pre"] == name
        again = tokenizer_from_gguf(metadata)
        assert all(again.encode(text) == tokenizer.encode(text) for text in SAMPLES)


def test_named_templates_and_roles(bpe: Tokenizer) -> None:
    entries = [{"name": "default", "template": "A"}, {"name": "tools", "template": "B"}]
    settings = bpe.settings | {
        "chat_template": entries,
        "pad_token": {"content": "<|reserved_0|>"},
        "sep_token": None,
    }
    metadata = metadata_of_tokenizer(Tokenizer(bpe.spec, settings))
    assert metadata["tokenizer.chat_template"] == "A" and metadata["tokenizer.chat_template.tools"] == "B"
    assert metadata[PREFIX + "padding_token_id"] == bpe.id("<|reserved_0|>")
    vocab = gguf_vocab(metadata)
    assert vocab.chat_template == "A" and vocab.templates == {"tools": "B"}
    assert metadata[PREFIX + "token_type"].dtype == np.int32


def test_transformers_opens_what_was_read(
    shared_data: Path, tmp_path: Path, trained: Callable[[str], Tokenizer]
) -> None:
    transformers = pytest.importorskip("transformers", reason="the reference for saved tokenizers")
    vocab = gguf_vocab(gguf_metadata(shared_data / "tokenizers" / "phi-3.vocab.gguf.gz"))
    vocab.tokenizer.save(tmp_path / "phi-3")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "phi-3")
    assert theirs.chat_template == vocab.chat_template and theirs.eos_token_id == vocab.tokenizer.eos_id
    for text in [*SAMPLES, "<|user|>\nHi<|end|>\n"]:
        ids = theirs(text, add_special_tokens=False)["input_ids"]
        assert ids == vocab.tokenizer.encode(text, special="allow")
    assert theirs("a")["input_ids"] == [1, *vocab.tokenizer.encode("a")]
